"""
A layer as a LASSO, beside CVXPY
================================

Every layer problem is also a CVXPY problem, one signal at a time. The batched solver and CLARABEL are given the same
eight signals; their objectives agree within what the certificates allow.
"""

import inspect

import matplotlib.pyplot as plt
import torch

import cvxinv as ci

draw = torch.Generator().manual_seed(1)
W = torch.randn(50, 80, generator=draw, dtype=torch.float64)
sparse = torch.rand(8, 80, generator=draw) < 0.1
h = torch.randn(8, 80, generator=draw, dtype=torch.float64).abs() * sparse
y = h @ W.T + 0.05 * torch.randn(8, 50, generator=draw, dtype=torch.float64)
rows = ci.Rows(ci.Dense(W), torch.zeros(50, dtype=torch.float64), y, on=torch.ones(8, 50, dtype=torch.bool))
problem = ci.NonnegativeLasso(rows, lam=0.5)

# %%
# The statement that CVXPY solves
# -------------------------------
# As it stands in the package; ``sample`` holds the rows of one signal.

print(inspect.getsource(ci.NonnegativeLasso.statement))

# %%
# Two solvers, one judge
# ----------------------
# ``polish=False`` leaves CLARABEL's point as it is; cvxinv's own is finished by an exact solve on what is active.

fast = ci.solve(problem)
exact = ci.solve(problem, "CLARABEL", polish=False)
difference = (fast.certificate.objective - exact.certificate.objective).abs()
allowed = torch.maximum(fast.certificate.allowed_gap, exact.certificate.allowed_gap)
print(fast.certificate)
print(exact.certificate)
print(f"largest difference of objectives {float(difference.max()):.0e}, allowed {float(allowed.min()):.0e}")
assert (difference <= allowed).all()

# %%
# The two answers
# ---------------

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.stem(range(80), fast.h[0], linefmt="#0072b2", markerfmt="o", basefmt=" ", label="auto")
left.plot(range(80), exact.h[0], "x", color="#d55e00", label="CLARABEL")
left.set_xlabel("entry of h")
left.set_ylabel("value (units of h)")
left.legend()
places, tiny = torch.arange(8), 1e-18
right.bar(places - 0.2, fast.certificate.gap.clamp(min=tiny), 0.4, color="#0072b2", hatch="//", label="auto")
right.bar(places + 0.2, exact.certificate.gap.clamp(min=tiny), 0.4, color="#d55e00", label="CLARABEL")
right.plot(places, allowed, "k:", label="allowed")
right.set_yscale("log")
right.set_xlabel("signal")
right.set_ylabel("gap (signal units squared)")
right.legend()
fig.set_label(
    "Left: the entries of h of one signal as found by auto and by CLARABEL, which coincide. Right: gaps of eight "
    "signals, all below the dotted line of what is allowed."
)
