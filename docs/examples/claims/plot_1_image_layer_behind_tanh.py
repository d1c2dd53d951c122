"""
The image layer behind tanh is not convex
=========================================

Equation (8) of *When and How Can Deep Generative Models be Inverted?* asks for a nonnegative ``h`` with ``phi(W h)``
near the signal::

    min over h >= 0 of 1/2 |phi(W h) - y|^2 + lam sum(h)

The source takes it for convex where ``phi`` is smooth and strictly increasing. One unknown and two rows are enough to
see that it is not: it has two local minima, and a descent finds the one that is nearer.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize_scalar

W, y, lam = np.array([10.0, 0.3]), np.array([0.0, 0.9]), 0.0


def objective(h):
    """Of one h, or of each of many."""
    return 0.5 * ((np.tanh(np.outer(np.atleast_1d(h), W)) - y) ** 2).sum(axis=1) + lam * np.atleast_1d(h)


near = minimize_scalar(lambda h: objective(h)[0], bounds=(0.0, 0.05), method="bounded", options={"xatol": 1e-12})
far = minimize_scalar(lambda h: objective(h)[0], bounds=(1.0, 20.0), method="bounded", options={"xatol": 1e-12})
print(f"local minimum at h = {near.x:.4f}: {near.fun:.4f}; at h = {far.x:.4f}: {far.fun:.4f}")

# %%
# The proof
# ---------
# A convex function lies below its chords. The middle of these two minima lies above theirs.

middle = 0.5 * (near.x + far.x)
chord = 0.5 * (near.fun + far.fun)
print(f"at the middle, h = {middle:.4f}: {objective(middle)[0]:.4f}, above the chord's {chord:.4f}")
assert objective(middle)[0] > chord

# %%
# A descent from 0 and one from 5.5 end at different answers
# ----------------------------------------------------------


def descend(h, step=0.01, steps=100_000):
    """Projected gradient descent, from h."""
    for _ in range(steps):
        t = np.tanh(W * h)
        h = max(0.0, h - step * (W @ ((1 - t**2) * (t - y)) + lam))
    return h


ends = {start: descend(start) for start in (0.0, 5.5)}
for start, end in ends.items():
    print(f"from h = {start:g}: ends at {end:.4f}, objective {objective(end)[0]:.4f}")
assert abs(ends[0.0] - near.x) < 1e-4 and abs(ends[5.5] - far.x) < 0.1

# %%

h = np.concatenate([np.linspace(0, 1, 400), np.linspace(1, 12, 400)])
fig, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
axes.plot(h, objective(h), color="#0072b2", label="objective of (8)")
axes.plot([near.x, far.x], [near.fun, far.fun], "o--", color="#d55e00", label="chord between two local minima")
axes.set_xlabel("h (units of the hidden layer)")
axes.set_ylabel("objective (signal units squared)")
axes.legend()
fig.set_label(
    "The objective over h: a narrow minimum near 0, a hill that lies above the chord, and a lower and wide minimum near 5."
)

# %%
# What stays true
# ---------------
# ``phi`` can be undone entry by entry, which gives ``|W h - phi^{-1}(y)|`` and a convex problem; that is what cvxinv
# solves behind a tanh, and for entries near its ends an interval for each row (``InTheInterval``). Behind a *linear*
# output (8) is convex as it stands.
