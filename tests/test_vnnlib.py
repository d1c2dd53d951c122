"""Claims for other verifiers: the files say what the generator says, and the text what the claim says."""

import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import reference

import cvxinv as ci
from cvxinv.exact.question import ask
from cvxinv.exact.vnnlib import as_rounded, as_text, difference, export_claim

SEEN = torch.tensor([True, True, False, True, False, True])


def chain(leak: float = 0.0, at_output: bool = False, dtype: torch.dtype = torch.float64) -> ci.Generator:
    draw, layers, kink = torch.Generator().manual_seed(3), [], ci.LeakyReLU(leak) if leak else ci.ReLU()
    for n, m in ((3, 8), (8, 7), (7, 6)):
        W, b = torch.randn(m, n, generator=draw, dtype=torch.float64) / n**0.5, torch.randn(m, generator=draw).double()
        layers.append(ci.Layer(ci.Dense(W.to(dtype)), b.to(dtype), kink if m != 6 or at_output else ci.Identity()))
    return ci.Generator(tuple(layers), (6,), {})


GENERATORS = {
    "relu": chain(),
    "leaky": chain(0.2),
    "relu output": chain(at_output=True),
    "float32": chain(dtype=torch.float32),
}
MEASUREMENTS = {"all": None, "mask": SEEN, "matrix": torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).double()}


def measured(G: ci.Generator, z: torch.Tensor, measurement: torch.Tensor | None) -> torch.Tensor:
    x = G(z.to(G.dtype)).double()
    if measurement is None:
        return x
    return x[:, measurement] if measurement.dtype == torch.bool else x @ measurement.T


def latents(count: int, side: float) -> torch.Tensor:
    return side * (2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64) - 1)


def run(path: Path, z: torch.Tensor) -> torch.Tensor:
    """What onnxruntime makes of latents, one after another."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not here: pip install onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    kind = np.float32 if session.get_inputs()[0].type == "tensor(float)" else np.float64
    rows = [session.run(None, {"X": row[None].numpy().astype(kind)})[0][0] for row in z]
    return torch.as_tensor(np.stack(rows)).double()


def evaluate(path: Path, z: torch.Tensor) -> torch.Tensor:
    """The same by onnx's own evaluator."""
    evaluator = reference.ReferenceEvaluator(str(path))
    return torch.as_tensor(np.stack([evaluator.run(None, {"X": row[None].numpy()})[0][0] for row in z]))


def limits(text: str) -> dict[str, tuple[Decimal, Decimal]]:
    """Lower and upper limit of every variable of a property that is a conjunction of `(assert (<= name number))`."""
    lower, upper = dict[str, Decimal](), dict[str, Decimal]()
    declared = set(re.findall(r"\(declare-const (\w+) Real\)", text))
    for sign, name, number in re.findall(r"\(assert \((<=|>=) (\w+) (-?\d+\.\d+)\)\)", text):
        (upper if sign == "<=" else lower)[name] = Decimal(number)
    lines = [line for line in text.splitlines() if line and not line.startswith(";")]
    assert len(lines) == 3 * len(declared) and lower.keys() == upper.keys() == declared
    return {name: (lower[name], upper[name]) for name in sorted(declared)}


def sat(text: str, z: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether latent and output together are what the property asks for."""
    values = {f"X_{i}": v for i, v in enumerate(z.tolist())} | {f"Y_{j}": v for j, v in enumerate(x.tolist())}
    bounds = limits(text)
    assert bounds.keys() == values.keys()
    return all(low <= Decimal(values[name]) <= high for name, (low, high) in bounds.items())


def given(name: str, seeing: str) -> tuple[ci.Generator, torch.Tensor | None, torch.Tensor]:
    """Generator, measurement, and what was seen of a signal with noise, in the form that `prove` takes."""
    G, measurement = GENERATORS[name], MEASUREMENTS[seeing]
    signal = G(latents(1, 1.0).to(G.dtype))[0].double() + 0.1
    y = signal if seeing != "matrix" else measurement @ signal
    return G, measurement if seeing != "matrix" else measurement.to(G.dtype), y.to(G.dtype)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("seeing", MEASUREMENTS)
@pytest.mark.parametrize("name", GENERATORS)
def test_onnxruntime_computes_what_the_generator_computes(name: str, seeing: str, precision: str, tmp_path: Path):
    G, measurement, y = given(name, seeing)
    path = export_claim(tmp_path, G, y, 0.1, measurement=measurement, box=2.0, precision=precision).network
    # onnxruntime has no LeakyRelu of doubles: onnx's own evaluator is asked there
    found = (evaluate if name == "leaky" and precision == "float64" else run)(path, latents(50, 2.0))
    expected = measured(G, latents(50, 2.0), MEASUREMENTS[seeing])
    exact = precision == "float64" and name not in ("float32", "leaky")  # alpha is a float32 in ONNX
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 if exact else 2e-5)


@pytest.mark.parametrize("seeing", MEASUREMENTS)
@pytest.mark.parametrize("name", GENERATORS)
def test_the_property_holds_exactly_of_latents_within_eps(name: str, seeing: str, tmp_path: Path):
    G, measurement, y = given(name, seeing)
    z = latents(400, 2.5)  # some of them outside the box
    x = measured(G, z, MEASUREMENTS[seeing])
    question = ask(G, y, measurement=measurement, box=2.0)
    far = (x - question.y).abs().amax(1)
    eps = float(far.quantile(0.4))
    text = export_claim(tmp_path, G, y, eps, measurement=measurement, box=2.0, precision="float64").property.read_text()
    inside = (z.abs() <= 2.0).all(1)
    expected = [bool(a and b) for a, b in zip(inside, far <= eps, strict=True)]
    assert [sat(text, a, b) for a, b in zip(z, x, strict=True)] == expected
    assert any(expected) and not all(expected)


def test_limits_are_rounded_outwards():
    """0.1 as a double is above 1/10: with 17 digits it ends ...1, and y +- 1e-20 stays between its limits."""
    G, _, y = given("relu", "all")
    question = ask(G, y, box=0.1)
    for name, (low, high) in limits(as_text(question, 1e-20)).items():
        kind, index = name.split("_")
        middle = Fraction(float(question.y[int(index)])) if kind == "Y" else Fraction(0)
        reach = Fraction(1e-20 if kind == "Y" else 0.1)
        assert Fraction(low) <= middle - reach and middle + reach <= Fraction(high)
        assert Fraction(high) - Fraction(low) <= 2 * reach + Fraction(1e-14)


@pytest.mark.parametrize("name", GENERATORS)
def test_what_float32_changes_is_paid_for(name: str, tmp_path: Path):
    G, _, y = given(name, "all")
    question = ask(G, y, box=2.0)
    rounded = as_rounded(question.network, torch.float32)
    z = latents(5000, 2.0)
    moved = (rounded(z) - question.network(z)).abs().amax()
    bound = difference(question, rounded)
    assert float(moved) <= bound <= 1e-4
    claim = export_claim(tmp_path, G, y, 0.5, box=2.0)
    assert claim.widened == bound and (bound > 0 or name == "float32")
    low, high = limits(claim.property.read_text())["Y_0"]
    assert Fraction(high) - Fraction(low) >= 1 + 2 * Fraction(bound)


def test_what_does_not_fit_is_refused(tmp_path: Path):
    G, _, y = given("relu", "all")
    with pytest.raises(ValueError, match="expected eps as a number >= 0"):
        export_claim(tmp_path, G, y, float("nan"))
    with pytest.raises(ValueError, match="expected precision as float32 or float64, got 'half'"):
        export_claim(tmp_path, G, y, 0.1, precision="half")
    assert not list(tmp_path.iterdir())
