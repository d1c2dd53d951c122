"""A measurement of the user's own, tried on random signals: what is not what its class promises is refused by name."""

import torch
from torch import Tensor

from ..generator.maps import Dense
from ..inputs import describe as _kind
from .abstract import AbstractMeasurement


def check_sizes(seeing: AbstractMeasurement) -> None:
    """Raises ValueError where the sizes that it says are no sizes."""
    for word, size in (("length", seeing.length), ("width", seeing.width)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"expected {word} of {type(seeing).__name__} as an integer >= 1, got {size!r}; "
                "say how many entries y has per signal (length), and a signal (width)"
            )


def try_out(seeing: AbstractMeasurement, N: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raises ValueError where a measurement of the user's own is not what its class promises, on random signals."""
    draw, d, k = torch.Generator().manual_seed(0), seeing.width, seeing.length
    some, other = (torch.randn(min(N, 8), d, generator=draw, dtype=dtype, device="cpu").to(device) for _ in range(2))
    index = torch.arange(N, device=device)
    x, index = some[index % 8], index.flip(0)[:3]
    y, seen = seeing.observe(x), seeing.seen(N)
    _expect(seeing, f"observe of signals ({N}, {d})", y, (N, k), dtype, device)
    _expect(seeing, f"seen({N})", seen, (N, k), torch.bool, seen.device if isinstance(seen, Tensor) else device)
    seen = seen.to(device)
    _agree(seeing, "observe to give 0 where seen says False", y, torch.where(seen, y, 0.0), "keep the two together")
    if seeing.pixelwise:
        _expect(seeing, "observe, pixelwise,", y, (N, d), dtype, device)
        cure = "leave pixelwise at False where it changes or mixes entries"
        _agree(seeing, "observe to leave the entries as they are, as pixelwise says", y, torch.where(seen, x, 0.0), cure)
    few, another, part = x[index], other[: len(index)], seeing.take(index)
    what, cure = "take to keep each signal's own measurement", "declare what differs with per_signal, or write take(index)"
    seen_few = part.observe(few)
    _expect(seeing, f"observe of signals ({len(few)}, {d})", seen_few, (len(few), k), dtype, device)
    _agree(seeing, what, seen_few, y[index], cure)
    if not torch.equal(part.seen(len(few)).to(device), seen[index]):
        raise ValueError(f"expected {what} in {type(seeing).__name__}, got other entries seen; {cure}")
    cure = "only linear measurements can be inverted; move an offset or a clipping into y"
    mixed = 2 * seen_few - 3 * part.observe(another)
    _agree(seeing, "observe to be linear", part.observe(2 * few - 3 * another), mixed, cure)
    pushed = part.push(torch.stack([few, another], 2))
    _expect(seeing, "push", pushed, (len(few), k, 2), dtype, device)
    _agree(seeing, "push to observe each column", pushed[..., 0], y[index], "write push as observe, or leave it out")
    r = part.adjoint(seen_few)
    _expect(seeing, "adjoint", r, (len(few), d), dtype, device)
    products = (r * few).sum(1, keepdim=True), seen_few.square().sum(1, keepdim=True)
    _agree(seeing, "adjoint to be the transpose of observe", *products, "write adjoint as that, or leave it out")
    _try_rows(seeing, few[:1], seen_few[:1], seen[index[:1]])


def _try_rows(seeing: AbstractMeasurement, x: Tensor, y: Tensor, seen: Tensor) -> None:
    """Raises ValueError where `through` or `matrix` is not what observe says of one signal x, y of what is `seen`."""
    found, cure = seeing.through(Dense(x.T), x[0] / 2), "correct it, or leave it out"
    if found is not None:
        rows = found[0](x.new_ones(1, 1) / 2) + found[1]
        _expect(seeing, "through", rows, tuple(y.shape), x.dtype, x.device)
        _agree(seeing, "through to give the rows of what is seen", torch.where(seen, rows, 0.0), y, cure)
    if type(seeing).matrix is not AbstractMeasurement.matrix:
        A = seeing.matrix(x.dtype, x.device)
        if A is not None:
            _expect(seeing, "matrix", A, (seeing.length, seeing.width), x.dtype, x.device)
            _agree(seeing, "matrix to be that of observe", x @ A.T, y, cure)


def _expect(
    seeing: AbstractMeasurement, what: str, got: object, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    if not isinstance(got, Tensor) or got.shape != shape or got.dtype != dtype or got.device != device:
        raise ValueError(
            f"expected {what} in {type(seeing).__name__} to give {dtype} of shape {shape} on {device}, got {_kind(got)}; "
            "correct its class; its tensors follow type and device as fields of a dataclass, or by to(dtype, device)"
        )


def _agree(seeing: AbstractMeasurement, what: str, got: Tensor, expected: Tensor, cure: str) -> None:
    off, size = (got - expected).norm(dim=1), torch.maximum(got.norm(dim=1), expected.norm(dim=1))
    if bool((off <= torch.finfo(got.dtype).eps ** 0.5 * size).all()):  # False for NaN
        return
    worst = int(off.nan_to_num(torch.inf).argmax())
    raise ValueError(
        f"expected {what} in {type(seeing).__name__}, got numbers that are off by {float(off[worst]):.3g} of "
        f"{float(size[worst]):.3g} (signal {worst}); {cure}"
    )
