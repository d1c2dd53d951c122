"""Are the claims proved? Exported certificates before `cvxinv.check`, which computes exactly and believes nobody.

    python benchmarks/checked.py [--claims 1000] [--inversions 100] [--mutations 1000] [--seed 0] [--out benchmarks/results]
    python benchmarks/checked.py --show 3 [--out benchmarks/results]       # the third rejected claim, solved anew

1. Claims on random problems of the soundness battery (`soundness_cases`), each solved by a solver drawn at random and
   exported: `optimal`, `optimal_inaccurate` and `infeasible` have to be accepted.
2. Inversions of trained generators under CVXINV_DATA, of the shipped ones without it: clean signals, 1 % noise, 45 % hidden,
   by `hybrid` and `latent_pursuit`. The claims on every layer and on the latents, and seconds per claim.
3. Certificates with one entry changed, ten kinds (`mutations`): rejected or refused unless the claim is still true, as the
   optimum of the changed problem decides; where that is not known in exact arithmetic, the judge is asked.

Exit code 1 if a true claim of 1 or 2 is rejected, or a false one of 3 accepted.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from exact import ExactProblem
from measuring import circumstances
from mutations import CLAIMS_NOTHING, DATA, KINDS, is_false, is_true, mutate, of_signal, rebuilt, separable, truth_of
from rich.console import Console
from runs import begin, load_after, write
from soundness import _LIMITS, _ONE_BY_ONE, _OPTIONS, solvers_of
from soundness_cases import KINDS as PROBLEMS
from soundness_cases import draw
from tables import Table, short
from tqdm import tqdm

import cvxinv as ci
from cvxinv.check import RefusedError, Verdict
from cvxinv.check_inversion import check_file
from cvxinv.solvers import reference

GENERATORS = ("lei_vae_relu_20_60_784_nobias", "csinva_vae_20_400_784", "laug_vae_5_128_256_784")
SHIPPED = ("digits_8x8", "mnist_gan")
SIGNALS = ("clean", "1 % noise", "45 % hidden")
METHODS = ("hybrid", "latent_pursuit")
ACCEPTED = ("accepted: still true", "accepted: still true as the judge says", "accepted: the judge says no")
_FAULTS = ("rejected", "false, accepted")
_KEPT = 200


@dataclass
class Found:
    """Counts over tuples of words, what was rejected, and seconds of checking."""

    random: Counter = field(default_factory=Counter)  # (problem, solver, status, "accepted" or "rejected")
    inversions: Counter = field(default_factory=Counter)  # (generator, signals, method, claims on, status, verdict)
    mutations: Counter = field(default_factory=Counter)  # (kind, family, verdict)
    seconds: Counter = field(default_factory=Counter)  # (part, generator)
    rejected: list[dict] = field(default_factory=list)
    accepted_false: list[dict] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return sum(n for c in (self.random, self.inversions, self.mutations) for key, n in c.items() if key[-1] in _FAULTS)

    def keep(self, **facts: object) -> None:
        if len(self.rejected) < _KEPT:
            self.rejected.append(facts)

    def record(self) -> dict:
        names = ("random", "inversions", "mutations", "seconds")
        counts = {name: [[*key, n] for key, n in sorted(getattr(self, name).items())] for name in names}
        return counts | {"rejected": self.rejected, "accepted_false": self.accepted_false}


def checked(path: Path) -> list[Verdict]:
    """The verdicts on a file; where it is refused, that word for each of its claims."""
    try:
        return check_file(path)
    except RefusedError as error:
        status = json.loads(path.read_text())["status"]
        return [Verdict(i, claim, claim in CLAIMS_NOTHING, f"refused: {error}") for i, claim in enumerate(status)]


# --- 1: random problems ---------------------------------------------------------------------------


def solved(seed: int) -> tuple[str, bool, ci.Solution]:
    """The solution of a seed's problem by the solver that the seed draws; its name, and whether it was polished."""
    rng, problem = np.random.default_rng([seed, 11]), draw(seed).problem
    solver = str(rng.choice(solvers_of(problem)))
    polish = bool(rng.random() < 0.7)
    if solver in reference.CVXPY_SOLVERS and problem.N > _ONE_BY_ONE:
        problem = problem.take(torch.arange(_ONE_BY_ONE))
    options = {"max_iter": _LIMITS.get(solver), "solver_options": _OPTIONS.get(solver)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return solver, polish, ci.solve(problem, solver, on_fail="ignore", progress=False, polish=polish, **options)


def random_claims(claims: int, seed: int, found: Found, folder: Path) -> None:
    """Claims of solvers on problems of consecutive seeds, until there are so many."""
    made, at = 0, seed * 1_000_000
    with tqdm(total=claims, desc="random problems", unit="claim") as bar:
        while made < claims:
            solver, polish, solution = solved(at)
            kind = type(solution.problem).__name__
            started = time.process_time()
            verdicts = checked(solution.export(folder / "random.json"))
            said = [v for v in verdicts if v.claim not in CLAIMS_NOTHING]
            found.seconds["random problems", ""] += time.process_time() - started
            for v in said:
                found.random[kind, solver, v.claim, "accepted" if v.accepted else "rejected"] += 1
                if not v.accepted:
                    c, i = solution.certificate, v.signal
                    found.keep(part="random problems", seed=at, solver=solver, polish=polish, kind=kind, signal=i,
                               claim=v.claim, words=v.words, remark=c.remark[i], **numbers_of(c, i))  # fmt: skip
            made, at = made + len(said), at + 1
            bar.update(len(said))
            bar.set_postfix_str(f"{found.faults} faults", refresh=False)


def numbers_of(c: ci.Certificate, i: int) -> dict[str, float]:
    """What the judge computed of signal i."""
    named = {"objective": c.objective, "gap": c.gap, "allowed": c.allowed_gap, "worth": c.worth, "scope": c.scope}
    return {key: float(x[i]) for key, x in (named | {"violation": c.violation, "s_y": c.scale, "times": c.times}).items()}


# --- 2: inversions --------------------------------------------------------------------------------


def generators() -> list[tuple[str, ci.Generator]]:
    folder = os.environ.get("CVXINV_DATA")
    if folder is None:
        print(f"CVXINV_DATA is not set: the shipped generators {' and '.join(SHIPPED)} instead")
        return [(name, ci.load_generator(name)) for name in SHIPPED]
    return [(name, ci.load_generator(Path(folder) / "generators" / name)) for name in GENERATORS]


def observed(G: ci.Generator, N: int, signals: str, seed: int) -> tuple[torch.Tensor, dict]:
    """Signals, and what `invert` is told of them."""
    source = torch.Generator().manual_seed(seed)
    x = G(G.sample_latent(N, source)).double()
    if signals == "45 % hidden":
        return x, {"measurement": torch.rand(x.shape, generator=source) > 0.45}
    if signals == "1 % noise":
        e = torch.randn(x.shape, generator=source, dtype=x.dtype)
        e = 0.01 * e * (x.norm(dim=1) / e.norm(dim=1))[:, None]
        return x + e, {"noise": ("l2", e.norm(dim=1))}
    return x, {}


def inversions(count: int, seed: int, found: Found, folder: Path) -> None:
    """So many inversions, spread over generators, signals and methods."""
    cells = [(name, G, s, m) for name, G in generators() for s in SIGNALS for m in METHODS]
    sizes = [len(range(k, count, len(cells))) for k in range(len(cells))]
    with tqdm(total=count, desc="inversions", unit="signal") as bar:
        for (name, G, signals, method), N in zip(cells, sizes, strict=True):
            if N == 0:
                continue
            y, told = observed(G, N, signals, seed)
            inversion = ci.invert(G, y, method, on_fail="ignore", progress=False, **told)
            inversion.export(folder, G, y, told.get("measurement"))
            for path in sorted(folder.glob("*.certificate.json")):
                _weigh(found, (name, signals, method), path, inversion)
            bar.update(N)
            bar.set_postfix_str(f"{found.faults} faults", refresh=False)


def _weigh(found: Found, cell: tuple[str, str, str], path: Path, inversion: ci.Inversion) -> None:
    what, started = path.name.split(".")[0], time.process_time()
    verdicts = checked(path)
    reports = {f"layer-{report.index}": report for report in inversion.layers}
    found.seconds["inversions", cell[0]] += time.process_time() - started
    for v in verdicts:
        if v.claim in CLAIMS_NOTHING or "claims nothing" in v.words:
            found.inversions[*cell, what, v.claim, "claims nothing"] += 1
            continue
        found.inversions[*cell, what, v.claim, "accepted" if v.accepted else "rejected"] += 1
        if not v.accepted:
            more = numbers_of(reports[what].solution.certificate, v.signal) if what in reports else {}
            kind = type(reports[what].problem).__name__ if what in reports else "Inversion"
            found.keep(part="inversions", generator=cell[0], signals=cell[1], method=cell[2], claims_on=what, kind=kind,
                       signal=v.signal, claim=v.claim, words=v.words, **more)  # fmt: skip


# --- 3: mutations ---------------------------------------------------------------------------------


def mutations(count: int, seed: int, found: Found, folder: Path) -> None:
    """So many changed certificates, each kind in turn, half of them separable ones and half drawn ones."""
    path, random_ = folder / "mutated.json", random.Random(seed)
    for k in tqdm(range(count), desc="mutations", unit="certificate"):
        what, at = KINDS[k % len(KINDS)], seed * 1_000_000 + k // len(KINDS)
        if k // len(KINDS) % 2:
            _separable(found, what, at, path, random_)
        else:
            _drawn(found, what, seed_for(what, seed, random_), path, random_)


def _separable(found: Found, what: str, seed: int, path: Path, random_: random.Random) -> None:
    changed = mutate(json.loads(separable(seed).export(path).read_text()), what, random_)
    path.write_text(json.dumps(changed))
    words = [
        "" if not v.accepted or v.claim in CLAIMS_NOTHING else ACCEPTED[0] if is_true(changed, v.signal) else _FAULTS[1]
        for v in checked(path)
    ]
    _count(found, what, "separable", seed, changed, words, checked(path))


def seed_for(what: str, seed: int, random_: random.Random) -> int:
    """The seed of a problem that has such an entry: between limits there is no y, and of l_inf bounds one for all rows."""
    while True:
        at = seed * 1_000_000 + random_.randrange(100_000)
        kind = list(PROBLEMS)[at % len(PROBLEMS)]
        if not ((what in ("y", "penalty") and "Linf" in kind) or (what == "y" and kind == "IntervalBasisPursuit")):
            return at


def _drawn(found: Found, what: str, seed: int, path: Path, random_: random.Random) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = draw(seed)
        solution = ci.solve(drawn.problem, on_fail="ignore", progress=False)
        changed = mutate(json.loads(solution.export(path).read_text()), what, random_)
        path.write_text(json.dumps(changed))
        verdicts, words = checked(path), [""] * drawn.problem.N
        judged = [v for v in verdicts if v.accepted and v.claim not in CLAIMS_NOTHING]
        problem = rebuilt(drawn.problem, changed, what) if judged and what in DATA else drawn.problem
        exact = ExactProblem(problem) if judged else None
        for v in judged:
            truth = truth_of(drawn, problem, exact, v.signal, what in DATA)
            false = is_false(exact, v.signal, changed, truth)
            words[v.signal] = _FAULTS[1] if false else ACCEPTED[0] if false is False else _asked(problem, v, changed)
    _count(found, what, "drawn", seed, changed, words, verdicts)


def _asked(problem: ci.AbstractLayerProblem, v: Verdict, content: dict) -> str:
    """What the judge says of a claim that exact arithmetic does not decide."""
    (h, p), tol = of_signal(content, v.signal, "h p"), of_signal(content, v.signal, "tol")[0][0]
    part = problem.take(torch.tensor([v.signal]))
    status = ci.certify(part, np.array([h], float), np.array([p], float), tol=float(tol)).status[0]
    return ACCEPTED[1] if status in ("optimal", v.claim) else ACCEPTED[2]


def _count(
    found: Found, what: str, family: str, seed: int, content: dict, words: list[str], verdicts: list[Verdict]
) -> None:
    """One word for the whole certificate: false and accepted, or rejected, or the weakest of what decides its signals."""
    if _FAULTS[1] in words:
        word = _FAULTS[1]
        found.accepted_false.append(
            {"what": what, "family": family, "seed": seed, "signal": words.index(word), "content": content}
        )
    elif not all(v.accepted for v in verdicts):
        word = "rejected: no longer proved"
    else:
        word = max((w for w in words if w), key=ACCEPTED.index, default="claims nothing")
    found.mutations[what, family, word] += 1


# --- what is said of it ---------------------------------------------------------------------------


def crossed(title: str, counts: Counter, row: tuple[int, ...]) -> Table:
    """A table of sums: the words at `row` by the verdict, which comes last in each key."""
    columns = sorted({key[-1] for key in counts})
    rows = list(dict.fromkeys(tuple(key[k] for k in row) for key in sorted(counts)))
    sums: Counter = Counter()
    for key, n in counts.items():
        sums[tuple(key[k] for k in row), key[-1]] += n
    lines = [(", ".join(r), *(f"{sums[r, c]:,}" for c in columns)) for r in rows]
    return Table(title, ("", *columns), lines)


def tables(found: Found) -> list[Table]:
    made = [
        crossed("Random problems, by problem and claim", found.random, (0, 2)),
        crossed("Random problems, by solver", found.random, (1,)),
        crossed("Inversions, by generator and signals", found.inversions, (0, 1)),
        crossed("Inversions, by what is claimed", found.inversions, (3, 4)),
        crossed("Changed certificates, by what was changed", found.mutations, (0, 1)),
    ]
    times = []
    for (part, name), seconds in sorted(found.seconds.items()):
        of = [n for key, n in found.inversions.items() if key[0] == name] if name else list(found.random.values())
        times.append((f"{part} {name}".strip(), f"{sum(of):,}", short(seconds / max(sum(of), 1))))
    made.append(Table("Process seconds", ("", "claims", "of one claim, reading included"), times))
    if found.rejected:
        header = ("part", "of", "claim", "words")
        made.append(Table("Rejected", header, [_line(one) for one in found.rejected]))
    return [table for table in made if table.rows]


def _line(one: dict) -> tuple[str, ...]:
    where = (
        f"seed {one['seed']}, {one['solver']}" if "seed" in one else f"{one['generator']}, {one['signals']}, {one['method']}"
    )
    of = f"{where}, {one['kind']}, signal {one['signal']}"
    return one["part"], of, one["claim"], one["words"].replace("|", "\\|")


def summary(found: Found) -> str:
    def share(counts: Counter, *words: str) -> str:
        return " ".join(f"{sum(n for key, n in counts.items() if key[-1] == w):,} {w}," for w in words)[:-1]

    return (
        f"Random problems: {share(found.random, 'accepted', 'rejected')}. "
        f"Inversions: {share(found.inversions, 'accepted', 'rejected', 'claims nothing')}. "
        f"Changed certificates: {share(found.mutations, 'rejected: no longer proved', *ACCEPTED)}, "
        f"{len(found.accepted_false):,} false and accepted."
    )


def markdown(found: Found, at: dict) -> str:
    head = [
        "# Are the claims proved?", "",
        f"`python benchmarks/checked.py`; commit {at['commit']}{', changed' if at['changed'] else ''}; {at['date']}.", "",
        summary(found), "",
    ]  # fmt: skip
    return "\n".join([*head, *(table.markdown() for table in tables(found))])


def show(one: dict) -> None:
    """Solve a rejected claim of the random problems anew, and print judge and checker."""
    solver, polish, solution = solved(one["seed"])
    with tempfile.TemporaryDirectory() as folder:
        verdict = checked(solution.export(Path(folder) / "shown.json"))[one["signal"]]
    i = one["signal"]
    print(f"draw({one['seed']}): {type(solution.problem).__name__}, {solver}, polish={polish}, signal {i}")
    print({key: f"{x:.6g}" for key, x in numbers_of(solution.certificate, i).items()}, solution.certificate.remark[i])
    print(verdict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=int, default=1000, help="on random problems")
    parser.add_argument("--inversions", type=int, default=100, help="signals, spread over generators, kinds and methods")
    parser.add_argument("--mutations", type=int, default=1000, help="changed certificates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="folder for JSON and markdown")
    parser.add_argument("--show", type=int, default=None, help="solve the K-th rejected claim of the results in --out anew")
    arguments, console = parser.parse_args(), Console(width=180)
    begin("cpu")
    if arguments.show is not None:
        folder = arguments.out or Path(__file__).parent / "results"
        kept = json.loads((folder / "checked_cpu.json").read_text())["found"]["rejected"]
        if not 0 < arguments.show <= len(kept) or "seed" not in kept[arguments.show - 1]:
            print(f"expected a number up to {len(kept)} of a random problem")
            return 2
        show(kept[arguments.show - 1])
        return 0
    record, found = {"circumstances": circumstances("cpu")}, Found()
    with tempfile.TemporaryDirectory() as folder:
        random_claims(arguments.claims, arguments.seed, found, Path(folder))
        inversions(arguments.inversions, arguments.seed, found, Path(folder) / "inversion")
        mutations(arguments.mutations, arguments.seed, found, Path(folder))
    for table in tables(found):
        console.print(table.rich())
    console.print(summary(found))
    if arguments.out is not None:
        now = record | {"found": found.record()} | load_after(record)
        for path in write(arguments.out, "checked_cpu", now, markdown(found, record["circumstances"])):
            console.print(f"written: {path}")
    return int(found.faults > 0)


if __name__ == "__main__":
    sys.exit(main())
