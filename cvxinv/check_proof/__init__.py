"""Check proof files: that no latent of a box explains a signal better than is said. The standard library and three files.

    python -m check_proof FILE...      check_inversion.py, check_fits.py and check.py beside this folder, to which others go

docs/checking.md describes the files. u_1 = W_1 z + b_1, x_l = max(u_l, s_l u_l), u_{l+1} = W_{l+1} x_l + b_{l+1}; the
squared misfit of z is |A (W x_H + b) - y|^2 over what was seen, plus |E z - m|^2 where a prior adds rows; z = V c.

A node holds limits of c and of every u that hold for each better z of the box in the node: whose squared misfit is at most
`level`. From the file come v and lam >= 0, of which any do; all limits are computed here, by integers, rounded outward at
2^-64 of a layer's size. With l <= u <= h the limits of an undecided unit and a >= (h - s l) / (h - l)

    t_i(w) >= 0:    x - s u,   x - u,   a (u - l) + s l - x,   u - l and h - u of decided units,   c - low,   high - c

hold for w = (c, x of undecided units) of every better z (of limits told and limits proved the weaker are used), and r(w) =
J w - q is its misfit. For any p, with o = p - r(v), r(w) = p + J (w - v) - o, so that |r(w)|^2 = |p|^2 + 2 p'J (w - v) +
|J (w - v)|^2 - 2 o'r(w) - |o|^2, where |r(w)| <= eps, the root of level. With g = J'p - A'lam, A the slopes of t

    D = level - |p|^2 + |o|^2 + 2 |o| eps + 2 lam't(v) + 2 sum_j max over w_j's range of -g_j (w_j - v_j)
      >= |J (w - v)|^2 + 2 lam't(w)

(p is r(v) as the search has rounded it: of r(v) itself g would be larger by J'o, which all of w's range is multiplied with.)
So D < 0 leaves no better z, all z of the node have squared misfits of at least min(level, level - D), and t_i(w) <=
room_i = min(max t_i, D / (2 lam_i)). For any F, Y, Z and k > 0, rest = F - J'J Y - A'Z and reach_j the longest |w_j - v_j|

    F'w <= F'v - Z't(v) + k D + |J Y|^2 / (4 k) + sum_i (Z_i - 2 k lam_i)_+ room_i + sum_j |rest_j| reach_j

gives limits for the next round: Y is about (J'J + theta A'diag(lam^2)A / D)^-1 F, in floating point. What the box of c
implies for every unit (slopes of the lower lines, chords for the upper ones) is added. Children cover their parent, leaves
count with their bounds. J'J is exact, or for networks of over 150 numbers rounded at 2^-100 of its largest entry, with the
rounding added to |J Y|^2 and rest. All else is exact, but for quotients that are rounded against the claim.
"""

import os

from .beside import FITS, Verdict, fits, inversions, read
from .reading import claims

__all__ = ["check_file", "claims"]


def check_file(path: str | os.PathLike[str]) -> list[Verdict]:
    """The verdicts on all claims of a file of any kind. Raises RefusedError as `check.read`."""
    return read(path, {"Inversion": inversions, "Proof": claims} | dict.fromkeys(FITS, fits))
