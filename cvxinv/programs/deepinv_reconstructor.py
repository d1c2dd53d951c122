"""A generator as a reconstructor of deepinv: measurements y of a linear physics to pictures G(z) by `invert`.

    y = A x + e,    x_hat = G(z),    z = argmin |A G(z) - y|    for each picture

A and A' are the physics' own, made float64, and tried before they are used (`Operator`). A physics that shows or hides
entries is a mask. Where a physics belongs to single pictures (as a mask for each does), these are inverted one by one.
"""

import copy
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BackendNotInstalledError
from ..generator.abstract import AbstractGenerator
from ..inputs import describe
from ..inversion.invert import invert
from ..inversion.method import AbstractMethod
from ..inversion.result import Inversion
from ..measurement.abstract import AbstractMeasurement
from ..measurement.entries import Mask
from ..measurement.functions import Operator

try:
    from deepinv.models import Reconstructor
    from deepinv.physics import GaussianNoise, LinearPhysics, ZeroNoise
except ImportError as error:
    raise BackendNotInstalledError(
        "GeneratorReconstructor needs deepinv, which is not installed: pip install deepinv"
    ) from error

PHYSICS = "physics"


class GeneratorReconstructor(Reconstructor):
    """`model(y, physics)`: the pictures `(B, C, H, W)` of a generator that explain measurements y of a linear physics.

    generator: from `load_generator`. img_size: shape (C, H, W) of its pictures, where its signals are flat or of another
    shape. method, prior and options (seed, chunk, on_fail, ... and those of the method): as for `invert`. noise: as for
    `invert`, or "physics", the level that the physics states by its noise model. Pictures are of y's type, on its device,
    and no gradients go back. `result`: the `Inversion` of the last call, a list of them where physics differ from picture to
    picture.

    Raises BackendNotInstalledError without deepinv; TypeError or ValueError for what does not fit, before any arithmetic.
    """

    def __init__(
        self,
        generator: AbstractGenerator,
        method: str | AbstractMethod = "hybrid",
        *,
        img_size: Sequence[int] | None = None,
        noise: object = PHYSICS,
        prior: object = None,
        **options: Any,
    ) -> None:
        super().__init__(device="cpu")
        if not isinstance(generator, AbstractGenerator):
            raise TypeError(
                f"expected a Generator, got {describe(generator)}; read it with cvxinv.load_generator(...) first"
            )
        shape = tuple(generator.signal_shape if img_size is None else img_size)
        if prod(shape) != generator.signal_dim:
            raise ValueError(
                f"expected img_size of {generator.signal_dim} numbers, as many as a signal has, got {shape}; pass (C, H, W)"
            )
        self.generator, self.img_size = generator, shape
        self.method, self.noise, self.prior, self.options = method, noise, prior, options
        self.result: Inversion | list[Inversion] | None = None

    def forward(self, y: Any, physics: Any, **kwargs: Any) -> Tensor:
        """The pictures `(B, *img_size)` of measurements y `(B, ...)`, a tensor or deepinv's TensorList."""
        if not isinstance(physics, LinearPhysics):
            raise TypeError(
                f"expected a LinearPhysics of deepinv, got {describe(physics)}; only linear ones can be inverted"
            )
        noise = _noise(physics) if isinstance(self.noise, str) and self.noise == PHYSICS else self.noise
        flat, shapes = _flattened(y)
        G = self.generator.to(device=flat.device)
        exact, like = _exact(physics, flat.device), type(y)
        seeing = [_measurement(exact, self.img_size, shapes, like, len(flat), flat.device)]
        if seeing[0] is None:
            parts = [_of_one(exact, i, len(flat)) for i in range(len(flat))]
            seeing = [_measurement(part, self.img_size, shapes, like, 1, flat.device) for part in parts]
        blocks = flat.to(G.dtype).split(len(flat) if len(seeing) == 1 else 1)
        found = [
            invert(
                G, block, self.method, measurement=A, noise=_taken(noise, i, len(seeing)), prior=self.prior, **self.options
            )
            for i, (block, A) in enumerate(zip(blocks, seeing, strict=True))
        ]
        self.result = found[0] if len(found) == 1 else found
        return torch.cat([R.signal for R in found]).reshape(-1, *self.img_size).to(flat.dtype)


def _noise(physics: LinearPhysics) -> object:
    """What the noise model of a physics says, as `invert` takes it."""
    model = physics.noise_model
    if isinstance(model, ZeroNoise):
        return None
    if not isinstance(model, GaussianNoise):
        raise ValueError(
            f"expected a physics with GaussianNoise or without noise, got {type(model).__name__}; say what is known, as "
            'noise="auto" or noise=("l2", bound), where the reconstructor is made'
        )
    sigma = torch.as_tensor(model.sigma).double().reshape(-1)
    if not sigma.any():
        return None
    return ("gaussian", float(sigma[0]) if len(sigma) == 1 else sigma)


def _taken(noise: object, i: int, blocks: int) -> object:
    """The noise of block i: of one picture where there are several blocks."""
    if blocks == 1 or not isinstance(noise, tuple) or not isinstance(noise[1], Tensor) or noise[1].ndim == 0:
        return noise
    return (noise[0], noise[1][i : i + 1])


def _flattened(y: Any) -> tuple[Tensor, list[tuple[int, ...]]]:
    """Measurements as `(B, k)`, and the shapes of their parts without the batch axis: of one, or of a TensorList."""
    parts = [y] if isinstance(y, Tensor) else list(y)
    if not parts or not all(isinstance(part, Tensor) and part.ndim > 1 and not part.is_complex() for part in parts):
        raise TypeError(
            f"expected y as real measurements (B, ...), got {', '.join(map(describe, parts)) or describe(y)}; "
            "state complex ones by their real and imaginary parts"
        )
    return torch.cat([part.detach().flatten(1) for part in parts], 1), [tuple(part.shape[1:]) for part in parts]


def _functions(
    physics: LinearPhysics, shape: tuple[int, ...], shapes: list[tuple[int, ...]], like: Any
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """A and its transpose on flat batches, computed in float64."""

    def forward(x: Tensor) -> Tensor:
        return _flattened(physics.A(x.double().reshape(-1, *shape)))[0].to(x.dtype)

    def adjoint(r: Tensor) -> Tensor:
        parts = r.double().split([prod(s) for s in shapes], 1)
        parts = [part.reshape(-1, *s) for part, s in zip(parts, shapes, strict=True)]
        return physics.A_adjoint(like(parts) if not issubclass(like, Tensor) else parts[0]).flatten(1).to(r.dtype)

    return forward, adjoint


def _measurement(
    physics: LinearPhysics, shape: tuple[int, ...], shapes: list[tuple[int, ...]], like: Any, N: int, device: torch.device
) -> AbstractMeasurement | None:
    """What a physics sees of flat signals; None where it belongs to single ones of several. Raises ValueError."""
    forward, adjoint = _functions(physics, shape, shapes, like)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(N, prod(shape), generator=draw, dtype=torch.float64, device="cpu").to(device)
    y, k = forward(x), sum(map(prod, shapes))
    if y.shape != (N, k):
        raise ValueError(
            f"expected y of {y.shape[1]} numbers for each of the pictures {shape}, as the physics gives, got {k}; pass "
            "img_size=(C, H, W) where it is another, or the physics that made y"
        )
    mask = forward(torch.ones_like(x))
    if k == prod(shape) and bool(((mask == 0) | (mask == 1)).all()) and torch.equal(mask * x, y):
        return Mask(mask != 0)
    turned = forward(x.flip(0)).flip(0)
    if not torch.allclose(turned, y, rtol=1e-9, atol=1e-9 * float(y.abs().max())):
        return None  # the place in the batch counts
    return Operator(forward, adjoint, k, device)


def _exact(physics: LinearPhysics, device: torch.device) -> LinearPhysics:
    """A copy in float64, complex numbers in complex128."""
    exact = copy.deepcopy(physics)
    for module in _parts(exact):
        module.to(device=device).double()
        for name, value in module.named_buffers(recurse=False):
            if value.is_complex():
                setattr(module, name, value.to(torch.complex128))
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.dtype):  # some keep the type that they compute in beside their buffers
                setattr(module, name, {torch.float32: torch.float64, torch.complex64: torch.complex128}.get(value, value))
    return exact


def _of_one(physics: LinearPhysics, i: int, N: int) -> LinearPhysics:
    """A copy with the i-th of everything that it holds N of."""
    one = copy.deepcopy(physics)
    for module in _parts(one):
        for name, value in module.named_buffers(recurse=False):
            if value.ndim > 1 and len(value) == N:
                setattr(module, name, value[i : i + 1])
    return one


def _parts(physics: nn.Module) -> list[nn.Module]:
    """All modules of a physics, also those that stacked ones keep in lists, where torch does not see them."""
    found = []
    for module in physics.modules():
        kept = [item for value in vars(module).values() if isinstance(value, list) for item in value]
        found += [module, *(part for item in kept if isinstance(item, nn.Module) for part in _parts(item))]
    return found
