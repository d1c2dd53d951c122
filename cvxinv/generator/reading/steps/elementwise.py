"""Steps that take each number alone: activations, and a scale and a shift."""

from math import inf
from typing import Any

import torch
from torch import Tensor

from ... import ops
from ...activations import AbstractActivation, all_kinds
from .call import CHAIN, Call, RefusedError, saying

# activations that are said by what torch computes, whatever module called it
SAID = frozenset(
    ("Identity", "ReLU", "LeakyReLU", "Clamp", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Softplus", "Softsign", "Exp")
) | frozenset(("Tanh", "Sigmoid", "Hardsigmoid", "Hardswish", "Softmax"))
_SELU = (1.6732632423543772, 1.0507009873554805)


def kind(name: str) -> type[AbstractActivation]:
    """The package's activation of that class name. Raises: RefusedError where there is none."""
    found = next((cls for cls in all_kinds() if cls.__name__ == name and cls.__module__.startswith("cvxinv.")), None)
    if found is None:
        raise RefusedError("")
    return found


def _activate(call: Call, t: Tensor, name: str, *numbers: Any) -> None:
    try:
        activation = kind(name).of(*(float(n) if isinstance(n, int | float) else n for n in numbers))
    except ValueError as error:
        said = ", ".join(f"{key} {number}" for key, number in zip(kind(name).parameter_names, numbers, strict=False))
        raise RefusedError(f"with {said} ({error})") from error
    call.everywhere(t, ops.Activation(activation))


_PLAIN = {
    "relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "silu": "SiLU", "mish": "Mish", "softsign": "Softsign",
    "exp": "Exp", "hardsigmoid": "Hardsigmoid", "hardswish": "Hardswish",
}  # fmt: skip


@saying(*_PLAIN)
def plain(call: Call) -> None:
    """Activations without a number."""
    _activate(call, call.signal_in(), _PLAIN[call.name])


@saying("leaky_relu")
def leaky_relu(call: Call) -> None:
    """A slope below 0."""
    _activate(call, call.signal_in(), "LeakyReLU", call.get(1, "negative_slope", 0.01))


@saying("rrelu_with_noise")
def rrelu(call: Call) -> None:
    """In eval mode, the mean of its slopes."""
    if call.get(4, "training", False):
        raise RefusedError("in training mode", cure="call .eval() first")
    _activate(call, call.signal_in(), "LeakyReLU", (call.get(2, "lower", 1 / 8) + call.get(3, "upper", 1 / 3)) / 2)


@saying("elu", "selu")
def elu(call: Call) -> None:
    """ELU, and SELU, which is one with a scale."""
    alpha, scale, slope = (call.get(i, name, 1) for i, name in ((1, "alpha"), (2, "scale"), (3, "input_scale")))
    if call.name == "selu" or (alpha, scale) == _SELU:
        _activate(call, call.signal_in(), "SELU")
    elif (scale, slope) == (1, 1):
        _activate(call, call.signal_in(), "ELU", alpha)
    else:
        raise RefusedError(f"with scale {scale} and input_scale {slope}")


@saying("celu")
def celu(call: Call) -> None:
    """CELU."""
    _activate(call, call.signal_in(), "CELU", call.get(1, "alpha", 1.0))


@saying("gelu")
def gelu(call: Call) -> None:
    """GELU, exact or by tanh."""
    _activate(call, call.signal_in(), "GELU", call.get(1, "approximate", "none"))


@saying("softplus")
def softplus(call: Call) -> None:
    """Softplus; beyond its threshold torch takes the line that it is there to rounding, up to exp(-threshold)."""
    if (threshold := call.get(2, "threshold", 20)) < 20:
        raise RefusedError(f"with threshold {threshold}, below 20")
    _activate(call, call.signal_in(), "Softplus", call.get(1, "beta", 1))


@saying("hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "maximum", "minimum", "threshold")
def clamp(call: Call) -> None:
    """Cut at both ends, or one."""
    ends, t = _ends(call)
    low, high = (_end(end) for end in ends)
    if (low, high) == (0, inf):
        _activate(call, t, "ReLU")
    elif (low, high) == (-inf, inf):
        call.everywhere(t, ops.Activation(kind("Identity")()))
    else:
        _activate(call, t, "Clamp", low, high)


def _ends(call: Call) -> tuple[tuple[Any, Any], Tensor]:
    name = call.name
    if name in ("maximum", "minimum"):
        t = call.followed[0]
        other = call.get(1, "other") if call.get(0, "self") is t else call.get(0, "self")
        if len(call.followed) > 1 or other.numel() != 1 or call.out.shape != t.shape:
            raise RefusedError("of more than a signal and one number")
        return ((other, None) if name == "maximum" else (None, other)), t
    t, first, second = call.signal_in(), call.get(1, "min"), call.get(2, "max")
    if name == "hardtanh":
        return (call.get(1, "min_val", -1), call.get(2, "max_val", 1)), t
    if name == "threshold":
        if (call.get(1, "threshold"), call.get(2, "value")) != (0, 0):
            raise RefusedError("other than with threshold 0 and value 0")
        return (0, None), t
    return {"clamp_min": (first, None), "clamp_max": (None, call.get(1, "max"))}.get(name, (first, second)), t


def _end(end: Any) -> float | None:
    """One number, whatever form it comes in."""
    if isinstance(end, Tensor) and end.numel() != 1:
        raise RefusedError("with more than one number as an end")
    return None if end is None else float(end)


@saying("_prelu_kernel", "prelu")
def prelu(call: Call) -> None:
    """A slope of its own below 0 for each channel, or one for all."""
    t, weight = call.signal_in(), call.get(1, "weight")
    call.fixed(weight)
    if weight.numel() == 1 and 0 <= float(weight) < 1:
        _activate(call, t, "LeakyReLU", float(weight))
        return
    signal = call.read(t)
    slopes = call.constant(weight, signal.lay)
    channels = ops.per_channel(slopes, slopes.shape[0])
    call.finish(signal, [ops.LeakyUnits(slopes=slopes.reshape(-1) if channels is None else channels)])


@saying("_softmax")
def softmax(call: Call) -> None:
    """Softmax over one axis of the signal."""
    t = call.signal_in()
    signal = call.read(t)
    axis = signal.lay.axis_of(call.get(1, "dim"), t.ndim)
    if axis < 0:
        raise RefusedError("over the axis that counts the latents")
    call.finish(signal, [ops.Softmax(axis=axis)])


# --- a scale and a shift --------------------------------------------------------------------------


def scaled(call: Call, t: Tensor, scale: Tensor | float, shift: Tensor | float) -> None:
    """The result is `scale` t + `shift`, numbers that broadcast with it."""
    numbers = [torch.as_tensor(value, dtype=torch.float64) for value in (scale, shift)]
    if all(value.numel() == 1 for value in numbers):
        found = call.book.look(t)
        assert found is not None
        one, two = (value.reshape(1).repeat(found[0].shape[0]) for value in numbers)
        call.everywhere(t, ops.Diagonal(scale=one, shift=two))
        return
    signal = call.book.signal(t, tuple(call.out.shape))
    one, two = (call.constant(value, signal.lay) for value in numbers)
    call.finish(signal, [diagonal(one, two)])


def diagonal(scale: Tensor, shift: Tensor) -> ops.Diagonal:
    """One scale and one shift per channel where that is all there is, per number otherwise."""
    if scale.ndim and scale.shape[0]:
        short = [ops.per_channel(value, scale.shape[0]) for value in (scale, shift)]
        if short[0] is not None and short[1] is not None:
            return ops.Diagonal(scale=short[0].clone(), shift=short[1].clone())
    return ops.Diagonal(scale=scale.reshape(-1).clone(), shift=shift.reshape(-1).clone())


def _sides(call: Call) -> tuple[Tensor, Any, bool]:
    """The side of a sum or product that depends on the latent, the other one, and whether the first one comes first."""
    left, right = call.get(0, "self"), call.get(1, "other")
    if len(call.followed) != 1:
        raise RefusedError("", expected=CHAIN)
    return (left, right, True) if left is call.followed[0] else (right, left, False)


@saying("add", "sub", "rsub", "subtract")
def add(call: Call) -> None:
    """Sums and differences, `alpha` times the second side."""
    t, other, first = _sides(call)
    alpha = call.get(2, "alpha", 1)
    signs = {"add": (1, alpha), "rsub": (-alpha, 1)}.get(call.name, (1, -alpha))
    mine, its = signs if first else signs[::-1]
    scaled(call, t, float(mine), torch.as_tensor(other, dtype=torch.float64) * its)


@saying("mul", "multiply")
def mul(call: Call) -> None:
    """Products with what is fixed, and h sigmoid(h), which is SiLU."""
    if (h := _under_silu(call)) is not None:
        call.everywhere(h, ops.Activation(kind("SiLU")()))
        return
    t, other, _ = _sides(call)
    scaled(call, t, other, 0.0)


def _under_silu(call: Call) -> Tensor | None:
    """h, where the two sides of a product are h and sigmoid(h)."""
    if len(call.followed) != 2:
        return None
    for early, late in (call.followed, call.followed[::-1]):
        one, two = call.book.look(early), call.book.look(late)
        assert one is not None and two is not None
        said = [getattr(step, "activation", None) for _, step in two[0].steps]
        if two[0].before is one[0] and torch.equal(one[1], two[1]) and said == [kind("Sigmoid")()]:
            return early
    return None


@saying("div", "divide", "true_divide")
def div(call: Call) -> None:
    """Quotients by what is fixed."""
    t, other, first = _sides(call)
    if not first or call.get(2, "rounding_mode") is not None:
        raise RefusedError("of a number by the signal" if not first else "with a rounding mode")
    scaled(call, t, 1 / torch.as_tensor(other, dtype=torch.float64), 0.0)


@saying("neg", "negative")
def neg(call: Call) -> None:
    """The other sign."""
    scaled(call, call.signal_in(), -1.0, 0.0)


@saying("addcmul", "addcdiv")
def addcmul(call: Call) -> None:
    """h + value a b, or h + value a / b, where one of h and a depends on the latent."""
    sides = [call.get(0, "self"), call.get(1, "tensor1"), call.get(2, "tensor2")]
    value = call.get(3, "value", 1)
    where = [i for i, side in enumerate(sides) if any(side is t for t in call.followed)]
    if len(where) != 1 or (where == [2] and call.name == "addcdiv"):
        raise RefusedError("", expected=CHAIN)
    own, one, two = sides
    if where == [0]:
        scaled(call, own, 1.0, value * (one * two if call.name == "addcmul" else one / two))
    else:
        factor = two if where == [1] else one
        scaled(call, sides[where[0]], value * (factor if call.name == "addcmul" else 1 / factor), own)


@saying("lerp")
def lerp(call: Call) -> None:
    """a + w (b - a) with a fixed weight and one fixed end."""
    t, other, first = _sides(call)
    weight = torch.as_tensor(call.get(2, "weight"), dtype=torch.float64)
    call.fixed(weight)
    mine, its = (1 - weight, weight) if first else (weight, 1 - weight)
    scaled(call, t, mine, its * other)


@saying("pow")
def power(call: Call) -> None:
    """h to the first power."""
    t, exponent = call.signal_in(), call.get(1, "exponent")
    if isinstance(exponent, Tensor) or exponent != 1:
        raise RefusedError(f"with exponent {exponent}")
    scaled(call, t, 1.0, 0.0)


@saying("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit")
def batch_norm(call: Call) -> None:
    """Running statistics, and a scale and a shift, of each channel."""
    t, weight, bias, mean, var = call.signal_in(), *(call.args[i] if len(call.args) > i else None for i in range(1, 5))
    trained = call.get(5, "training", False) if call.name != "_native_batch_norm_legit_no_training" else False
    if trained is True or mean is None or var is None:
        raise RefusedError("that takes its statistics from the batch", expected="running statistics")
    call.fixed(weight, bias, mean, var)
    eps = call.args[7 if len(call.args) > 7 else 6]
    call.out = call.out[0]
    signal = call.read(t)
    if signal.lay.plain and signal.shape[0] == mean.numel():
        given = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
        numbers: dict[str, Any] = {name: value if value is None else value.detach().clone() for name, value in given.items()}
        call.finish(signal, [ops.BatchNorm(eps=eps, **numbers)])
        return
    scale = (var + eps).rsqrt() * (1 if weight is None else weight)
    shift = -mean * scale + (0 if bias is None else bias)
    across = [1, -1, *[1] * (t.ndim - 2)]
    scaled(call, t, scale.reshape(across), shift.reshape(across))
