"""The check-up: what is installed, on which devices with which precision, and whether every solver solves.

The self-test gives each solver a layer problem whose answer is worked out by hand, without the polish that would hide a bad
one, and lets `certify` judge. Nothing is changed, no global switch is touched.

    cap     min 1/2 |h - (2, 0.3, 1)|^2 + 1'h / 2, h >= 0, h_1 <= 1: soft thresholding gives (1.5, 0, 0.5), the off row
            caps the first: h = (1, 0, 0.5), objective (1 + 0.09 + 0.25) / 2 + 0.75 = 1.42
    open    the same without the cap: h = (1.5, 0, 0.5), objective (0.25 + 0.09 + 0.25) / 2 + 1 = 1.295
    fit     min max_i |h - (2, 0.3, 1)|_i, h >= 0: every row is met, objective 0
    chain   min 1/2 |g - (2, 0.3, 1)|^2 + |g|_1 / 4 + |h|_1 / 4, g = h: the signs of `open` are right, and so is its h
    ball    min 1'h, h >= 0, |h - (2, 3, 3)| <= sqrt(3): every entry gives way by 1, h = (1, 2, 2), objective 5

A solver gets the first of them that it serves.
"""

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import BackendNotInstalledError
from ..generator.maps import Dense
from ..layers.basis_pursuit_l2 import NonnegativeBasisPursuitL2
from ..layers.core.certificate import OPTIMAL
from ..layers.core.problem import AbstractLayerProblem
from ..layers.core.rows import Rows
from ..layers.linf_fit import NonnegativeLinfFit
from ..layers.nonnegative_lasso import NonnegativeLasso
from ..solvers.known import SOLVERS
from ..solvers.reference import CVXPY_SOLVERS, require
from ..solvers.solve import solve
from ..sparse_models.multi_layer_pursuit import multi_layer_pursuit
from ..surroundings import undisturbed

CERTIFIED, FAILED, NOT_INSTALLED = "certified", "failed", "not installed"

_PACKAGES = ("cvxinv", "torch", "numpy", "scipy", "cvxpy", "safetensors", "jinja2", "matplotlib", "pillow", "onnx")
_DISTRIBUTIONS = {"HIGHS": "highspy"}  # the others bear their solver's name
_LICENCE_NOTES = {"ECOS": "GPL-3.0, never imported unless asked for by name"}
_FLAGS = (
    "backends.cuda.matmul.allow_tf32",
    "backends.cuda.matmul.fp32_precision",
    "backends.cudnn.allow_tf32",
    "backends.cudnn.conv.fp32_precision",
    "backends.mkldnn.matmul.fp32_precision",
    "backends.cudnn.deterministic",
    "backends.cudnn.benchmark",
)
_TOL = 1e-5  # ECOS stops at a gap of 2e-6 on `cap`; 1e-6 is what the polish makes of it
_NEAR = 1e-4  # largest entry of h minus the answer; far above what _TOL leaves on these problems, far below a wrong h


@dataclass(frozen=True)
class Trial:
    """One solver on one problem of the self-test.

    status: "certified", "failed" or "not installed". problem: its name in the module, "" where none ran; error: largest
    entry of |h - answer|; seconds of the call, the first of CVXPY's includes its import; words: what went wrong.
    """

    solver: str
    device: str
    status: str
    problem: str
    error: float | None
    iterations: int | None
    seconds: float | None
    words: str


@dataclass(frozen=True)
class Checkup:
    """What `run_doctor` found; every table is a dict from names to words."""

    versions: dict[str, str]
    solvers: dict[str, str]
    devices: dict[str, str]
    precision: dict[str, str]
    warnings: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def passed(self) -> bool:
        """Whether no installed solver failed."""
        return all(trial.status != FAILED for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        """Everything in dicts, lists, numbers and strings."""
        return asdict(self) | {"passed": self.passed}


@undisturbed
def run_doctor(*, progress: bool | None = None) -> Checkup:
    """Look at the installation and try every solver, a few seconds in all.

    progress: a bar; None shows it on a terminal. Never raises for what it finds; a missing optional package is no failure.
    """
    precision = _precision()
    return Checkup(_versions(), _solvers(), _devices(), precision, tuple(_warnings(precision)), tuple(_self_test(progress)))


# --- what is there --------------------------------------------------------------------------------


def _version(name: str, cure: str = "") -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"not installed{cure}"


def _versions() -> dict[str, str]:
    cures = {name: f": pip install {name}" for name in ("matplotlib", "pillow", "onnx")}
    return {"python": platform.python_version()} | {name: _version(name, cures.get(name, "")) for name in _PACKAGES}


def _solvers() -> dict[str, str]:
    return {solver: _solver_words(solver) for solver in CVXPY_SOLVERS}


def _solver_words(solver: str) -> str:
    note = f" ({_LICENCE_NOTES[solver]})" if solver in _LICENCE_NOTES else ""
    try:
        require(solver)
    except BackendNotInstalledError as error:
        return f"not installed: {str(error).partition('not installed: ')[2]}"
    try:
        return version(_DISTRIBUTIONS.get(solver, solver.lower())) + note
    except PackageNotFoundError:
        return "installed, version unknown" + note


def _devices() -> dict[str, str]:
    asked = os.environ.get("OMP_NUM_THREADS")
    threads = f"{torch.get_num_threads()} torch threads, {os.cpu_count()} processors"
    found = {"cpu": threads + (f", OMP_NUM_THREADS={asked}" if asked else "")}
    for k in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(k)
        found[f"cuda:{k}"] = f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.is_available():
        found["cuda"] = "none"
    has_mps = torch.backends.mps.is_available()
    found["mps"] = "there, but without the float64 that cvxinv needs" if has_mps else "none"
    data = os.environ.get("CVXINV_DATA")
    found["CVXINV_DATA"] = "not set" if not data else data if Path(data).is_dir() else f"{data}, which is no folder"
    return found


def _precision() -> dict[str, str]:
    """Flags that change results, by their name in torch; those that this torch has not are left out."""
    found = {}
    for name in _FLAGS:
        value = _flag(name)
        if value is not None:
            found[f"torch.{name}"] = value
    found["torch.get_float32_matmul_precision()"] = str(torch.get_float32_matmul_precision())
    found["torch.are_deterministic_algorithms_enabled()"] = str(torch.are_deterministic_algorithms_enabled())
    found["torch.get_default_dtype()"] = str(torch.get_default_dtype())
    return found


def _flag(name: str) -> str | None:
    value: Any = torch
    try:
        for part in name.split("."):
            value = getattr(value, part)
    except AttributeError:
        return None
    except RuntimeError as error:  # torch refuses to say where its old and new switches were mixed
        return f"not readable: {error}".splitlines()[0]
    return str(value)


def _warnings(precision: dict[str, str]) -> list[str]:
    on = [
        name for name, value in precision.items() if value.lower() in ("true", "tf32") and "tf32" in (name + value).lower()
    ]
    if not on or not torch.cuda.is_available():  # it acts on CUDA cards only; the table shows the flags all the same
        return []
    return [
        f"TF32 is on: {', '.join(on)}. On CUDA cards float32 convolutions then have 3 correct digits. cvxinv keeps "
        "its own out of it; a generator that you run yourself is not"
    ]


# --- self-test ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Known:
    """A problem with its answer."""

    name: str
    problem: AbstractLayerProblem
    h: tuple[float, ...]


def _known(device: str) -> list[_Known]:
    y = [2.0, 0.3, 1.0]
    return [
        _Known("cap", NonnegativeLasso(_rows(y, device, cap=True), 0.5), (1.0, 0.0, 0.5)),
        _Known("open", NonnegativeLasso(_rows(y, device), 0.5), (1.5, 0.0, 0.5)),
        _Known("fit", NonnegativeLinfFit(_rows(y, device)), (2.0, 0.3, 1.0)),
        _Known("chain", multi_layer_pursuit(_identities(device), _signal(y, device), (0.25, 0.25)), (1.5, 0.0, 0.5)),
        _Known("ball", NonnegativeBasisPursuitL2(_rows([2.0, 3.0, 3.0], device), 3**0.5), (1.0, 2.0, 2.0)),
    ]


def _identities(device: str) -> tuple[Dense, Dense]:
    return (Dense(torch.eye(3, dtype=torch.float64, device=device)),) * 2


def _signal(y: list[float], device: str) -> Tensor:
    return torch.tensor([y], dtype=torch.float64, device=device)


def _rows(y: list[float], device: str, cap: bool = False) -> Rows:
    """W = I with y on every row; with `cap` an off row h_1 - 1 <= 0 below."""
    W, b = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    seen = torch.tensor([y], dtype=torch.float64)
    if cap:
        W, b = torch.cat([W, W[:1]]), torch.tensor([0.0, 0, 0, -1], dtype=torch.float64)
        seen = torch.cat([seen, torch.zeros(1, 1, dtype=torch.float64)], 1)
    off = torch.zeros_like(seen, dtype=torch.bool)
    off[:, 3:] = True
    put: Callable[[Tensor], Tensor] = lambda t: t.to(device)  # noqa: E731
    return Rows(Dense(put(W)), put(b), put(seen), put(~off), put(off))


def _self_test(progress: bool | None) -> list[Trial]:
    cards = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    work = [(solver, "cpu") for solver in SOLVERS] + [("auto", card) for card in cards]
    trials = []
    with tqdm(work, desc="self-test", disable=None if progress is None else not progress) as bar:
        for solver, device in bar:
            bar.set_postfix_str(solver)
            trials.append(_try(solver, device))
    return trials


def _try(solver: str, device: str) -> Trial:
    """The first problem that the solver serves."""
    refusal = ""
    for known in _known(device):
        try:
            return _judge(solver, device, known)
        except BackendNotInstalledError as error:
            return Trial(solver, device, NOT_INSTALLED, "", None, None, None, str(error))
        except (ValueError, TypeError) as error:
            refusal = refusal or str(error)
        except Exception as error:  # whatever breaks is what a check-up is to report
            return Trial(solver, device, FAILED, known.name, None, None, None, f"{type(error).__name__}: {error}")
    return Trial(solver, device, FAILED, "", None, None, None, f"refuses every problem of the self-test: {refusal}")


def _judge(solver: str, device: str, known: _Known) -> Trial:
    solution = solve(known.problem, solver, tol=_TOL, polish=False, on_fail="ignore", progress=False)
    error = float((solution.h[0].cpu() - torch.tensor(known.h, dtype=torch.float64)).abs().max())
    status, words = str(solution.status[0]), []
    if status != OPTIMAL:
        own = f", the solver says {solution.solver_status[0]!r}" if solution.solver_status[0] else ""
        words.append(f"judged {status}{own}")
    if not error <= _NEAR:
        words.append(f"h is off by {error:.1e}")
    good = FAILED if words else CERTIFIED
    iterations = int(solution.iterations[0])
    return Trial(solver, device, good, known.name, error, iterations, solution.seconds, "; ".join(words))
