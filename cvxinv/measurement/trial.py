"""A measurement of the user's own, tried on random signals: what is not what its class promises is refused by name."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..generator.maps import Dense
from ..inputs import describe as _kind
from .abstract import AbstractMeasurement

_Function = Callable[[Tensor], Tensor]
_TRIED, _DOT = 3, 1e-8  # random vectors, and what rounding in float64 may leave
_NEAR = 1e-2  # of the largest: how far differences may be from a derivative
_CURE = (
    "functions take and give torch batches (N, ...) in the type and on the device that they are given, with constants moved "
    "by .to(x); those of one signal become such by torch.vmap(f), those of numpy a measurement as "
    "scipy.sparse.linalg.LinearOperator((k, d), matvec=..., rmatvec=...)"
)


def check_sizes(seeing: AbstractMeasurement) -> None:
    """Raises ValueError where the sizes that it says are no sizes."""
    for word, size in (("length", seeing.length), ("width", seeing.width)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"expected {word} of {type(seeing).__name__} as an integer >= 1, got {size!r}; "
                "say how many entries y has per signal (length), and a signal (width)"
            )


def try_pair(forward: _Function, adjoint: _Function, k: int, device: torch.device, d: int | None = None) -> int:
    """Try a linear map and its transpose on random vectors in float64, `k` numbers of what is measured; returns d.

    Raises ValueError where a function does not take or give batches, changes what it is given, is not linear, or where
    |<A x, r> - <x, A' r>| exceeds 1e-8 (|A x| |r| + |x| |A' r|); it says by how much.
    """
    draw = torch.Generator().manual_seed(0)
    r = torch.randn(_TRIED, k, generator=draw, dtype=torch.float64, device="cpu").to(device)
    back = _called(adjoint, "adjoint", r, d)
    d = back.shape[1]
    x = torch.randn(_TRIED, d, generator=draw, dtype=torch.float64, device="cpu").to(device)
    y = _called(forward, "forward", x, k)
    for word, function, given, made in (("forward", forward, x, y), ("adjoint", adjoint, r, back)):
        mixed = _called(function, word, 2 * given[:1] - 3 * given[1:2], made.shape[1])
        _close(word, mixed, 2 * made[:1] - 3 * made[1:2])
    _check_dot(y, r, x, back)
    if not y.any():
        raise ValueError("expected forward to measure something, got zeros for random signals; correct it")
    return d


def _called(function: _Function, word: str, given: Tensor, size: int | None) -> Tensor:
    """What a function gives for a batch, if it is a batch of its type, on its device, of `size` numbers each."""
    kept, wanted = given.clone(), f"({len(given)}, {'d' if size is None else size})"
    try:
        got = function(given)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
        raise ValueError(
            f"expected {word} to take a batch {tuple(given.shape)} of {given.dtype} on {given.device}, got "
            f"{type(error).__name__}: {error}; {_CURE}"
        ) from error
    fits = isinstance(got, Tensor) and got.ndim == 2 and len(got) == len(given) and size in (None, got.shape[1])
    if not fits or (got.dtype, got.device) != (given.dtype, given.device) or not got.numel():
        raise ValueError(
            f"expected {word} of a batch {tuple(given.shape)} as a tensor {wanted} of {given.dtype} on {given.device}, got "
            f"{_kind(got)}; {_CURE}"
        )
    if not torch.equal(given, kept):
        raise ValueError(f"expected {word} to leave its input as it is, got it changed; compute on a copy, x.clone()")
    if not torch.isfinite(got).all():
        raise ValueError(f"expected {word} to give finite numbers, got NaN or inf; correct it")
    return got.detach()


def _close(word: str, got: Tensor, expected: Tensor) -> None:
    off, size = float((got - expected).norm()), float(torch.maximum(got.norm(), expected.norm()))
    if off > _DOT * size:
        raise ValueError(
            f"expected {word} to be linear, each signal for itself, got it off by {off / size:.1e} of its length; "
            "only linear measurements can be inverted, move an offset or a clipping into y"
        )


def _check_dot(y: Tensor, r: Tensor, x: Tensor, back: Tensor) -> None:
    left, right = (y * r).sum(1), (x * back).sum(1)
    off = (left - right).abs() / (y.norm(dim=1) * r.norm(dim=1) + x.norm(dim=1) * back.norm(dim=1))
    worst = int(off.argmax())
    if float(off[worst]) > _DOT:
        raise ValueError(
            f"expected adjoint to be the transpose of forward, got <A x, r> = {float(left[worst]):.6g} and <x, A' r> = "
            f"{float(right[worst]):.6g} for random x and r, off by {float(off[worst]):.1e} of |A x| |r| + |x| |A' r|; "
            "correct the adjoint, or leave it to autograd in a class of your own (AbstractMeasurement)"
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
    if not seeing.linear:
        _try_slope(seeing, x)
        seeing = seeing.at(x)
        y, part = seeing.observe(x), seeing.take(index)
        seen_few = part.observe(few)
        _expect(seeing, f"observe of signals ({len(few)}, {d})", seen_few, (len(few), k), dtype, device)
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


def _try_slope(seeing: AbstractMeasurement, x: Tensor) -> None:
    """Raises ValueError where `at` of one that is not linear is not its derivative, by differences next to x."""
    step = torch.finfo(x.dtype).eps ** (1 / 3)
    v = x.flip(0) + x.roll(1, -1)
    moved = (seeing.observe(x + step * v) - seeing.observe(x - step * v)) / (2 * step)
    off = (moved - seeing.at(x).observe(v)).abs()
    # beside a kink a difference is none of the derivative
    if bool((off.median(1).values <= _NEAR * moved.abs().amax(1)).all()):
        return
    raise ValueError(
        f"expected at(x) of {type(seeing).__name__} to be the derivative of its observe at x, got another one; correct it"
    )


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
