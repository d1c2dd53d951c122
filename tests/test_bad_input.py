"""Bad input raises before any arithmetic, with what was expected, what came and the cure; a bad signal costs itself."""

import re
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.generator.chain import Generator, Layer
from cvxinv.guarantees.inspection import inspect_generator

META = torch.device("meta")
NAN, INF = float("nan"), float("inf")
METHODS = ("hybrid", "latent_pursuit", "levenberg_marquardt", "gradient_descent")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def net(sizes: tuple[int, ...], output: str = "identity", seed: int = 0, bias: float = 0.3) -> Generator:
    """A dense ReLU generator with weights N(0, 1/n) and biases N(0, bias^2)."""
    draw, layers = seeded(seed), []
    for n, m in pairwise(sizes):
        W = torch.randn(m, n, generator=draw, dtype=torch.float64) / n**0.5
        b = bias * torch.randn(m, generator=draw, dtype=torch.float64)
        layers.append(Layer(ci.Dense(W), b, ci.ReLU()))
    return Generator(tuple(layers), (sizes[-1],), {}).with_output(output)


def picture_net() -> Generator:
    return Generator(net((5, 20, 40)).layers, (1, 5, 8), {})


def constant_net() -> Generator:
    first, last = net((5, 20, 40)).layers
    return Generator((first, Layer(ci.Dense(torch.zeros(40, 20).double()), last.b, last.activation)), (40,), {})


# every tensor a bad call needs, made before arithmetic is forbidden
G = net((5, 20, 40))
G32 = G.to(torch.float32)
PICTURES = picture_net()
CONSTANT = constant_net()
TANH, SIGMOID = G.with_output("tanh"), G.with_output("sigmoid")
LEAKY = Generator((Layer(G.layers[0].W, G.layers[0].b, ci.LeakyReLU(0.2)), G.layers[1]), (40,), {})
Z = torch.randn(3, 5, generator=seeded(1), dtype=torch.float64)
Y = G(Z)
MASK = torch.rand(40, generator=seeded(2)) > 0.2
A = torch.randn(30, 40, generator=seeded(3), dtype=torch.float64)
MODULE = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 40)).double()

W = ci.Dense(torch.randn(6, 4, generator=seeded(4), dtype=torch.float64))
B = torch.zeros(6, dtype=torch.float64)
YR = torch.rand(2, 6, generator=seeded(5), dtype=torch.float64)
ON = torch.arange(12).reshape(2, 6) % 3 > 0
ROWS = ci.Rows(W, B, YR, ON)
ROWS32 = ROWS.to(torch.float32)
LASSO = ci.NonnegativeLasso(ROWS, 0.1)
KERNEL = torch.ones(2, 3, 2, 2, dtype=torch.float64)
H, P = torch.rand(2, 4, dtype=torch.float64), torch.rand(2, 6, dtype=torch.float64)


def at(tensor: Tensor, place: Any, value: float) -> Tensor:
    """A copy of `tensor` with `value` at `place`."""
    out = tensor.clone()
    out[place] = value
    return out


def invert(y: Any = Y, method: Any = "hybrid", generator: Any = G, **options: Any) -> Callable[[], object]:
    return lambda: ci.invert(generator, y, method, **options)


def pursue(**options: Any) -> Callable[[], object]:
    return invert(method="latent_pursuit", **options)


def load(module: nn.Module) -> Callable[[], object]:
    return lambda: ci.load_generator(module.eval())


def sparse_module() -> nn.Module:
    module = nn.Linear(4, 5)
    module.weight = nn.Parameter(module.weight.detach().to_sparse())
    return module


def verify(z: Any = Z, y: Any = Y, generator: Any = G, **options: Any) -> Callable[[], object]:
    return lambda: ci.verify(generator, y, z, **options)


def rows(**parts: Any) -> Callable[[], object]:
    return lambda: ci.Rows(**({"W": W, "b": B, "y": YR, "on": ON} | parts))


def solve(**options: Any) -> Callable[[], object]:
    return lambda: ci.solve(**({"problem": LASSO} | options))


def certify(*point: Any, **options: Any) -> Callable[[], object]:
    return lambda: ci.certify(LASSO, *point, **options)


# name: (the call, the error, what the message must contain: expected, got, cure)
Case = tuple[Callable[[], object], type[Exception] | tuple[type[Exception], ...], tuple[str, ...]]

GENERATOR: dict[str, Case] = {
    "module for a generator": (invert(generator=MODULE), TypeError, ("Generator", "got Sequential", "load_generator")),
    "path for a generator": (invert(generator="g.safetensors"), TypeError, ("Generator", "got str", "load_generator")),
    "nothing for a generator": (verify(generator=None), TypeError, ("Generator", "got NoneType", "load_generator")),
    "constant generator": (invert(generator=CONSTANT), ValueError, ("constant", r"layers\[1\]", "weights were loaded")),
    "constant generator, verified": (verify(generator=CONSTANT), ValueError, ("constant", r"layers\[1\]")),
}

SIGNALS: dict[str, Case] = {
    "list": (invert([[0.0] * 40]), TypeError, ("tensor or numpy", "got list", "as_tensor")),
    "nothing": (invert(None), TypeError, ("tensor or numpy", "got NoneType", "as_tensor")),
    "ints": (invert(torch.ones(3, 40, dtype=torch.long)), TypeError, ("float32 or float64", "torch.int64", r"double\(\)")),
    "bytes": (invert(torch.ones(3, 40, dtype=torch.uint8)), TypeError, ("float64", "torch.uint8", r"double\(\) / 255")),
    "numpy bytes": (invert(np.ones((3, 40), np.uint8)), TypeError, ("float64", "uint8", r"y\.astype\('float64'\) / 255")),
    "bools": (invert(Y > 0), TypeError, ("float32 or float64", "torch.bool", r"y\.double")),
    "half": (invert(Y.half()), TypeError, ("float32 or float64", "torch.float16", r"y\.double")),
    "complex": (invert(Y.to(torch.complex128)), TypeError, ("floats", "torch.complex128", "convert")),
    "numpy complex": (invert(Y.numpy() + 0j), TypeError, ("float", "complex128", "convert")),
    "strings": (invert(np.full((3, 40), "0.1")), TypeError, ("floats", "<U3", "convert")),
    "objects": (invert(np.full((3, 40), 0.1, dtype=object)), TypeError, ("floats", "object", "convert")),
    "long doubles": (
        invert(Y.numpy().astype(np.longdouble)),
        TypeError,
        ("up to float64", "longdouble|float128"),
    ),
    "float64 into float32": (invert(generator=G32), ValueError, ("float32 signals", "float64", r"y\.float\(\)")),
    "on another device": (invert(Y.to(META)), ValueError, ("on cpu", "on meta", r"\.to\(")),
    "too narrow": (invert(Y[:, 1:]), ValueError, (r"\(N, 40\)", r"\(3, 39\)", "reshape")),
    "transposed": (invert(Y.T), ValueError, (r"\(N, 40\)", r"\(40, 3\)", r"use y\.T")),
    "one number": (invert(Y[0, 0]), ValueError, (r"\(N, 40\)", r"\(\)", "reshape")),
    "three axes": (invert(Y[None]), ValueError, (r"\(N, 40\)", r"\(1, 3, 40\)", "reshape")),
    "pictures turned": (invert(Y.reshape(3, 8, 5), generator=PICTURES), ValueError, ("1, 5, 8", r"\(3, 8, 5\)", "reshape")),
    "empty batch": (invert(Y[:0]), ValueError, ("at least one signal", r"\(0, 40\)")),
    "empty signals": (invert(Y[:, :0]), ValueError, ("at least one signal|40", r"\(3, 0\)")),
    "only NaN": (invert(at(Y[:1], (0, 7), NAN)), ValueError, ("finite", "got nan in entry 7 of signal 0", "mask it")),
    "inf in each": (invert(at(Y, (slice(None), 2), INF)), ValueError, ("finite", "got inf in entry 2 of signal 0", "clean")),
    "verified, too narrow": (verify(y=Y[:, 1:]), ValueError, (r"\(N, 40\)", r"\(3, 39\)", "reshape")),
    "verified, ints": (verify(y=torch.ones(3, 40, dtype=torch.int32)), TypeError, ("float64", "torch.int32", "convert")),
}

MEASUREMENTS: dict[str, Case] = {
    "mask list": (invert(measurement=[True] * 40), TypeError, ("bool mask", "list", "as_tensor")),
    "mask of ints": (invert(measurement=MASK.long()), TypeError, ("bool", "torch.int64", r"mask\.bool\(\)")),
    "mask of bytes": (invert(measurement=MASK.to(torch.uint8)), TypeError, ("bool", "torch.uint8", r"mask\.bool\(\)")),
    "mask too short": (invert(measurement=MASK[1:]), ValueError, ("40", "39", "last axis")),
    "mask for two": (invert(measurement=MASK.expand(2, 40)), ValueError, (r"\(3, 40\)", r"\(2, 40\)", "one per signal")),
    "mask on another device": (invert(measurement=MASK.to(META)), ValueError, ("on cpu", "meta", r"\.to\(")),
    "mask hides everything": (
        invert(measurement=MASK & False),
        ValueError,
        ("hides everything", "True marks"),
    ),
    "masks hide everything": (invert(measurement=torch.zeros(3, 40).bool()), ValueError, ("hides everything",)),
    "word": (invert(measurement="everthing"), TypeError, ("bool mask", "str")),
    "matrix too narrow": (invert(Y @ A.T, measurement=A[:, 1:]), ValueError, ("40", "39", "last axis")),
    "matrix as a vector": (invert(Y[:, :1], measurement=A[0]), ValueError, (r"\(k, d\)", r"\(40,\)")),
    "matrix of ints": (invert(Y @ A.T, measurement=A.long()), TypeError, ("floats", "torch.int64", r"A\.double\(\)")),
    "complex matrix": (
        invert(Y @ A.T, measurement=A + 0j),
        TypeError,
        ("real numbers", "torch.complex128", r"torch.cat\(\[A.real, A.imag\]\)"),
    ),
    "matrix with NaN": (invert(Y @ A.T, measurement=at(A, (1, 2), NAN)), ValueError, ("finite matrix", "NaN", "clean")),
    "matrix with inf": (invert(Y @ A.T, measurement=at(A, (1, 2), INF)), ValueError, ("finite matrix", "inf", "clean")),
    "matrix of zeros": (invert(Y @ A.T, measurement=0 * A), ValueError, ("measures something", "zeros")),
    "matrix on another device": (invert(Y @ A.T, measurement=A.to(META)), ValueError, ("on cpu", "meta", r"\.to\(")),
    "signals for a matrix": (invert(Y, measurement=A), ValueError, (r"\(N, 30\)", r"\(3, 40\)", "40 numbers")),
    "pictures for a matrix": (invert(Y.reshape(3, 5, 8), measurement=A), ValueError, (r"\(N, k\)", r"\(3, 5, 8\)", "flat")),
    "Mask of a list": (lambda: ci.Mask([True]), ValueError, ("bool tensor", "list", "True marks")),
    "Mask of floats": (lambda: ci.Mask(Y), ValueError, ("bool tensor", r"float64 of shape \(3, 40\)", "True marks")),
    "Mask of three axes": (lambda: ci.Mask(MASK[None, None]), ValueError, (r"\(N, d\)", r"\(1, 1, 40\)")),
    "Matrix of a list": (lambda: ci.Matrix([[1.0]]), ValueError, (r"\(k, d\)", "list")),
    "Matrix of ints": (lambda: ci.Matrix(A.int()), ValueError, ("floating", "torch.int32")),
    "Everything of another size": (invert(measurement=ci.Everything(39)), ValueError, ("40", "39", "last axis")),
}

NOISE: dict[str, Case] = {
    "number": (invert(noise=0.1), TypeError, (r'\("l2" \| "linf" \| "l1", bound\)', "got 0.1", r'e\.g\. \("l2", 0\.1\)')),
    "word": (invert(noise="l2"), TypeError, (r'\("l2" \| "linf" \| "l1", bound\)', "got 'l2'", r'e\.g\. \("l2", 0\.1\)')),
    "three parts": (invert(noise=("l2", 0.1, 0.2)), TypeError, (r'"l1", bound\)', r"got \('l2', 0.1, 0.2\)")),
    "turned round": (invert(noise=(0.1, "l2")), ValueError, ("'l2', 'linf', 'l1' or 'gaussian'", "got 0.1")),
    "another norm": (invert(noise=("l_inf", 0.1)), ValueError, ("'l2', 'linf', 'l1' or 'gaussian'", "got 'l_inf'")),
    "negative": (invert(noise=("l2", -0.5)), ValueError, (">= 0", "got -0.5", "noise=None")),
    "one negative": (invert(noise=("l2", torch.tensor([0.1, -0.25, 0.1]))), ValueError, (">= 0", "-0.25", "noise=None")),
    "NaN": (invert(noise=("linf", NAN)), ValueError, (">= 0 and finite", "got nan", "noise=None")),
    "inf": (invert(noise=("l2", INF)), ValueError, (">= 0 and finite", "got inf", "noise=None")),
    "string bound": (invert(noise=("l2", "0.1")), TypeError, ("float or a tensor", "got str")),
    "list bound": (invert(noise=("l2", [0.1] * 3)), TypeError, ("float or a tensor", "got list")),
    "true": (invert(noise=("l2", True)), TypeError, ("float or a tensor", "got bool")),
    "two for three": (invert(noise=("l2", torch.ones(2))), ValueError, (r"\(3,\)", r"\(2,\)")),
    "table": (invert(noise=("l2", torch.ones(3, 1))), ValueError, (r"\(3,\)", r"\(3, 1\)")),
    "on another device": (
        invert(noise=("l2", torch.ones(3, device=META))),
        ValueError,
        ("on cpu", "meta", r"\.to\("),
    ),
    "verified, negative": (verify(noise=("l2", -0.5)), ValueError, (">= 0", "got -0.5", "noise=None")),
}

OPTIONS: dict[str, Case] = {
    "unknown method": (invert(method="hybird"), ValueError, ("unknown method 'hybird'", "did you mean 'hybrid'")),
    "method in capitals": (invert(method="LATENT_PURSUIT"), ValueError, ("did you mean 'latent_pursuit'",)),
    "far method": (invert(method="xyz"), ValueError, ("unknown method 'xyz'", *(f"'{m}'" for m in METHODS))),
    "no method": (invert(method=None), ValueError, ("unknown method None", "expected one of 'hybrid'")),
    "unknown on_fail": (invert(on_fail="rise"), ValueError, ("unknown on_fail 'rise'", "did you mean 'raise'")),
    "unknown option": (invert(restart=3), TypeError, ("unknown option 'restart'", "did you mean 'restarts'")),
    "misspelt argument": (invert(mesurement=MASK), TypeError, ("'mesurement'", "did you mean 'measurement'")),
    "foreign option": (
        invert(method="levenberg_marquardt", lam=0.1),
        TypeError,
        ("no option 'lam'", "belongs to hybrid, csgm, latent_pursuit"),
    ),
    "foreign debias": (invert(debias="piece"), TypeError, ("'hybrid' has no option 'debias'", "belongs to latent_pursuit")),
    "unknown debias": (pursue(debias="gradeint"), ValueError, ("unknown debias 'gradeint'", "did you mean 'gradient'")),
    "unknown solver": (pursue(solver="clarable"), ValueError, ("unknown solver 'clarable'", "did you mean 'CLARABEL'")),
    "negative lam": (pursue(lam=-1.0), ValueError, ("lam must be >= 0", "got -1.0", "pass 0")),
    "NaN lam": (pursue(lam=NAN), ValueError, ("lam must be >= 0 and finite", "got nan", "pass 0")),
    "infinite gamma": (pursue(gamma=INF), ValueError, ("gamma must be >= 0 and finite", "got inf", "pass 0")),
    "negative gamma": (pursue(gamma=-0.5), ValueError, ("gamma must be >= 0", "got -0.5", "pass 0")),
    "one negative gamma": (pursue(gamma=torch.tensor([0.0, -2.0, 0.0])), ValueError, ("gamma must be >= 0", "-2")),
    "two lam for three": (pursue(lam=torch.ones(2)), ValueError, (r"\(3,\)", r"\(2,\)", "one per signal")),
    "five lam for three": (pursue(lam=torch.ones(5)), ValueError, (r"\(3,\)", r"\(5,\)", "one per signal")),
    "gamma table": (invert(gamma=torch.ones(3, 1)), ValueError, (r"\(3,\)", r"\(3, 1\)", "one per signal")),
    "gamma elsewhere": (pursue(gamma=torch.ones(3, device=META)), ValueError, ("on cpu", "meta", r"\.to\(")),
    "lam string": (pursue(lam="0.1"), TypeError, ("lam as a float or a tensor", "got str")),
    "lam list": (pursue(lam=[0.1] * 3), TypeError, ("lam as a float or a tensor", "got list")),
    "zero tol": (pursue(tol=0.0), ValueError, ("tol must be", "got 0.0")),
    "negative tol": (invert(tol=-1e-6), ValueError, ("tol must be", "got -1e-06")),
    "threshold of all": (pursue(support_threshold=1.0), ValueError, (r"support_threshold must be .*\[0, 1\)", "got 1.0")),
    "zero max_iter": (invert(max_iter=0), ValueError, ("max_iter must be an integer >= 1", "got 0")),
    "negative max_iter": (invert(max_iter=-3), ValueError, ("max_iter must be an integer >= 1", "got -3")),
    "half max_iter": (invert(max_iter=2.5), ValueError, ("max_iter must be an integer >= 1", "got 2.5")),
    "true max_iter": (invert(max_iter=True), ValueError, ("max_iter must be an integer >= 1", "got True")),
    "negative restarts": (invert(restarts=-1), ValueError, ("restarts must be an integer >= 0", "got -1")),
    "no start": (invert(method="gradient_descent", restarts=0), ValueError, ("restarts must be an integer >= 1", "got 0")),
    "zero chunk": (invert(chunk=0), ValueError, ("chunk must be an integer >= 1", "got 0")),
    "negative seed": (invert(seed=-1), ValueError, ("seed must be an integer >= 0", "got -1")),
    "large seed": (invert(seed=2**70), ValueError, ("seed must be an integer >= 0 and < ", f"got {2**70}")),
    "seed of a comparison": (
        lambda: ci.compare(G, Y, seed=2**63),
        ValueError,
        ("seed must be an integer", "pass e.g. seed=0"),
    ),
    "chunk of a comparison": (lambda: ci.compare(G, Y, chunk=0), ValueError, ("chunk must be an integer >= 1, got 0",)),
    "seed of a diagnosis": (lambda: ci.diagnose(G, Y, seed=-3), ValueError, ("seed must be an integer >= 0", "got -3")),
    "seed of uniqueness": (lambda: ci.uniqueness(G, Y, seed=True), ValueError, ("seed must be an integer", "got True")),
    "seed of injectivity": (lambda: ci.injectivity(G, seed=-1), ValueError, ("seed must be an integer", "got -1")),
    "seed of an inspection": (lambda: inspect_generator(G, seed=-1), ValueError, ("seed must be an integer", "got -1")),
    "half seed": (invert(seed=1.5), ValueError, ("seed must be an integer >= 0", "got 1.5")),
    "momentum 1": (invert(method="gradient_descent", momentum=1.0), ValueError, (r"momentum must be .*\[0, 1\)", "got 1.0")),
    "decay below 1": (invert(method="gradient_descent", decay=0.5), ValueError, (r"decay must be .*\[1, inf\)", "got 0.5")),
    "negative step": (
        invert(method="gradient_descent", steps=(-1.0,)),
        ValueError,
        ("steps must be positive", "-1.0"),
    ),
    "no steps": (invert(method="gradient_descent", steps=()), ValueError, ("steps must be positive", r"got \(\)")),
    "one step": (invert(method="gradient_descent", steps=0.1), ValueError, ("steps must be positive", "got 0.1")),
}

LATENTS: dict[str, Case] = {
    "truth too wide": (invert(truth=Y), ValueError, (r"\(3, 5\)", r"\(3, 40\)")),
    "truth for two": (invert(truth=Z[:2]), ValueError, (r"\(3, 5\)", r"\(2, 5\)")),
    "truth list": (
        invert(truth=Z.tolist()),
        TypeError,
        ("true latents as a torch tensor or numpy array", "got list", "as_tensor"),
    ),
    "truth objects": (invert(truth=Z.numpy().astype(object)), TypeError, ("true latents", "object")),
    "complex truth": (invert(truth=Z + 0j), TypeError, ("true latents", "complex128")),
    "NaN truth": (invert(truth=at(Z, (1, 2), NAN)), ValueError, ("finite", "nan|NaN")),
    "z for two": (verify(Z[:2]), ValueError, (r"\(3, 5\)", r"\(2, 5\)", "one latent per signal")),
    "z too wide": (verify(Y), ValueError, (r"\(3, 5\)", r"\(3, 40\)", "one latent per signal")),
    "z of three axes": (verify(Z[None]), ValueError, (r"\(3, 5\)", r"\(1, 3, 5\)", "one latent per signal")),
    "z number": (verify(Z[0, 0]), ValueError, (r"\(3, 5\)", r"\(\)", "one latent per signal")),
    "empty z": (verify(Z[:0]), ValueError, (r"\(3, 5\)", r"\(0, 5\)", "one latent per signal")),
    "z list": (verify(Z.tolist()), TypeError, ("tensor or numpy", "got list")),
    "z strings": (verify(np.full((3, 5), "0")), TypeError, ("numbers", "ndarray|<U1")),
    "complex z": (verify(Z + 0j), TypeError, ("floats", "complex128", "convert it to numbers")),
    "z elsewhere": (verify(Z.to(META)), ValueError, ("on cpu", "on meta", r"\.to\(.cpu.\)")),
}

UNREACHABLE: dict[str, Case] = {
    "flat tanh": (
        pursue(generator=TANH, y=torch.ones_like(Y), image_layer="preactivation"),
        ValueError,
        ("layer 1 has 0 seen rows", "'hybrid'"),
    ),
    "matrix behind a sigmoid": (
        pursue(generator=SIGMOID, y=Y.sigmoid() @ A.T, measurement=A),
        ValueError,
        ("matrix", "Sigmoid", "'hybrid'"),
    ),
    "matrix behind a ReLU": (
        pursue(generator=G.with_output("relu"), y=Y.relu() @ A.T, measurement=A),
        ValueError,
        ("matrix", "ReLU", "'hybrid'"),
    ),
    "too few pixels": (
        pursue(measurement=torch.arange(40) < 9),
        ValueError,
        ("layer 1 has 9 seen rows for 20", "at least 10", "'hybrid'"),
    ),
    "too few pixels, leaky": (
        pursue(generator=LEAKY, measurement=torch.arange(40) < 19),
        ValueError,
        ("layer 1 has 19 seen rows for 20", "any sign", "at least 20"),
    ),
    "too few measurements": (
        pursue(y=Y @ A[:9].T, measurement=A[:9]),
        ValueError,
        ("layer 1 has 9 seen rows for 20", "at least 10"),
    ),
}

ROW: dict[str, Case] = {
    "W as a tensor": (rows(W=W.weight), TypeError, ("W as a map", "got a tensor torch.float64", "Dense")),
    "NaN in W": (lambda: ci.Rows(ci.Dense(at(W.weight, (0, 0), NAN)), B, YR, ON), ValueError, ("finite", "NaN|nan")),
    "b list": (rows(b=[0.0] * 6), TypeError, ("b as a torch tensor", "got list", "as_tensor")),
    "y numpy": (rows(y=YR.numpy()), TypeError, ("y as a torch tensor", "got an array float64", "as_tensor")),
    "y for another W": (rows(y=torch.ones(3, 40).double()), ValueError, (r"\(3, 40\)", "6 rows", r"\(N, 6\)")),
    "y flat": (rows(y=YR[0]), ValueError, (r"shape \(6,\)", "6 rows", r"\(N, 6\)")),
    "y empty": (rows(y=YR[:0], on=ON[:0]), ValueError, ("at least one signal", "empty", "N >= 1")),
    "y in float32": (rows(y=YR.float()), ValueError, ("y in torch.float64", "torch.float32", r"\.to\(\)")),
    "y ints": (rows(y=YR.long()), ValueError, ("y in torch.float64", "torch.int64", r"\.to\(\)")),
    "y complex": (rows(y=YR + 0j), TypeError, ("y as .* real numbers", "torch.complex128", r"\.real")),
    "y elsewhere": (rows(y=YR.to(META)), ValueError, ("y on cpu", "meta", r"\.to\(device\)")),
    "b elsewhere": (rows(b=B.to(META)), ValueError, ("b on cpu", "meta", r"\.to\(device\)")),
    "NaN in y": (rows(y=at(YR, (1, 4), NAN)), ValueError, ("finite y", "got nan in row 4 of signal 1", "out of `on`")),
    "inf in y": (rows(y=at(YR, (0, 1), -INF)), ValueError, ("finite y", "got -inf in row 1 of signal 0")),
    "NaN in b": (rows(b=at(B, 2, NAN)), ValueError, ("finite bias b", "NaN", "clean")),
    "b too short": (rows(b=B[1:]), ValueError, (r"\(6,\)", r"\(5,\)", "one bias per row")),
    "b for three": (rows(b=B.expand(3, 6)), ValueError, (r"\(6,\)", r"\(3, 6\)", "one bias per row")),
    "on ints": (rows(on=ON.long()), ValueError, ("on as a bool mask", "torch.int64", "y > 0")),
    "on list": (rows(on=ON.tolist()), TypeError, ("on as a torch tensor", "got list", "as_tensor")),
    "on too short": (rows(on=ON[:, 1:]), ValueError, (r"on of shape \(2, 6\)", r"\(2, 5\)", "one entry per row")),
    "off too short": (rows(off=~ON[:1]), ValueError, (r"off of shape \(2, 6\)", r"\(1, 6\)", "one entry per row")),
    "overlap": (rows(off=at(~ON, (1, 5), True)), ValueError, ("row 5 of signal 1", "both on and off", "disjoint")),
    "weight 0": (rows(weight=at(torch.ones_like(YR), (0, 1), 0.0)), ValueError, ("weight > 0", "drop such rows")),
    "negative weight": (rows(weight=-torch.ones_like(YR)), ValueError, ("weight > 0", "drop such rows")),
    "NaN weight": (rows(weight=at(torch.ones_like(YR), (0, 1), NAN)), ValueError, ("weight > 0 and finite", "drop such")),
    "Dense of a vector": (lambda: ci.Dense(B), ValueError, (r"\(m, n\)", r"\(6,\)", "matrix")),
    "Dense of a list": (lambda: ci.Dense([[1.0]]), TypeError, ("tensor", "list")),
    "Dense of numpy": (
        lambda: ci.Dense(np.ones((2, 2))),
        TypeError,
        ("weight as a torch tensor", "got an array float64", "as_tensor"),
    ),
    "Dense of ints": (lambda: ci.Dense(torch.ones(2, 2).long()), TypeError, ("float", "torch.int64")),
    "complex Dense": (lambda: ci.Dense(torch.ones(2, 2) + 0j), TypeError, ("real numbers", "torch.complex64", r"\.real")),
}

PROBLEMS: dict[str, Case] = {
    "negative lam": (lambda: ci.NonnegativeLasso(ROWS, -1.0), ValueError, ("lam must be >= 0", "got -1.0", "pass 0")),
    "NaN lam": (lambda: ci.NonnegativeLasso(ROWS, NAN), ValueError, ("lam must be >= 0 and finite", "got nan")),
    "lam for three": (
        lambda: ci.NonnegativeLasso(ROWS, torch.ones(3)),
        ValueError,
        (r"\(2,\)", r"\(3,\)", "one per signal"),
    ),
    "lam list": (lambda: ci.NonnegativeLasso(ROWS, [0.1, 0.1]), TypeError, ("lam as a float or a tensor", "got list")),
    "lam string": (lambda: ci.NonnegativeLasso(ROWS, "0.1"), TypeError, ("lam as a float or a tensor", "got str")),
    "lam elsewhere": (lambda: ci.NonnegativeLasso(ROWS, torch.ones(2, device=META)), ValueError, ("on cpu", "on meta")),
    "one negative lam": (lambda: ci.NonnegativeLasso(ROWS, torch.tensor([0.1, -0.5])), ValueError, (">= 0", "got -0.5")),
    "lam without rows": (
        lambda: ci.NonnegativeLasso(YR, 0.1),
        TypeError,
        ("cvxinv.Rows", "got a tensor", "build Rows"),
    ),
    "negative gamma": (lambda: ci.GaussianLatent(ROWS, -2.0), ValueError, ("gamma must be >= 0", "got -2.0", "pass 0")),
    "infinite gamma": (lambda: ci.GaussianLatent(ROWS, INF), ValueError, ("gamma must be >= 0 and finite", "got inf")),
    "gamma table": (
        lambda: ci.GaussianLatent(ROWS, torch.ones(2, 1)),
        ValueError,
        (r"\(2,\)", r"\(2, 1\)", "one per signal"),
    ),
    "true gamma": (lambda: ci.GaussianLatent(ROWS, True), TypeError, ("gamma as a float or a tensor", "got bool")),
}

SOLVE: dict[str, Case] = {
    "rows": (solve(problem=ROWS), TypeError, ("problem", "Rows", "NonnegativeLasso|layer problem")),
    "unknown solver": (solve(solver="graph_adm"), ValueError, ("unknown solver 'graph_adm'", "did you mean 'graph_admm'")),
    "small capitals": (solve(solver="clarabel"), ValueError, ("unknown solver 'clarabel'", "did you mean 'CLARABEL'")),
    "no solver": (solve(solver=None), ValueError, ("unknown solver None", "'auto'")),
    "zero tol": (solve(tol=0.0), ValueError, ("tol must be between 0 and 1", "got 0.0", "1e-6")),
    "negative tol": (solve(tol=-1.0), ValueError, ("tol must be between 0 and 1", "got -1.0", "1e-6")),
    "NaN tol": (solve(tol=NAN), ValueError, ("tol must be between 0 and 1", "got nan")),
    "string tol": (solve(tol="1e-6"), ValueError, ("tol must be between 0 and 1", "got '1e-6'")),
    "zero max_iter": (solve(max_iter=0), ValueError, ("max_iter must be a positive integer or None", "got 0")),
    "half max_iter": (solve(max_iter=1.5), ValueError, ("max_iter must be a positive integer or None", "got 1.5")),
    "unknown on_fail": (solve(on_fail="ignored"), ValueError, ("unknown on_fail 'ignored'", "did you mean 'ignore'")),
    "options of CVXPY": (
        solve(solver="interior_point", solver_options={"eps": 1}), ValueError, ("CVXPY", "'eps': 1", "leave them out"),
    ),
    "zero tol, judged": (certify(H, P, tol=0.0), ValueError, ("tol must be > 0", "got 0.0", "1e-6")),
    "h list": (certify(H.tolist()), TypeError, ("h as a torch tensor or numpy array", "got list", "as_tensor")),
    "h objects": (certify(H.numpy().astype(object)), TypeError, ("floats or integers", "object", "convert it")),
    "complex h": (certify(H + 0j), TypeError, ("numbers|float", "complex128")),
    "h for three": (certify(torch.ones(3, 4)), ValueError, (r"\(2, 4\)", r"\(3, 4\)", "one row per signal")),
    "h flat": (certify(H[0]), ValueError, (r"\(2, 4\)", r"\(4,\)", "one row per signal")),
    "h elsewhere": (certify(H.to(META)), ValueError, ("on cpu", "meta", r"\.to\(")),
    "p of h": (certify(H, H), ValueError, (r"\(2, 6\)", r"\(2, 4\)", "one row per signal")),
    "p strings": (certify(H, np.full((2, 6), "0")), TypeError, ("floats or integers", "<U1", "convert it")),
}  # fmt: skip

# tensors that are none of a dense grid of real numbers, wherever they come in: (name, make of a tensor, cure)
FOREIGN: tuple[tuple[str, Callable[[Tensor], Tensor], str], ...] = (
    ("sparse", lambda t: t.to_sparse(), r"to_dense\(\)"),
    ("sparse rows", lambda t: t.reshape(-1, t.shape[-1]).to_sparse_csr(), r"to_dense\(\)"),
    ("complex", lambda t: t + 0j, r"\.real|convert|A\.double|one per signal"),
    ("nested", lambda t: torch.nested.nested_tensor([t]), "to_padded_tensor"),
)
QUANTISED = torch.quantize_per_tensor(torch.ones(6, 4), 0.1, 0, torch.qint8)
DOORS: dict[str, Callable[[Tensor], object]] = {
    "Dense": lambda t: ci.Dense(t(W.weight)),
    "ConvTranspose2d": lambda t: ci.ConvTranspose2d(t(KERNEL), (2, 4, 4)),
    "Conv2d": lambda t: ci.Conv2d(t(KERNEL), (3, 4, 4)),
    "Resampling2d rows": lambda t: ci.Resampling2d(t(torch.eye(3)), torch.eye(3), 1),
    "Resampling2d columns": lambda t: ci.Resampling2d(torch.eye(3), t(torch.eye(3)), 1),
    "Layer b": lambda t: Layer(W, t(B), ci.ReLU()),
    "Rows b": lambda t: rows(b=t(B))(),
    "Rows y": lambda t: rows(y=t(YR))(),
    "Rows weight": lambda t: rows(weight=t(torch.ones_like(YR)))(),
    "lam": lambda t: ci.NonnegativeLasso(ROWS, t(torch.ones(2).double())),
    "eps": lambda t: ci.BasisPursuitL2(ROWS, t(torch.ones(2).double())),
    "lo": lambda t: ci.IntervalBasisPursuit(ROWS, t(YR), YR + 1),
    "hi": lambda t: ci.IntervalBasisPursuit(ROWS, YR - 1, t(YR)),
    "behind y": lambda t: ci.IntervalBasisPursuit.behind(ci.Tanh(), W, B, t(YR / 2), 0.1),
    "h": lambda t: ci.certify(LASSO, t(H)),
    "p": lambda t: ci.certify(LASSO, H, t(P)),
    "signals": lambda t: ci.invert(G, t(Y)),
    "judged latents": lambda t: ci.verify(G, Y, t(Z)),
    "truth": lambda t: ci.invert(G, Y, truth=t(Z)),
    "matrix": lambda t: ci.invert(G, Y @ A.T, measurement=t(A)),
    "Matrix": lambda t: ci.Matrix(t(A)),
    "noise": lambda t: ci.invert(G, Y, noise=("l2", t(torch.ones(3).double()))),
    "gamma": lambda t: ci.invert(G, Y, "latent_pursuit", gamma=t(torch.ones(3).double())),
}
DENSE_ONLY = {
    f"{kind} {door}": (lambda call=call, make=make: call(make), (TypeError, ValueError), (cure,))
    for door, call in DOORS.items() for kind, make, cure in FOREIGN
    if not (kind == "nested" and door == "Matrix")  # no floating tensor (k, d), and refused as none
    and not (kind.startswith("sparse") and door == "matrix")  # taken, see test_operators.py; `Matrix` itself is dense
}  # fmt: skip
MODULES: dict[str, Case] = {
    "on meta": (load(nn.Linear(4, 5, device="meta")), ValueError, ("got weight on meta", "load the weights first")),
    "complex": (load(nn.Linear(4, 5, dtype=torch.complex64)), TypeError, ("weight", "real numbers", "torch.complex64")),
    "sparse": (load(sparse_module()), TypeError, ("weight", "sparse_coo", r"to_dense\(\)")),
    "eight bits": (load(nn.Linear(4, 5).to(torch.float8_e4m3fn)), TypeError, ("float8_e4m3fn", r"module\.float\(\)")),
    "no outputs": (load(nn.Linear(4, 0)), ValueError, ("one output and one input", "got 0 and 4")),
    "a layer of nothing": (
        load(nn.Sequential(nn.Linear(3, 0), nn.ReLU(), nn.Linear(0, 4))), ValueError, ("at least one output", "got 0 and 3"),
    ),
}  # fmt: skip
NUMBERS: dict[str, Case] = {
    **{
        f"{name} for {what}": (lambda make=make, value=value: make(value), error, (words,))
        for what, make in {
            "lam": lambda v: ci.NonnegativeLasso(ROWS, v),
            "gamma": lambda v: ci.GaussianLatent(ROWS, v),
            "eps": lambda v: ci.NonnegativeBasisPursuitLinf(ROWS, v),
            "noise": lambda v: ci.invert(G, Y, noise=("l2", v)),
            "lam of invert": lambda v: ci.invert(G, Y, lam=v),
        }.items()
        for name, value, error, words in (
            ("complex", 0.1 + 2j, TypeError, "got complex"),
            ("numpy complex", np.complex128(0.1), TypeError, "got complex"),
            ("bool", True, TypeError, "got bool"),
            ("numpy bool", np.bool_(True), TypeError, "got bool"),
            ("0-d bool", np.array(True), TypeError, "got bool"),
            ("bool tensor", torch.tensor(True), TypeError, "torch.bool"),
            ("string", "0.1", TypeError, "got str"),
            ("numpy string", np.array("0.1"), TypeError, "<U3"),
            ("infinity", 1e400, ValueError, "got inf"),
            ("an integer beyond all floats", 10**400, ValueError, "got inf"),
            ("one far below", -(10**400), ValueError, "got -inf"),
        )
    },
    "no lam": (lambda: ci.NonnegativeLasso(ROWS, None), TypeError, ("got NoneType", "pass a number")),
    "lam beyond float32": (lambda: ci.Lasso(ROWS32, 1e39), ValueError, ("must fit torch.float32", "1e\\+39", "float64")),
    "lam of eight bits": (
        lambda: ci.NonnegativeLasso(ROWS, torch.ones(2).to(torch.float8_e4m3fn)), TypeError, ("floats", "float8_e4m3fn"),
    ),
    "masked signals": (invert(np.ma.masked_less(Y.numpy(), 0)), TypeError, ("plain array", "masked array", r"\.mask")),
    "masked h": (certify(np.ma.masked_less(H.numpy(), 0.5)), TypeError, ("plain array", "masked array", r"\.mask")),
    "tol of certify": (certify(H, tol="1e-6"), ValueError, ("tol must be > 0", "got '1e-6'")),
    "infinite tol": (certify(H, tol=INF), ValueError, ("tol must be > 0 and finite", "got inf")),
    "true max_iter": (solve(max_iter=True), ValueError, ("positive integer or None", "got True")),
    "rows for a problem": (lambda: ci.certify(ROWS, H), TypeError, ("a layer problem", "got Rows", "NonnegativeLasso")),
}  # fmt: skip
EMPTY: dict[str, Case] = {
    "no rows": (
        lambda: ci.Rows(ci.Dense(torch.ones(0, 3)), torch.zeros(0), torch.zeros(2, 0), torch.ones(2, 0).bool()),
        ValueError, ("at least one row and one unknown", "got 0 rows and 3 unknowns", "leave out"),
    ),
    "no unknowns": (
        lambda: ci.Rows(ci.Dense(torch.ones(3, 0)), torch.zeros(3), torch.zeros(2, 3), torch.ones(2, 3).bool()),
        ValueError, ("at least one row and one unknown", "got 3 rows and 0 unknowns", "leave out"),
    ),
    "layer without outputs": (
        lambda: Generator((Layer(ci.Dense(torch.ones(0, 3)), torch.zeros(0), ci.Identity()),), (0,), {}),
        ValueError, (r"layers\[0\]", "got 0 and 3"),
    ),
    "convolution of nothing": (
        lambda: ci.Conv2d(torch.ones(0, 3, 2, 2), (3, 4, 4)), ValueError, ("entries", r"\(0, 3, 2, 2\)"),
    ),
    "kernel of three axes": (lambda: ci.Conv2d(torch.ones(3, 2, 2), (3, 4, 4)), ValueError, ("four axes", r"\(3, 2, 2\)")),
    "no measurements": (lambda: ci.Matrix(A[:0]), ValueError, ("measures something", r"\(0, 40\)")),
    "signals of nothing": (lambda: ci.Everything(0), ValueError, ("d as an integer >= 1", "got 0")),
}  # fmt: skip
TYPES: dict[str, Case] = {
    "Dense in half": (lambda: ci.Dense(W.weight.half()), TypeError, ("float32 or float64", "torch.float16", r"double\(\)")),
    "Dense in bfloat16": (lambda: ci.Dense(W.weight.bfloat16()), TypeError, ("float32 or float64", "torch.bfloat16")),
    "Dense on meta": (lambda: ci.Dense(W.weight.to(META)), ValueError, ("numbers in it", "on meta", "load the weights")),
    "quantised Dense": (lambda: ci.Dense(QUANTISED), TypeError, ("real numbers", "qint8", r"dequantize\(\)")),
    "generator to half": (lambda: G.to(torch.float16), ValueError, ("float32 or float64", "torch.float16")),
    "kernel of ints": (lambda: ci.Conv2d(KERNEL.long(), (3, 4, 4)), TypeError, ("float32 or float64", "torch.int64")),
    "b of ints": (lambda: Layer(W, B.long(), ci.ReLU()), TypeError, ("b of floats", "torch.int64", r"double\(\)")),
    "W of a layer": (lambda: Layer(W.weight, B, ci.ReLU()), TypeError, ("W as a map", "got a tensor", "Dense")),
    "activation by name": (lambda: Layer(W, B, "relu"), TypeError, ("an activation", "got str", r"ReLU\(\)")),
    "pair for a layer": (lambda: Generator(((W, B),), (6,), {}), TypeError, (r"layers\[0\] as a Layer", "got tuple")),
    "composition of tensors": (lambda: ci.Composition(W.weight, W), TypeError, ("outer as a map", "got a tensor", "Dense")),
    "half a latent": (lambda: G.sample_latent(2.5), ValueError, ("N as an integer >= 0", "got 2.5")),
    "inspected module": (lambda: inspect_generator(MODULE), TypeError, ("Generator", "got Sequential", "load_generator")),
}  # fmt: skip

TABLES = {
    "dense only": DENSE_ONLY,
    "modules": MODULES,
    "numbers": NUMBERS,
    "empty": EMPTY,
    "types": TYPES,
    "generator": GENERATOR,
    "signals": SIGNALS,
    "measurement": MEASUREMENTS,
    "noise": NOISE,
    "options": OPTIONS,
    "latents": LATENTS,
    "unreachable": UNREACHABLE,
    "rows": ROW,
    "problems": PROBLEMS,
    "solve": SOLVE,
}
CASES = [pytest.param(*case, id=f"{table}: {name}") for table, cases in TABLES.items() for name, case in cases.items()]


class ArithmeticReachedError(BaseException):
    """No `except` of the package may swallow it."""


@pytest.fixture
def no_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators, solvers and judges that may not be run."""

    def reached(*args: object, **options: object) -> None:
        raise ArithmeticReachedError

    monkeypatch.setattr(Generator, "preactivations", reached)
    monkeypatch.setattr(Generator, "linearize", reached)
    monkeypatch.setattr("cvxinv.solvers.solve._by_torch", reached)
    monkeypatch.setattr("cvxinv.solvers.solve._by_cvxpy", reached)
    for problem in (ci.NonnegativeLasso, ci.GaussianLatent):
        for part in ("objective", "violation", "dual", "complete"):
            monkeypatch.setattr(problem, part, reached)


@pytest.mark.usefixtures("no_arithmetic")
@pytest.mark.parametrize(("call", "error", "words"), CASES)
def test_bad_input_says_what_was_expected_what_came_and_the_cure(
    call: Callable[[], object], error: type[Exception], words: tuple[str, ...]
):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    missing = [word for word in words if not re.search(word, message)]
    assert not missing, f"the message lacks {missing}: {message}"


@pytest.mark.usefixtures("no_arithmetic")
@pytest.mark.parametrize("call", [invert(), *(invert(method=m) for m in METHODS), verify(), solve(), certify(H)])
def test_good_input_reaches_the_arithmetic_that_bad_input_must_not(call: Callable[[], object]):
    with pytest.raises(ArithmeticReachedError):
        call()


# --- one bad signal costs itself ------------------------------------------------------------------


def batch(N: int = 6, seed: int = 7, generator: Generator = G) -> tuple[Tensor, Tensor]:
    z = generator.sample_latent(N, seeded(seed))
    return z, generator(z)


def assert_same(got: ci.Inversion, expected: ci.Inversion) -> None:
    """Every signal of both has the same verdict and layers, and the same latent up to a few roundings."""
    assert got.status.tolist() == expected.status.tolist()
    assert got.layer_status.tolist() == expected.layer_status.tolist()
    assert got.used == expected.used
    assert torch.equal(got.determined, expected.determined)
    assert torch.allclose(got.verdict.misfit, expected.verdict.misfit, rtol=1e-12, atol=1e-12)
    exact = got.verdict.relative_misfit < 1e-10
    assert torch.allclose(got.z[exact], expected.z[exact], rtol=1e-12, atol=1e-12)
    # at a minimum with a misfit left, misfits that agree to 16 digits leave 8 digits of z
    assert torch.allclose(got.z, expected.z, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("method", METHODS)
def test_a_signal_that_is_not_finite_costs_only_itself(method: str, value: float):
    _, y = batch()
    others = torch.tensor([0, 1, 3, 4, 5])
    alone = ci.invert(G, y[others], method, on_fail="ignore", max_iter=50)
    with pytest.warns(ci.ConvergenceWarning, match=r"2 \(numerical_error\).*signals \[2\] hold NaN or inf") as caught:
        R = ci.invert(G, at(y, (2, 11), value), method, max_iter=50)
    assert len(caught) == 1
    assert R.status[2] == "numerical_error"
    assert R.z[2].isnan().all() and R.signal[2].isnan().all() and not R.determined[2]
    assert_same(R[others], alone)


@pytest.mark.parametrize("method", METHODS)
def test_a_signal_of_which_nothing_was_seen_costs_only_itself(method: str):
    _, y = batch()
    mask = torch.rand(6, 40, generator=seeded(3)) > 0.2
    others = torch.tensor([0, 1, 2, 3, 5])
    alone = ci.invert(G, y[others], method, measurement=mask[others], on_fail="ignore", max_iter=50)
    with pytest.warns(ci.ConvergenceWarning, match=r"4 \(numerical_error\).*signals \[4\].*nothing of them was seen"):
        R = ci.invert(G, y, method, measurement=at(mask, 4, False), max_iter=50)
    assert R.status[4] == "numerical_error"
    assert_same(R[others], alone)


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("output", ["identity", "relu"])
def test_a_zero_signal_spoils_no_other(method: str, bias: float, output: str):
    generator = net((5, 20, 40), output, bias=bias)
    _, y = batch(generator=generator)
    others = torch.tensor([1, 2, 3, 4, 5])
    alone = ci.invert(generator, y[others], method, on_fail="ignore", max_iter=50)
    R = ci.invert(generator, at(y, 0, 0.0), method, on_fail="ignore", max_iter=50)
    assert R.z[0].isfinite().all() and R.status[0] != "numerical_error"
    assert_same(R[others], alone)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("value", [NAN, 0.0])
@pytest.mark.parametrize("method", METHODS)
def test_a_bad_signal_costs_only_itself_under_noise(method: str, value: float, norm: str):
    _, y = batch()
    y = y + 0.01 * torch.randn(y.shape, generator=seeded(8), dtype=torch.float64)
    others = torch.tensor([0, 1, 3, 4, 5])
    noise = (norm, 0.1)
    alone = ci.invert(G, y[others], method, noise=noise, on_fail="ignore", max_iter=50)
    R = ci.invert(G, at(y, 2, value), method, noise=noise, on_fail="ignore", max_iter=50)
    assert (R.status[2] == "numerical_error") == (value != 0.0)
    assert_same(R[others], alone)


def test_a_signal_whose_squares_overflow_costs_that_signal():
    _, y = batch()
    y[1, 0] = 1e200
    with pytest.warns(ci.ConvergenceWarning, match=r"signals \[1\] hold NaN or inf or numbers above 1e100"):
        R = ci.invert(G, y)
    assert R.status[1] == "numerical_error" and (np.delete(R.status, 1) == "explained").all()
    with pytest.raises(ValueError, match=r"expected signals of numbers up to 1e\+100, got 1e\+200 in entry 0 of signal 0"):
        ci.invert(G, y[1])


def test_what_a_hidden_pixel_holds_does_not_matter():
    _, y = batch()
    for filler in (NAN, INF, 1e300):
        R = ci.invert(G, y.where(MASK, filler), measurement=MASK)
        assert torch.equal(R.z, ci.invert(G, y, measurement=MASK).z), filler


def test_a_latent_that_is_not_finite_is_judged_alone():
    z, y = batch()
    V = ci.verify(G, y, at(z, (1, 2), NAN))
    assert V.status.tolist() == ["explained", "numerical_error", *["explained"] * 4]
    assert V.misfit[1].isnan() and not V.determined[1] and V.determined[[0, 2, 3, 4, 5]].all()


def test_a_point_that_is_not_finite_is_certified_alone():
    solution = ci.solve(LASSO)
    C = ci.certify(LASSO, at(solution.h, (0, 1), NAN), solution.p)
    assert C.status.tolist() == ["numerical_error", "optimal"]
    C = ci.certify(LASSO, solution.h, at(solution.p, (0, 1), NAN))
    assert C.status[1] == "optimal" and C.bound.isfinite().all()


# --- warnings, errors, interruption ---------------------------------------------------------------


def hard() -> Tensor:
    """Signals far from the range of G, and one of its range."""
    y = torch.randn(4, 40, generator=seeded(9), dtype=torch.float64)
    y[2] = Y[0]
    return y


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [None, 1])
def test_a_call_warns_once_with_counts_and_first_indices(method: str, chunk: int | None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        R = ci.invert(G, hard(), method, chunk=chunk, max_iter=20)
    assert [w.category for w in caught] == [ci.ConvergenceWarning]
    bad = int((R.status != "explained").sum())
    assert bad >= 3
    assert f"{bad} of 4 signals are not explained: 0 ({R.status[0]}), 1 ({R.status[1]})" in str(caught[0].message)
    assert caught[0].filename == __file__, "the warning must point at the caller's line"


def test_many_failures_are_counted_and_five_are_named():
    y = torch.randn(9, 40, generator=seeded(9), dtype=torch.float64)
    with pytest.warns(ci.ConvergenceWarning) as caught:
        ci.invert(G, y, "levenberg_marquardt", max_iter=5)
    message = str(caught[0].message)
    assert message.startswith("9 of 9 signals are not explained: 0 (")
    assert ", 4 (" in message and ", 5 (" not in message and ", ..." in message


def test_on_fail_raise_carries_the_result_and_gives_no_warning():
    expected = ci.invert(G, hard(), on_fail="ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ci.UnsolvedError, match=r"3 of 4 signals are not explained: 0 .*\.result") as caught:
            ci.invert(G, hard(), on_fail="raise")
    assert isinstance(caught.value.result, ci.Inversion)
    assert torch.equal(caught.value.result.z, expected.z)
    assert caught.value.result.status[2] == "explained"


def test_on_fail_ignore_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        R = ci.invert(G, at(hard(), (0, 0), NAN), on_fail="ignore")
    assert R.status[0] == "numerical_error"


def test_success_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ci.invert(G, Y).verdict.explained.all()


def test_solve_warns_once_raises_with_the_solution_and_can_be_silent():
    with pytest.warns(ci.ConvergenceWarning, match=r"2 of 2 signals are not optimal: 0 \(user_limit\)") as caught:
        expected = ci.solve(LASSO, "linearized_admm", max_iter=1, polish=False)
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.raises(ci.UnsolvedError) as error:
        ci.solve(LASSO, "linearized_admm", max_iter=1, polish=False, on_fail="raise")
    assert isinstance(error.value.result, ci.Solution)
    assert torch.equal(error.value.result.h, expected.h)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ci.solve(LASSO, "linearized_admm", max_iter=1, polish=False, on_fail="ignore")


@pytest.mark.parametrize("z", [Z.to_sparse(), Z + 0j, Z.tolist(), torch.nested.nested_tensor([Z])])
def test_a_generator_takes_dense_tensors_only(z: object):
    with pytest.raises(TypeError, match=r"expected z as a .*tensor.*, got .*; use "):
        G(z)  # type: ignore[arg-type]


# what is interrupted, by method: deep inside, where switches might be turned
INSIDE = {
    "hybrid": "cvxinv.inversion.methods.hybrid.descend",
    "latent_pursuit": "cvxinv.inversion.steps.pursuit.solve",
    "levenberg_marquardt": "cvxinv.inversion.steps.newton.normal_equations",
    "gradient_descent": "cvxinv.inversion.steps.gradient.gradient",
}


def switches() -> dict[str, object]:
    return {
        "random numbers": torch.get_rng_state().tolist(),
        "numpy's random numbers": np.random.get_state()[1].tolist(),
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "numpy errors": np.geterr(),
        "warning filters": list(warnings.filters),
    }


@pytest.mark.parametrize("method", METHODS)
def test_an_interruption_leaves_nothing_changed(method: str, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    expected, before = ci.invert(G, Y, method, on_fail="ignore", max_iter=20), switches()
    with monkeypatch.context() as patch:
        patch.setattr(INSIDE[method], interrupt)
        with pytest.raises(KeyboardInterrupt):
            ci.invert(G, Y, method, on_fail="ignore", max_iter=20)
    assert switches() == before
    assert torch.equal(ci.invert(G, Y, method, on_fail="ignore", max_iter=20).z, expected.z)


# --- inputs stay as they were ---------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["everything", "mask", "masks", "matrix"])
def test_inputs_are_never_modified(method: str, kind: str):
    measurement = {"everything": None, "mask": MASK, "masks": MASK.repeat(4, 1), "matrix": A}[kind]
    y = hard() @ A.T if kind == "matrix" else hard()
    y = at(y, (1, 0), NAN)
    noise = torch.full((4,), 0.1, dtype=torch.float64)
    inputs = {"y": y, "noise": noise, "truth": G.sample_latent(4, seeded(1))}
    inputs |= {} if measurement is None else {"measurement": measurement}
    inputs |= {f"{name}{k}": t for k, layer in enumerate(G.layers) for name, t in (("W", layer.W.weight), ("b", layer.b))}
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    ci.invert(
        G, y, method, measurement=measurement, noise=("l2", noise), truth=inputs["truth"], on_fail="ignore", max_iter=10
    )
    for name, tensor in inputs.items():
        assert torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(before[name])), f"{name} was changed"


def test_the_judges_modify_nothing():
    z, h, p = Z.clone(), H.clone(), P.clone()
    ci.verify(G, Y, z)
    ci.certify(LASSO, h, p)
    assert torch.equal(z, Z) and torch.equal(h, H) and torch.equal(p, P)


def test_the_result_shares_no_memory_with_the_input():
    y = Y.clone()
    R = ci.invert(G, y)
    z = R.z.clone()
    y.zero_()
    assert torch.equal(R.z, z) and torch.equal(R.signal, G(z))


def test_signals_with_a_gradient_give_latents_without():
    R = ci.invert(G, Y.clone().requires_grad_())
    assert not R.z.requires_grad and not R.signal.requires_grad


def test_numpy_views_are_read_like_their_copies():
    y = Y.numpy()
    for view in (y[::-1], np.asfortranarray(y), np.repeat(y, 2, axis=1)[:, ::2]):
        assert torch.equal(ci.invert(G, view).z, ci.invert(G, view.copy()).z)


def test_foreign_byte_order_is_read_as_the_numbers_it_holds():
    foreign = ci.verify(G, Y.numpy().astype(">f8"), Z)
    assert torch.equal(foreign.misfit, ci.verify(G, Y, Z).misfit)
