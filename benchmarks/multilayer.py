"""Multi-layer basis pursuit: `solve` beside CVXPY with CLARABEL, per signal, at the same certificate.

    python benchmarks/multilayer.py [--quick] [--batch 256] [--signals 8] [--out benchmarks/results]

CLARABEL gets the chain as the equation has it, each g_i an unknown of its own and each D_i sparse where it is, compiled
once with y as a parameter, so that its time is what a loop over signals costs; beside it stands what one signal costs that
is handed to `solve(problem, "CLARABEL")`, which states it anew. It runs on the first signals, and on the loosest tolerance
of a ladder whose points the judge accepts. Ours is one call for the whole batch: with polish, to the exact point, and
without. Both are judged by `certify` at tol 1e-6 on neither's time, but that `solve` judges on its own. Where L = 1 the
problem is a LASSO, and scikit-learn's coordinate descent is the peer, with the Gram matrix made once, on its own ladder.
Process seconds, one thread; some minutes, `--quick` some seconds.
"""

import argparse
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
import torch
from measuring import TOL, circumstances, clocked, median
from runs import begin, load_after, write
from tqdm import tqdm

import cvxinv as ci

_LADDER = (1e-6, 1e-8, 1e-10, 1e-12)
_DESCENT_LADDER = (1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10)
_DENSE = 0.3  # share of entries from which a dictionary is handed over as a dense one
_ONCE = 5.0  # seconds above which ours is run once
_F64 = torch.float64


@dataclass(frozen=True)
class Case:
    """A problem of `batch` signals by its name."""

    name: str
    problem: ci.MultiLayerPursuit | ci.NonnegativeMultiLayerPursuit


def cases(batch: int, quick: bool) -> list[Case]:
    """Dense and convolutional dictionaries, two layers and three, h of any sign and h >= 0."""
    made = [("dense, L = 2", dense(50, 70, 60), (0.05, 0.1), False)]
    if not quick:
        made += [
            ("dense, L = 2, larger", dense(196, 256, 200), (0.05, 0.1), False),
            ("dense, L = 3", dense(50, 70, 60, 40), (0.03, 0.05, 0.1), False),
            ("convolutional, L = 2", convolutional(2), (0.02, 0.05), False),
            ("convolutional, L = 3", convolutional(3), (0.02, 0.02, 0.05), False),
            ("dense, L = 2, h >= 0", sparse(50, 70, 60), (0.05, 0.1), True),
            ("dense, L = 1", dense(50, 70), (0.1,), False),
            ("dense, L = 1, larger", dense(196, 256), (0.1,), False),
            ("dense, L = 1, h >= 0", sparse(50, 70), (0.1,), True),
        ]
    return [Case(name, drawn(D, lam, batch, nonnegative)) for name, D, lam, nonnegative in made]


def dense(*sizes: int) -> tuple[ci.Dense, ...]:
    """Gaussian dictionaries with columns of length 1."""
    source = torch.Generator().manual_seed(0)
    weights = [torch.randn(m, n, generator=source, dtype=_F64) for m, n in pairwise(sizes)]
    return tuple(ci.Dense(weight / weight.norm(dim=0)) for weight in weights)


def sparse(*sizes: int) -> tuple[ci.Dense, ...]:
    """Dictionaries >= 0, three tenths of whose entries are not 0: others leave few g_i >= 0 but 0."""
    source = torch.Generator().manual_seed(3)
    return tuple(
        ci.Dense(D.weight.abs() * (torch.rand(D.weight.shape, generator=source, dtype=_F64) < 0.3)) for D in dense(*sizes)
    )


def convolutional(depth: int) -> tuple[ci.ConvTranspose2d, ...]:
    """Pictures of 18 x 18, from 8 x (8 x 8), from 12 x (3 x 3), from 16 x (1 x 1) where there is a third."""
    source = torch.Generator().manual_seed(1)
    shapes = ((8, 1, 4, 4), (12, 8, 4, 4), (16, 12, 3, 3))[:depth]
    places = ((8, 8, 8), (12, 3, 3), (16, 1, 1))
    made = []
    for shape, place, stride in zip(shapes, places, ((2, 2), (2, 2), (1, 1)), strict=False):
        kernel = torch.randn(*shape, generator=source, dtype=_F64)
        made.append(ci.ConvTranspose2d(kernel / kernel.flatten(1).norm(dim=1)[:, None, None, None], place, stride))
    return tuple(made)


def drawn(dictionaries: tuple, lam: tuple[float, ...], batch: int, nonnegative: bool):
    """Signals of representations of which a tenth of the deepest is not 0, with 5 % noise."""
    source = torch.Generator().manual_seed(2)
    h = torch.randn(batch, dictionaries[-1].n, generator=source, dtype=_F64)
    x = h * (torch.rand(h.shape, generator=source, dtype=_F64) < 0.1)
    x = x.abs() if nonnegative else x
    for D in reversed(dictionaries):
        x = D(x)
    noise = torch.randn(x.shape, generator=source, dtype=_F64)
    y = x + 0.05 * x.norm(dim=1).mean() / x.shape[1] ** 0.5 * noise
    return ci.multi_layer_pursuit(dictionaries, y, lam, nonnegative=nonnegative)


class Chain:
    """The problem in CVXPY, compiled once, for one signal after the other."""

    def __init__(self, problem: ci.MultiLayerPursuit | ci.NonnegativeMultiLayerPursuit):
        D = [self._matrix(W) for W in problem.dictionaries]
        self.D, self.y = D, cp.Parameter(D[0].shape[0])
        lam = [*problem.analysis[0].tolist(), float(problem.number("lam")[0])]
        self.g = [cp.Variable(M.shape[1], nonneg=problem.nonnegative) for M in D]
        objective = cp.sum_squares(D[0] @ self.g[0] - self.y) / 2
        objective += sum(weight * cp.norm(g, 1) for weight, g in zip(lam, self.g, strict=True))
        self.links = [self.g[i] == D[i + 1] @ self.g[i + 1] for i in range(len(D) - 1)]
        self.problem = cp.Problem(cp.Minimize(objective), self.links)

    @staticmethod
    def _matrix(W: ci.AbstractMap) -> np.ndarray | sp.csr_matrix:
        M = W.matrix().numpy()
        return M if np.count_nonzero(M) > _DENSE * M.size else sp.csr_matrix(M)

    def solved(self, y: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
        """h and p."""
        self.y.value = y
        self.problem.solve(solver="CLARABEL", tol_gap_abs=tol, tol_gap_rel=tol, tol_feas=tol)
        r = self.D[0] @ self.g[0].value - y
        above, blocks = self.D[0].T @ r, [r]
        for link, D in zip(self.links, self.D[1:], strict=True):
            blocks.append(-link.dual_value - above)  # stationarity in g_i
            above = -(D.T @ link.dual_value)
        return self.g[-1].value, np.concatenate(blocks)


def theirs(case: Case, signals: int) -> dict:
    """Seconds per signal of CVXPY with CLARABEL on the loosest tolerance that the judge accepts on all signals run."""
    part = case.problem.take(slice(0, signals))
    chain, ys = Chain(part), part.rows.y[:, : part.widths[0]].numpy()
    chain.solved(ys[0], _LADDER[0])  # compiled here
    row: dict = {}
    for tol in _LADDER:
        found, seconds = clocked(lambda t=tol: [chain.solved(y, t) for y in ys])
        h, p = (torch.as_tensor(np.stack([part[k] for part in found])) for k in (0, 1))
        judged = ci.certify(part, ci.Point(h.clamp(min=0) if part.nonnegative else h, p), tol=TOL)
        row = {
            "certified": int(judged.holds.sum()), "signals": len(ys), "tolerance": tol,
            "seconds": seconds.process / len(ys), "objective": judged.objective.tolist(),
        }  # fmt: skip
        if judged.holds.all():
            break
    anew, seconds = clocked(lambda: ci.solve(part.take(slice(0, 2)), "CLARABEL", polish=False, on_fail="ignore"))
    return row | {"anew": seconds.process / 2, "anew_certified": int(anew.certificate.holds.sum())}


def descent(case: Case) -> dict:
    """Seconds per signal of scikit-learn's LASSO on all signals, on the loosest tolerance that the judge accepts for all."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    problem = case.problem
    D, ys = np.asfortranarray(problem.dictionaries[0].matrix().numpy()), problem.rows.y.numpy()
    options = {"fit_intercept": False, "positive": problem.nonnegative, "precompute": np.ascontiguousarray(D.T @ D)}
    alpha, row = float(problem.number("lam")[0]) / len(D), dict[str, object]()
    for tol in _DESCENT_LADDER:
        fitted = Lasso(alpha, tol=tol, max_iter=100_000, **options)

        def run(fitted=fitted) -> torch.Tensor:
            return torch.as_tensor(np.stack([fitted.fit(D, y, check_input=False).coef_.copy() for y in ys]))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            h, seconds = clocked(run)
        judged = ci.certify(problem, ci.Point(h, h @ problem.dictionaries[0].matrix().T - problem.rows.y), tol=TOL)
        row = {
            "certified": int(judged.holds.sum()), "signals": len(ys), "tolerance": tol, "seconds": seconds.process / len(ys),
        }  # fmt: skip
        if judged.holds.all():
            break
    return row


def ours(case: Case, polish: bool) -> dict:
    """Seconds per signal of one call for the whole batch."""
    ci.solve(case.problem.take(slice(0, 2)), polish=polish, on_fail="ignore")  # what is loaded at the first call
    runs = []
    while len(runs) < 3 and sum(run.wall for run in runs) < _ONCE:
        solution, seconds = clocked(lambda: ci.solve(case.problem, polish=polish, on_fail="ignore"))
        runs.append(seconds)
    found = solution.certificate
    return {
        "certified": int(found.holds.sum()), "signals": len(found), "seconds": median(runs).process / len(found),
        "gap": found.worst_relative_gap, "polished": int(solution.polished.sum()), "objective": found.objective.tolist(),
    }  # fmt: skip


def row_of(case: Case, signals: int) -> dict:
    """Both on one case, one after the other on the same core."""
    problem = case.problem
    exact, plain, peer = ours(case, True), ours(case, False), theirs(case, signals)
    some = torch.tensor([exact["objective"][: peer["signals"]], peer["objective"]], dtype=_F64)
    differs = float(((some[0] - some[1]).abs() / some[1]).max())
    for part in (exact, plain, peer):
        del part["objective"]
    sizes = [problem.widths[0], *problem.widths[1:], problem.n]
    row = {"case": case.name, "sizes": sizes, "exact": exact, "plain": plain, "clarabel": peer, "differs": differs}
    return row | ({"descent": descent(case)} if problem.depth == 1 else {})


def table(record: dict) -> str:
    """The rows as markdown."""
    head = [
        "| case | sizes | ours, ms | without polish | CVXPY, ms | stated anew | ratio | ratio, anew | differ by "
        "| scikit-learn, ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines = [_line(row) for row in record["rows"]]
    load = record["circumstances"]["load"][0]
    said = "" if record["idle"] else f" The machine was shared (load {load:.1f}): ratios are worth more than times."
    return "\n".join([
        "# Multi-layer basis pursuit", "",
        f"Process milliseconds per signal, batch {record['batch']}, one thread, certificates at 1e-6 on both sides; CVXPY "
        f"with CLARABEL on the first {record['signals']} signals, compiled once, and stated anew for each on two of them. "
        f"Ratios are to the faster of ours.{said}", "",
        *head, *lines, "",
        "(x/y): how many signals are certified, where not all. Differ by: largest relative difference of objectives.",
    ])  # fmt: skip


def _line(row: dict) -> str:
    exact, plain, peer = row["exact"], row["plain"], row["clarabel"]
    best = min(part["seconds"] for part in (exact, plain) if part["certified"] == part["signals"] or part is exact)
    cells = [
        row["case"], " - ".join(map(str, row["sizes"])), _time(exact), _time(plain), _time(peer),
        f"{1e3 * peer['anew']:.0f}", f"{peer['seconds'] / best:.0f}", f"{peer['anew'] / best:.0f}", f"{row['differs']:.0e}",
        _time(row["descent"]) if "descent" in row else "",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _time(part: dict) -> str:
    all_ = part["certified"] == part["signals"]
    return f"{1e3 * part['seconds']:.2f}" + ("" if all_ else f" ({part['certified']}/{part['signals']})")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small case, 8 signals")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--signals", type=int, default=8, help="how many CLARABEL gets")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args(arguments)
    batch = min(asked.batch, 8) if asked.quick else asked.batch
    begin("cpu")
    record: dict = {"circumstances": circumstances("cpu"), "batch": batch, "signals": min(asked.signals, batch), "rows": []}
    for case in tqdm(cases(batch, asked.quick), unit="case"):
        record["rows"].append(row_of(case, record["signals"]))
    record |= load_after(record)
    for path in write(asked.out, "multilayer_cpu", record, table(record)):
        print(path)
    print(table(record))


if __name__ == "__main__":
    main()
