"""What a search starts from: the misfit as a convex one of the last hidden layer's outputs, and one node per signal.

    l2      |A (W x + b) - y|^2 = |R x - t|^2 + e by QR
    l1      |u|_1 of the rows u = A (W x + b) - y: each |u_i| is a unit with slope -1 where cut, and R their sum
    linf    max |u_i| <= eps: limits of rows, and for any weights w >= 0 of sum 1  max u_i^2 >= sum w_i u_i^2, with
    equality at
            the minimax weights of the best latent's affine piece (Lawson's iteration)
    phi     behind an S-shaped output phi and a misfit of at most eps, u_i lies in [phi^-1(y_i - eps), phi^-1(y_i + eps)],
    and on an
            interval [l, h] of it |phi(u) - y_i| >= |phi(p) - y_i + beta (u - p)|, p the point of [l, h] whose value is
            nearest to y_i, beta the smallest slope of a chord from p: on such a curve that is at l, at h or at p

A Gaussian prior adds rows of its own to R (MAP).
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..generator.activations import PLU, AbstractActivation, Sigmoid, Softsign, Tanh
from ..inversion.task import Task
from ..lengths import lengths
from ..measurement.abstract import AbstractMeasurement
from .network import Network, axes_of
from .nodes import Nodes, Targets, over_box, through_box
from .refining import refined, stated_misfit
from .rounding import gamma, misfit_rounding, prior_rounding, seen_sizes, shares
from .search import Search, strict_level

_LAWSON = 200


def opened(
    network: Network, task: Task, z: Tensor, sides: tuple[Tensor, Tensor], gap: float, V: Tensor | None = None
) -> Search:
    """The search with one node per signal; z `(S, n0)` float64, sides: lowest and highest latent `(n0,)`.

    V: how the latent is turned, `(S, n0, n0)`, where nodes are known whose coordinates it says.

    Raises ValueError for a misfit that is none of the module's.
    """
    S = len(z)
    measurement, norm = task.measurement, "l2" if task.noise is None else task.noise.norm
    check_misfit(task)
    phi = task.generator.output
    curved = not (phi.linear or phi.kinked)

    value, refine = judged(task, sides)
    every = torch.arange(S, device=z.device)
    f = value(every, z)
    _, J = task.linearize(z)
    if V is None:
        V = axes_of(J)
    A = measurement.push(network.last[None] if measurement.shared else network.last.expand(S, -1, -1)).expand(S, -1, -1)
    a = measurement.observe(network.offset.expand(S, -1))
    seen = measurement.seen(S).to(z.device)
    A_size, a_size = _sizes_seen(network, measurement, S)
    # rounding is a share of what is added up in the signal, which an offset may exceed
    size = torch.maximum(task.size, lengths(task.y - a))
    limits, fitted, weight = None, None, None
    if curved:
        limits, fitted = behind_output(task)
    elif norm == "linf":
        limits = _limits_behind(None, task.y, seen)
        weight = _minimax_weights(J, task.residual(task.generator(z)), seen)
    if norm == "l1":
        A, a = A * seen[..., None], torch.where(seen, a - task.y, 0.0)
        A_size, a_size = A_size * seen[..., None], torch.where(seen, a_size + task.y.abs(), 0.0)
        R, t, e = torch.ones(S, 1, A.shape[1]).to(z), torch.zeros(S, 1).to(z), torch.zeros(S).to(z)
        columns, rest, Q, left = shares(A.shape[1]) * R[:, 0], torch.zeros_like(e), None, None
    else:
        R, t, e, Q, left = _factored(A, task.y - a, weight, measurement.shared and weight is None)
        columns, rest = _lengths_factored(A_size, a_size + task.y.abs(), weight)
    Z, m = _prior_rows(task, V, z)
    e = e - prior_rounding(task, torch.maximum(*(side.abs() for side in sides)).expand(S, -1))
    folded = norm == "l1"
    reaching = _reaching(network, R, A if folded else None)
    targets = Targets(R, t, e, Z, m, network.W[0] @ V, V, size, reaching, columns=columns, rest=rest, Q=Q, left=left)
    if folded or limits is not None:  # the rows are spoken of themselves
        targets = replace(targets, A=A, a=a, folded=folded, A_size=A_size, a_size=a_size)
    slip = rounding_of(task, sides)
    # the level that the search begins with: rows of l1 are limited by its root, the latent's own rounding counted
    nodes = _whole(network, targets, sides, strict_level((f.sqrt() + slip(every, z)).square(), size))
    return Search(
        network, targets, torch.full_like(f, gap), f.clone(), z.clone(), value, refine, nodes, limits, fitted,
        weights=weight, rounding=slip,
    )  # fmt: skip


def rounding_of(task: Task, sides: tuple[Tensor, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """How far the misfits of latents `(N, n0)` of signals `(N,)` in the box may be from what `judged` says, `(N,)`."""
    return lambda owner, z: misfit_rounding(task.take(owner), z.clamp(*sides))


def judged(
    task: Task, sides: tuple[Tensor, Tensor]
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Squared misfits of latents `(N, n0)` of signals `(N,)`, brought into the box; and better latents near them."""

    def value(owner: Tensor, z: Tensor) -> Tensor:
        return stated_misfit(task.take(owner), z.clamp(*sides)).square()

    def refine(owner: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        its, z = task.take(owner), z.clamp(*sides)
        z = z if task.prior is None else task.prior.project(z).clamp(*sides)
        end = refined(its, z).clamp(*sides)
        before, after = stated_misfit(its, z), stated_misfit(its, end)
        better = after < before
        return torch.where(better[:, None], end, z), torch.where(better, after, before).square()

    return value, refine


def check_misfit(task: Task) -> None:
    """Raises ValueError for a misfit that is none of the module's."""
    norm, phi = "l2" if task.noise is None else task.noise.norm, task.generator.output
    known = isinstance(phi.parts[0], (Tanh, Sigmoid, Softsign, PLU)) and phi.parts[1] > 0
    flat = phi.linear or phi.kinked
    if not (flat or (known and task.measurement.pixelwise and norm in ("l2", "gaussian") and not task.weighed)):
        raise ValueError(
            "expected a tanh, sigmoid, softsign or PLU for a curved output, and an l2 misfit of the signal's entries "
            f"without a prior behind it, got {phi!r} and {norm} of {task.measurement.name}; prove it of "
            "generator.with_output('identity')"
        )


def _factored(A: Tensor, d: Tensor, weight: Tensor | None, same: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """R, t, e, Q, o with w (A x - d) = Q (R x - t) - o, of which the square is |R x - t|^2 + e; A `(S, k, n)`, d and w `(S,
    k)`."""
    if weight is not None:
        A, d = A * weight[..., None], weight * d
    Q, R = (x.expand(len(A), -1, -1) for x in torch.linalg.qr(A[:1] if same else A))
    t = (Q.mT @ d[..., None])[..., 0]
    left = d - (Q @ t[..., None])[..., 0]
    # rounding of what remains is of the size of d
    return R, t, (lengths(left) - 1e-14 * lengths(d)).clamp(min=0).square(), Q, left


def _sizes_seen(network: Network, measurement: AbstractMeasurement, S: int) -> tuple[Tensor, Tensor]:
    """M `(S, k, n_H)` and c `(S, k)`: M |x| + c is added up in the signal's rows, a share of which is their rounding."""
    M, c = network.sizes[-1]
    both = torch.cat([M, c[:, None]], 1)[None]
    if not measurement.pixelwise:
        both = 2 * shares(len(c)) * both  # of |A| and of the products
    found = seen_sizes(measurement, both if measurement.shared else both.expand(S, -1, -1)).expand(S, -1, -1)
    return found[..., :-1], found[..., -1]


def _lengths_factored(A_size: Tensor, d_size: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """`Targets.columns` and `rest` of R, t and e: of columns of what is added up in A and of their factors Q R, and of d."""
    if weight is not None:
        A_size, d_size = A_size * weight[..., None], d_size * weight
    k, n = A_size.shape[1:]
    share = 3 * shares(k + n)
    return share * lengths(A_size, 1), share * lengths(d_size)


def _reaching(network: Network, R: Tensor, folded: Tensor | None) -> Tensor:
    """How far one unit's output moves the last layer's misfit, in the mean over the phases behind it, `(S, sum n_l)`.

    folded: `(S, k, n_H)`, the signal's rows where they are one more layer.
    """
    parts = [(R**2).sum(1)]
    if folded is not None:
        parts.insert(0, 0.5 * (parts[0][:, None] @ folded**2)[:, 0])
    for W in network.W[:0:-1]:
        parts.insert(0, 0.5 * parts[0] @ W**2)
    return torch.cat(parts, 1).sqrt()


def _prior_rows(task: Task, V: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Z `(S, r, n0)` and m `(S, r)` with 2 sigma^2 R(z) = |Z c - m|^2, z = V c."""
    S, n0 = z.shape
    if not task.weighed or task.prior is None or task.noise is None:
        return torch.zeros(S, 0, n0).to(z), torch.zeros(S, 0).to(z)
    rows = task.prior.as_rows(z)
    if rows is None:
        raise ValueError(f"expected a prior whose R is a sum of squares, got {task.prior!r}; use Gaussian, Box or Ball")
    sigma = task.noise.bound[:, None]
    return sigma[..., None] * (rows.S @ V), sigma * rows.t


def behind_output(
    task: Task,
) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor]], Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Limits of the signal's rows at levels, and their lines, of a task with an S-shaped output; see the module."""
    phi, seen = task.generator.output, task.measurement.seen(task.N).to(task.y.device)
    return _limits_behind(phi, task.y, seen), _lines(phi, task.y, seen)


def _limits_behind(phi: AbstractActivation | None, y: Tensor, seen: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Limits of the signal's rows, `(S, k)` each, at squared levels `(S,)`: phi^-1 of y -+ eps, a hair wider."""
    low, high = (-torch.inf, torch.inf) if phi is None else phi.range

    def limits(level: Tensor) -> tuple[Tensor, Tensor]:
        eps = level.clamp(min=0).sqrt()[:, None]
        eps = eps * (1 + 1e-12) + 1e-13 * y.abs()
        below, above = y - eps, y + eps
        if phi is not None:
            inside = [((x > low) & (x < high), x) for x in (below, above)]
            ends = [phi.inverse(torch.where(ok, x, torch.zeros_like(x) + _middle(low, high))) for ok, x in inside]
            slack = [1e-9 * (1 + x.abs()) for x in ends]
            below = torch.where(inside[0][0], ends[0] - slack[0], -torch.inf)
            above = torch.where(inside[1][0], ends[1] + slack[1], torch.inf)
        return torch.where(seen, below, -torch.inf), torch.where(seen, above, torch.inf)

    return limits


def _middle(low: float, high: float) -> float:
    return (low + high) / 2 if low > -torch.inf and high < torch.inf else 0.0


def _lines(phi: AbstractActivation, y: Tensor, seen: Tensor) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """m and c `(N, k)` of the module's lines, phi(p) - y + beta (u - p) = m u - c, for signals `(N,)` and limits `(N,
    k)`.
    """
    low, high = phi.range
    reached = (y > low) & (y < high)
    t = phi.inverse(torch.where(reached, y, torch.full_like(y, _middle(low, high))))
    t = torch.where(reached, t, torch.where(y >= high, torch.inf, -torch.inf))

    def fitted(owner: Tensor, below: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.minimum(torch.maximum(t[owner], below), above)
        value = phi(p)
        slopes = [phi.derivative(p)]
        for end in (below, above):
            far = (end - p).abs() > 1e-5 * (1 + p.abs())
            chord = (phi(end) - value) / torch.where(far, end - p, 1.0)
            slopes.append(torch.where(far, chord, torch.minimum(phi.derivative(end), phi.derivative(p))))
        m = torch.where(seen[owner], torch.stack(slopes).amin(0).clamp(min=0) * (1 - 1e-9), 0.0)
        return m, torch.where(seen[owner], y[owner] - value + m * p, 0.0)

    return fitted


def _minimax_weights(J: Tensor, r: Tensor, seen: Tensor) -> Tensor:
    """Roots of the weights `(S, k)` of sum 1 for which least squares on a piece is its minimax, nearly (Lawson)."""
    even = w = seen.to(r) / seen.sum(1, keepdim=True).clamp(min=1)
    for _ in range(_LAWSON):
        H = J.mT @ (J * w[..., None])
        torch.diagonal(H, dim1=1, dim2=2).add_(1e-12 * torch.diagonal(H, dim1=1, dim2=2).mean(1, keepdim=True) + 1e-300)
        d = torch.linalg.solve(H, (J.mT @ (w * r)[..., None]))
        w = w * (r - (J @ d)[..., 0]).abs() + 1e-300 * seen
        w = w / w.sum(1, keepdim=True)
    w = torch.where(torch.isfinite(w).all(1, keepdim=True), w, even)  # any weights bound; of a residual 0 none are better
    return (w * (1 - 1e-12)).sqrt()


def turned_box(V: Tensor, sides: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Limits `(S, n0)` of c over the latents z = V c of a box; V `(S, n0, n0)`, orthogonal to rounding.

    c = V^-1 z is V'z but for V^-1 (I - V V') z, where V^-1 is V' again, nearly: at most 2 |V'| |I - V V'| |z|.
    """
    S, n0 = V.shape[:2]
    low, high = over_box(V.mT, torch.zeros(S, n0).to(V), *(side.expand(S, -1) for side in sides))
    off = (torch.eye(n0).to(V) - V @ V.mT).abs() + gamma(n0) * (V.abs() @ V.mT.abs())
    slip = 2 * (V.mT.abs() @ (off @ torch.maximum(*(side.abs() for side in sides))[:, None]))[..., 0]
    return low - slip, high + slip


def _whole(network: Network, targets: Targets, sides: tuple[Tensor, Tensor], level: Tensor) -> Nodes:
    """One node per signal: all of the box."""
    S, n0 = len(level), network.latent_dim
    low, high = turned_box(targets.V, sides)
    # the last units of the first layer are z - low (`Network.beside`), which the numbers of the box say exactly
    below, above = (x[0] for x in over_box(network.W[0][None], network.b[0][None], *(side[None] for side in sides)))
    free = [torch.full((S, width), torch.inf).to(level) for width in network.widths[1:]]
    if targets.folded and targets.A is not None:
        free.append(level.sqrt()[:, None].expand(-1, targets.A.shape[1]))
    numbers = torch.arange(S, device=level.device)
    least = torch.cat([below[:-n0], torch.zeros_like(sides[0])])
    lo, hi = (least.expand(S, -1), *(-x for x in free)), (above.expand(S, -1), *free)
    nodes = Nodes(numbers, lo, hi, low, high, torch.zeros_like(level), numbers)
    return through_box(network, targets, nodes)
