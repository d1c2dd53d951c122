"""Noise with a prior: hybrid on the stated objective beside the fit without a prior, and beside Adam on the same objective.

    python benchmarks/noise.py --out benchmarks/results              # every dense generator: a quarter of an hour
    python benchmarks/noise.py --quick                               # small, on the shipped digits: to see that it runs
    python benchmarks/noise.py --only csinva --signals 100           # generators whose name holds this
    python benchmarks/noise.py --part costs --out benchmarks/results # what parts of a call cost, without the other rows

Data: trained dense generators of the folder CVXINV_DATA, as trained and read before their last activation, latents drawn
from N(0, I), gaussian noise of 1, 5 and 20 % of each signal's root mean square in every entry, in float64.

- *MAP*: hybrid with its defaults, noise=("gaussian", sigma), prior=Gaussian(1).
- *fit*: hybrid with its defaults, noise=("l2", sigma d^(1/2)), which is what can be said without a prior.
- *Adam*: 2,000 steps of torch.optim.Adam from the prior's mean on the objective of MAP, all signals of a row in one batch;
  from a draw of the prior where the generator's gradient vanishes at the mean (no biases). The step length is the best of
  0.02, 0.05 and 0.1 by the mean objective of the row's first four signals; a row that was measured before keeps its own.

z: median of |z found - z| / |z|. worse, better: signals whose objective at MAP's answer is above, or below, Adam's by more
than 1e-6 of it, and the largest excess. Milliseconds are process time of one thread, per signal, of the whole call of
`invert`: its judge's verdict and the covariances are in it, the mean of a call before Adam and one after. A run adds its
rows to those of the folder `--out`. The generator is inverted once before, so that what is kept with it is there.

*One at a time*: the same of one signal a call, means over the first ten of the row, of which Adam runs for two.

*As low as Adam*: process time per signal until the first of hybrid's starts, given 1, 2, 3, 4, 6, 8, ... steps, has 90 % of
the signals no higher than where Adam's 2,000 steps end, and how many times that goes into Adam's; "-" where that start alone
never has. What MAP takes beyond that goes into lower optima, verdicts and covariances.

*MAP against the fit*: the mean over signals of log(|z by MAP - z| / |z by the fit - z|) in per cent, its standard error,
below 0 where MAP is closer; how many of the signals it is from; and "closer" or "further" where the mean is beyond three
standard errors, "even" where signals do not tell them apart. More signals are drawn, as many again, until they do or there
are `--pairs`: where the prior knows little beside the data both answers move with the noise in nearly the same way.
`--part speed` measures the other columns anew and leaves this one as it is.

*Costs*: what parts of a call take for one signal of the batch, in steps of Adam for one signal, at 5 % noise. A twentieth
of Adam's time is 100 of them. A smoothed step is one smoothed Jacobian; J'J is that of a descent, in float32; a step is one
that keeps J'J, at the answer; the verdict is that of the one judge, in float64, with the covariances of z and of the signal.
*One start* is the least that an answer takes: three smoothed steps, one J'J, three steps that keep it, the verdict. *Three
starts* is the least where one start leads astray, in some of the tries that are made once for each of three levels: the
second is damped and takes no smoothed steps, the third takes eight, which makes eleven smoothed steps, three J'J, nine steps
and the verdict. Lower optima near by are sought beyond that. Where the one that applies exceeds 100, no call is 20
times as fast as Adam, however soon its descents end.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from math import sqrt
from pathlib import Path

import torch
from measuring import circumstances, clocked
from runs import begin_with_data, load_after, parser_of, write
from tables import Table
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci
from cvxinv.inversion.runs.work import judge_and_measure
from cvxinv.inversion.steps.learnt import learnt_starts, lesson_for
from cvxinv.inversion.steps.misled import led_astray
from cvxinv.inversion.steps.newton import descend_through
from cvxinv.inversion.steps.normal_equations import rough_curvature
from cvxinv.inversion.steps.smoothed import BRIEF, descend_smoothed
from cvxinv.inversion.steps.ties import Slope, View, tied_step
from cvxinv.inversion.task import make_task

ROOT = Path(__file__).resolve().parent.parent
DENSE = (
    "lei_vae_relu_20_60_784_nobias",
    "csinva_vae_20_400_784",
    "zeesky_vae_10_400_784",
    "jezza_fashion_vae_20_400_784",
    "laug_vae_5_128_256_784",
    "lei_vae_leaky_20_200_500_784_nobias",
    "ashish_gan_leaky_64_256_784",
    "jay_gan_bn_128_256_512_784",
)
SHARES = (0.01, 0.05, 0.2)
STEPS, RATES, TUNED = 2000, (0.02, 0.05, 0.1), 4
WORSE = 1e-6
SURE = 3.0  # standard errors
ONE, THREE = (3, 1, 3, 1), (11, 3, 9, 1)  # smoothed steps, J'J, steps, verdicts of one start and of three
ALONE, ADAM_ALONE = 10, 2  # signals that are inverted one at a time, and those of them that Adam is run for
LADDER, MOST = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48), 0.9  # steps; share of the signals


def noisy(G: ci.Generator, N: int, share: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, signals with noise, and its level `(N,)`."""
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(N, G.latent_dim, generator=source, dtype=torch.float64)
    x = G(z)
    sigma = share * x.norm(dim=1) / sqrt(G.signal_dim)
    return z, x + sigma[:, None] * torch.randn(x.shape, generator=source, dtype=torch.float64), sigma


def objective(G: ci.Generator, y: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
    """|G(z) - y|^2 / (2 sigma^2) + |z|^2 / 2, `(N,)`."""
    return (G(z) - y).square().sum(1) / (2 * sigma**2) + z.square().sum(1) / 2


def stated(G: ci.Generator, y: Tensor, sigma: Tensor) -> Callable[[Tensor], Tensor]:
    """`objective` of latents."""
    return lambda z: objective(G, y, z, sigma)


def adam(lowered: Callable[[Tensor], Tensor], start: Tensor, rate: float, steps: int) -> Tensor:
    """Where Adam ends on the sum of what is `lowered`, `(N,)` of latents `(N, n0)`."""
    z = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([z], lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        lowered(z).sum().backward()
        optimiser.step()
    return z.detach()


def start_of(G: ci.Generator, N: int) -> Tensor:
    """The prior's mean, or a draw where no signal's gradient shows a way from there."""
    z = torch.zeros(N, G.latent_dim, dtype=torch.float64)
    if bool(G.linearize(z[:1])[1].any()):
        return z
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_map(G: ci.Generator, y: Tensor, sigma: Tensor) -> tuple[ci.Inversion, float]:
    """The answer, and process seconds."""
    began = time.process_time()
    R = ci.invert(G, y, noise=("gaussian", sigma), prior=ci.Gaussian(1.0), on_fail="ignore", progress=False)
    return R, time.process_time() - began


def alone(G: ci.Generator, y: Tensor, sigma: Tensor, start: Tensor, rate: float, steps: int) -> dict:
    """Process seconds of one signal a call, of MAP and of Adam."""
    each = [slice(i, i + 1) for i in range(min(ALONE, len(y)))]
    by_map(G, y[each[0]], sigma[each[0]])
    ours = [by_map(G, y[one], sigma[one])[1] for one in each]
    theirs = [
        clocked(lambda one=one: adam(stated(G, y[one], sigma[one]), start[one], rate, steps))[1].process
        for one in each[:ADAM_ALONE]
    ]
    found = {"MAP": sum(ours) / len(ours), "Adam": sum(theirs) / len(theirs)}
    return {"milliseconds": {name: 1e3 * spent for name, spent in found.items()}, "ratio": found["Adam"] / found["MAP"]}


def as_low(G: ci.Generator, y: Tensor, sigma: Tensor, theirs: Tensor) -> float | None:
    """Process seconds until the first start has most signals no higher than `theirs`; None where it never has."""
    task = make_task(G, y, noise=("gaussian", sigma), prior=ci.Gaussian(1.0))
    for steps in LADDER:
        began = time.process_time()
        start = descend_smoothed(task, learnt_starts(task), BRIEF, lesson_for(task).spread)
        z = descend_through(task, start, steps).z
        seconds = time.process_time() - began
        if float((objective(G, y, z, sigma) <= theirs * (1 + WORSE)).double().mean()) >= MOST:
            return seconds
    return None


def costs(G: ci.Generator, N: int, share: float = 0.05) -> dict:
    """What parts of a call take, in steps of Adam; see the module."""
    _, y, sigma = noisy(G, N, share)
    z, steps, start = by_map(G, y, sigma)[0].z, 100, start_of(G, N)
    task = make_task(G, y, noise=("gaussian", sigma), prior=ci.Gaussian(1.0))
    H, view, spread = rough_curvature(task, z), View.at(task, z), lesson_for(task).spread
    slope = Slope.at(task, view)
    parts: dict[str, Callable[[], object]] = {
        "Adam": lambda: adam(stated(G, y, sigma), start, RATES[0], steps),
        "Jacobian": lambda: [task.take(block).linearize(z[block]) for block in task.blocks()],
        "smoothed": lambda: descend_smoothed(task, z, BRIEF[-1:], spread),
        "J'J": lambda: rough_curvature(task, z),
        "step": lambda: (tied_step(task, H, view, slope), Slope.at(task, View.at(task, z))),
        "verdict": lambda: judge_and_measure(task, z),
    }
    found = {name: seconds(part) for name, part in parts.items()}
    unit = found.pop("Adam") / steps
    row = {name: spent / unit for name, spent in found.items()}
    each = [row[name] for name in ("smoothed", "J'J", "step", "verdict")]
    return row | {
        "microseconds": 1e6 * unit / N, "astray": len(led_astray(task, torch.arange(N))),
        "one start": sum(k * part for k, part in zip(ONE, each, strict=True)),
        "three starts": sum(k * part for k, part in zip(THREE, each, strict=True)),
    }  # fmt: skip


def seconds(part: Callable[[], object], times: int = 3) -> float:
    """The least process seconds of a few."""
    return min(clocked(part)[1].process for _ in range(times))


def by_fit(G: ci.Generator, y: Tensor, sigma: Tensor) -> Tensor:
    """Latents without a prior."""
    return ci.invert(G, y, noise=("l2", sigma * sqrt(G.signal_dim)), on_fail="ignore", progress=False).z


def compared(G: ci.Generator, N: int, share: float, pairs: int, errors: tuple[Tensor, Tensor]) -> dict:
    """MAP against the fit, from their errors on the first N signals and on as many more as it takes."""
    mine, other = ([values] for values in errors)
    for seed in range(1, max(1, pairs // N) + 1):
        logs = (torch.cat(mine) / torch.cat(other)).log()
        mean, error = float(logs.mean()), float(logs.std()) / sqrt(len(logs))
        if abs(mean) > SURE * error or len(logs) + N > pairs:
            break
        z, y, sigma = noisy(G, N, share, seed)
        mine.append((by_map(G, y, sigma)[0].z - z).norm(dim=1))
        other.append((by_fit(G, y, sigma) - z).norm(dim=1))
    verdict = "even" if abs(mean) <= SURE * error else "closer" if mean < 0 else "further"
    return {"mean": mean, "error": error, "signals": len(logs), "closer": int((logs < 0).sum()), "verdict": verdict}


def tuned(G: ci.Generator, y: Tensor, sigma: Tensor, start: Tensor, steps: int) -> float:
    """The best step length of Adam for these signals."""
    tried = {rate: adam(stated(G, y, sigma), start, rate, steps) for rate in RATES}
    return min(RATES, key=lambda rate: float(objective(G, y, tried[rate], sigma).mean()))


def measure(G: ci.Generator, N: int, share: float, steps: int, pairs: int, known: dict) -> dict:
    """One row: MAP, the fit without a prior, and Adam; known: of it, Adam's rate and MAP against the fit, or None."""
    z, y, sigma = noisy(G, N, share)
    start, few = start_of(G, N), slice(0, TUNED)
    rate = known.get("rate") or tuned(G, y[few], sigma[few], start[few], steps)
    by_map(G, y, sigma)  # all signals: some starts are learnt when the first signal asks for them
    R, before = by_map(G, y, sigma)
    began = time.process_time()
    z_adam = adam(stated(G, y, sigma), start, rate, steps)
    adam_seconds = time.process_time() - began
    map_seconds = (before + by_map(G, y, sigma)[1]) / 2
    answers = {"MAP": R.z, "fit": by_fit(G, y, sigma), "Adam": z_adam}
    errors = {name: (found - z).norm(dim=1) for name, found in answers.items()}
    ours, theirs = objective(G, y, R.z, sigma), objective(G, y, z_adam, sigma)
    excess, low = (ours - theirs) / theirs, as_low(G, y, sigma, theirs)
    return {
        "signals": N, "statuses": R.verdict.counts(), "rate": rate,
        "z": {name: float((far / z.norm(dim=1)).median()) for name, far in errors.items()},
        "against the fit": known.get("against the fit") or compared(G, N, share, pairs, (errors["MAP"], errors["fit"])),
        "worse": int((excess > WORSE).sum()), "better": int((excess < -WORSE).sum()), "excess": float(excess.max()),
        "milliseconds": {"MAP": 1e3 * map_seconds / N, "Adam": 1e3 * adam_seconds / N},
        "ratio": adam_seconds / map_seconds,
        "alone": alone(G, y, sigma, start, rate, steps),
        "as low": None if low is None else {"milliseconds": 1e3 * low / N, "ratio": adam_seconds / low},
    }  # fmt: skip


_HEADER = (
    "generator", "noise", "z by MAP", "by the fit", "MAP against the fit", "by Adam", "worse than Adam", "better",
    "largest excess", "MAP", "Adam", "ratio", "one at a time", "as low as Adam", "commit",
)  # fmt: skip


def table(results: dict) -> Table:
    found = Table("Maximum a posteriori, the fit without a prior, and Adam with 2,000 steps", _HEADER, [])
    for key, row in results.items():
        z, ms = row["z"], row["milliseconds"]
        found.rows.append((
            *key.split("; "), f"{z['MAP']:.3g}", f"{z['fit']:.3g}", _against(row), f"{z['Adam']:.3g}",
            f"{row['worse']} of {row['signals']}", str(row["better"]), f"{max(row['excess'], 0.0):.0e}",
            f"{ms['MAP']:.1f} ms", f"{ms['Adam']:.0f} ms", f"{row['ratio']:.1f}",
            _alone(row), _as_low(row), row.get("commit", ""),
        ))  # fmt: skip
    return found


_COSTS = (
    "generator", "a step of Adam", "Jacobian", "smoothed step", "J'J", "step", "verdict", "one start", "three starts",
    "led astray", "commit",
)  # fmt: skip


def table_of_costs(found: dict) -> Table:
    costly = Table("What parts of a call cost, in steps of Adam", _COSTS, [])
    for name, row in found.items():
        parts = ("Jacobian", "smoothed", "J'J", "step", "verdict", "one start", "three starts")
        steps = [f"{row[part]:.3g}" for part in parts]
        costly.rows.append((name, f"{row['microseconds']:.0f} us", *steps, "yes" if row["astray"] else "no", row["commit"]))
    return costly


def _alone(row: dict) -> str:
    if "alone" not in row:
        return "not asked"
    ms = row["alone"]["milliseconds"]
    return f"{ms['MAP']:.0f} ms, {ms['Adam']:.0f} ms: {row['alone']['ratio']:.0f} times"


def _as_low(row: dict) -> str:
    if "as low" not in row:
        return "not asked"
    low = row["as low"]
    return "-" if low is None else f"{low['milliseconds']:.1f} ms: {low['ratio']:.0f} times"


def _against(row: dict) -> str:
    pair = row.get("against the fit")
    if pair is None:
        return "not asked"
    of = f"{pair['closer']} of {pair['signals']}"
    return f"{pair['verdict']}: {100 * pair['mean']:+.2g} +- {100 * pair['error']:.1g} %, {of}"


def generators(arguments: argparse.Namespace) -> dict[str, ci.Generator]:
    if arguments.quick:
        shipped = ROOT / "cvxinv" / "shipped" / "digits_8x8"
        return {"digits_8x8": ci.load_generator(shipped, dtype=torch.float64)}
    folder, found = Path(os.environ["CVXINV_DATA"]) / "generators", {}
    for name in (name for name in DENSE if arguments.only in name):
        for output in (None, "identity"):
            G = ci.load_generator(folder / name, output=output, dtype=torch.float64)
            found[f"{name}, {'as trained' if output is None else 'before its output'}"] = G
    return found


def main() -> None:
    parser = parser_of(__doc__, 50)
    parser.add_argument("--part", choices=("rows", "speed", "costs"), default=None)
    parser.add_argument("--pairs", type=int, default=400, help="signals at most that tell MAP from the fit")
    arguments = parser.parse_args()
    if not begin_with_data(arguments.quick):
        return
    N, steps, pairs = (8, 200, 16) if arguments.quick else (arguments.signals, STEPS, arguments.pairs)
    known, record = generators(arguments), {"circumstances": circumstances("cpu")} | _before(arguments.out)
    for name, G in tqdm(known.items(), "costs") if arguments.part in (None, "costs") else ():
        record["costs"][name] = costs(G, N) | {"commit": record["circumstances"]["commit"]}
        _keep(arguments.out, record)
    rows = [(name, share) for name in known for share in SHARES] if arguments.part != "costs" else []
    for name, share in tqdm(rows, "rows"):
        key, results = f"{name}; {share:.0%}", record["results"]
        kept = ("rate", "against the fit") if arguments.part == "speed" else ("rate",)
        before = {what: results.get(key, {}).get(what) for what in kept}
        row = measure(known[name], N, share, steps, pairs, before)
        results[key] = row | {"commit": record["circumstances"]["commit"]}
        _keep(arguments.out, record)
    print(_tables(record))


def _tables(record: dict) -> str:
    return f"{table_of_costs(record['costs']).markdown()}\n{table(record['results']).markdown()}"


def _keep(folder: Path | None, record: dict) -> None:
    if folder is not None:
        said = "\n\n".join((__doc__ or "").split("\n\n")[2:])
        write(folder, "noise_cpu", record | load_after(record), f"# Noise with a prior\n\n{said}\n\n{_tables(record)}")


def _before(folder: Path | None) -> dict:
    path = None if folder is None else folder / "noise_cpu.json"
    before = json.loads(path.read_text()) if path is not None and path.exists() else {}
    return {name: before.get(name, {}) for name in ("results", "costs")}


if __name__ == "__main__":
    main()
