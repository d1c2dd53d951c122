"""
Uniqueness by sparsity speaks of sparse latents only
====================================================

Theorem 1 of *When and How Can Deep Generative Models be Inverted?* gives conditions on how many hidden units are on,
under which z is the only solution. It is, among latents whose hidden layers are as sparse: another one with more
units on may give the same signal. One latent, three hidden units and two outputs show it.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import cvxinv as ci

net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)).double()
with torch.no_grad():
    net[0].weight.copy_(torch.tensor([[1.0], [-1.0], [-1.0]]))
    net[2].weight.copy_(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]))
G = ci.load_generator(net.eval())

z = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
print("signals:", G(z).tolist())
print("hidden units on:", (torch.relu(z @ net[0].weight.T) > 0).sum(dim=1).tolist())
assert torch.equal(G(z)[0], G(z)[1])

# %%
# The theorem's conditions hold at z = 1
# --------------------------------------
# One unit is on, less than half of the spark of the output's weights, which is 3: any two of its columns are
# independent. The row that is on has rank 1, as many as there are latents.

print(ci.uniqueness_by_sparsity(G, z[:1]))

# %%
# Among all latents z = 1 is not unique
# -------------------------------------
# ``uniqueness`` asks for any other latent and shows one.

found = ci.uniqueness(G, G(z[:1]), z[:1])
print(found)

# %%

line = torch.linspace(-2, 2, 401, dtype=torch.float64)[:, None]
x = G(line).detach()
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(line[:, 0], x[:, 0], color="#0072b2", label="output 1")
left.plot(line[:, 0], x[:, 1], "--", color="#d55e00", label="output 2")
left.axhline(1, color="#666666", linestyle=":", label="the signal (1, 1)")
left.set_xlabel("z (latent units)")
left.set_ylabel("output (signal units)")
left.legend()
hidden = torch.relu(line @ net[0].weight.T.detach())
right.plot(line[:, 0], (hidden > 0).sum(dim=1), color="#009e73", label="hidden units on")
right.axhline(1.5, color="#111111", linestyle="--", label="half the spark")
right.set_xlabel("z (latent units)")
right.set_ylabel("units")
right.legend()
fig.set_label(
    "Left: both outputs are |z|, so that 1 and -1 give the same signal. Right: one unit is on for z > 0, below half "
    "the spark, and two for z < 0, above it."
)

# %%
# What stays true
# ---------------
# Among latents with at most one unit on z = 1 is the only one, as the theorem's proof says; so are the ways to find it
# that look for sparse layers. :func:`cvxinv.uniqueness` answers the question about all latents.
