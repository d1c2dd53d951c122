"""What other programs say of the claims that `prove` makes: `python benchmarks/foreign_proofs.py`.

Random nets with biases (2 or 3 latents, one or two hidden layers, ReLU or LeakyReLU), noisy signals, |z_j| <= 2.5.

- linf: m is the best misfit of the box by a mixed-integer program (HiGHS). Each verifier is asked whether any latent is
  within 0.98 m (no) and within 1.02 m (yes), by `export_claim`. `prove` is asked too; "open" is no answer.
- l2: the bound of `prove` (gap 1e-6) may not exceed the optimum of the mixed-integer program (SCIP) by more than the
  tolerances of both, 1e-6; where `prove` found its latent in the box, the two optima agree.

Verifiers, each asked through its command line, and skipped aloud where it is not installed:

- Marabou (`pip install maraboupy`, BSD-3): reads the two files as they are, float32 only.
- alpha-beta-CROWN and nnenum are on no index. auto-LiRPA is there in an old release, bounds without branching and no reader
  of VNN-LIB. NeuralSAT (`pip install neuralsat`) needs gurobipy, whose licence is not free; not asked.
  vibecheck-nn is GPL-3.0, needs gurobipy, and pins other releases of onnx and onnxruntime than ours; not asked.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from measuring import circumstances
from torch import Tensor

import cvxinv as ci
from cvxinv.exact.mixed_integer import best_of_box
from cvxinv.exact.prove import prove
from cvxinv.exact.vnnlib import export_claim

RESULTS = Path(__file__).resolve().parent / "results"
WIDTHS = ((2, 6, 8), (2, 8, 8, 10), (3, 10, 12), (3, 12, 12, 16))
LEAKS = (0.0, 0.2)
SIDE, SECONDS, AGREE = 2.5, 20.0, 1e-6


def case(widths: tuple[int, ...], leak: float, seed: int) -> tuple[ci.Generator, Tensor]:
    """A net, and a signal of it with 10 % noise."""
    draw, layers = torch.Generator().manual_seed(seed), []
    for k, (n, m) in enumerate(pairwise(widths)):
        W = torch.randn(m, n, generator=draw, dtype=torch.float64) / n**0.5
        b = 0.3 * torch.randn(m, generator=draw, dtype=torch.float64)
        kink = ci.Identity() if k == len(widths) - 2 else ci.LeakyReLU(leak) if leak else ci.ReLU()
        layers.append(ci.Layer(ci.Dense(W), b, kink))
    G = ci.Generator(tuple(layers), (widths[-1],), {})
    x = G(0.5 * torch.randn(1, widths[0], generator=draw, dtype=torch.float64))[0]
    return G, x + 0.1 * x.norm() / len(x) ** 0.5 * torch.randn(len(x), generator=draw, dtype=torch.float64)


def marabou(network: Path, text: Path) -> str:
    """`sat`, `unsat` or what else Marabou answers."""
    command = [
        sys.executable,
        "-m",
        "maraboupy",
        str(network),
        str(text),
        "--timeout",
        str(int(SECONDS)),
        "--verbosity",
        "0",
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS).stdout.split()
    return next((word for word in ("unsat", "sat", "TIMEOUT", "UNKNOWN") if word in said), "no answer")


VERIFIERS = {"Marabou": ("maraboupy", marabou)}


def by_verifiers(G: ci.Generator, y: Tensor, misfit: float, there: list[str]) -> list[dict]:
    """What each verifier says of eps below and above the best misfit."""
    rows = []
    for share, expected in ((0.98, "unsat"), (1.02, "sat")):
        with tempfile.TemporaryDirectory() as folder:
            claim = export_claim(folder, G, y, share * misfit, box=SIDE)
            for name in there:
                began = time.perf_counter()
                said = VERIFIERS[name][1](claim.network, claim.property)
                spent = time.perf_counter() - began
                rows.append({"judge": name, "claim": share, "said": said, "agrees": said == expected, "seconds": spent})
    return rows


def by_prove(G: ci.Generator, y: Tensor, eps: float, expected: bool) -> dict:
    """Whether `prove` finds no latent within eps in linf; or that it does not know such noise yet."""
    began = time.perf_counter()
    try:
        found = prove(G, y[None], noise=("linf", eps), box=SIDE, time_limit=SECONDS)
    except (TypeError, ValueError) as error:
        return {"judge": "prove", "said": f"refused: {error}".splitlines()[0]}
    out = bool(found.out_of_range[0])
    # a latent that is found is judged here, in linf; so is whether the answer was in linf at all
    near = float((G(found.z) - y).abs().amax()) <= eps * (1 + 1e-9)
    said = "unsat" if out else "sat" if near else "open"
    row = {"judge": "prove", "said": said, "seconds": time.perf_counter() - began}
    return row if said == "open" else row | {"agrees": said == ("sat" if expected else "unsat")}


def compare(seeds: int, there: list[str], scip: bool) -> list[dict]:
    rows = []
    for widths in WIDTHS:
        for leak in LEAKS:
            for seed in range(seeds):
                name = {"net": "-".join(map(str, widths)), "leak": leak, "seed": seed}
                G, y = case(widths, leak, seed)
                best = best_of_box(G, y, norm="linf", box=SIDE, time_limit=SECONDS)
                rows.append(name | {"judge": "HiGHS", "said": best.status, "misfit": best.misfit, "seconds": best.seconds,
                                    "binaries": best.binaries})  # fmt: skip
                if best.status == "optimal":
                    rows += [name | row for row in by_verifiers(G, y, best.misfit, there)]
                    for share in (0.98, 1.02):
                        rows.append(name | {"claim": share} | by_prove(G, y, share * best.misfit, share > 1))
                rows += [name | row for row in in_l2(G, y, scip)]
                print(*(f"{r['judge']}: {r['said']}" for r in rows[-8:]), sep="; ", flush=True)
    return rows


def in_l2(G: ci.Generator, y: Tensor, scip: bool) -> list[dict]:
    """`prove` in l2, and SCIP."""
    found = prove(G, y[None], box=SIDE, gap=1e-6, time_limit=SECONDS)
    bound, misfit, inside = float(found.bound[0]), float(found.misfit[0]), float(found.z.abs().max()) <= SIDE
    row = {"judge": "prove l2", "said": str(found.status[0]), "misfit": misfit, "seconds": found.seconds, "inside": inside}
    if not scip:
        return [row]
    best = best_of_box(G, y, norm="l2", box=SIDE, time_limit=SECONDS)
    sound = bound <= best.misfit * (1 + AGREE)
    same = not (inside and found.status[0] == "proved_optimal" and best.status == "optimal")
    same = same or abs(misfit - best.misfit) <= AGREE * misfit
    return [
        row,
        {"judge": "SCIP", "said": best.status, "misfit": best.misfit, "seconds": best.seconds, "agrees": sound and same},
    ]


def table(rows: list[dict]) -> str:
    """One line per net and judge: answers, how many agree, seconds."""
    lines = ["| net | leak | judge | claim | asked | said | agree | median s |", "|---|---|---|---|---|---|---|---|"]
    keys = dict.fromkeys((r["net"], r["leak"], r["judge"], r.get("claim", "")) for r in rows)
    for net, leak, judge, claim in keys:
        group = [r for r in rows if (r["net"], r["leak"], r["judge"], r.get("claim", "")) == (net, leak, judge, claim)]
        said = ", ".join(dict.fromkeys(r["said"].split(":")[0] for r in group))
        judged = [r["agrees"] for r in group if "agrees" in r]
        seconds = torch.tensor([r["seconds"] for r in group if "seconds" in r])
        agree = f"{sum(judged)} of {len(judged)}" if judged else ""
        time_ = f"{float(seconds.median()):.2g}" if len(seconds) else ""
        lines.append(f"| {net} | {leak} | {judge} | {claim} | {len(group)} | {said} | {agree} | {time_} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    there = [name for name, (module, _) in VERIFIERS.items() if importlib.util.find_spec(module)]
    scip = importlib.util.find_spec("pyscipopt") is not None
    skipped = [name for name in VERIFIERS if name not in there] + ([] if scip else ["SCIP (pip install pyscipopt)"])
    print(
        "asked:", ", ".join(["HiGHS", *there, *(["SCIP"] if scip else [])]), "- skipped, not installed:", skipped or "none"
    )
    rows = compare(args.seeds, there, scip)
    wrong = [r for r in rows if r.get("agrees") is False]
    about = circumstances("cpu")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "foreign_proofs_cpu.json").write_text(
        json.dumps({"about": about, "skipped": skipped, "rows": rows}, indent=1) + "\n"
    )
    head = f"# What other programs say\n\n`python benchmarks/foreign_proofs.py --seeds {args.seeds}`, "
    head += f"commit {about['commit']}, {about['processor']}, one thread. "
    head += f"Skipped: {', '.join(skipped) or 'none'}. Answers that disagree: {len(wrong)}."
    why = {r["said"] for r in rows if r["said"].startswith("refused")}
    head += "".join(f"\n\n`prove` {word}" for word in sorted(why))
    (args.out / "foreign_proofs_cpu.md").write_text(f"{head}\n\n{table(rows)}\n")
    print(table(rows), f"{len(wrong)} disagree")


if __name__ == "__main__":
    main()
