"""How much a batch may take at once: what each caller finds sensible on the CPU, a share of what is free on a device."""

import torch

_SHARE = 0.4  # of the free memory: products and factorisations make copies of what they are counted for


def room(device: torch.device, on_cpu: int) -> int:
    """Bytes of work space on `device`; `on_cpu` on the CPU, where more would only leave the caches.

    On a device small chunks cost as many kernels each as a large one, so that all that fits goes at once.
    """
    if device.type != "cuda":
        return on_cpu
    free, _ = torch.cuda.mem_get_info(device)
    # what torch has taken from the driver and does not use is free too
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(_SHARE * (free + kept))
