"""
Many layers at once
===================

A signal is explained by a chain of dictionaries, y = D1 g1, g1 = D2 g2, and both representations are asked to be
sparse. That is one layer problem, solved and judged as all others are. ML-ISTA, the unfolded iteration, comes to rest
beside its optimum.
"""

import matplotlib.pyplot as plt
import torch

import cvxinv as ci

draw = torch.Generator().manual_seed(0)
D1, D2 = (torch.randn(m, n, generator=draw, dtype=torch.float64) / m**0.5 for m, n in ((50, 70), (70, 60)))
y = torch.randn(8, 50, generator=draw, dtype=torch.float64)
problem = ci.multi_layer_pursuit((ci.Dense(D1), ci.Dense(D2)), y, (0.05, 0.1))

solution = ci.solve(problem)
print(solution.certificate)
g1, g2 = problem.representations(solution.h)
print(f"entries of g2 that are not 0: {(g2 != 0).sum(1).tolist()} of 60")
print(f"D2 g2 is g1 to {float((g2 @ D2.T - g1).abs().max()):.0e}")
assert solution.certificate.holds.all()

# %%
# Where the iteration comes to rest
# ---------------------------------

best = solution.certificate.objective
counts = (10, 30, 100, 300, 1000, 3000)
excess = {}
for momentum, name in ((False, "ML-ISTA"), (True, "ML-FISTA")):
    runs = [ci.ml_ista(problem, momentum=momentum, max_iter=k) for k in counts]
    excess[name] = [float(((run.certificate.objective - best) / best).median()) for run in runs]
    print(name, [f"{e:.0e}" for e in excess[name]])
assert min(excess["ML-FISTA"]) > 0

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for (name, values), style in zip(excess.items(), ("o-", "s--"), strict=True):
    ax.loglog(counts, values, style, color={"o-": "#0072b2", "s--": "#d55e00"}[style], label=name)
ax.set_xlabel("iterations")
ax.set_ylabel("median excess over the optimum\n(share of it)")
ax.legend()
fig.set_label("Excess of ML-ISTA and ML-FISTA over the proved optimum against iterations: both level off above it.")
