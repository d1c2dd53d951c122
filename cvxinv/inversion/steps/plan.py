"""What starts cost, predicted from sizes, in multiplications for one signal; and so which comes first.

A layered start solves a problem per layer of n unknowns and m rows; beside matrices and Gram matrices, which signals share:

    n^3 / 3                       least squares: unknowns of any sign
    10 (n / 2)^3 / 3              h >= 0 with no fewer rows than unknowns: supports of half the units, ten factorisations
    30 (m n^2 + n^3 / 3)          fewer rows than unknowns, or bounds on rows: an interior point, thirty steps
    20,000 m n                    over `LARGEST_NEWTON` unknowns: ten thousand steps of a first-order method

A descent of 60 steps, three starts or so, takes 60 n0 (work of G + k n0). These are powers of ten, no more: enough to tell a
start that takes a thousand descents from one that takes ten.
"""

from dataclasses import dataclass

import numpy as np

from ...generator.maps import Dense
from ...solvers.openings import LARGEST_NEWTON
from ..task import Task
from .pursuit import LayerOptions, image_form, obstacle, too_large

_STEPS = 60
_SMALL = 1e10  # multiplications that are always worth a start that needs no luck: a few seconds at worst
_WORTH = 10.0  # times a descent that a layered start may cost to go first
_LAST = 2e10  # what a layered start may cost to be tried where nothing else explains a signal


@dataclass(frozen=True)
class Plan:
    """When the layers are tried: "first", "last" or "never"; note: why not first, or ""."""

    layers: str
    note: str = ""


_FIRST = Plan("first")


def plan_of(task: Task, options: LayerOptions) -> Plan:
    """Whether layers come first. It depends on sizes and options alone, so that no signal depends on its neighbours."""
    if task.stated:
        return Plan("never", "no layered start: gaussian noise asks for an optimum, which is sought from other starts")
    if task.absolute:
        return Plan(
            "never",
            "no layered start: of noise that is stated in the l1 norm a few entries may hold all, and no "
            "reading of the image layer is near what they hide",
        )
    reason = obstacle(task, options)
    if reason is not None:
        return Plan("never", f"no layered start: {reason}")
    layers = task.generator.layers
    n, m = np.array([(layer.W.n, layer.W.m) for layer in layers]).max(0).tolist()
    # no reading of these sizes makes a layered start dear: what most generators are asked, and cheaply
    small = n <= LARGEST_NEWTON and len(layers) * 40 * max(m, n) * n * n <= _SMALL
    if small or set(options.given()) - {"tol", "force"} or (options.force and too_large(task)):
        return _FIRST
    cost, descent = layered_cost(task, options), descent_cost(task)
    if cost <= max(_SMALL, _WORTH * descent):
        return _FIRST
    words = f"a layered start takes about {cost:.0e} multiplications a signal, {cost / descent:.0f} times a descent"
    if cost <= _LAST:
        return Plan("last", f"{words}; it is tried last, where nothing else explains a signal")
    return Plan("never", f"no layered start: {words}; method='latent_pursuit' makes it")


def descent_cost(task: Task) -> float:
    """Multiplications of the descents of a signal."""
    n0 = task.generator.latent_dim
    return float(_STEPS * n0 * (task.generator.work + task.measurement.length * n0))


def layered_cost(task: Task, options: LayerOptions) -> float:
    """Multiplications of the layer problems of a signal."""
    layers, cost = task.generator.layers, 0.0
    rows, bounds = task.measurement.length, image_form(task, options) == "interval"
    for index in range(len(layers) - 1, -1, -1):
        W = layers[index].W
        free = index == 0 or layers[index - 1].activation.leaks
        cost += _problem_cost(W.n, rows, free, bounds) + (0 if isinstance(W, Dense) else W.n * W.work)
        rows, bounds = W.n, False
    return cost


def _problem_cost(n: int, m: int, free: bool, bounds: bool) -> float:
    if n > LARGEST_NEWTON:
        return 20_000.0 * m * n
    if bounds or (m < n and not free):
        return 30 * (m * n**2 + n**3 / 3)
    return n**3 / 3 if free else 10 * n**3 / 24
