"""How few numbers give z: Gaussian measurements of a decoder's own signals, from as many as there are latents.

    y = A G(z),   A m x d with entries N(0, 1/m),   m from n0 to 3 n0, no noise, z ~ N(0, I)

Generator: 20-400-784 with a sigmoid behind, of the folder CVXINV_DATA (`csinva_vae_20_400_784`); with --quick,
a random net 6-40-90 with a sigmoid. A method recovers z where |z found - z| <= 1e-6 |z|. Every method gets the
same signals, the same A and ten random starts, by its own rules; those that take long the first of them (`signals`). Those
of first order are finished by Levenberg-Marquardt from where they end, as none of them comes to 1e-6 in its steps; CSGM has
no weight on |z| here, as there is no noise. The last two take 200 steps in a start. Layered methods and the oracle refuse a
matrix behind a sigmoid, deep phase retrieval measurements whose signs are seen; projected gradient, which takes minutes a
signal, and intermediate layers were not measured.

At m = n0 the equations are as many as the unknowns: several latents may explain the data, and where one does that is not the
true one no method can tell. `wrong` is the share that is explained by another z; J has full rank there, so that z is
determined among the latents near by. `told`: whether `explain` says of every one that other latents may do as well.

What must come out is a target of this project's own; the numbers beside it were reached by a plain Levenberg-Marquardt with
ten restarts in an earlier run.
"""

from pathlib import Path
from typing import Any

import torch
from experiment import Claim, Experiment, Row, look, trained_generator
from torch import nn

import cvxinv as ci

NAME = "csinva_vae_20_400_784"
METHODS = (
    "hybrid", "levenberg_marquardt", "mirrored_descent", "gradient_descent", "csgm", "plugin",
    "gradient_descent_with_negation", "generative_admm",
)  # fmt: skip
MANY, SOME = 50, 10  # signals, of those that take long
SLOW = METHODS[3:]
BRIEF = {name: 200 for name in METHODS[6:]}  # steps of a start
TO = 1e-6


def settings(quick: bool) -> list[Row]:
    """A row per method and number of measurements."""
    n0, extra = (6, (0, 2, 6)) if quick else (20, (0, 2, 5, 10, 20, 40))
    methods = METHODS[:2] if quick else METHODS
    net = "random 6-40-90" if quick else NAME
    return [
        {"generator": net, "method": method, "m": n0 + k, "n0": n0, "signals": _count(method, quick),
         "finished": method in SLOW} | ({"steps": BRIEF[method]} if method in BRIEF else {})
        for method in methods for k in extra
    ]  # fmt: skip


def _count(method: str, quick: bool) -> int:
    return 12 if quick else SOME if method in SLOW else MANY


def generator(name: str) -> ci.Generator:
    """The decoder, or a random one."""
    if name == NAME:
        return trained_generator(name)
    draw, parts = torch.Generator().manual_seed(0), []
    for n, m in ((6, 40), (40, 90)):
        layer = nn.Linear(n, m, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_((2 / n) ** 0.5 * torch.randn(m, n, generator=draw, dtype=torch.float64))
            layer.bias.copy_(0.1 * torch.randn(m, generator=draw, dtype=torch.float64))
        parts += [layer, nn.ReLU()]
    return ci.load_generator(nn.Sequential(*parts[:-1], nn.Sigmoid()))


def measure(setting: Row) -> Row:
    """Shares of signals, and seconds a signal."""
    G, m, N = generator(setting["generator"]), setting["m"], setting["signals"]
    draw = torch.Generator().manual_seed(100 + m)
    z = G.sample_latent(MANY, draw)[:N]
    A = torch.randn(m, G.signal_dim, generator=draw, dtype=torch.float64) / m**0.5
    options: dict[str, Any] = {"restarts": 10} | ({"lam": 0.0} if setting["method"] == "csgm" else {})
    options |= {"max_iter": setting["steps"]} if "steps" in setting else {}
    task: dict[str, Any] = {"measurement": A, "on_fail": "ignore", "progress": False}
    found = ci.invert(G, G(z) @ A.T, setting["method"], **task, **options)
    seconds = found.seconds["total"]
    if setting["finished"]:
        found = ci.invert(G, G(z) @ A.T, "levenberg_marquardt", z0=found, restarts=0, **task)
        seconds += found.seconds["total"]
    right = (found.z - z).norm(dim=1) <= TO * z.norm(dim=1)
    explained = found.verdict.explained
    return {
        "recovered": right.double().mean(), "explained": explained.double().mean(),
        "wrong": (explained & ~right).double().mean(), "determined": found.determined.double().mean(),
        "told": all("one of several" in found.explain(i) for i in (explained & ~right).nonzero()[:, 0].tolist()),
        "seconds a signal": seconds / N,
    }  # fmt: skip


def claims(rows: list[Row]) -> list[Claim]:
    """The targets, at the numbers of measurements that were run."""
    share = {(row["method"], row["m"] - row["n0"]): row for row in rows}
    hybrid = {extra: row["recovered"] for (method, extra), row in share.items() if method == "hybrid"}
    trained = rows[0]["generator"] == NAME
    found = [Claim("hybrid recovers 90 % at m = n0 + 2", "O", f"{hybrid[2]:.0%}", hybrid[2] >= 0.9)]
    if trained:
        found.append(Claim("hybrid recovers 95 % at m = n0 + 5", "O", f"{hybrid[5]:.0%}", hybrid[5] >= 0.95))
    most = max(hybrid)
    found.append(
        Claim("hybrid recovers all where plenty was seen", "O", f"{hybrid[most]:.0%} at n0 + {most}", hybrid[most] == 1)
    )
    wrong = share["hybrid", 0]["wrong"]
    told = all(row["told"] for row in rows)
    found.append(Claim("an explanation by another latent is said to be one of several", "O", str(told), told))
    found.append(Claim("at m = n0 some data is explained by another latent", "O", f"{wrong:.0%} of signals", wrong > 0))
    best = all(hybrid[extra] >= row["recovered"] for (_, extra), row in share.items() if extra)
    found.append(Claim("no other method recovers more than hybrid, from n0 + 2 on", "O", "see the table", best))
    return found


def draw(rows: list[Row], out: Path) -> list[Path]:
    """Share recovered against m / n0, a line per method."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7, 4.2), layout="constrained")
    ax = fig.subplots()
    for index, name in enumerate(dict.fromkeys(row["method"] for row in rows)):
        its = [row for row in rows if row["method"] == name]
        label = f"{name} ({its[0]['signals']} signals{', finished' if its[0]['finished'] else ''})"
        ax.plot([r["m"] / r["n0"] for r in its], [100 * r["recovered"] for r in its], label=label, **look(index))
    ax.set(xlabel="measurements m / latents n0", ylabel="signals with z to 1e-6, %", ylim=(-3, 103))
    ax.set_title(f"how few Gaussian numbers give z, ten random starts\n{rows[0]['generator']}", fontsize=10)
    ax.grid(alpha=0.3)
    ax.legend()
    path = out / "information_limit.png"
    fig.savefig(path, dpi=130)
    return [path]


EXPERIMENT = Experiment(
    name="information_limit", title="The information limit: how few Gaussian numbers give z",
    source="Own experiment; the limit itself is the count of equations and unknowns.", settings=settings, measure=measure,
    claims=claims, draw=draw,
    captions=(
        "Share of signals whose latent is found against measurements over latents: hybrid is near 100 % from 1.1 on, "
        "the other methods from 1.5 or 2 on.",
    ),
)  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(1)
    EXPERIMENT.main()
