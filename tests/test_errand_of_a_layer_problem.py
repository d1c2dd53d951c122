"""CONTRIBUTING.md followed to the letter in a copy of the tree: a layer problem, its two files and its lines."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_errands import errand

ROOT = Path(__file__).resolve().parents[1]
NAME, CLASS = "nonnegative_ridge", "NonnegativeRidge"

LAYER = r'''"""Nonnegative ridge regression of a ReLU layer.

    minimise    1/2 sum_on w_i (W h + b - y)_i^2 + gamma/2 |h|^2      (P)
    subject to  h >= 0,   (W h + b)_off <= 0

    maximise    p_on'(b - y) + p_off'b - 1/2 sum_on p_i^2 / w_i - 1/(2 gamma) |max(-W'p, 0)|^2      (D)
    subject to  p_off >= 0,   p = 0 on rows that were not seen

Source: made up, to try the errand.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from .core.misfits import Squares
from .core.penalties import Penalty
from .core.problem import AbstractLayerProblem, Bound, Statement
from .core.rows import Rows, Sample


@dataclass(frozen=True, eq=False, repr=False)
class NonnegativeRidge(AbstractLayerProblem):
    """min_{h >= 0} 1/2 |W h + b - y|^2 on `on` + gamma/2 |h|^2 with W h + b <= 0 on `off`."""

    rows: Rows
    gamma: float | Tensor = 0.0
    sizes: Tensor | None = None
    numbers: ClassVar[dict[str, tuple[int, int]]] = {"gamma": (0, 2)}
    nonnegative: ClassVar[bool] = True

    def statement(self, sample: Sample, i: int, gram: bool = False) -> Statement:
        import cvxpy as cp

        s, gamma = sample, float(self.number("gamma")[i])
        h = cp.Variable(s.n)
        misfit = cp.sum_squares(cp.multiply(s.weight_on**0.5, s.W_on @ h + s.b_on - s.y_on)) / 2
        off = s.W_off @ h + s.b_off <= 0 if len(s.b_off) else None
        bounds = (Bound(off, s.off, 1),) if off is not None else ()
        size = h if self.sizes is None else cp.multiply(self.sizes.detach().cpu().double().numpy(), h)
        objective = cp.Minimize(misfit + gamma / 2 * cp.sum_squares(size))
        return Statement(cp.Problem(objective, [h >= 0] + ([off] if off is not None else [])), h, bounds)

    @cached_property
    def misfit(self) -> Squares:
        return Squares(self.rows)

    @cached_property
    def penalty(self) -> Penalty:
        return Penalty.of(self, gamma=self.gamma)
'''

WORKED = r'''"""Nonnegative ridge regression of a layer, made up to try the errand: x >= 0, off rows at most 0."""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
from page import TIGHT, Form, Instance, affine, half_squares, instance, off_below_zero, show


def transcription(instance: Instance) -> tuple[float, np.ndarray | None]:
    """The equation as it stands."""
    S, Sc = instance.on, instance.off
    x = cp.Variable(instance.W.shape[1], nonneg=True)
    r = instance.W[S] @ x + instance.b[S] - instance.y[S]
    problem = cp.Problem(
        cp.Minimize(instance.weight[S] @ cp.square(r) / 2 + instance.penalty / 2 * cp.sum_squares(x)),
        [instance.W[Sc] @ x + instance.b[Sc] <= 0],
    )
    problem.solve(**TIGHT)
    return float(problem.value), x.value


def shrunk() -> Instance:
    """The prior halves what would fit, and the sign keeps the other entry at 0.

    W = I, y = (2, -1), gamma = 1: h = (1, 0). value = 1/2 (1 + 1) + 1/2 = 3/2.
    """
    return instance("shrunk", "on on", W=[[1, 0], [0, 1]], b=[0, 0], y=[2, -1], gamma=1, answer=[1, 0], value=3 / 2)


def capped() -> Instance:
    """An off row caps h below what the misfit asks for.

    h against 2, gamma = 1, asks for 1; the off row h - 1/2 <= 0. value = 1/2 (9/4) + 1/8 = 5/4.
    """
    return instance("capped", "on off", W=[[1], [1]], b=[0, -1 / 2], y=[2, 0], gamma=1, answer=[1 / 2], value=5 / 4)


def impossible() -> Instance:
    """Off rows that ask for h <= -1.

    p = (0, 1): W'p = 1 >= 0 and b'p = 1 > 0.
    """
    return instance("impossible", "on off", W=[[1], [1]], b=[0, 1], y=[1, 0], gamma=1, answer=None, value=np.inf, ray=[0, 1])


WORKED: tuple[Callable[[], Instance], ...] = (shrunk, capped, impossible)
INSTANCES: tuple[Instance, ...] = tuple(work() for work in WORKED)


def equation(instance: Instance) -> str:
    """The problem with the numbers of one instance."""
    h = [f"h{j + 1}" for j in range(instance.W.shape[1])]
    return f"minimise    1/2 |{affine(list(instance.W[0]), h)} ...|^2\nsubject to  h >= 0"


FORM = Form(lambda i, x: half_squares(i, x) + i.penalty / 2 * cp.sum_squares(x), nonnegative=True, ends=off_below_zero)

if __name__ == "__main__":
    show(__doc__, WORKED, equation, transcription, kind="NonnegativeRidge")
'''

# what the tests of every layer problem do, on its instances and some of its random rows; faults must be seen
CHECKED = """
from dataclasses import replace
import torch, cases, checks, gallery, test_mutations
import cvxinv as ci
assert "nonnegative_ridge" in gallery.names() and "nonnegative_ridge" in cases.named("quadratic")
hand = [pair for pair in cases.worked() if pair[0].name == "nonnegative_ridge"]
specs = [replace(spec, N=2) for spec in cases.dense_specs("nonnegative_ridge")]
specs = [spec for spec in specs if spec.label in ("tall-mixed-penalty", "wide-no-penalty")]
drawn = [cases.dense_case("nonnegative_ridge", spec) for spec in specs]
some = [*(case for case, _ in hand), *drawn, *cases.hopeless_cases("nonnegative_ridge")]
for case in some:
    checks.check_statement(case)
    checks.check_slack(case)
    checks.check_reference(case)
    checks.check_fast(case, "auto")
    for solver in ("interior_point", "graph_admm", "block_pivoting"):
        checks.check_fast(case, solver, must=False, max_iter=200)
    if case.feasible is not None:
        checks.check_bound(case)
        checks.check_fixed_points(case)
for case, instance in hand:
    checks.check_hand_answer(case, instance, gallery.problem("nonnegative_ridge").transcription)
try:
    drawn[0].auto.export("claims.json")
except ValueError as error:
    assert "check.py knows" in str(error)
else:
    raise AssertionError("a file was written that the checker refuses")
planned = test_mutations.PLANNED["nonnegative_ridge"]
assert len(planned) >= 3 and "nonnegative_ridge" not in test_mutations.FAULTS
for fault in planned:
    try:
        test_mutations.run_checks(test_mutations.plant("nonnegative_ridge", fault))
    except AssertionError:
        continue
    raise RuntimeError(f"no check sees it: {fault.what}")
print("checked")
"""


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has not one {old!r}"
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree in which the errand was done: each of its steps, and nothing else."""
    tree = tmp_path_factory.mktemp("errand")
    for folder in ("cvxinv", "problems/layers", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "problems" / "layers" / f"{NAME}.py").write_text(WORKED)
    (tree / "cvxinv" / "layers" / f"{NAME}.py").write_text(LAYER)
    public = tree / "cvxinv" / "__init__.py"
    changed(public, "from .layers.nonnegative_lasso", f"from .layers.{NAME} import {CLASS}\nfrom .layers.nonnegative_lasso")
    changed(public, '    "NonnegativeLasso",', f'    "NonnegativeLasso",\n    "{CLASS}",')
    return tree


def said_in(tree: Path, *words: str) -> str:
    """What Python prints in the copy, where it ends well."""
    path = os.pathsep.join(str(tree / folder) for folder in (".", "tests", "problems/layers"))
    surroundings = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words], cwd=tree, env=surroundings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_errand_names_the_files_that_are_touched():
    named = set(re.findall(r"`([\w/.<>]+\.(?:py|md))`", errand("Add a layer problem").split("\n\n")[0]))
    touched = {"problems/layers/<name>.py", "cvxinv/layers/<name>.py", "cvxinv/__init__.py", "CHANGELOG.md"}
    assert named == {*touched, "core/misfits.py", "core/penalties.py"}
    assert all((ROOT / "cvxinv" / "layers" / name).exists() for name in named if name.startswith("core/"))


def test_a_layer_problem_passes_its_checks_after_the_errand_and_shows_its_faults(tree: Path):
    assert said_in(tree, "-c", CHECKED) == "checked\n"


def test_its_page_is_printed(tree: Path):
    page = said_in(tree, f"problems/layers/{NAME}.py")
    assert page.count("fast (auto)") == 3 and "infeasible" in page and "by hand" in page
