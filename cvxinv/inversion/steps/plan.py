"""What starts cost, predicted from sizes, in multiplications for one signal; and so which comes first.

A layered start solves a problem per layer of n unknowns and m rows; beside matrices, and Gram matrices that signals share:

    n^3 / 3                       least squares: unknowns of any sign
    10 (n / 2)^3 / 3              h >= 0 with no fewer rows than unknowns: supports of half the units, ten factorisations
    30 (m n^2 + n^3 / 3)          fewer rows than unknowns, or bounds on rows: an interior point, thirty steps
    20,000 m n                    over `LARGEST_NEWTON` unknowns: ten thousand steps of a first-order method
    m n^2 more                    for the first two where rows are cut or weighed in each signal's own way

Masks are left out of that: whether they are shared is no fact of a signal, and the plan of one must not depend on others.

A descent of 60 steps, three starts or so, takes 60 n0 (work of G + k n0), one start a third of it and what it has to learn
first. These are powers of ten, no more: enough to tell a start that takes a thousand descents from one that takes ten, and
which of two is tried before the other, as what the first one leaves open goes on to the second.
"""

from dataclasses import dataclass

from ...generator.maps import Dense
from ...solvers.openings import LARGEST_NEWTON
from ..task import Task
from .costs import dear
from .learnt import lesson_cost
from .pursuit import LayerOptions, image_form, notes_of, obstacle, too_large

_STEPS, _STARTS = 60, 3
_SMALL = 1e10  # multiplications that are always worth a start that needs no luck: a few seconds at worst
_WORTH = 10.0  # times a descent that a layered start may cost to go before most starts
_SURER = 1.25  # times one start that it may cost to go before that too: it needs no luck, and its layers are proved
_LAST = 2e10  # what a layered start may cost to be tried where nothing else explains a signal


@dataclass(frozen=True)
class Plan:
    """When the layers are tried: "first", "second", after one start, "last" or "never"; note: why not first, or ""."""

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
    cost, descent = layered_cost(task, options), descent_cost(task)
    bearable = cost <= max(_SMALL, _WORTH * descent)
    alone = task.noise is None and task.prior is None
    # what is learnt makes a start no cheaper: most generators are asked no more than this
    if bearable and (not alone or cost <= _SURER * descent / _STARTS):
        return _FIRST
    if set(options.given()) - {"tol", "force"} or (options.force and too_large(task)):
        return _FIRST
    if bearable:
        return _in_turn(task, options, cost)
    words = f"a layered start takes about {cost:.0e} multiplications a signal, {cost / descent:.0f} times a descent"
    if cost <= _LAST:
        return Plan("last", f"{words}; it is tried last, where nothing else explains a signal")
    return Plan("never", f"no layered start: {words}; method='latent_pursuit' makes it")


def _in_turn(task: Task, options: LayerOptions, cost: float) -> Plan:
    """Layers and one start, the cheaper one first; of exact signals, whose z is known when it is met."""
    start = start_cost(task)
    if cost <= _SURER * start:
        return _FIRST
    reading = "".join(f" ({words})" for words in notes_of(task, options))
    return Plan(
        "second",
        f"no layered start before another: it takes about {cost:.0e} multiplications a signal{reading}, {cost / start:.2g} "
        "times that start, which comes first; method='latent_pursuit' makes it",
    )


def start_cost(task: Task) -> float:
    """Multiplications of the one start that may come before the layers: a third of a descent, and what is learnt for it."""
    return descent_cost(task) / _STARTS + (lesson_cost(task.generator) if dear(task.generator) else 0.0)


def descent_cost(task: Task) -> float:
    """Multiplications of the descents of a signal."""
    n0 = task.generator.latent_dim
    return float(_STEPS * n0 * (task.generator.work + task.y.shape[1] * n0))


def layered_cost(task: Task, options: LayerOptions) -> float:
    """Multiplications of the layer problems of a signal."""
    layers, cost = task.generator.layers, 0.0
    m, bounds = task.y.shape[1], image_form(task, options) == "interval"
    own = not layers[-1].activation.linear
    for index in range(len(layers) - 1, -1, -1):
        W, n = layers[index].W, layers[index].W.n
        free = index == 0 or layers[index - 1].activation.leaks
        if n > LARGEST_NEWTON:
            cost += 20_000.0 * m * n
        elif bounds or (m < n and not free):
            cost += 30 * (m * n**2 + n**3 / 3)
        else:
            cost += (n**3 / 3 if free else 10 * n**3 / 24) + own * m * n**2
        cost += 0 if isinstance(W, Dense) else n * W.work
        m, bounds, own = n, False, True
    return cost
