"""Proofs on small random generators beside 100 descents each: what a proof says must hold of every latent that they find.

    python benchmarks/proofs_small.py --out benchmarks/results             # 2,000 generators
    python benchmarks/proofs_small.py --quick                              # 6: to see that it runs

Data: `small_nets`, seed by seed, two signals each: dead and double units, layers that expand nothing or have not full rank,
LeakyReLU, masks, matrices, priors, noise from none to half of the signal, latents to start from that are seldom the best.

Each is proved by `cvxinv.exact.prove.prove` with a gap of 1e-4 (one generator in ten: 0.1) in at most a minute; *in time*:
proved, and both signals together within 10 seconds of this process. The
rivals are where 100 Levenberg-Marquardt descents from random latents of the box end, as far as they lie in the box. *wrong
bound*: a rival has a squared misfit below the one that is said to be a bound. *wrong proof*: one is better by more than the
gap of a signal called proved. *wrong phases*: one as good as the best known lies in no node that is left, so that a unit's
phase or a limit of the latent was decided wrongly. *wrong box*: it lies outside the box said to hold all that are as good.
All must be 0. *better*: the proof ends with a better latent than all rivals. Where squares are compared, 1e-9 of them and
1e-24 of the squared size of what is added up in a signal count as rounding.

One in five without a prior is proved in l1 or linf, where `cvxinv.exact.mixed_integer.best_of_box` (HiGHS) is a rival too,
on 10 seconds a signal. In l2 it takes SCIP, which is not asked here.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import small_nets
import torch
from measuring import circumstances
from runs import begin, load_after, write
from tables import Table
from torch import Tensor
from tqdm import tqdm

import cvxinv.exact.opening as opening
import cvxinv.exact.prove as proving
from cvxinv.exact.mixed_integer import best_of_box
from cvxinv.exact.refining import stated_misfit
from cvxinv.exact.search import Search
from cvxinv.inversion.moments import PROVED
from cvxinv.inversion.proof import Proof
from cvxinv.inversion.steps.newton import descend
from cvxinv.inversion.task import Task, make_task

ABOUT = "".join(__doc__.partition("Data:")[1:]).strip()
SECONDS, LIMIT, STARTS = 10.0, 60.0, 100
WRONG = ("wrong bounds", "wrong proofs", "wrong phases", "wrong boxes")
COLUMNS = ("generators", "signals", "proved", "in time", "improved", "unique", "better", *WRONG)


@dataclass(frozen=True, eq=False)
class Watched:
    """A proof, what was asked, and the search that it ended with."""

    case: small_nets.Case
    task: Task
    norm: str
    proof: Proof
    search: Search

    @property
    def box(self) -> tuple[Tensor, Tensor]:
        return self.proof.box  # type: ignore[return-value]


def watched(case: small_nets.Case, gap: float, norm: str = "l2") -> Watched:
    """`prove`, with the search that it makes kept."""
    told = case.told if norm == "l2" else case.told | {"noise": (norm, 1.0)}
    made = list[Search]()

    class Kept(Search):
        def __post_init__(self) -> None:
            super().__post_init__()
            made.append(self)

    plain = opening.Search
    opening.Search = Kept  # type: ignore[misc]
    try:
        proof = proving.prove(
            case.generator, case.y, case.z, gap=gap, box=case.box, time_limit=LIMIT, progress=False, **told
        )
    finally:
        opening.Search = plain  # type: ignore[misc]
    task = make_task(case.generator, case.y, *(told.get(name) for name in ("measurement", "noise", "prior")))
    return Watched(case, task, norm, proof, made[-1])


def descents(w: Watched) -> Tensor:
    """Where descents from random latents of the box end, and where they began."""
    (S, n0), (low, high) = w.case.z.shape, w.box
    dice = small_nets.Dice(S + n0)
    start = low + (high - low) * dice.uniform(S * STARTS, n0)
    its = w.task.take(torch.arange(S).repeat_interleave(STARTS))
    end = descend(its, start, max_iter=40, exact=True).z.clamp(low, high)
    return torch.cat([start.reshape(S, -1, n0), end.reshape(S, -1, n0)], 1)


def programs(w: Watched) -> Tensor:
    """What a mixed-integer program finds, the start where it finds nothing."""
    found = w.case.z.clamp(*w.box)
    if w.norm == "l2":
        return found[:, None]
    for k, y in enumerate(w.case.y):
        best = best_of_box(
            w.case.generator, y, norm=w.norm, measurement=w.case.told.get("measurement"), box=w.case.box, time_limit=10.0
        )
        found[k] = torch.where(torch.isfinite(best.z).all(), best.z, found[k])
    return found[:, None]


RIVALS: dict[str, Callable[[Watched], Tensor]] = {"descents": descents, "programs": programs}


def judged(w: Watched) -> dict[str, Any]:
    """What the rivals say of a proof, counted over its signals."""
    z = torch.cat([rival(w) for rival in RIVALS.values()], 1)
    S, R, n0 = z.shape
    f = stated_misfit(w.task.take(torch.arange(S).repeat_interleave(R)), z.reshape(-1, n0)).square().reshape(S, R)
    proof, best, tiny = w.proof, f.amin(1), 1e-24 * w.proof.size**2
    misfit, bound = proof.misfit**2, proof.bound**2
    proved = torch.from_numpy(proof.status == PROVED)
    asked = proof.settings["gap"]
    as_good = f <= (w.search.level * (1 - 1e-9) - tiny)[:, None]
    size = 1e-8 * (1 + z.abs())
    boxed = ((z >= proof.low[:, None] - size) & (z <= proof.high[:, None] + size)).all(2)
    fine = bool(asked <= 1e-3) and w.norm != "linf"  # whose nodes end at (1 - gap) f, so that the level is below f
    return {
        "signals": S, "proved": int(proved.sum()), "improved": int(proof.improved.sum()), "unique": int(proof.unique.sum()),
        "better": int((misfit < best * (1 - 1e-6) - tiny).sum()),
        "wrong bounds": int((best < bound * (1 - 1e-9) - tiny).sum()),
        "wrong proofs": int((proved & (best < misfit * (1 - asked) * (1 - 1e-9) - 1e4 * 1e-26 * w.proof.size**2)).sum()),
        "wrong phases": int((as_good & ~in_a_node(w, z)).any(1).sum()),
        "wrong boxes": int((as_good & ~boxed).any(1).sum()) if fine else 0,
    }  # fmt: skip


def in_a_node(w: Watched, z: Tensor) -> Tensor:
    """Whether latents `(S, R, n0)` lie within all limits of a node that is open or kept, `(S, R)`."""
    network, V = w.search.network, w.search.targets.V
    c, x, us = z @ V, z, list[Tensor]()
    for W, b, s in zip(network.W, network.b, network.s, strict=True):
        us.append(x @ W.T + b)
        x = torch.maximum(us[-1], s * us[-1])
    if w.norm == "l1":
        us.append(x @ w.search.targets.A.mT + w.search.targets.a[:, None])  # its rows are one more layer
    found = torch.zeros(z.shape[:2], dtype=torch.bool)
    for nodes in (w.search.open, *w.search.kept):
        for k, s in enumerate(nodes.owner.tolist()):
            limits = [(c[s], nodes.low[k], nodes.high[k])]
            limits += [(u[s], lo[k], hi[k]) for u, lo, hi in zip(us, nodes.lo, nodes.hi, strict=True)]
            size = [1e-8 * (1 + value.abs()) for value, _, _ in limits]
            held = [((v >= a - e) & (v <= b + e)).all(1) for (v, a, b), e in zip(limits, size, strict=True)]
            found[s] |= torch.stack(held).all(0)
    return found


def groups(case: small_nets.Case, gap: float, norm: str) -> list[str]:
    """The rows of the table that a case counts in."""
    return ["all", norm, f"gap {gap:g}", *dict.fromkeys(case.features)]


def run(count: int, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """All of them; report: told what is known, now and then."""
    table: dict[str, Counter[str]] = {}
    record: dict[str, Any] = {"table": table, "unfinished": [], "wrong": [], "seconds": []}
    for seed in tqdm(range(count), desc="proofs", unit="generator"):
        case, gap = small_nets.draw(seed), 0.1 if seed % 10 == 9 else 1e-4
        norm = ("l1", "linf")[seed // 5 % 2] if seed % 5 == 4 and "prior" not in case.told else "l2"
        began = time.process_time()
        w = watched(case, gap, norm)
        record["seconds"].append(time.process_time() - began)
        found = judged(w)
        found["in time"] = found["proved"] * (record["seconds"][-1] <= SECONDS)
        for name in groups(case, gap, norm):
            table.setdefault(name, Counter()).update(found | {"generators": 1})
        if found["proved"] < found["signals"]:
            record["unfinished"].append(seed)
        if any(found[name] for name in WRONG):
            record["wrong"].append(seed)
        if seed % 20 == 19:
            report(record)
    return record


def page(record: dict[str, Any]) -> str:
    rows = [(name, *(str(its[key]) for key in COLUMNS)) for name, its in record["table"].items()]
    whole, seconds = record["table"]["all"], torch.tensor(record["seconds"])
    share = whole["in time"] / whole["signals"]
    title = (
        f"{whole['signals']} signals of {whole['generators']} generators: {share:.2%} proved in {SECONDS:g} s, "
        f"{sum(whole[name] for name in WRONG)} claims wrong"
    )
    its = record["circumstances"]
    where = f"`{its['command']}`, commit {its['commit']}, {its['processor']}, one thread, torch {its['versions']['torch']}."
    words = (
        f"Seconds of the process for both signals: median {float(seconds.median()):.2f}, longest "
        f"{float(seconds.max()):.1f}. Seeds with a signal not proved: {record['unfinished'] or 'none'}; with something "
        f"wrong: {record['wrong'] or 'none'}."
    )
    table = Table(title, ("generators with", *COLUMNS), rows).markdown()
    return "\n\n".join(["# Small proofs", ABOUT, where, words, table])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=2000, help="generators")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    begin("cpu")
    count, stem = (6, "proofs_small_quick") if args.quick else (args.count, "proofs_small_cpu")
    its = circumstances("cpu") | {"command": f"python benchmarks/proofs_small.py --count {count}"}

    def report(record: dict[str, Any]) -> None:
        record |= {"circumstances": its}
        if args.out is not None:
            whole = record | load_after(record) | {"table": {name: dict(row) for name, row in record["table"].items()}}
            write(args.out, stem, whole, page(record))

    record = run(count, report)
    report(record)
    print(page(record))
    sys.exit(1 if record["wrong"] else 0)


if __name__ == "__main__":
    main()
