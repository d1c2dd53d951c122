"""
Blurred pictures
================

A measurement need not show pixels: here each number is a mean of three by three pixels, on every second pixel only.
``Convolution`` is one of several operators; a function with its adjoint, or a class of your own, does as well.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import cvxinv as ci
from cvxinv.command.demo import load_shipped

G, _, _ = load_shipped()
z = G.sample_latent(5, torch.Generator().manual_seed(7))
x = G(z)
blur = ci.Convolution(torch.full((3, 3), 1 / 9, dtype=torch.float64), (8, 8), boundary="reflect", stride=2)
y = blur.observe(x)  # 16 numbers in place of 64
print(f"{y.shape[1]} numbers of each picture for {G.latent_dim} latents")

result = ci.invert(G, y, measurement=blur, truth=z, on_fail="ignore")
print(result.verdict.counts())
print(result.explain(0, generator=G))

# %%
# From sixteen numbers to a picture
# ---------------------------------

error = (result.signal - x).norm(dim=1) / x.norm(dim=1)
print("relative error of each picture:", [f"{e:.0e}" for e in error.tolist()])
assert (error < 1e-6).sum() >= 4

rows = {"true": (x, 8), "seen": (y, 4), "found": (result.signal, 8)}
fig, panels = plt.subplots(3, 5, figsize=(7, 4.4), layout="constrained")
for line, (name, (images, side)) in zip(panels, rows.items(), strict=True):
    for i, (panel, image) in enumerate(zip(line, np.asarray(images).reshape(5, side, side), strict=True)):
        panel.imshow(image, cmap="gray")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_ylabel(name if i == 0 else "")
        panel.set_xlabel(f"signal {i}" if name == "found" else "")
fig.set_label(
    "Three rows of five pictures: true digits of 8 by 8 pixels, their blurred form of 4 by 4, and the digits found "
    "from these."
)
