"""What random layers do on average, and how far a layer is from that: the weight distribution condition.

For W `(m, n)` with rows N(0, I/m), W_{+,x} its rows with w'x > 0 and t the angle between x and y,

    E W_{+,x}'W_{+,y} = Q_{x,y} = ((pi - t) I + sin t M) / (2 pi),

M swaps x/|x| and y/|y| and is 0 on what is orthogonal to both. W meets the condition with eps where for all x, y != 0
|W_{+,x}'W_{+,y} - Q_{x,y}| <= eps. No sampling proves that: sampled pairs give a lower bound on its constant. As both
matrices lie between 0 and W'W, and between 0 and I/2, the constant is at most max(|W|^2, 1/2).

For d such layers without biases, G(x) = L_x x, the expected gradient E L_x'(G(x) - G(x0)) of 1/2 |G(x) - G(x0)|^2 is

    h = 2^-d [x - prod_i (pi - t_i)/pi x0 - sum_i (sin t_i / pi) prod_{j > i} (pi - t_j)/pi |x0| x/|x|],

i, j from 0 to d - 1, t_0 the angle of x and x0, t_{i+1} = g(t_i), cos g(t) = ((pi - t) cos t + sin t)/pi. It is 0 at x0 and
at -rho_d x0, rho_d the sum above at t_0 = pi.

Source: Hand, Voroninski, "Global guarantees for enforcing deep generative priors by empirical risk" (2019); Q and the
condition as read in Heckel, Huang, Hand, Voroninski (2019) and Huang et al. (2018); h as recalled, and checked by sampling.
"""

import time
from math import pi

import torch
from torch import Tensor

from ..inputs import plain_number, read_numbers, read_seed
from .bounds import Bounds
from .dependence import read_matrix

_BLOCK = 20_000_000  # numbers held at once


def expected_gram(x: Tensor, y: Tensor) -> Tensor:
    """Q_{x,y} `(N, n, n)` for x, y `(N, n)`, none of them 0: E W_{+,x}'W_{+,y} of rows N(0, I/m), m of them."""
    x, y = read_numbers(x, "x", x.device), read_numbers(y, "y", x.device)
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"expected x and y of one shape (N, n), got {tuple(x.shape)} and {tuple(y.shape)}")
    u, v = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
    if not bool((u.isfinite() & v.isfinite()).all()):
        raise ValueError("expected directions, got x or y with rows of 0 or no numbers; leave these out")
    t = _angle(u, v)[:, None, None]
    # the halves of the sum and the difference are orthogonal, and M keeps the one and turns the other round
    add, less = _unit(u + v), _unit(u - v)
    M = add[:, :, None] * add[:, None] - less[:, :, None] * less[:, None]
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return ((pi - t) * eye + t.sin() * M) / (2 * pi)


def weight_distribution(W: object, *, samples: int = 2000, seed: int = 0) -> Bounds:
    """The constant of the weight distribution condition of `W` `(m, n)`, a tensor, array or map: sampled from below.

    samples: pairs of directions, a quarter of them equal, a quarter near to each other. The scale is that of rows N(0, I/m):
    for N(0, 2I/m) pass W / 2^(1/2). Raises TypeError or ValueError for no finite matrix, samples < 1 and a wrong seed.
    """
    began, M, count = time.perf_counter(), read_matrix(W), plain_number(samples)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"expected samples as a whole number of at least 1, got {samples!r}; pass e.g. 2000")
    seed = read_seed(seed)
    m, n = M.shape
    if n == 0:
        raise ValueError("expected W with at least one column, got none; there is no direction to sample")
    source, largest = torch.Generator().manual_seed(seed), 0.0
    for part in torch.arange(count).split(max(1, _BLOCK // (n * (n + m)))):
        x, y = (torch.randn(len(part), n, generator=source, dtype=M.dtype) for _ in range(2))
        y = torch.where((part % 4 == 0)[:, None], x, torch.where((part % 4 == 1)[:, None], x + 0.3 * y, y))
        both = ((x @ M.T > 0) & (y @ M.T > 0)).to(M.dtype)
        apart = (both[:, None] * M.T) @ M - expected_gram(x, y)
        largest = max(largest, float(torch.linalg.eigvalsh(apart @ apart.mT)[:, -1].max().clamp(min=0).sqrt()))
    upper = max(float(torch.linalg.matrix_norm(M, 2)) ** 2 if m else 0.0, 0.5)
    how = (f"the largest of {count} sampled pairs of directions", "both matrices lie between 0 and W'W or I/2")
    return Bounds(
        "constant of the weight distribution", largest, max(largest, upper), how, None, time.perf_counter() - began
    )


def expected_gradient(x: Tensor, x0: Tensor, depth: int) -> Tensor:
    """h `(N, n)` at x `(N, n)` for the truth x0 `(N, n)`, none of them 0, and `depth` random layers; see the module."""
    x, x0, depth = read_numbers(x, "x", x.device), read_numbers(x0, "x0", x.device), _depth(depth)
    if x.ndim != 2 or x.shape != x0.shape:
        raise ValueError(f"expected x and x0 of one shape (N, n), got {tuple(x.shape)} and {tuple(x0.shape)}")
    size, size0 = x.norm(dim=1, keepdim=True), x0.norm(dim=1, keepdim=True)
    if not bool(((size > 0) & (size0 > 0)).all()):
        raise ValueError("expected directions, got x or x0 with rows of 0 or no numbers; leave these out")
    share, total = _sums(_angle(x / size, x0 / size0)[:, None], depth)
    return (x - share * x0 - total * size0 * x / size) / 2**depth


def rho_d(depth: int) -> float:
    """-rho_d x0 is where the expected gradient of `depth` random layers is 0 besides x0; it grows to 1 with the depth."""
    return float(_sums(torch.tensor([[pi]], dtype=torch.float64), _depth(depth))[1])


def _sums(t: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """prod_i (pi - t_i)/pi, and sum_i sin t_i / pi prod_{j > i} (pi - t_j)/pi."""
    share, total = torch.ones_like(t), torch.zeros_like(t)
    for _ in range(depth):
        left = (pi - t) / pi
        share, total = share * left, total * left + t.sin() / pi
        t = (((pi - t) * t.cos() + t.sin()) / pi).clamp(-1, 1).arccos()
    return share, total


def _angle(u: Tensor, v: Tensor) -> Tensor:
    """Angles `(N,)` between unit vectors, exact also where they are small or near pi."""
    return 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))


def _unit(u: Tensor) -> Tensor:
    size = u.norm(dim=1, keepdim=True)
    return torch.where(size > 0, u / torch.where(size > 0, size, 1.0), 0.0)


def _depth(depth: object) -> int:
    depth = plain_number(depth)
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"expected depth as a number of layers of at least 1, got {depth!r}; pass e.g. 3")
    return depth
