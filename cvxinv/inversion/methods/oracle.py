"""The oracle: the supports of the hidden layers are known, so that least squares is all there is to do.

With S_i the support of hidden layer i, Wt_i the rows S_{i+1} and the columns S_i of W_i (all columns of W_0, the on rows of
W_L), and u the signal read before its output phi, on the rows where that can be read:

    joint      min_z |Wt_L (... Wt_1 (Wt_0 z + b_0) + b_1 ...) + b_L - u|^2                       Algorithm 1
    layered    x_L = Wt_L^+ (u - b_L),   x_i = Wt_i^+ (x_{i+1} - b_i),   z = Wt_0^+ (x_1 - b_0)   Algorithm 6

Both give the shortest solution where the rank is deficient. Behind a LeakyReLU the support says which slope each unit has:
every row and every column stays, and x_{i+1} is divided by its slopes.

Theorem 3, phi the identity and noise N(0, sigma^2 I): for x_i of the layered form, i >= 1,

    sigma^2 s_i / prod_{j >= i} lmax(Wt_j'Wt_j)  <=  E |x_i found - x_i|^2  <=  sigma^2 s_i / prod_{j >= i} lmin(Wt_j'Wt_j),

and for z with n_0 in place of s_i and j from 0. The two ends are derived from the proof's text; the paper's display could
not be read.

u = phi^-1(y) where phi is not too flat for the signal's precision. Behind PLU, tanh, sigmoid and LeakyReLU a row is weighed
by the slope of phi there, so that the misfit is the output's to first order; of a ReLU output only the entries above 0 are
read.

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), Algorithms 1 and 6, Theorem 3;
added: biases, masks, matrices, LeakyReLU, weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...batch import each_per_signal
from ...generator.activations import AbstractActivation
from ...inputs import describe, read_numbers
from ...solvers.solve import check_choice
from ..answer import Latents
from ..method import AbstractMethod
from ..options import positive, tidy
from ..steps.debias import MOST_ITERATIONS, check_debias, debiased
from ..steps.idle import refuse_idle_steps
from ..steps.reading import image_map, image_rows, mixing, refuse_unlayered, unreadable
from ..steps.starts import Starts
from ..task import Task

FORMS = ("joint", "layered")
_BLOCK = 200_000_000  # bytes of the Jacobians of one block of signals


@dataclass(frozen=True, eq=False, kw_only=True)
class Oracle(AbstractMethod):
    """Least squares on given supports, with the debiasing that was asked for.

    supports: bool masks `(N, n_i)` of the hidden layers, first first; left out, those of the true latents. form: "joint" or
    "layered". debias: "piece", "gradient" or None. max_iter: steps of it at most; left out 2000.
    """

    name: ClassVar[str] = "oracle"

    supports: tuple[Tensor, ...] | None = each_per_signal(default=None)
    form: str = FORMS[0]
    debias: str | None = None
    max_iter: int = MOST_ITERATIONS

    def __post_init__(self) -> None:
        tidy(self)
        check_choice(self.form, FORMS, "form")
        check_debias(self.debias)
        positive(self.max_iter, "max_iter")
        refuse_idle_steps(self.max_iter, self.debias)

    def told(self, task: Task, truth: Tensor | None) -> "Oracle":
        if self.supports is not None:
            return replace(self, supports=check_supports(self.supports, task))
        return self if truth is None else replace(self, supports=supports_of(task, truth))

    def check(self, task: Task) -> None:
        refuse_unlayered(self.name, task)
        if self.supports is None:
            raise ValueError(
                "the oracle needs the supports of the hidden layers, got neither supports= nor truth=; pass truth=z, or "
                "supports=masks of bool (N, n_i), first hidden layer first, or use another method"
            )
        reason = mixing(task)
        if reason is not None:
            raise ValueError(
                f"the oracle cannot invert this: {reason}, which cannot be undone there. "
                "Use method='hybrid' or 'levenberg_marquardt'"
            )
        if unreadable(task) is not None:
            raise ValueError(
                f"the oracle cannot invert this: {unreadable(task)}. Use method='hybrid' or 'levenberg_marquardt'"
            )

    def run(self, task: Task, starts: Starts) -> Latents:
        masks = list(check_supports(self.supports, task))
        if self.form == "joint":
            z, deficient = least_squares_jointly(task, masks)
        else:
            z, _, deficient = least_squares_by_layers(task, masks)
        count = int(deficient.sum())
        notes = (f"{count} signals leave z open on their supports; theirs is the shortest solution",) if count else ()
        return Latents(debiased(task, z, masks, self.debias, self.max_iter), notes=notes)


def supports_of(task: Task, z: Tensor) -> tuple[Tensor, ...]:
    """Supports `(N, n_i)` of the hidden layers at latents `z` `(N, n0)`, first hidden layer first."""
    return tuple(h > 0 for h in task.generator.hidden(z.to(task.y)))


def check_supports(supports: object, task: Task) -> tuple[Tensor, ...]:
    """The supports as bool tensors `(N, n_i)`. Raises TypeError or ValueError for other numbers, types and shapes."""
    sizes = [layer.W.m for layer in task.generator.layers[:-1]]
    shapes = ", ".join(f"({task.N}, {n})" for n in sizes)
    if not isinstance(supports, Sequence) or len(supports) != len(sizes):
        got = f"{len(supports)} masks" if isinstance(supports, Sequence) else describe(supports)
        raise ValueError(f"expected supports as {len(sizes)} bool masks {shapes}, first hidden layer first, got {got}")
    masks = []
    for k, (mask, n) in enumerate(zip(supports, sizes, strict=True), 1):
        if not isinstance(mask, (Tensor, np.ndarray)) or mask.dtype not in (torch.bool, np.bool_):
            raise TypeError(f"expected the support of hidden layer {k} as a bool mask, got {describe(mask)}; pass h > 0")
        mask = read_numbers(mask, f"the support of hidden layer {k}", task.y.device, "b")
        if mask.shape not in ((n,), (task.N, n)) or (mask.ndim == 1 and task.N != 1):
            raise ValueError(
                f"expected the support of hidden layer {k} of shape ({task.N}, {n}), got {tuple(mask.shape)}; one per signal"
            )
        masks.append(mask.reshape(task.N, n))
    return tuple(masks)


def least_squares_jointly(task: Task, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Algorithm 1: z `(N, n0)`, and where the map of the supports has no full column rank, `(N,)`."""
    (W, b), (u, on, _, weight) = image_map(task), image_rows(task)
    root = torch.where(on, weight, torch.zeros_like(weight)).sqrt()
    n0, found, deficient = task.generator.latent_dim, [], []
    widest = max(layer.W.m for layer in task.generator.layers)
    for block in torch.arange(task.N, device=u.device).split(max(1, _BLOCK // (24 * n0 * widest))):
        columns = torch.eye(n0, dtype=u.dtype, device=u.device).expand(len(block), n0, n0)
        offset = torch.zeros(len(block), n0, dtype=u.dtype, device=u.device)
        for layer, mask in zip(task.generator.layers[:-1], masks, strict=True):
            slope = _slopes(layer.activation, mask[block]).to(u)
            offset = slope * (layer.W(offset) + layer.b)
            columns = slope[:, None] * layer.W(columns.reshape(-1, layer.W.n)).reshape(len(block), n0, -1)
        J = W(columns.reshape(-1, W.n)).reshape(len(block), n0, -1).mT * root[block, :, None]
        z, short = shortest_least_squares(J, (u[block] - W(offset) - b) * root[block])
        found.append(z)
        deficient.append(short)
    return torch.cat(found), torch.cat(deficient)


def least_squares_by_layers(task: Task, masks: list[Tensor]) -> tuple[Tensor, list[Tensor], Tensor]:
    """Algorithm 6: z `(N, n0)`, the hidden layers on the way `(N, n_i)`, first first, and where a rank is deficient."""
    (W, b), (y, on, _, weight) = image_map(task), image_rows(task)
    M, root = W.matrix(), weight.sqrt()
    deficient = torch.zeros(task.N, dtype=torch.bool, device=y.device)
    layers, hidden = task.generator.layers, list[Tensor]()
    for index in range(len(layers) - 1, -1, -1):
        below = None if index == 0 else layers[index - 1].activation
        known = None if below is None or below.leaks else masks[index - 1]
        h = torch.zeros(task.N, M.shape[1], dtype=y.dtype, device=y.device)
        for i in range(task.N):
            rows = on[i]
            columns = slice(None) if known is None else known[i]
            part = M[rows][:, columns] * root[i, rows, None]
            x, short = shortest_least_squares(part[None], ((y[i] - b)[rows] * root[i, rows])[None])
            h[i, columns] = x[0]
            deficient[i] |= short[0]
        if below is not None:
            hidden.insert(0, h)
            slope = _slopes(below, masks[index - 1]).to(y)
            on = torch.ones_like(masks[index - 1]) if below.leaks else masks[index - 1]
            y = torch.where(on, h / torch.where(on, slope, torch.ones_like(slope)), torch.zeros_like(h))
            M, b, root = layers[index - 1].W.matrix(), layers[index - 1].b, torch.ones_like(y)
    return h, hidden, deficient


def _slopes(phi: AbstractActivation, mask: Tensor) -> Tensor:
    assert phi.slopes is not None
    low, _ = phi.slopes
    return torch.where(mask, 1.0, torch.full(mask.shape, low, dtype=torch.float64, device=mask.device))


def shortest_least_squares(M: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The shortest minimiser of |M x - t| for `M` `(N, m, n)`, `t` `(N, m)`, and where M has no full column rank, `(N,)`.

    By the singular values above max(m, n) roundings of the largest; one refinement with the residual brings what
    conditioning allows.
    """
    if 0 in M.shape[1:]:
        nothing = torch.zeros(len(M), M.shape[2], dtype=M.dtype, device=M.device)
        return nothing, torch.full((len(M),), M.shape[2] > 0, device=M.device)
    U, s, Vh = torch.linalg.svd(M, full_matrices=False)
    keep = s > max(M.shape[1:]) * torch.finfo(M.dtype).eps * s[:, :1]
    inverse = torch.where(keep, 1 / torch.where(keep, s, torch.ones_like(s)), torch.zeros_like(s))

    def apply(r: Tensor) -> Tensor:
        return (Vh.mT @ (inverse[..., None] * (U.mT @ r[..., None])))[..., 0]

    x = apply(t)
    x = x + apply(t - (M @ x[..., None])[..., 0])
    return x, keep.sum(1) < M.shape[2]
