"""
Is it the best latent? A proof
==============================

A search shows a local optimum. ``prove`` goes through all latents of a box by branch and bound, with a lower bound on
each misfit; on a net with two latents all of it can be drawn.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import cvxinv as ci

torch.manual_seed(3)
net = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 10)).double().eval()
G = ci.load_generator(net)
z = torch.tensor([[0.8, -0.6]], dtype=torch.float64)
y = G(z) + 0.05 * torch.randn(1, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

found = ci.invert(G, y, on_fail="ignore")
proof = ci.prove(G, y, found)
print(found.status, "before the proof")
print(found.with_proof(proof).status, "after it")
print(proof.explain(0))
assert proof.proved.all()

# %%
# The misfit over all latents of the box
# --------------------------------------
# Each piece of the generator is a polygon, on which the squared misfit is a parabola.

side = torch.linspace(-4, 4, 161, dtype=torch.float64)
grid = torch.cartesian_prod(side, side)
misfit = (G(grid) - y).norm(dim=1).reshape(161, 161)
assert float(proof.bound[0]) <= float(misfit.min())  # no point of the grid is below what was proved

fig, ax = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
levels = ax.contourf(side, side, misfit.T, levels=18, cmap="cividis")
fig.colorbar(levels, label="misfit |G(z) - y| (signal units)")
ax.plot(*z[0], "w^", markersize=9, markeredgecolor="black", label="z that made the signal, before noise")
ax.plot(*found.z[0], "o", color="#d55e00", markersize=7, markeredgecolor="white", label="proved the best of the box")
ax.set_xlabel("first latent (latent units)")
ax.set_ylabel("second latent (latent units)")
ax.legend(loc="lower left", fontsize=8)
fig.set_label(
    "Contours of the misfit over two latents, with one deepest place near the true latent, where the proved optimum lies."
)
