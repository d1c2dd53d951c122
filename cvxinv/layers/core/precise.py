"""Products of twice the precision: W h - t where float64's own rounding would decide what is to be proved.

W and h are cut into slices of so few bits that a product of two slices, summed over n entries, is exact in float64 whatever
the order of the sum (Ozaki, Ogita, Oishi, Rump, Error-free transformations of matrix multiplication (2012)). With 53 - log2
n bits for a pair of slices, four slices hold 84 bits of the largest entry of a row. The sums of the slices' products are
added with their errors (two-sum), so what is left is a rounding of the result and 2^-80 of n max|w_i| max|h|.
"""

from math import ceil, log2

import torch
from torch import Tensor

_SLICES = 4
LARGEST = 30_000_000  # entries of a matrix that is cut


def precise_residual(W: Tensor, h: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """W h + b - y for `W` `(m, n)` and `h` `(N, n)`, and a bound on its error, `(N, m)` each, float64."""
    bits = (52 - ceil(log2(max(W.shape[1], 2)))) // 2
    rows, signals = _cut(W, bits), _cut(h, bits)
    high, low = b.expand_as(y) + torch.zeros_like(y), torch.zeros_like(y)
    high, error = _two_sum(high, -y)
    low = low + error
    for i in range(_SLICES):
        for j in range(_SLICES - i):
            high, error = _two_sum(high, signals[i] @ rows[j].T)
            low = low + error
    value = high + low
    n, size = W.shape[1], W.abs().amax(1) * h.abs().amax(1, keepdim=True)
    lost = 2.0**-53 * (2 * value.abs() + 16 * low.abs()) + 8 * n * 2.0 ** -(_SLICES * bits) * size
    return value, lost


def _cut(x: Tensor, bits: int) -> list[Tensor]:
    """`x` as a sum of slices, each row's with `bits` bits below its largest entry, what is left over dropped."""
    slices = []
    for _ in range(_SLICES):
        largest = x.abs().amax(1, keepdim=True)
        exponent = torch.frexp(largest).exponent
        # adding this rounds off everything below its last bit
        shift = torch.ldexp(torch.full_like(largest, 0.75), exponent + 53 - bits)
        part = (x + shift) - shift
        part = torch.where(largest > 0, part, torch.zeros_like(part))
        slices.append(part)
        x = x - part
    return slices


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a + b rounded, and what rounding took from it, exactly (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
