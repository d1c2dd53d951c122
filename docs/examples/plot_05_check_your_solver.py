"""
Check a solver of your own
==========================

``certify`` judges an h from anywhere. Here a short projected gradient descent is the solver, and its certificate says
after how many iterations it can be believed.
"""

import matplotlib.pyplot as plt
import torch

import cvxinv as ci

draw = torch.Generator().manual_seed(0)
W = torch.randn(60, 40, generator=draw, dtype=torch.float64)
h = torch.randn(4, 40, generator=draw, dtype=torch.float64).clamp(min=0)
y = h @ W.T + 0.1 * torch.randn(4, 60, generator=draw, dtype=torch.float64)
rows = ci.Rows(ci.Dense(W), torch.zeros(60, dtype=torch.float64), y, on=torch.ones(4, 60, dtype=torch.bool))
problem = ci.NonnegativeLasso(rows, lam=0.5)  # min over h >= 0 of 1/2 |W h - y|^2 + lam sum(h)


def descend(iterations: int, sign: float = 1.0) -> torch.Tensor:
    """Proximal gradient from zero; a sign of -1 is the mistake that everybody makes once."""
    h, step = torch.zeros(4, 40, dtype=torch.float64), 1 / torch.linalg.matrix_norm(W, 2) ** 2
    for _ in range(iterations):
        h = (h - step * ((h @ W.T - y) @ W + sign * 0.5)).clamp(min=0)
    return h


# %%
# What the judge says
# -------------------
# A point passes where its gap is below what is allowed. The dual vector is built from h where none is passed.

counts = (3, 10, 30, 100, 300, 1000)
right = [ci.certify(problem, descend(k)) for k in counts]
wrong = [ci.certify(problem, descend(k, sign=-1.0)) for k in counts]
for k, c in zip(counts, right, strict=True):
    print(f"{k:5d} iterations: {c.counts()}, worst gap {float(c.gap.max()):.0e} (signal units squared)")
print("with the wrong sign:", wrong[-1].counts(), f"worst gap {float(wrong[-1].gap.max()):.0e}")
assert right[-1].holds.all() and not wrong[-1].holds.any()

# %%
# Gap against iterations
# ----------------------

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
floor = 1e-16
ax.loglog(counts, [max(float(c.gap.max()), floor) for c in right], "o-", color="#0072b2", label="right")
ax.loglog(counts, [max(float(c.gap.max()), floor) for c in wrong], "s--", color="#d55e00", label="lam with the wrong sign")
ax.axhline(float(right[-1].allowed_gap.min()), color="#555555", linestyle=":", label="allowed for 'optimal'")
ax.set_xlabel("iterations")
ax.set_ylabel("worst gap of four signals\n(signal units squared)")
ax.legend()
fig.set_label(
    "Gap against iterations on two logarithmic axes: the right solver falls below what is allowed, the one with a "
    "wrong sign stays far above it."
)
