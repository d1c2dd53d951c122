"""The two benchopt benchmarks run, judge as the package does, and take a stranger's solver from anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Its command, not the name alone: the folder of our two benchmarks bears the name too, and a folder can be imported.
pytest.importorskip("benchopt.cli", reason="benchopt is not installed: pip install benchopt")
pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "benchopt"

STRANGER = """
import numpy as np
from benchopt import BaseSolver


class Solver(BaseSolver):
    name = "nothing"
    sampling_strategy = "run_once"

    def set_objective(self, W, b, y, on, off, lam):
        self.shape = len(y), W.shape[1]

    def run(self, _):
        pass

    def get_result(self):
        return {"h": np.zeros(self.shape)}
"""


def run(name: str, tmp_path: Path, *words: str):
    """What benchopt wrote of a benchmark that ran in a small form."""
    found = tmp_path / "found.parquet"
    done = subprocess.run(
        [sys.executable, "-m", "benchopt", "run", str(FOLDER / name), "--no-plot", "--no-html", "--no-cache", "-r", "1",
         "--output", str(found), *words],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0 and found.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    return pandas.read_parquet(found)


def test_layers_are_judged_by_the_certificate_and_a_strangers_solver_is_one_file(tmp_path: Path):
    (tmp_path / "mine.py").write_text(STRANGER)
    small = ("-d", "random[sizes=[(4,8,24)],N=3]", "-n", "8", "-s", "cvxinv[solver=auto]", "-s", str(tmp_path / "mine.py"))
    rows = run("layers", tmp_path, *small).groupby("solver_name")
    ours, nothing = (rows.get_group(next(name for name in rows.groups if name.startswith(word))) for word in ("cvx", "noth"))
    assert ours["objective_optimal"].max() == 1 and ours["objective_value"].min() <= 1
    assert nothing["objective_optimal"].max() == 0 and nothing["objective_value"].min() > 1


def test_inversions_are_judged_by_verify(tmp_path: Path):
    rows = run("inversions", tmp_path, "-d", "random[sizes=[(3,16,40)],N=3]", "-n", "3", "-s", "Adam",
               "-s", "cvxinv[method=hybrid]")  # fmt: skip
    ours, adam = (rows[rows["solver_name"].str.startswith(name)] for name in ("cvxinv", "Adam"))
    assert (ours["objective_explained"] == 1).all() and (ours["objective_recovered"] == 1).all()
    assert (adam["objective_value"] > 1e-3).all() and len(ours) == 2
