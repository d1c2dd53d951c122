"""Starts around the best z of a signal that it nearly explains: other pieces near by mostly hold one that does.

Where a few units of a layer are on around z a descent may end in a corner of its piece, at a misfit of 1e-6 to 1e-5 of |y|,
although y is in range: on a rank-deficient GAN (128-256-512-784) that is what one to two signals of 40 ended in after all
other starts. A tenth of a standard deviation away three starts of ten led from there to a z that explains the signal,
three tenths away one to two, a hundredth none. Signals out of range seldom have misfits as small, and what rounding to
float32 leaves, below 1e-6 of |y|, no start explains.
"""

import torch
from torch import Tensor

from ..task import EXPLAINED, Task
from .costs import dear
from .learnt import lesson_for
from .newton import Descent, descend_through
from .starts import Hunt, Starts

_CLOSE = (EXPLAINED[torch.float32], 1e-3)  # of |y|: misfits of signals that are nearly explained
_TRIES, _FEW_TRIES = 10, 3  # of one scale, all at once; where Jacobians are dear


def search_nearby(hunt: Hunt, starts: Starts, scales: tuple[float, ...], limit: int, first: int = 0) -> None:
    """Try starts at distances `scales`, in standard deviations of a latent, from the best z of what is nearly explained.

    Nothing is done where noise is stated: what is within it is explained. limit: steps of each descent. first: number
    of the directions that are tried, others at every scale.
    """
    if hunt.task.noise is not None:
        return
    for k, scale in enumerate(scales):
        share = hunt.merit[hunt.open] / hunt.task.size[hunt.open]
        close = hunt.open[(share > _CLOSE[0]) & (share <= _CLOSE[1])]
        if len(close) == 0:
            return
        count = _FEW_TRIES if dear(hunt.task.generator) else _TRIES
        moves = scale * lesson_for(hunt.task).spread * starts.directions(first + k, count)
        hunt.offer("nearby start", lambda part, index, moves=moves: _best(part, hunt.z[index], moves, limit), close)  # type: ignore[misc]


def _best(task: Task, z: Tensor, moves: Tensor, limit: int) -> Descent:
    """The lowest end of descents from z moved by each of `moves` `(K, n0)`, all at once; no later one for one as low."""
    K, everyone = len(moves), torch.arange(task.N, device=z.device)
    ends = descend_through(task.take(everyone.repeat(K)), (z + moves.to(z)[:, None]).flatten(0, 1), limit)
    first = torch.nan_to_num(ends.merit, nan=torch.inf).reshape(K, task.N).argmin(0)
    return ends.take(first * task.N + everyone)
