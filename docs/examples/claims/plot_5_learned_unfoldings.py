"""
What learned unfoldings are compared with
=========================================

*Ada-LISTA* (Aberdam, Golts, Elad 2020) compares its networks with ISTA and FISTA whose steps are 1 / L, L the largest
eigenvalue of D'D. That is what is safe, not what is fast: on the same problems the network *before any training*, which
is ISTA with the step 1, is far ahead of both. So a part of what its pictures show as learned is a longer step.

The published setting: 50 x 70 Gaussian dictionaries with unit columns, 4 non-zeros, lam = 1, each signal with its own
order of the columns. Labels are certified optima.
"""

import matplotlib.pyplot as plt
import torch

from cvxinv.sparse_models.varying_dictionaries import ProximalGradient, certified_codes

source = torch.Generator().manual_seed(0)
D = torch.randn(50, 70, generator=source, dtype=torch.float64)
D = D / D.norm(dim=0)
order = torch.stack([torch.randperm(70, generator=source) for _ in range(200)])
own = D[:, order].transpose(0, 1)  # (200, 50, 70): each signal's dictionary
x = torch.zeros(200, 70, dtype=torch.float64)
at = torch.stack([torch.randperm(70, generator=source)[:4] for _ in range(200)])
x.scatter_(1, at, torch.randn(200, 4, generator=source, dtype=torch.float64))
y = torch.einsum("bnm,bm->bn", own, x)

codes = certified_codes(y, own, 1.0)
print(f"labels: optimal to {float(codes.gap.max()):.0e}, signal units squared")

# %%
# Published steps, the step 1, and FISTA as one would run it
# ----------------------------------------------------------

L = float(torch.linalg.matrix_norm(D, 2)) ** 2
rivals = {
    "ISTA, published step 1 / L": ProximalGradient(step=1 / L),
    "FISTA, published step 1 / L": ProximalGradient(step=1 / L, momentum=True),
    "ISTA, step 1 (the untrained network)": ProximalGradient(step=1.0),
    "FISTA, backtracking from 1, restarts": ProximalGradient(momentum=True, restart=True, backtracking=True),
}
errors = {name: ((its.iterates(y, own, 1.0, 11) - codes.x) ** 2).sum(dim=2).mean(dim=1) for name, its in rivals.items()}
print(f"L = {L:.2f}; mean squared error of the code after T + 1 iterations")
for name, error in errors.items():
    print(f"{name:38s}" + "".join(f"  T = {T}: {float(error[T]):.1e}" for T in (0, 2, 4, 10)))
assert errors["ISTA, step 1 (the untrained network)"][4] < errors["FISTA, published step 1 / L"][4] / 10

# %%

fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
dashes = ("-", "--", "-.", ":")
colours = ("#d55e00", "#e69f00", "#0072b2", "#009e73")
for (name, error), dash, colour in zip(errors.items(), dashes, colours, strict=True):
    axes.semilogy(range(11), error, linestyle=dash, color=colour, marker="o", markersize=4, label=name)
axes.set_xlabel("T (iterations - 1)")
axes.set_ylabel("mean |x - optimum|^2 (units of the code squared)")
axes.legend()
fig.set_label(
    "Squared error over the iterations, logarithmic: both published rivals fall slowly, the untrained network with "
    "step 1 falls many times faster, as does FISTA with backtracking and restarts for some time."
)

# %%
# What stays true
# ---------------
# The step 1 is not safe: where D'D has eigenvalues above 2 it may diverge, and training finds steps that are long and do
# not. How far trained networks are ahead is to be measured beside these rivals, not beside the published ones alone.
