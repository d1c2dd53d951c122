"""
Fill in hidden pixels
=====================

Nearly half of the pixels are hidden. A mask says which were seen; what the hidden ones hold does not matter, it may be
NaN.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import cvxinv as ci
from cvxinv.command.demo import load_shipped

G, _, _ = load_shipped()
z = G.sample_latent(6, torch.Generator().manual_seed(2))
x = G(z)
seen = torch.rand(6, 64, generator=torch.Generator().manual_seed(3)) > 0.45  # True where seen
y = torch.where(seen, x, torch.nan)

result = ci.invert(G, y, measurement=seen, truth=z)
print(result)

# %%
# What was hidden comes back
# --------------------------
# ``explained`` speaks of the seen pixels. That the hidden ones are right follows where z is ``determined``: then no
# other latent near it gives the same seen pixels.

print("determined:", result.determined.tolist())
print(f"largest error of a hidden pixel: {float((result.signal - x)[~seen].abs().max()):.0e}, signal units")
assert result.verdict.explained.all()
assert (result.signal - x).abs().max() < 1e-6

rows = {"true": x, "seen": y, "found": result.signal}
fig, panels = plt.subplots(3, 6, figsize=(8, 4.2), layout="constrained")
grey = plt.get_cmap("gray").with_extremes(bad="#d55e00")
for line, (name, images) in zip(panels, rows.items(), strict=True):
    for i, (panel, image) in enumerate(zip(line, np.asarray(images).reshape(6, 8, 8), strict=True)):
        panel.imshow(image, cmap=grey, vmin=float(x.min()), vmax=float(x.max()))
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_ylabel(name if i == 0 else "")
        panel.set_xlabel(f"signal {i}" if name == "found" else "")
fig.suptitle("orange: hidden")
fig.set_label(
    "Three rows of six digits: the true ones, the same with nearly half of the pixels hidden in orange, and those found."
)
