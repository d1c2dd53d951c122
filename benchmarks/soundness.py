"""Is `optimal` true? Claims of the judge on points of every solver and of liars, against optima known in exact arithmetic.

    python benchmarks/soundness.py [--claims 100000] [--quick] [--seed 0] [--processes 2] [--out benchmarks/results]
    python benchmarks/soundness.py --show 3 [--out benchmarks/results]     # the third false claim as a Python script

A claim is a certificate's word on one signal's point. Problems (`soundness_cases`) are drawn by seed, batch by batch, and
their optima are known by construction, or solved in rationals from the activity that a solver found. Judged are the points
of every solver, `solve` itself and `certify` of h alone, and those of liars (`liars`), h alone and with p. What makes a
claim false stands in `claims`. Beside false claims are counted: exceptions, aborts and hangs of the process (problems run in
processes of their own), signals whose verdict depends on the rest of their batch, and how many signals of known optimum a
solver does not bring to `optimal`. Exit code 1 if a claim is false or a call broke.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from pathlib import Path
from queue import Empty, Queue

import numpy as np
import torch
from claims import FALSE, Claim, claims_of, faults
from exact import ExactProblem, Truth
from liars import TRUE, points
from measuring import circumstances
from rich.console import Console
from runs import begin, load_after, write
from soundness_cases import KINDS, Drawn, draw, settled
from soundness_tables import Report, group, markdown, summary, tables
from tqdm import tqdm

import cvxinv as ci
from cvxinv.solvers import apart, reference
from cvxinv.solvers.known import TORCH_SOLVERS

_LIMITS = {  # iterations
    "root_finding": 20,
    "graph_admm": 1500,
    "pdhg": 1500,
    "fista": 2000,
    "linearized_admm": 2000,
    "OSQP": 4000,
    "SCS": 4000,
}
_OPTIONS = {"HIGHS": {"time_limit": 3.0}}
_SILENCE = 240.0  # seconds without a word after which a process counts as hung
_ONE_BY_ONE = 3  # signals of a batch that a CVXPY solver gets
_MINUTE = 60.0
_LIARS = 9  # of each problem, beside the optimum itself
_QUICK = 2000


# --- one problem ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """Claims on the first signals of a problem: by `solve`, by `certify(h)` or `certify(h, p)`."""

    source: str
    how: str
    h: np.ndarray
    p: np.ndarray | None
    claims: list[Claim]


def solvers_of(problem: ci.AbstractLayerProblem) -> list[str]:
    """Every solver that takes the problem and is installed."""
    found = ["auto", *(name for name, method in TORCH_SOLVERS.items() if method.refuses(problem) is None)]
    for name in reference.CVXPY_SOLVERS:
        try:
            reference.require(name)
        except ci.BackendNotInstalledError:
            continue
        if reference.refuses(problem, name) is None:
            found.append(name)
    return found


class Examination:
    """All calls on one problem; `say` is told of each before it is made, so that an abort can be attributed."""

    def __init__(self, drawn: Drawn, seed: int, skip: set[str], say: Callable[[str], None]):
        self.drawn, self.seed, self.skip, self.say = drawn, seed, skip, say
        self.report, self.judged = Report(), []
        self.rng = np.random.default_rng([seed, 7])

    def run(self) -> Report:
        problem, N = self.drawn.problem, self.drawn.problem.N
        for solver in solvers_of(problem):
            one_by_one = solver in reference.CVXPY_SOLVERS
            part = problem.take(torch.arange(min(N, _ONE_BY_ONE))) if one_by_one and N > _ONE_BY_ONE else problem
            self._solver(solver, part)
        liars = list(points(self.drawn, *self._pair(), self.rng))
        for k in [0, *sorted(1 + self.rng.permutation(len(liars) - 1)[:_LIARS])]:
            name, h, p = liars[k]
            self._certify(problem, name, "h", h, None)
            self._certify(problem, name, "h, p", h, p)
        self._compare()
        return self.report

    def _call(self, source: str, how: str, call: Callable):
        label = f"{source} | {how}"
        if label in self.skip:
            return None
        self.say(label)
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return call()
        except Exception as error:  # whatever it is, it is counted and shown
            words = f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
            self.report.broken[words, source, how, self.drawn.kind] += 1
            if len(self.report.kept) < 20:
                self.report.kept.append({"seed": self.seed, "source": source, "how": how, "signal": 0, "fault": words})
            return None
        finally:
            self.report.seconds[source if how == "solve" else "certify", how] += time.perf_counter() - started

    def _solver(self, solver: str, problem: ci.AbstractLayerProblem) -> None:
        options = {"max_iter": _LIMITS.get(solver), "solver_options": _OPTIONS.get(solver)}
        polish = bool(self.rng.random() < 0.7)

        def solve(part):
            return ci.solve(part, solver, on_fail="ignore", progress=False, polish=polish, **options)

        died = apart.HIGHS_QP.died
        solution = self._call(solver, "solve", lambda: solve(problem))
        if apart.HIGHS_QP.died > died:
            self.report.died[solver, self.drawn.kind] += apart.HIGHS_QP.died - died
        if solution is None:
            return
        h, p = solution.h.double().numpy(), solution.p.double().numpy()
        self.judged.append(Judged(solver, "solve", h, p, claims_of(solution.certificate)))
        self._certify(problem, solver, "h", h, None)
        again = self._certify(problem, solver, "h, p", h, p, count=False)
        if again is not None:
            self._same("certify after solve", solver, again, solution.certificate)
        if problem.N > 1 and self.rng.random() < 0.5:
            i = int(self.rng.integers(problem.N))
            alone = self._call(solver, "solve alone", lambda: solve(problem.take(torch.tensor([i]))))
            if alone is not None:
                self._same("solve", solver, alone.certificate, solution.certificate.take(torch.tensor([i])), 1e-6)

    def _certify(self, problem, source: str, how: str, h: np.ndarray, p: np.ndarray | None, count: bool = True):
        certificate = self._call(source, how, lambda: ci.certify(problem, h, p))
        if certificate is None:
            return None
        if count:
            self.judged.append(Judged(source, how, h, p, claims_of(certificate)))
        if problem.N > 1 and self.rng.random() < 0.3:
            i = torch.tensor([int(self.rng.integers(problem.N))])
            q = None if p is None else p[i.numpy()]
            alone = self._call(source, f"{how} alone", lambda: ci.certify(problem.take(i), h[i.numpy()], q))
            if alone is not None:
                self._same("certify", source, alone, certificate.take(i))
        return certificate

    def _same(self, what: str, source: str, one: ci.Certificate, two: ci.Certificate, rtol: float = 1e-9) -> None:
        """Whether two certificates of the same signals agree: statuses, and objectives up to rounding."""
        if (one.status != two.status).any():
            words = f"{one.status[one.status != two.status][0]}, not {two.status[one.status != two.status][0]}"
            self.report.batch[f"{what}: status", words, source, self.drawn.kind] += 1
        elif not torch.allclose(one.objective, two.objective, rtol=rtol, atol=1e-12 * float(two.unit.max()), equal_nan=True):
            self.report.batch[f"{what}: objective", "", source, self.drawn.kind] += 1

    def _pair(self) -> tuple[np.ndarray, np.ndarray]:
        """The pair that the liars start from: the drawn one, or auto's where nothing was drawn."""
        auto = next((j for j in self.judged if j.source == "auto"), None)
        if "real" not in self.drawn.features or auto is None or auto.p is None:
            return self.drawn.h, self.drawn.p
        return np.nan_to_num(auto.h), np.nan_to_num(auto.p)

    # --- against the truth ----------------------------------------------------------------------------

    def _compare(self) -> None:
        problem = ExactProblem(self.drawn.problem)
        truths = [self._truth(problem, i) for i in range(self.drawn.problem.N)]
        for truth in truths:
            word = "known" if truth.known else "infeasible" if truth.lower == inf else "unknown"
            self.report.truths[self.drawn.kind, self.drawn.scales, word] += 1
        weighed: dict = {}
        for judged in self.judged:
            for i, claim in enumerate(judged.claims):
                self._weigh(problem, i, judged, claim, truths[i], weighed)

    def _truth(self, problem: ExactProblem, i: int) -> Truth:
        if "real" not in self.drawn.features:
            return self.drawn.truths[i]
        found = [(j.h[i], j.p[i]) for j in self.judged if j.how == "solve" and j.p is not None and i < len(j.h)]
        return settled(problem, i, found)

    def _weigh(self, problem: ExactProblem, i: int, judged: Judged, claim: Claim, truth: Truth, weighed: dict) -> None:
        kind, report, h = self.drawn.kind, self.report, judged.h[i]
        report.claims[group(judged.source), judged.how, kind, claim.status] += 1
        key = i, h.tobytes()
        if key not in weighed:
            weighed[key] = problem.weigh(i, h) if np.isfinite(h).all() else None
        wrong = faults(problem, i, claim, weighed[key], truth)
        for fault in wrong:
            report.wrong[fault, judged.source, judged.how, kind] += 1
        if any(fault in FALSE for fault in wrong):
            self._keep(i, judged, claim, weighed[key], truth, wrong)
        if judged.how == "solve" or judged.source == TRUE:
            if truth.known:
                said = "optimal" if claim.status == "optimal" else "not"
                report.reached[judged.source, judged.how, kind, self.drawn.scales, said] += 1
            elif truth.apart > Fraction(1, 10**5) * problem.scales[i][1]:
                said = "infeasible" if claim.status == "infeasible" else "not infeasible"
                report.reached[judged.source, judged.how, kind, self.drawn.scales, said] += 1

    def _keep(self, i: int, judged: Judged, claim: Claim, weighed, truth: Truth, wrong: list[str]) -> None:
        if len(self.report.kept) >= 20:
            return
        self.report.kept.append(
            {"seed": self.seed, "source": judged.source, "how": judged.how, "signal": i, "fault": ", ".join(wrong),
             "kind": self.drawn.kind, "scales": self.drawn.scales, "features": list(self.drawn.features),
             "status": claim.status, "objective": repr(claim.objective), "bound": repr(claim.bound), "remark": claim.remark,
             "optimum": [repr(near(truth.lower)), repr(near(truth.upper))],
             "exact objective": None if weighed is None else repr(near(weighed.objective)),
             "h": [float(x).hex() for x in judged.h[i]],
             "p": None if judged.p is None else [float(x).hex() for x in judged.p[i]]}
        )  # fmt: skip


def near(x: Fraction | float) -> float:
    """The nearest float, for print."""
    try:
        return float(x)
    except OverflowError:
        return inf


def examine(seed: int, skip: set[str] = frozenset(), say: Callable[[str], None] = lambda label: None) -> Report:  # type: ignore[assignment]
    """Draw the problem of a seed and hold every claim on it against the truth."""
    return Examination(draw(seed), seed, skip, say).run()


# --- many problems, in processes of their own -----------------------------------------------------


def work(seeds: list[int], skip: dict[str, list[str]]) -> None:
    """What a process does: a line before each call, and a line with each problem's report."""
    words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some solvers print what nobody asked for

    def line(thing: dict) -> None:
        print(json.dumps(thing), file=words, flush=True)

    for seed in seeds:
        report = examine(seed, set(skip.get(str(seed), ())), lambda label, seed=seed: line({"at": [seed, label]}))
        line({"seed": seed, "report": report.record()})


def attended(seeds: list[int], worker: str = __file__, silence: float = _SILENCE) -> Iterator[Report]:
    """Reports of the seeds, worked through in a process; where it aborts or hangs the call is counted and left out."""
    skip: dict[str, list[str]] = {}
    left = list(seeds)
    while left:
        call = [sys.executable, worker, "--worker", json.dumps([left, skip])]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines: Queue = Queue()
        threads = [
            threading.Thread(target=_read, args=(process.stdout, lines)),
            threading.Thread(target=process.stderr.read),
        ]
        for thread in threads:
            thread.start()
        at, ended = [left[0], "drawing"], ""
        try:
            while True:
                try:
                    line = lines.get(timeout=silence)
                except Empty:
                    ended = "hang"
                    break
                if line is None:
                    code = process.wait()
                    ended = f"abort, signal {-code}" if code < 0 else f"exit code {code}" if code else ""
                    break
                word = json.loads(line)
                at = word.get("at", at)
                if "report" in word:
                    left.remove(word["seed"])
                    yield Report.of(word["report"])
        finally:
            process.kill()
            process.wait()
        if ended:
            yield _broken(ended, *at)
            skip.setdefault(str(at[0]), []).append(at[1])
            if at[1] == "drawing" or len(skip[str(at[0])]) > 12:
                left.remove(at[0])


def _read(stream, lines: Queue) -> None:
    for line in stream:
        if line.startswith("{"):
            lines.put(line)
    lines.put(None)


def _broken(ended: str, seed: int, label: str) -> Report:
    source, _, how = label.partition(" | ")
    kind = list(KINDS)[seed % len(KINDS)]
    kept = {"seed": seed, "source": source, "how": how, "signal": 0, "fault": ended}
    return Report(broken=Counter({(ended, source, how, kind): 1}), kept=[kept])


def run(
    claims: int,
    seed: int,
    processes: int,
    chunk: int = 8,
    progress: bool | None = None,
    save: Callable[[Report], object] = lambda report: None,
) -> Report:
    """Claims on problems of consecutive seeds until there are so many, `chunk` problems to a process.

    save: called with what there is so far, about once a minute.
    """
    total, lock, saved = Report(), threading.Lock(), [time.monotonic()]
    seeds = iter(range(seed * 1_000_000, (seed + 1) * 1_000_000, chunk))
    with tqdm(total=claims, unit="claim", disable=None if progress is None else not progress) as bar:

        def attend() -> None:
            while total.number < claims:
                with lock:
                    first = next(seeds)
                reports = attended(list(range(first, first + chunk)))
                for report in reports:
                    with lock:
                        total.add(report)
                        bar.update(report.number)
                        bar.set_postfix_str(f"{total.faults} faults", refresh=False)
                        if time.monotonic() - saved[0] > _MINUTE:
                            save(total)
                            saved[0] = time.monotonic()
                    if total.number >= claims:
                        reports.close()
                        break

        threads = [threading.Thread(target=attend) for _ in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return total


def script(kept: dict) -> str:
    """A false claim as a Python script that stands alone."""
    problem = draw(kept["seed"]).problem.take(torch.tensor([kept["signal"]]))
    rows, lines = problem.rows, ["import torch", "", "import cvxinv as ci", ""]
    dtype = str(rows.y.dtype)

    def numbers(name: str, tensor: torch.Tensor) -> str:
        kind = "" if tensor.dtype == torch.bool else f", dtype={dtype}"
        return f"{name} = torch.tensor({tensor.tolist()}{kind})".replace("nan", "float('nan')").replace(
            "inf", "float('inf')"
        )

    given = {"W": rows.W.matrix(), "b": rows.b, "y": rows.y, "on": rows.on, "off": rows.off, "weight": rows.weight}
    ends = {name: getattr(problem, name) for name in ("lam", "gamma", "eps", "lo", "hi") if hasattr(problem, name)}
    lines += [numbers(name, tensor) for name, tensor in (given | ends).items()]
    lines.append(f"problem = ci.{type(problem).__name__}(ci.Rows(ci.Dense(W), b, y, on, off, weight), {', '.join(ends)})")
    if "h" not in kept or kept["how"] == "solve":
        options = {"max_iter": _LIMITS.get(kept["source"]), "solver_options": _OPTIONS.get(kept["source"])}
        words = "".join(f", {k}={v!r}" for k, v in options.items() if v is not None)
        lines.append(f"print(ci.solve(problem, {kept['source']!r}, on_fail='ignore'{words}).certificate)")
    if "h" in kept:
        for name in ("h", "p"):
            if kept[name] is not None:
                values = ", ".join(f"float.fromhex({x!r})" for x in kept[name])
                lines.append(f"{name} = torch.tensor([[{values}]], dtype=torch.float64)")
        lines.append(f"c = ci.certify(problem, h{', p' if kept['p'] is not None else ''})")
        lines.append(
            "print(c.status[0], float(c.objective[0]), float(c.bound[0]), float(c.violation[0] / c.scale[0]), c.remark[0])"
        )
    facts = {k: v for k, v in kept.items() if k not in ("h", "p")}
    return "\n".join([f"# {k}: {v}" for k, v in facts.items()] + lines)


def main() -> int:
    """Draw, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=int, default=100_000, help="how many claims at least")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK} claims, half a minute")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="folder for JSON and markdown")
    parser.add_argument(
        "--show", type=int, default=None, help="print the K-th false claim of the results in --out as a script"
    )
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    arguments, console = parser.parse_args(), Console(width=180)
    begin("cpu")
    if arguments.worker is not None:
        work(*json.loads(arguments.worker))
        return 0
    if arguments.show is not None:
        folder = arguments.out or Path(__file__).parent / "results"
        kept = json.loads((folder / "soundness_cpu.json").read_text())["report"]["kept"]
        print(script(kept[arguments.show - 1]) if 0 < arguments.show <= len(kept) else f"there are {len(kept)}")
        return 0
    record = {"circumstances": circumstances("cpu")}

    def save(report: Report) -> list[Path]:
        if arguments.out is None:
            return []
        now = record | {"report": report.record()} | load_after(record)
        return write(arguments.out, "soundness_cpu", now, markdown(report, record["circumstances"]))

    report = run(_QUICK if arguments.quick else arguments.claims, arguments.seed, arguments.processes, save=save)
    for table in tables(report):
        console.print(table.rich())
    console.print(summary(report))
    for path in save(report):
        console.print(f"written: {path}")
    return int(report.faults > 0)


if __name__ == "__main__":
    sys.exit(main())
