"""
A generator from an ONNX file
=============================

Keras, JAX, MATLAB and torch all write ONNX. ``load_generator`` reads such a file (``pip install onnx``), compares what it
read with the file's own nodes, and with onnxruntime where that is installed. What can be read:
`the formats <../format.html>`_.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

import cvxinv as ci

# %%
# A file as another program writes it
# -----------------------------------
# Two layers in float32, with a LeakyReLU between; a signal is a wave of 40 samples. The first axis counts signals.

draw = np.random.default_rng(0)
waves = np.sin(np.outer(np.arange(40) / 40, np.arange(1, 25)) * np.pi)  # (40, 24): 24 tones
arrays = {"W0": draw.standard_normal((24, 4)), "b0": 0.3 * draw.standard_normal(24), "W1": 0.4 * waves, "b1": np.zeros(40)}
nodes = [
    helper.make_node("Gemm", ["z", "W0", "b0"], ["u"], transB=1),
    helper.make_node("LeakyRelu", ["u"], ["h"], alpha=0.2),
    helper.make_node("Gemm", ["h", "W1", "b1"], ["x"], transB=1),
]
graph = helper.make_graph(
    nodes,
    "waves",
    [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4])],
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 40])],
    [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

# %%
# Read and inverted
# -----------------
# Half of the samples are hidden, and the others are noisy.

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "waves.onnx"
    onnx.save(model, path)
    G = ci.load_generator(path)
print(G)

z = G.sample_latent(3, torch.Generator().manual_seed(1))
seen = torch.rand(3, 40, generator=torch.Generator().manual_seed(2)) > 0.5
y = G(z) + 0.2 * torch.randn(3, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
result = ci.invert(G, y, measurement=seen, noise="auto", truth=z)
print(result.verdict.counts(), "relative error of the signals:")
error = (result.signal - G(z)).norm(dim=1) / G(z).norm(dim=1)
print([f"{e:.3f}" for e in error.tolist()])
assert (error < 0.2).all()

fig, panels = plt.subplots(3, 1, figsize=(7, 5), sharex=True, layout="constrained")
for i, panel in enumerate(panels):
    panel.plot(G(z)[i], color="#d55e00", linestyle="--", label="the wave, without noise")
    panel.plot(result.signal[i], color="#0072b2", label="the signal of the latent found")
    panel.plot(torch.where(seen[i], y[i], torch.nan), "o", color="#000000", markersize=4, label="what was seen")
    panel.set_ylabel(f"signal {i}")
fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
panels[-1].set_xlabel("sample")
fig.set_label(
    "Three waves of 40 samples: noisy dots where a sample was seen, and two lines that nearly coincide, the wave without "
    "noise and the signal of the latent found."
)
