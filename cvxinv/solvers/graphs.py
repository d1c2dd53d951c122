"""Steps that ask no question as one CUDA graph: all their kernels in one launch.

Only on a GPU, and only where the environment variable CVXINV_CUDA_GRAPHS is 1: it is tested on a device that pretends, which
refuses waits in a graph as CUDA does, and no GPU has run it yet. Everywhere else steps are taken one by one.
"""

import os
from collections.abc import Callable

import torch

from .solver import AbstractSolver

_WORTH = 20  # steps that pay for recording one


def repeat(work: AbstractSolver, step: Callable[[], None], steps: int) -> None:
    """Call `step` so many times. Its whole state is what `work.kept` names, and it must ask for no number of a tensor."""
    device, wanted = work.problem.rows.y.device, os.environ.get("CVXINV_CUDA_GRAPHS") == "1"
    # the prox of an l2 bound looks for a root until it is found
    if not wanted or device.type != "cuda" or steps < _WORTH or work.problem.form == "ball":
        for _ in range(steps):
            step()
        return
    step()  # what a first call sets up may not be part of a graph
    held = {name: getattr(work, name).clone() for name in work.kept}
    vars(work).update(held)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph):
        step()
        made = [getattr(work, name).clone() for name in held]  # a step may hand one tensor on as another
        for old, new in zip(held.values(), made, strict=True):
            old.copy_(new)
    vars(work).update(held)
    for _ in range(steps - 2):
        graph.replay()
    step()  # whatever else it leaves behind belongs to no graph
