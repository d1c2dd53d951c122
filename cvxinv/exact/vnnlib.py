"""Claims for other verifiers: "no latent of a box has |A G(z) - y|_inf <= eps" as an ONNX file and a VNN-LIB file.

    X_i in [low_i, high_i],   Y = A G(X) on the k rows that were seen,   y_j - eps <= Y_j <= y_j + eps for every j

VNN-LIB asks for a counterexample: `unsat` proves the claim, `sat` is a latent within eps. With the eps of stated noise
`unsat` says that the signal is out of range; with a misfit slightly below the best known one, that this one is the best.

The network is written in float64, or in float32, which is all that many verifiers read; slopes are float32 in any ONNX
file. Where that changes the network, the limits are widened by a bound on the change over the box, so that `unsat` proves
the claim for the network as it is, and `sat` says nothing until its latent is judged. Sums that a verifier rounds while it
runs are its own affair. Numbers in the text are rounded so that nothing is cut off.

Source: VNN-LIB, https://www.vnnlib.org, version 1.0; ONNX operator set 13: Gemm, Relu, LeakyRelu.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BackendNotInstalledError
from ..files import write_whole
from ..generator.abstract import AbstractGenerator
from .network import Network
from .question import Question, ask, read_eps

_PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
_DOWN, _UP = (Context(prec=17, rounding=way) for way in (ROUND_FLOOR, ROUND_CEILING))  # of numbers in the text


@dataclass(frozen=True)
class Claim:
    """Where a claim was written. widened: by how much its limits were opened beyond eps, signal units."""

    network: Path
    property: Path
    widened: float


def export_claim(
    folder: str | Path,
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    eps: float,
    *,
    measurement: object = None,
    box: object = None,
    precision: str = "float32",
) -> Claim:
    """Write `claim.onnx` and `claim.vnnlib` for "no latent of the box has |A G(z) - y|_inf <= eps".

    y: one signal, `(k,)` or `(1, k)`; eps: signal units; measurement, box: as in `prove`; precision: float32 or float64.
    Raises BackendNotInstalledError without the package onnx; TypeError and ValueError as `ask`, and for eps < 0; OSError.
    """
    eps = read_eps(eps)
    if precision not in _PRECISIONS:
        raise ValueError(f"expected precision as float32 or float64, got {precision!r}; most verifiers read float32 only")
    question = ask(generator, y, measurement=measurement, box=box)
    rounded = as_rounded(question.network, _PRECISIONS[precision])
    widened = difference(question, rounded)
    content = _model(rounded, _PRECISIONS[precision])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    claim = Claim(folder / "claim.onnx", folder / "claim.vnnlib", widened)
    write_whole(claim.network, content)
    write_whole(claim.property, as_text(question, eps, widened).encode())
    return claim


def as_rounded(network: Network, dtype: torch.dtype) -> Network:
    """The network with numbers of `dtype`, and slopes in float32, as attributes in ONNX are; returned in float64."""
    W, b = (tuple(x.to(dtype).double() for x in parts) for parts in (network.W, network.b))
    return Network(
        W,
        b,
        tuple(s.float().double() for s in network.s),
        network.last.to(dtype).double(),
        network.offset.to(dtype).double(),
    )


def difference(question: Question, other: Network) -> float:
    """A bound, over the box, on what another network of the same shape gives otherwise, in the largest entry.

    With x the units of the network and d their difference: |u' - u| <= |W'| d + |W' - W| |x| + |b' - b|, and a kink with
    slopes in [0, 1] enlarges that by nothing but |s' - s| |u|. |x| and |u| are at most what the limits of u allow.
    """
    net, q = question.network, question
    x = torch.maximum(q.low.abs(), q.high.abs())
    d = torch.zeros_like(x)
    for W, V, b, c, s, t, lo, hi in zip(net.W, other.W, net.b, other.b, net.s, other.s, q.lo, q.hi, strict=True):
        u = torch.maximum(lo.abs(), hi.abs())
        d = V.abs() @ d + (V - W).abs() @ x + (c - b).abs() + (t - s).abs() * u
        x = torch.maximum(hi.clamp(min=0), s * lo.clamp(max=0).abs())
    d = other.last.abs() @ d + (other.last - net.last).abs() @ x + (other.offset - net.offset).abs()
    return float(d.amax()) * (1 + 1e-9)


def as_text(question: Question, eps: float, widened: float = 0.0) -> str:
    """The property in VNN-LIB with limits y +- (eps + widened), all numbers rounded outwards."""
    n0, k = question.network.latent_dim, len(question.y)
    lines = ["; sat: a latent of the box within the limits of every Y", *(f"(declare-const X_{i} Real)" for i in range(n0))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(k)]
    for i, (low, high) in enumerate(zip(question.low.tolist(), question.high.tolist(), strict=True)):
        lines += _between(f"X_{i}", _DOWN.plus(Decimal(low)), _UP.plus(Decimal(high)))
    reach = _UP.add(Decimal(eps), Decimal(widened))
    for j, value in enumerate(question.y.tolist()):
        lines += _between(f"Y_{j}", _DOWN.subtract(Decimal(value), reach), _UP.add(Decimal(value), reach))
    return "\n".join(lines) + "\n"


def _between(name: str, low: Decimal, high: Decimal) -> list[str]:
    return [f"(assert (<= {name} {_plain(high)}))", f"(assert (>= {name} {_plain(low)}))"]


def _plain(number: Decimal) -> str:
    """Without an exponent, which not every reader of VNN-LIB knows."""
    return f"{number:f}" if "." in f"{number:f}" else f"{number:f}.0"


def _model(network: Network, dtype: torch.dtype) -> bytes:
    """The network as an ONNX file's bytes: X `(1, n0)` to Y `(1, k)`."""
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise BackendNotInstalledError(
            "expected the package onnx to write a network for verifiers, which is not installed; pip install onnx"
        ) from error
    kind = onnx.TensorProto.FLOAT if dtype == torch.float32 else onnx.TensorProto.DOUBLE
    nodes, weights = list[Any](), list[Any]()

    def affine(name: str, source: str, target: str, W: Tensor, b: Tensor) -> None:
        for part, value in (("W", W.T), ("b", b)):
            weights.append(numpy_helper.from_array(value.to(dtype).contiguous().numpy(), f"{part}{name}"))
        nodes.append(helper.make_node("Gemm", [source, f"W{name}", f"b{name}"], [target]))

    source = "X"
    for index, (W, b, s) in enumerate(zip(network.W, network.b, network.s, strict=True), 1):
        affine(str(index), source, f"u{index}", W, b)
        nodes.append(_kink(f"u{index}", f"x{index}", float(s[0])))
        source = f"x{index}"
    affine("", source, "Y", network.last, network.offset)
    sides = [
        helper.make_tensor_value_info(name, kind, [1, size])
        for name, size in (("X", network.latent_dim), ("Y", len(network.offset)))
    ]
    graph = helper.make_graph(nodes, "claim", sides[:1], sides[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _kink(source: str, target: str, s: float) -> Any:
    from onnx import helper

    return helper.make_node("LeakyRelu", [source], [target], alpha=s) if s else helper.make_node("Relu", [source], [target])
