"""
Noise, a prior, error bars
==========================

Every pixel has gaussian noise whose level is not known, and latents are drawn from N(0, I). The most probable latent
comes with standard deviations, and the level of the noise is estimated from what the fit leaves over.
"""

import matplotlib.pyplot as plt
import torch

import cvxinv as ci
from cvxinv.command.demo import load_shipped

SIGMA = 0.02  # signal units
G, _, _ = load_shipped()
z = G.sample_latent(20, torch.Generator().manual_seed(5))
y = G(z) + SIGMA * torch.randn(20, 64, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

result = ci.invert(G, y, noise="auto", prior=ci.Gaussian(1.0), truth=z, on_fail="ignore")
print(result.verdict.counts())
print(result.uncertainty)

# %%
# How often the intervals hold
# ----------------------------
# Of intervals of 95 % about one true coordinate in twenty lies outside. With 160 coordinates the share itself is only
# known to a few percent.

(low, high), _ = result.uncertainty.intervals(0.95)
inside = (low <= z) & (z <= high)
print(f"{int(inside.sum())} of {inside.numel()} true coordinates lie in their intervals")
assert inside.double().mean() > 0.8

# %%
# Picture
# -------

fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
shown = slice(0, 3)
true, found = z[shown].flatten(), result.z[shown].flatten()
bars = torch.stack([found - low[shown].flatten(), high[shown].flatten() - found])
ax.errorbar(range(24), found, yerr=bars, fmt="s", color="#0072b2", capsize=3, markersize=4, label="found, 95 % interval")
ax.plot(range(24), true, "x", color="#d55e00", markersize=8, label="true")
for i in (1, 2):
    ax.axvline(8 * i - 0.5, color="#888888", linestyle=":")
ax.set_xlabel("coordinate of z: eight of each of three signals")
ax.set_ylabel("value (latent units)")
ax.legend()
fig.set_label(
    "24 latent coordinates of three signals: found values with bars of 95 %, true values as crosses, nearly all "
    "within the bars."
)
