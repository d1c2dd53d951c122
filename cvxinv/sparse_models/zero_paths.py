"""How the optimum moves while one more zero is asked of a representation: an exact path, for a whole batch.

    minimise    |h|_1                                                                 (P)
    subject to  |E h - y| <= eps,   V_C h = 0

is the Lasso min 1/2 |E h - y|^2 + lam |h|_1 with V_C h = 0 for the lam > 0 at which |E h - y| = eps. With A the support of h
and s its signs, h_A and the multipliers mu of V_C solve

    [ E_A'E_A   V_CA' ] [ h_A ]   [ E_A'y - lam s_A ]
    [ V_CA      0     ] [ mu  ] = [ c               ],      q = E'(y - E h) - V_C'mu,   q_A = lam s_A,   |q| <= lam.

Given all this for C, a row v is added to it in two walks, each piecewise linear: at fixed lam, v'h goes from what it is to
0; then lam goes up or down until |E h - y| = eps. A piece ends where an h_j becomes 0, which leaves A, or a |q_j| becomes
lam, which enters it. At the end the equations of the last A are solved anew, so that nothing of the walk's rounding is
left, with h = a - lam b, |E h - y|^2 = |E a - y|^2 + lam^2 |E b|^2 for lam. Then p = (E h - y) / lam on the signal and mu
/ lam on V_C.

Where A and C leave equations singular, in ties, and after `_PIECES` pieces a signal is given up: whoever asked solves it
otherwise. What is returned is for the judge to believe.

Source: derived here, after the homotopy of Osborne, Presnell, Turlach, "A new approach to variable selection in least
squares problems" (2000).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batch import Batch, per_signal

_PIECES = 400
_ON = 1e-9  # of lam: what a |q_j| may be beyond it, or an h_j beyond 0 on the wrong side, in units of the largest


@dataclass(frozen=True, eq=False)
class Optimum(Batch):
    """The optimum of each signal for the same number of rows C. E: `(N, m, n)`, y and eps of what was seen.

    h `(N, n)`, mu `(N, k)`, lam `(N,)`, A `(N, n)` bool, sign `(N, n)`, C `(N, k)` positions of rows. known: bool `(N,)`,
    False where the equations were not solved; the others of its fields say nothing then.
    """

    E: Tensor = per_signal()
    y: Tensor = per_signal()
    eps: Tensor = per_signal()
    h: Tensor = per_signal()
    mu: Tensor = per_signal()
    lam: Tensor = per_signal()
    A: Tensor = per_signal()
    sign: Tensor = per_signal()
    C: Tensor = per_signal()
    known: Tensor = per_signal()

    @property
    def residual(self) -> Tensor:
        """y - E h, `(N, m)`."""
        return self.y - torch.einsum("Nmn,Nn->Nm", self.E, self.h)


def of_points(E: Tensor, y: Tensor, eps: Tensor, V: Tensor, C: Tensor, h: Tensor) -> Optimum:
    """The optimum next to points h, from their support and signs; known only where those are the optimum's."""
    none = torch.zeros_like(eps)
    at = Optimum(E, y, eps, h, h.new_zeros(C.shape), none, h != 0, h.sign(), C, torch.ones_like(eps, dtype=torch.bool))
    return _anew(at, V)


def with_zero(at: Optimum, row: Tensor, V: Tensor) -> Optimum:
    """The optimum with the rows of V at `row` `(N,)` in C too, by the walks of the module from one without."""
    amount = (V[row] * at.h).sum(1)
    C, mu = torch.cat([at.C, row[:, None]], 1), torch.cat([at.mu, torch.zeros_like(amount)[:, None]], 1)
    at = replace(at, C=C, mu=mu)
    at = _walk(at, V, _Shift(amount))
    above = at.residual.norm(dim=1) > at.eps
    at = _walk(at, V, _Penalty(torch.where(above, -1.0, 1.0).to(at.lam)))
    return _anew(at, V)


@dataclass(frozen=True, eq=False)
class _Shift:
    """The first walk: the amount of the last row goes to 0, at fixed lam."""

    amount: Tensor

    def side(self, at: Optimum) -> tuple[Tensor, Tensor]:
        c = torch.zeros_like(at.mu)
        c[:, -1] = -self.amount
        return torch.zeros_like(at.h), c

    def penalty(self, at: Optimum) -> Tensor:
        return torch.zeros_like(at.lam)

    def end(self, at: Optimum, dh: Tensor, gone: Tensor) -> Tensor:
        return 1 - gone


@dataclass(frozen=True, eq=False)
class _Penalty:
    """The second walk: lam goes up (+1) or down (-1) until the misfit is eps."""

    way: Tensor

    def side(self, at: Optimum) -> tuple[Tensor, Tensor]:
        return -self.way[:, None] * at.sign * at.A, torch.zeros_like(at.mu)

    def penalty(self, at: Optimum) -> Tensor:
        return self.way

    def end(self, at: Optimum, dh: Tensor, gone: Tensor) -> Tensor:
        """The step at which |r - t E dh| = eps; infinite where there is none on this piece."""
        r, dr = at.residual, -torch.einsum("Nmn,Nn->Nm", at.E, dh)
        a, b, c = dr.square().sum(1), (r * dr).sum(1), r.square().sum(1) - at.eps.square()
        root = (b.square() - a * c).clamp(min=0).sqrt()
        up, down = (root - b) / a, c / (root - b)
        meets = (b.square() >= a * c) & (a > 0)
        return torch.where(meets, torch.where(self.way > 0, up, down), torch.inf).clamp(min=0)


def _walk(at: Optimum, V: Tensor, walk: _Shift | _Penalty) -> Optimum:
    """Piece after piece to the end of a walk."""
    going, gone = at.known.clone(), torch.zeros_like(at.lam)
    known = at.known.clone()
    for _ in range(_PIECES):
        if not bool(going.any()):
            break
        c, d = walk.side(at)
        dh, dmu = _solved(at, V, c, d)
        G = torch.einsum("Nmn,Nm->Nn", at.E, torch.einsum("Nmn,Nn->Nm", at.E, dh))
        dq = -G - torch.einsum("Nkn,Nk->Nn", V[at.C], dmu)
        step, j, leaves = _event(at, _duals(at, V), dh, dq, walk.penalty(at))
        end = walk.end(at, dh, gone)
        last = end <= step
        t = torch.where(going, torch.minimum(step, end), 0.0)
        fine = torch.isfinite(t) & torch.isfinite(dh).all(1) & torch.isfinite(dmu).all(1)
        fine &= at.lam + t * walk.penalty(at) > 0
        known &= fine | ~going
        going &= fine
        t = torch.where(going, t, 0.0)
        at = _moved(at, t, torch.where(going[:, None], dh, 0.0), torch.where(going[:, None], dmu, 0.0), walk.penalty(at))
        gone = gone + t
        going = going & ~last
        at = _changed(at, V, going, j, leaves)
    return replace(at, known=known & ~going)


def _moved(at: Optimum, t: Tensor, dh: Tensor, dmu: Tensor, dlam: Tensor) -> Optimum:
    h = torch.where(at.A, at.h + t[:, None] * dh, 0.0)
    return replace(at, h=h, mu=at.mu + t[:, None] * dmu, lam=at.lam + t * dlam)


def _event(at: Optimum, q: Tensor, dh: Tensor, dq: Tensor, dlam: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The step to the next change of A, the entry that changes, and whether it leaves."""
    back = at.sign * dh < 0
    leave = torch.where(at.A & back, -at.h / torch.where(back, dh, 1.0), torch.inf).clamp(min=0)
    lam, dlam = at.lam[:, None], dlam[:, None]
    enter = torch.full_like(leave, torch.inf)
    for side in (1.0, -1.0):
        speed = side * dq - dlam
        near = ~at.A & (speed > 1e-14 * (dq.abs() + dlam.abs()))
        enter = torch.minimum(enter, torch.where(near, (lam - side * q) / torch.where(near, speed, 1.0), torch.inf))
    both = torch.cat([leave, enter.clamp(min=0)], 1)
    step, which = both.min(1)
    n = q.shape[1]
    return step, which % n, which < n


def _changed(at: Optimum, V: Tensor, going: Tensor, j: Tensor, leaves: Tensor) -> Optimum:
    """A with one entry more, or less, of each signal that goes on."""
    index = going.nonzero()[:, 0]
    A, sign, h = at.A.clone(), at.sign.clone(), at.h.clone()
    q, k = _duals(at, V), j[index]
    A[index, k] = ~leaves[index]
    sign[index, k] = torch.where(leaves[index], 0.0, q[index, k].sign())
    h[index, k] = torch.where(leaves[index], 0.0, h[index, k])
    return replace(at, A=A, sign=sign, h=h)


def _duals(at: Optimum, V: Tensor) -> Tensor:
    """q of the module, `(N, n)`."""
    return torch.einsum("Nmn,Nm->Nn", at.E, at.residual) - torch.einsum("Nkn,Nk->Nn", V[at.C], at.mu)


def _solved(at: Optimum, V: Tensor, *sides: Tensor) -> tuple[Tensor, Tensor]:
    """The module's equations with the right-hand sides of h `(N, n)` or `(N, n, r)` and of V_C; not finite if singular."""
    c, d = (x if x.ndim == 3 else x[:, :, None] for x in sides)
    EA, VA, n = at.E * at.A[:, None, :], V[at.C] * at.A[:, None, :], at.h.shape[1]
    k = VA.shape[1]
    M = at.h.new_zeros(len(c), n + k, n + k)
    M[:, :n, :n] = EA.mT @ EA + torch.diag_embed((~at.A).to(c))
    M[:, :n, n:], M[:, n:, :n] = VA.mT, VA
    found, info = torch.linalg.solve_ex(M, torch.cat([c * at.A[:, :, None], d], 1))
    found = torch.where((info == 0)[:, None, None], found, torch.nan)
    h, mu = found[:, :n], found[:, n:]
    return (h, mu) if sides[0].ndim == 3 else (h[:, :, 0], mu[:, :, 0])


def _anew(at: Optimum, V: Tensor) -> Optimum:
    """h, mu and lam from A, its signs and C alone, and whether they fit together."""
    c = torch.stack([torch.einsum("Nmn,Nm->Nn", at.E, at.y), at.sign], 2)
    both, multipliers = _solved(at, V, c, at.mu.new_zeros(*at.mu.shape, 2))
    a, b = both.unbind(2)
    rest = at.eps.square() - (at.y - torch.einsum("Nmn,Nn->Nm", at.E, a)).square().sum(1)
    lam = (rest / torch.einsum("Nmn,Nn->Nm", at.E, b).square().sum(1)).clamp(min=0).sqrt()
    h, mu = a - lam[:, None] * b, multipliers[:, :, 0] - lam[:, None] * multipliers[:, :, 1]
    fresh = replace(at, h=torch.where(at.A, h, 0.0), mu=mu, lam=lam)
    beyond = (_duals(fresh, V).abs().amax(1) - lam) / lam
    wrong = (-at.sign * fresh.h).amax(1) / fresh.h.abs().amax(1)
    known = at.known & (lam > 0) & torch.isfinite(lam) & (beyond <= _ON) & (wrong <= _ON)
    return replace(fresh, known=known)
