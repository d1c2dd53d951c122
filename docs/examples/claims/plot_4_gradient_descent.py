"""
Gradient descent fails, not utterly
===================================

Layered methods are introduced by the failure of gradient descent: on the source's trained network it often
fails.
How often depends on the network, on the step and on the start. One latent, where everything can be seen; then digits.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import cvxinv as ci
from cvxinv.command.demo import load_shipped

net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).double().eval()
with torch.no_grad():
    net[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    net[2].weight.copy_(torch.tensor([[1.0, 1.0], [0.3, -0.3]]))  # G(z) = (|z|, 0.3 z)
G = ci.load_generator(net)

truth = torch.tensor([[2.0]], dtype=torch.float64)
y = G(truth)
starts = torch.linspace(-4, 4, 81, dtype=torch.float64)[:, None]
found = ci.invert(G, y.expand(81, 2), ci.GradientDescent(z0=starts, restarts=0), on_fail="ignore")
right = (found.z[:, 0] - 2).abs() < 1e-6
other = float(found.z[~right].mean())
print(f"gradient descent from 81 starts in [-4, 4]: {int(right.sum())} end at z = 2, the others at {other:.3f}")
assert 0 < int(right.sum()) < 81

# %%
# Digits
# ------
# The shipped generator, 40 signals of its own; one random start each.

D, _, _ = load_shipped()
z = D.sample_latent(40, torch.Generator().manual_seed(3))
rows = {}
for name, method in {
    "gradient descent": ci.GradientDescent(max_iter=2000, restarts=1),
    "Levenberg-Marquardt": ci.LevenbergMarquardt(restarts=1),
    "layers (latent pursuit)": ci.LatentPursuit(),
}.items():
    result = ci.invert(D, D(z), method, on_fail="ignore")
    rows[name] = int(((result.z - z).norm(dim=1) < 1e-4 * z.norm(dim=1)).sum())
    print(f"{name}: {rows[name]} of 40 latents found to 1e-4")

# %%

line = torch.linspace(-4, 4, 801, dtype=torch.float64)[:, None]
misfit = (G(line).detach() - y).norm(dim=1)
fig, (left, panel) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(line[:, 0], misfit, color="#0072b2", label="misfit")
left.plot(starts[right, 0], torch.zeros(int(right.sum())), "|", color="#009e73", label="starts that end at z = 2")
left.plot(
    starts[~right, 0], torch.zeros(int((~right).sum())), "x", color="#d55e00", markersize=4, label="starts that do not"
)
left.set_xlabel("z (latent units)")
left.set_ylabel("|G(z) - y| (signal units)")
left.legend()
panel.barh(list(rows), list(rows.values()), color=["#d55e00", "#e69f00", "#0072b2"], label="of 40 digits")
panel.set_xlabel("latents found")
panel.set_xlim(0, 40)
panel.legend(loc="lower right")
fig.set_label(
    "Left: the misfit over one latent has two valleys; starts in the one end at the true latent, starts in the other "
    "do not. Right: how many of 40 digits each method finds."
)
