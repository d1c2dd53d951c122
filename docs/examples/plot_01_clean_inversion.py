"""
Invert signals of a generator
=============================

The shipped generator makes 8x8 digits from eight latents. Signals that it made come back as their latents, and each
layer of the way is a convex problem with a certificate.
"""

import matplotlib.pyplot as plt
import torch

import cvxinv as ci
from cvxinv.command.demo import load_shipped

G, _, _ = load_shipped()
z = G.sample_latent(6, torch.Generator().manual_seed(0))  # (6, 8)
x = G(z)  # (6, 64)

result = ci.invert(G, x, "latent_pursuit", truth=z)
print(result)

# %%
# What each layer proved
# ----------------------
# The walk begins at the image. A layer is ``optimal`` where objective minus a lower bound is within what is allowed.

for layer in result.layers:
    c = layer.solution.certificate
    print(f"layer {layer.index}: {layer.kind}, {c.counts()}, gap {float(c.gap.max()):.0e}")
    print(f"    allowed {float(c.allowed_gap.min()):.0e}, units of the objective (signal squared)")

# %%
# The latents, side by side
# -------------------------

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.imshow(
    torch.cat([x[:6].reshape(6, 8, 8), result.signal[:6].reshape(6, 8, 8)], dim=1).permute(1, 0, 2).reshape(16, 48),
    cmap="gray",
)
left.set_xticks([8 * i + 3.5 for i in range(6)], [f"{i}" for i in range(6)])
left.set_yticks([3.5, 11.5], ["given", "found"])
left.set_xlabel("signal")
right.plot(z.flatten(), result.z.flatten(), "o", color="#0072b2", label="a coordinate of z")
right.axline((0, 0), slope=1, color="#d55e00", linestyle="--", label="found = true")
right.set_xlabel("true latent (latent units)")
right.set_ylabel("found latent (latent units)")
right.legend()
fig.set_label(
    "Left: six 8x8 digits as given above, as found below, alike. Right: 48 coordinates of found latents against "
    "true ones, all on the diagonal."
)
error = (result.z - z).norm(dim=1) / z.norm(dim=1)
print(f"largest relative error of z: {float(error.max()):.0e}")
assert error.max() < 1e-6
