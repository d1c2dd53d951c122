"""Options of the layered methods that would change nothing for a task: they are refused, so that nobody counts on them."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ...solvers.known import torch_solver
from ..task import Task
from .debias import MOST_ITERATIONS
from .pursuit import LARGEST_LAYER, LayerOptions, image_form, obstacle, too_large

_USUAL = LayerOptions()
_LEAVE = "leave it out"
_MAP = "pass prior=cvxinv.Gaussian(gamma) with noise=('gaussian', sigma), which weighs |z|^2 in the answer itself"


def refuse_idle(settings: LayerOptions, task: Task, *, only_a_start: bool) -> None:
    """Raises ValueError for an option that was given and would change nothing of this task.

    only_a_start: whether the layers' answer is where a descent on the signal itself begins.
    """
    said = dict[str, Any]()
    for name, value in vars(
        settings
    ).items():  # no function of its own: this is asked of every call, and mostly finds nothing
        usual = vars(_USUAL)[name]
        if value is not usual and (isinstance(value, Tensor) or value != usual):
            said[name] = value
    if not said:
        return
    if only_a_start and "gamma" in said:
        raise_idle("gamma", said["gamma"], "the answer is a least-squares optimum, which gamma does not reach", _MAP)
    reason = obstacle(task, settings)
    if reason is not None and only_a_start:
        name, value = next(iter(said.items()))
        raise_idle(name, value, f"no layered start is possible: {reason}")
    if reason is None:
        for name, why in _idle(settings, task):
            if name in said:
                raise_idle(name, said[name], why)


def refuse_idle_steps(max_iter: int, debias: str | None) -> None:
    """Raises ValueError for a number of debiasing steps where there is no debiasing."""
    if debias is None and max_iter != MOST_ITERATIONS:
        cure = "pass debias='piece' or 'gradient' with it, or leave it out"
        raise_idle("max_iter", max_iter, "with debias=None no step is taken", cure)


def refuse_idle_force(force: bool, solver: object, task: Task | None = None) -> None:
    """Raises ValueError for force=True where no CVXPY solver is named, and no layer of the task is too large without it."""
    if not force or (isinstance(solver, str) and solver != "auto" and torch_solver(solver) is None):
        return
    if task is None or not too_large(task):
        also = "" if task is None else f", and no layer has over {LARGEST_LAYER} unknowns"
        raise_idle("force", force, f"it runs CVXPY calls that are predicted to take long, and none is asked for{also}")


def _idle(settings: LayerOptions, task: Task) -> Iterator[tuple[str, str]]:
    layers, chosen = task.generator.layers, settings.layer_problems or {}
    last, form = len(layers) - 1, image_form(task, settings)
    cut = [index for index in range(1, last + 1) if not layers[index - 1].activation.leaks]
    if not any(index not in chosen and not (index == last and form == "interval") for index in cut):
        yield "lam", "no layer problem of this generator has an l1 weight"
    if not cut:
        yield "support_threshold", "no hidden layer of this generator cuts anything off"
    if 0 in chosen:
        yield "gamma", "the latent's layer problem is given"
    if last in chosen:
        yield "image_layer", "the image layer's problem is given"


def raise_idle(name: str, value: object, why: str, cure: str = _LEAVE) -> None:
    """Raises the ValueError of an option that would change nothing."""
    shown = repr(value) if isinstance(value, (int, float, str)) else f"a {type(value).__name__}"
    raise ValueError(f"expected no {name}, got {name}={shown}, which would change nothing: {why}; {cure}")
