"""Steps that are linear maps with weights: products with matrices, convolutions, and small maps found by running them."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from ... import ops
from ..cells import MixedError
from .call import CHAIN, Call, RefusedError, saying
from .elementwise import diagonal

_ENTRIES = 4_000_000  # a map that is found by running it may have this many


@saying("mm", "matmul")
def mm(call: Call) -> None:
    """h W, or W h where the signals are columns."""
    left, right = call.get(0, "self"), call.get(1, "mat2")
    _product(call, left, right, call.out, None)


@saying("addmm")
def addmm(call: Call) -> None:
    """beta b + alpha h W."""
    bias, left, right = call.get(0, "self"), call.get(1, "mat1"), call.get(2, "mat2")
    call.fixed(bias)
    alpha, beta = call.get(4, "alpha", 1), call.get(3, "beta", 1)
    _product(call, left, right, call.out, beta * bias.double(), alpha)


@saying("mv")
def mv(call: Call) -> None:
    """h w, one number per row."""
    t, vector = call.signal_in(), call.get(1, "vec")
    _product(call, t, vector[:, None], call.out[:, None], None)


def _product(call: Call, left: Tensor, right: Tensor, out: Tensor, bias: Tensor | None, alpha: float = 1) -> None:
    """`left` @ `right` + `bias`, where one of the two depends on the latent."""
    if len(call.followed) != 1:
        raise RefusedError("", expected=CHAIN)
    if right is call.followed[0]:
        left, right, out, bias = right.t(), left.t(), out.t(), None if bias is None else bias.expand(out.shape).t()
    signal = call.book.signal(left)
    weight = (alpha * right).t().double().contiguous()
    if signal.lay.axis_of(-1, 2) < 0:
        raise MixedError("along the axis that counts the latents")
    steps: list[ops.AbstractOp] = []
    if bias is not None and not (bias.ndim == 1 or bias.shape[0] == 1):
        laid = signal.lay(bias.expand(out.shape))
        if not torch.equal(laid, laid[:1].expand_as(laid)):
            raise MixedError("on what is not the same for every signal")
        steps, bias = [diagonal(torch.ones_like(laid[0]), laid[0])], None
    vector = None if bias is None else bias.reshape(-1).expand(weight.shape[0]).clone()
    call.finish(signal, [*rowwise(signal.shape, weight, vector), *steps], out=out)


def rowwise(shape: ops.Shape, weight: Tensor, bias: Tensor | None) -> list[ops.AbstractOp]:
    """`weight` on the last axis of a signal of `shape`."""
    rows, after = prod(shape[:-1]), (*shape[:-1], weight.shape[0])
    if rows == 1:
        return [ops.Linear(weight=weight, bias=bias), ops.Reshape(shape=after)]
    flat = [ops.Reshape(shape=(rows, shape[-1]))] if len(shape) != 2 else []
    return [*flat, ops.RowwiseLinear(weight=weight, bias=bias), ops.Reshape(shape=after)]


@saying("bmm")
def bmm(call: Call) -> None:
    """Products in a batch: one matrix for all of them, or a map of its own that is found by running it."""
    left, right = call.get(0, "self"), call.get(1, "mat2")
    if len(call.followed) != 1:
        raise RefusedError("", expected=CHAIN)
    out = call.out
    if right is call.followed[0]:
        left, right, out = right.mT, left.mT, out.mT
    signal = call.book.signal(left)
    if signal.lay.axis < 2 and torch.equal(right, right[:1].expand_as(right)):
        weight = right[0].t().double().contiguous()
        call.finish(signal, rowwise(signal.shape, weight, None), out=out)
    else:
        found(call)


# --- convolutions ---------------------------------------------------------------------------------


@saying("convolution", "_convolution", "convolution_overrideable")
def convolution(call: Call) -> None:
    """Convolutions over one, two or three axes, and their transposes."""
    t, weight, bias = call.signal_in(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    call.fixed(weight, bias)
    stride, padding, dilation = (list(call.args[i]) for i in (3, 4, 5))
    transposed, output_padding, groups = call.args[6], list(call.args[7]), call.args[8]
    signal = call.read(t, plain=True)
    axes = weight.ndim - 2
    if len(signal.shape) != axes + 1:
        raise MixedError(f"on a signal of shape {signal.shape}")
    said = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": output_padding}
    weight, usual = weight.detach().double(), {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}
    before, after = signal.shape, tuple(call.out.shape[1:])
    steps: list[ops.AbstractOp] = []
    if axes == 1:
        said = {name: [usual[name], *values] for name, values in said.items()}
        weight = weight[:, :, None]
        steps.append(ops.Reshape(shape=(before[0], 1, before[1])))
    numbers: dict[str, Any] = {name: tuple(values) for name, values in said.items()}
    kinds = (ops.Convolution3d, ops.TransposedConvolution3d) if axes == 3 else (ops.Convolution, ops.TransposedConvolution)
    kind = kinds[bool(transposed)]
    steps.append(
        kind(weight=weight.clone(), bias=None if bias is None else bias.detach().double().clone(), groups=groups, **numbers)
    )
    steps += [ops.Reshape(shape=after)] if axes == 1 else []
    call.finish(signal, steps)


# --- small maps -----------------------------------------------------------------------------------


@saying("mean", "sum", "cumsum", "avg_pool3d", "_adaptive_avg_pool3d", "baddbmm", "tril", "triu", "diff", "dot", "col2im")
def found(call: Call) -> None:
    """A linear map that is found by running it on unit signals, as a matrix, where that is small."""
    t = call.followed[0]
    if len(call.followed) != 1:
        raise RefusedError("", expected=CHAIN)
    signal, lay = call.read(t), None
    candidates = [signal.lay, signal.lay.with_count(call.book.N)]
    lay = next(
        (lay for lay in candidates if call.out.ndim and call.out.shape[lay.axis : lay.axis + 1] == (call.book.N,)), None
    )
    if lay is None or lay.inner > 1:
        raise MixedError(f"to a tensor of shape {tuple(call.out.shape)}, of which no axis counts the latents")
    n, m = prod(signal.shape), call.out.numel() // call.book.N
    if n * m > _ENTRIES:
        raise RefusedError(f"from {n} to {m} numbers, as a matrix too large")
    zero = _run(call, t, signal.lay, torch.zeros(call.book.N, *signal.shape, dtype=torch.float64), lay)
    units = torch.eye(n, dtype=torch.float64).reshape(n, *signal.shape)
    columns = []
    for start in range(0, n, call.book.N):
        block = units[start : start + call.book.N]
        some = torch.cat([block, block.new_zeros(call.book.N - len(block), *block.shape[1:])])
        columns.append((_run(call, t, signal.lay, some, lay) - zero)[: len(block)])
    weight = torch.cat(columns).t().contiguous()
    shape = tuple(lay(call.out).shape[1:]) or (1,)
    call.finish(signal, [ops.Linear(weight=weight, bias=zero[0].clone()), ops.Reshape(shape=shape)], lay=lay)


def _run(call: Call, t: Tensor, lay: Any, signals: Tensor, out_lay: Any) -> Tensor:
    """The operation on other signals (N, ...) in place of those of `t`: (N, m)."""
    given = torch.empty_strided(t.shape, t.stride(), dtype=torch.float64)
    lay(given).copy_(signals)
    args = [given if arg is t else arg for arg in call.args]
    kwargs = {name: given if arg is t else arg for name, arg in call.kwargs.items()}
    return out_lay(call.func(*args, **kwargs)).reshape(call.book.N, -1)
