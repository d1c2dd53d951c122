"""
When can this generator be inverted?
====================================

``diagnose`` answers before any signal of yours is there: which layer decides, how sparse the layers are, and whether z
of the generator's own signals is the only one.
"""

import matplotlib.pyplot as plt
import torch

import cvxinv as ci
from cvxinv.command.demo import load_shipped

G, _, _ = load_shipped()
z = G.sample_latent(4, torch.Generator().manual_seed(2))
found = ci.diagnose(G, G(z), z, samples=500)
print(found)
print(found.signals.explain(0))
assert found.signals.status.tolist() == ["unique"] * 4

# %%
# How many pixels it takes
# ------------------------
# The smallest singular value of the Jacobian of what is seen says by how much noise may move z: by its inverse. Where
# it is 0, z is not determined, and no method can tell latents near it apart.

latents = G.sample_latent(40, torch.Generator().manual_seed(4))
order = torch.randperm(64, generator=torch.Generator().manual_seed(5))
counts = (4, 6, 8, 10, 12, 16, 24, 32, 48, 64)
spread, determined = [], []
for count in counts:
    seen = torch.zeros(64, dtype=torch.bool).index_fill(0, order[:count], True)
    near = ci.local_geometry(G, latents, measurement=seen)
    spread.append(near.smallest.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).clamp(min=1e-6))
    determined.append(int(near.determined.sum()))
print("pixels seen:", counts)
print("determined of 40:", determined)
assert determined[0] == 0 and determined[-1] == 40

low, middle, high = torch.stack(spread).T
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.fill_between(counts, low, high, color="#56b4e9", alpha=0.5, label="80 % of 40 latents")
ax.loglog(counts, middle, "o-", color="#0072b2", label="median")
ax.axvline(8, color="#d55e00", linestyle="--", label="as many pixels as latents")
ax.set_xticks(counts, [str(count) for count in counts])
ax.minorticks_off()
ax.set_xlabel("pixels seen, of 64")
ax.set_ylabel("smallest singular value\n(signal / latent units; 1e-6: 0)")
ax.legend()
fig.set_label(
    "Smallest singular value against the number of pixels seen: zero below eight pixels, as many as there are "
    "latents, growing from there to all 64."
)
