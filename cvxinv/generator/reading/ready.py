"""Whether a module computes one fixed function of its latent: eval mode, statistics, finite weights."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from ...inputs import plain_tensor


def check_ready(module: nn.Module) -> None:
    """Raise ValueError unless the module computes one fixed function, TypeError for weights of too few bits."""
    for path, part in module.named_modules():
        where = f"{path or 'module'} ({getattr(part, 'original_name', type(part).__name__)})"
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise ValueError(
                f"expected a batch norm with running statistics, got none in {where}; "
                "build it with track_running_stats=True and train it so"
            )
        if getattr(part, "training", False) and _changes(part):
            raise ValueError(f"expected a module in eval mode, got {where} in training mode; call .eval() first")
    for path, tensor in [*module.named_parameters(), *module.named_buffers()]:
        check_weights(tensor, path)


def check_weights(tensor: Tensor, path: str) -> None:
    """Raise ValueError for weights that are not there or not finite, TypeError for those of too few bits."""
    if torch.nn.parameter.is_lazy(tensor):
        raise ValueError(f"expected initialised weights, got a lazy {path}; run the module once on a latent")
    plain = plain_tensor(tensor, path)  # refuses complex, sparse and quantised ones
    if plain.is_meta:
        raise ValueError(f"expected weights with numbers in them, got {path} on meta; load the weights first")
    if plain.is_floating_point() and plain.dtype.itemsize < 2:
        raise TypeError(f"expected weights of at least 16 bits, got {path} in {plain.dtype}; pass module.float()")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise ValueError(f"expected finite weights, got NaN or infinite entries in {path}; retrain the module")


def _changes(part: nn.Module) -> bool:
    """Whether it computes something else in training mode."""
    if isinstance(part, _InstanceNorm):
        return part.track_running_stats
    if isinstance(part, torch.jit.ScriptModule):
        return "Norm" in part.original_name or "Dropout" in part.original_name
    named = {type(hook).__name__ for hook in vars(part).get("_forward_pre_hooks", {}).values()}
    named |= {type(norm).__name__ for norms in getattr(part, "parametrizations", {}).values() for norm in norms}
    return isinstance(part, _BatchNorm | _DropoutNd) or not named.isdisjoint({"SpectralNorm", "_SpectralNorm"})
