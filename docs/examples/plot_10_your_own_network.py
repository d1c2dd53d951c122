"""
A network of your own, and its file
===================================

A generator is an ``nn.Module``, a file pair or an ONNX file. This one has transposed convolutions and a tanh, as GANs
do. It is read, inverted, written to a file pair, read again, and inverted through any pictures that it makes.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import cvxinv as ci

torch.manual_seed(0)
net = nn.Sequential(
    nn.Linear(6, 8 * 4 * 4),
    nn.ReLU(),
    nn.Unflatten(1, (8, 4, 4)),
    nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
    nn.ReLU(),
    nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1),
    nn.Tanh(),
).eval()
with torch.no_grad():
    for part in (net[3], net[5]):
        part.weight *= 3  # an untrained network is nearly constant; this makes its pictures differ
G = ci.load_generator(net)
print(G)

# %%
# The same network from a file
# ----------------------------
# ``my-net.safetensors`` and ``my-net.json``, nothing that could run code.

with tempfile.TemporaryDirectory() as folder:
    ci.save_generator(G, Path(folder) / "my-net")
    again = ci.load_generator(Path(folder) / "my-net")
z = G.sample_latent(5, torch.Generator().manual_seed(1))
assert torch.equal(again(z), G(z))

# %%
# Inverted from float32 pictures
# ------------------------------

pictures = net(z.float()).detach()  # (5, 1, 16, 16), float32, as the module makes them
result = ci.invert(again, pictures, truth=z, on_fail="ignore")
print(result.verdict.counts())
for note in result.notes:
    print("note:", note)
print("relative error of z:", [f"{e:.0e}" for e in ((result.z - z).norm(dim=1) / z.norm(dim=1)).tolist()])
assert result.verdict.explained.sum() >= 4

rows = {"given": pictures, "found": result.signal}
fig, panels = plt.subplots(2, 5, figsize=(8, 3.4), layout="constrained")
for line, (name, images) in zip(panels, rows.items(), strict=True):
    for i, (panel, image) in enumerate(zip(line, np.asarray(images).reshape(5, 16, 16), strict=True)):
        panel.imshow(image, cmap="gray", vmin=-1, vmax=1)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_ylabel(name if i == 0 else "")
        panel.set_xlabel(f"signal {i}" if name == "found" else "")
fig.set_label(
    "Two rows of five abstract pictures of 16 by 16 pixels: those given, and those of the latents found, which look "
    "the same."
)
