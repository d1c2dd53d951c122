"""Ranks of matrices of floats, which are exact rational numbers: proofs of independence modulo a prime.

A float is k 2^e with whole k and e, and 2 can be divided by modulo an odd prime p, so that every float has a residue. A
minor that is not 0 modulo p is not 0: columns that are independent modulo p are independent over the rationals, and the rank
modulo p is a lower bound on the rank. The other way round it says nothing sure, though a false alarm is as rare as 1/p:
dependence is decided by whole numbers (`rational.py`).

Residues are held in float64: p < 2^26, so that products of two stay exact.
"""

import numpy as np
import torch
from torch import Tensor

PRIME = 67108859  # the largest prime below 2^26


def residues(W: Tensor) -> Tensor:
    """Each entry of `W`, finite, modulo `PRIME`, in [0, PRIME), float64 on the CPU."""
    whole, exponent = np.frexp(W.detach().cpu().double().numpy())
    k = (whole * 2.0**53).astype(np.int64) % PRIME  # exact: a mantissa has 53 bits
    kinds, which = np.unique(exponent, return_inverse=True)
    powers = np.array([pow(2, int(e) - 53, PRIME) for e in kinds], dtype=np.int64)
    return torch.from_numpy((k * powers[which].reshape(k.shape) % PRIME).astype(np.float64))


def _reduced(x: Tensor) -> Tensor:
    """`x`, whole and of size below 2^52, as the smallest number with its residue, up to one that is next to half of `PRIME`.

    Only a multiple of `PRIME` becomes 0: its quotient is right to far less than one half.
    """
    return x - PRIME * torch.round(x * (1 / PRIME))


def ranks(stack: Tensor) -> Tensor:
    """Ranks modulo `PRIME`, `(K,)`, of residues `(K, m, k)`; lower bounds on the ranks of what they are residues of."""
    found = torch.zeros(len(stack), dtype=torch.long)
    A = _reduced(stack if stack.shape[2] <= stack.shape[1] else stack.mT)
    if 0 in A.shape:
        return found
    index = torch.arange(len(A))
    while A.shape[2]:
        first, A = A[:, :, 0], A[:, :, 1:]
        there, row = (first != 0).max(1)
        pivot = torch.where(there, first[index, row], 1.0)[:, None, None]
        below = torch.where(there[:, None], A[index, row], 0.0)[:, None, :]
        # fraction-free, so that nothing is divided; the row of the pivot becomes 0 and takes no further part
        A = _reduced(A * pivot - first[:, :, None] * below)
        found += there
    return found
