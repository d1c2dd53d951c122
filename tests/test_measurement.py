"""Measurements see what they say: values, Jacobians and batches of them agree, in every form a user may give them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import cvxinv as ci
from cvxinv.batch import per_signal
from cvxinv.measurement.abstract import AbstractMeasurement
from cvxinv.measurement.given import as_measurement

N, D, K, N0 = 4, 12, 7, 3
KINDS = ("everything", "mask", "masks", "matrix")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def mask(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed)) < 0.6


def measurement(kind: str, d: int = D, k: int = K, seed: int = 0) -> AbstractMeasurement:
    match kind:
        case "everything":
            return ci.Everything(d)
        case "mask":
            return ci.Mask(mask(d, seed=seed))
        case "masks":
            return ci.Mask(mask(N, d, seed=seed))
        case _:
            return ci.Matrix(normal(k, d, seed=seed))


@given(
    kind=st.sampled_from(KINDS), d=st.integers(1, 20), k=st.integers(1, 20), n0=st.integers(1, 6), seed=st.integers(0, 9999)
)
def test_push_is_the_jacobian_of_observe(kind: str, d: int, k: int, n0: int, seed: int):
    seeing = measurement(kind, d, k, seed)
    x, J, v = normal(N, d, seed=seed + 1), normal(N, d, n0, seed=seed + 2), normal(N, n0, seed=seed + 3)
    pushed = (seeing.push(J) @ v[..., None])[..., 0]
    moved = seeing.observe(x + (J @ v[..., None])[..., 0]) - seeing.observe(x)
    assert pushed.shape == moved.shape == (N, seeing.length)
    assert torch.allclose(pushed, moved, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_observe_is_linear_and_keeps_its_length(kind: str):
    seeing = measurement(kind)
    x, y = normal(N, D, seed=1), normal(N, D, seed=2)
    assert seeing.observe(x).shape == (N, seeing.length)
    assert seeing.length == (K if kind == "matrix" else D)
    assert torch.allclose(seeing.observe(2 * x - 3 * y), 2 * seeing.observe(x) - 3 * seeing.observe(y))


def test_each_kind_observes_what_it_says():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).double()
    assert ci.Everything(3).observe(x).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert ci.Mask(torch.tensor([True, False, True])).observe(x).tolist() == [[1, 0, 3], [4, 0, 6]]
    apart = torch.tensor([[True, False, False], [False, True, True]])
    assert ci.Mask(apart).observe(x).tolist() == [[1, 0, 0], [0, 5, 6]]
    A = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0]]).double()
    assert ci.Matrix(A).observe(x).tolist() == [[6, -2], [15, -2]]


def test_each_kind_pushes_what_it_says():
    J = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]).double()
    assert torch.equal(ci.Everything(2).push(J), J)
    assert ci.Mask(torch.tensor([False, True])).push(J).tolist() == [[[0, 0], [3, 4]], [[0, 0], [7, 8]]]
    apart = torch.tensor([[True, False], [False, True]])
    assert ci.Mask(apart).push(J).tolist() == [[[1, 2], [0, 0]], [[0, 0], [7, 8]]]
    assert ci.Matrix(torch.tensor([[1.0, -1.0]]).double()).push(J).tolist() == [[[-2, -2]], [[-2, -2]]]


def test_hidden_entries_do_not_reach_the_arithmetic():
    seeing = ci.Mask(torch.tensor([True, False]))
    x = torch.tensor([[1.0, torch.nan], [2.0, torch.inf]]).double()
    assert seeing.observe(x).tolist() == [[1, 0], [2, 0]]


@pytest.mark.parametrize("kind", KINDS)
def test_seen_says_which_entries_of_y_count(kind: str):
    seeing = measurement(kind)
    seen = seeing.seen(N)
    assert seen.shape == (N, seeing.length) and seen.dtype == torch.bool
    if kind in ("mask", "masks"):
        assert torch.equal(seen, mask(D).expand(N, D) if kind == "mask" else mask(N, D))
        assert not seeing.observe(normal(N, D))[~seen].any()
    else:
        assert seen.all()


@pytest.mark.parametrize("index", [torch.tensor([2, 0]), torch.tensor([False, True, True, False])], ids=["places", "mask"])
@pytest.mark.parametrize("kind", KINDS)
def test_take_observes_its_signals(kind: str, index: Tensor):
    seeing, x, J = measurement(kind), normal(N, D, seed=1), normal(N, D, N0, seed=2)
    part = seeing.take(index)
    # a product of fewer rows may round otherwise, by the processor
    assert torch.allclose(part.observe(x[index]), seeing.observe(x)[index], rtol=1e-14, atol=1e-13)
    assert torch.allclose(part.push(J[index]), seeing.push(J)[index], rtol=1e-14, atol=1e-13)
    assert torch.equal(part.seen(2), seeing.seen(N)[index])


@pytest.mark.parametrize("kind", KINDS)
def test_to_changes_type_and_device_and_nothing_else(kind: str):
    seeing, x = measurement(kind), normal(N, D, seed=1)
    half = seeing.to(torch.float32, "cpu")
    assert type(half) is type(seeing) and half.length == seeing.length
    assert half.observe(x.float()).dtype == torch.float32
    assert torch.allclose(half.observe(x.float()).double(), seeing.observe(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(half.seen(N), seeing.seen(N))
    if kind == "matrix":
        assert seeing.A.dtype == torch.float64, "the measurement itself stays as it was"
    if kind in ("mask", "masks"):
        assert seeing.to(torch.float64, "meta").visible.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_measurements_work_where_the_signals_are(kind: str):
    seeing, x, J = measurement(kind), normal(N, D, seed=1), normal(N, D, N0, seed=2)
    there = seeing.to(torch.float64, "cuda")
    assert torch.allclose(there.observe(x.cuda()).cpu(), seeing.observe(x))
    assert torch.allclose(there.push(J.cuda()).cpu(), seeing.push(J))
    assert torch.equal(there.seen(N).cpu(), seeing.seen(N))


# --- the forms a user may give --------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "everything", ci.Everything(D)], ids=["None", "word", "object"])
def test_everything_in_its_forms(value: object):
    seeing = as_measurement(value, D, N)
    assert isinstance(seeing, ci.Everything) and seeing.d == D


MASK_FORMS = {
    "flat": (mask(D), mask(D)),
    "numpy": (mask(D).numpy(), mask(D)),
    "picture": (mask(D).reshape(3, 4), mask(D)),
    "channels": (mask(D).reshape(1, 3, 4), mask(D)),
    "object": (ci.Mask(mask(D)), mask(D)),
    "one each": (mask(N, D), mask(N, D)),
    "numpy, one each": (mask(N, D).numpy(), mask(N, D)),
    "pictures, one each": (mask(N, D).reshape(N, 3, 4), mask(N, D)),
    "object, one each": (ci.Mask(mask(N, D)), mask(N, D)),
}


@pytest.mark.parametrize("form", MASK_FORMS)
def test_masks_in_their_forms(form: str):
    value, expected = MASK_FORMS[form]
    seeing = as_measurement(value, D, N)
    assert isinstance(seeing, ci.Mask)
    assert torch.equal(seeing.visible, expected)


@pytest.mark.parametrize("form", ["tensor", "numpy", "object"])
def test_matrices_in_their_forms(form: str):
    A = normal(K, D)
    seeing = as_measurement({"tensor": A, "numpy": A.numpy(), "object": ci.Matrix(A)}[form], D, N)
    assert isinstance(seeing, ci.Matrix)
    assert torch.equal(seeing.A, A)


def test_one_mask_for_one_signal_stays_one_mask():
    seeing = as_measurement(mask(1, D), D, 1)
    assert torch.equal(seeing.seen(1), mask(1, D))


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (mask(D - 1), ValueError, "12 numbers, got one of 11"),
        (mask(N + 1, D), ValueError, r"\(12,\) or \(4, 12\), got \(5, 12\)"),
        (normal(K, D - 1), ValueError, "12 numbers, got one of 11"),
        (ci.Everything(D + 1), ValueError, "12 numbers, got one of 13"),
        (torch.ones(D, dtype=torch.long), TypeError, r"torch\.int64 .*; use mask\.bool\(\)"),
        (np.ones(D, dtype=int), TypeError, r"array int64 .*; use mask\.astype\('bool'\)"),
        ([True] * D, TypeError, "got list; use torch.as_tensor"),
        ("all", TypeError, "got str"),
    ],
)
def test_forms_that_do_not_fit_are_named(value: object, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        as_measurement(value, D, N)


@pytest.mark.parametrize("form", ["flat", "numpy", "picture"])
def test_an_inversion_takes_a_mask_in_any_form(form: str):
    W, b = ci.Dense(normal(D, N0, seed=3)), normal(D, seed=4)
    G = ci.Generator((ci.Layer(W, b, ci.Identity()),), (3, 4), {})
    z = normal(N, N0, seed=5)
    R = ci.invert(G, G(z).reshape(N, 3, 4), measurement=MASK_FORMS[form][0])
    assert torch.allclose(R.z, z, rtol=1e-9, atol=1e-9)
    assert torch.allclose(R.verdict.size, torch.where(mask(D), G(z), 0.0).norm(dim=1))


def test_a_matrix_of_selected_rows_is_a_mask():
    W, b = ci.Dense(normal(D, N0, seed=3)), normal(D, seed=4)
    G = ci.Generator((ci.Layer(W, b, ci.Identity()),), (D,), {})
    z = normal(N, N0, seed=5)
    y = G(z) + 0.1 * normal(N, D, seed=6)
    visible = mask(D)
    A = torch.eye(D, dtype=torch.float64)[visible]
    masked = ci.invert(G, y, measurement=visible, on_fail="ignore")
    measured = ci.invert(G, y @ A.T, measurement=A, on_fail="ignore")
    assert torch.allclose(masked.z, measured.z, rtol=1e-7, atol=1e-7)
    for name in ("misfit", "size", "sigma_min", "sigma_max"):
        assert torch.allclose(getattr(masked.verdict, name), getattr(measured.verdict, name), rtol=1e-9), name


# --- what follows from observe, and what a class of one's own is tried for ------------------------


@dataclass(frozen=True, eq=False)
class Smear(AbstractMeasurement):
    """Neighbours mixed, signals of different strength: what differs is a field with one entry per signal."""

    strength: Tensor = per_signal(ndim=2)

    @property
    def length(self) -> int:
        return D

    def observe(self, x: Tensor) -> Tensor:
        return (x + x.roll(1, -1) / 2) * self.strength


SMEARS = {"shared": Smear(torch.tensor([1.5]).double()), "per signal": Smear(normal(N, 1, seed=9))}


@pytest.mark.parametrize("kind", KINDS)
def test_adjoint_is_the_transpose_of_observe(kind: str):
    seeing, x = measurement(kind), normal(N, D, seed=1)
    r = normal(N, seeing.length, seed=2)
    assert torch.allclose((seeing.adjoint(r) * x).sum(1), (r * seeing.observe(x)).sum(1), rtol=1e-12)
    inherited = AbstractMeasurement.adjoint(seeing, r)
    assert torch.allclose(seeing.adjoint(r), inherited, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_own_classes_write_is_what_follows_from_observe(kind: str):
    seeing, J, W, b = measurement(kind), normal(N, D, N0, seed=2), ci.Dense(normal(D, N0, seed=3)), normal(D, seed=4)
    assert torch.allclose(seeing.push(J), AbstractMeasurement.push(seeing, J), rtol=1e-12, atol=1e-15)
    assert seeing.shared is (kind != "masks")
    A, found = AbstractMeasurement.matrix(seeing, torch.float64, "cpu"), seeing.matrix(torch.float64, "cpu")
    if kind == "masks":
        assert A is None and found is None
        return
    assert torch.allclose(found, A, rtol=1e-12) and torch.allclose(normal(N, D) @ A.T, seeing.observe(normal(N, D)))
    V, c = seeing.through(W, b)
    if kind == "matrix":
        U, a = AbstractMeasurement.through(seeing, W, b)
        assert torch.allclose(U.matrix(), V.matrix(), rtol=1e-12) and torch.allclose(a, c, rtol=1e-12)
    else:
        assert V is W and c is b


@pytest.mark.parametrize("kind", SMEARS)
def test_all_follows_from_length_and_observe(kind: str):
    seeing, x, J = as_measurement(SMEARS[kind], D, N), normal(N, D, seed=1), normal(N, D, N0, seed=2)
    for k in range(N0):
        assert torch.equal(seeing.push(J)[..., k], seeing.observe(J[..., k]))
    r = normal(N, D, seed=3)
    assert torch.allclose((seeing.adjoint(r) * x).sum(1), (r * seeing.observe(x)).sum(1), rtol=1e-12)
    assert torch.equal(seeing.take(torch.tensor([2, 0])).observe(x[[2, 0]]), seeing.observe(x)[[2, 0]])
    assert seeing.seen(N).all() and seeing.width == D and seeing.name == f"{__name__}.Smear"
    assert seeing.to(torch.float32).observe(x.float()).dtype == torch.float32
    W, b = ci.Dense(normal(D, N0, seed=3)), normal(D, seed=4)
    through, A = seeing.through(W, b), seeing.matrix(torch.float64, "cpu")
    assert seeing.shared is (through is not None) is (A is not None) is (kind == "shared")
    if through is not None:
        h = normal(N, N0, seed=5)
        assert torch.allclose(through[0](h) + through[1], seeing.observe(W(h) + b), rtol=1e-12)
        assert torch.allclose(x @ A.T, seeing.observe(x), rtol=1e-12)


def own(**changed: object) -> AbstractMeasurement:
    """A measurement of one's own with some parts replaced."""
    parts = {"length": property(lambda self: D), "observe": lambda self, x: x.roll(1, -1)}
    return type("Own", (AbstractMeasurement,), parts | changed)()


OWN_FAULTS = {
    "length": (own(length=property(lambda self: 7.0)), r"length of Own as an integer >= 1, got 7\.0"),
    "width": (own(width=property(lambda self: D + 1)), "signals of 12 numbers, got one of 13"),
    "no width": (own(length=property(lambda self: 5)), "12 numbers, got one of 5; give Own its width"),
    "shape": (
        own(observe=lambda self, x: x[:, 1:]),
        r"observe of signals \(4, 12\) in Own to give .* got a tensor .*\(4, 11\)",
    ),
    "no tensor": (own(observe=lambda self, x: x.tolist()), "observe .* in Own to give .* got list"),
    "type": (own(observe=lambda self, x: x.float()), r"to give torch\.float64 of shape .* got a tensor torch\.float32"),
    "device": (own(observe=lambda self, x: x.to("meta")), "on cpu, got a tensor .* on meta"),
    "offset": (own(observe=lambda self, x: x + 1), "observe to be linear in Own"),
    "clipping": (own(observe=lambda self, x: x.clamp(min=0)), "only linear measurements can be inverted"),
    "noise": (own(observe=lambda self, x: x + torch.randn(x.shape[1])), "in Own, got numbers that are off"),
    "NaN": (own(observe=lambda self, x: x * torch.nan), "in Own, got numbers that are off"),
    "batch": (own(observe=lambda self, x: x - x.mean(0)), "take to keep each signal's own measurement in Own"),
    "place": (own(observe=lambda self, x: x * torch.arange(len(x))[:, None]), "declare what differs with per_signal"),
    "take": (own(take=lambda self, index: own(observe=lambda self, x: 2 * x)), "take to keep each signal's own"),
    "seen": (own(seen=lambda self, N: torch.ones(N, D)), r"seen\(4\) in Own to give torch\.bool"),
    "hidden": (own(seen=lambda self, N: torch.arange(D).expand(N, D) > 3), "observe to give 0 where seen says False"),
    "pixelwise": (own(pixelwise=True), "leave pixelwise at False"),
    "push": (own(push=lambda self, J: J), "push to observe each column"),
    "adjoint": (own(adjoint=lambda self, r: r), "adjoint to be the transpose of observe"),
    "through": (own(through=lambda self, W, b: (W, b)), "through to give the rows of what is seen in Own"),
    "matrix": (own(matrix=lambda self, dtype, device: torch.eye(D, dtype=dtype)), "matrix to be that of observe in Own"),
    "matrix's shape": (own(matrix=lambda self, dtype, device: torch.eye(D - 1, dtype=dtype)), "matrix in Own to give"),
    "adjoint's shape": (own(adjoint=lambda self, r: r[:, 1:]), "adjoint in Own to give"),
}


@pytest.mark.parametrize("fault", OWN_FAULTS)
def test_a_measurement_of_ones_own_that_does_not_fit_is_refused_by_name(fault: str):
    seeing, words = OWN_FAULTS[fault]
    with pytest.raises(ValueError, match=words):
        as_measurement(seeing, D, N)


def test_a_class_built_on_one_of_the_package_is_tried_too():
    class Doubled(ci.Matrix):
        def observe(self, x: Tensor) -> Tensor:
            return 2 * x @ self.A.T

    class Flipped(ci.Mask):
        def observe(self, x: Tensor) -> Tensor:
            return torch.where(self.visible, x.flip(1), 0.0)

    for seeing in (Doubled(normal(K, D)), Flipped(mask(D))):
        assert seeing.name.endswith(type(seeing).__qualname__) and seeing.name.startswith(__name__)
        with pytest.raises(ValueError, match=rf"in {type(seeing).__name__}, got numbers that are off"):
            as_measurement(seeing, D, N)


def test_one_that_holds_only_in_one_precision_is_refused():
    narrow = own(
        observe=lambda self, x: (x.float() @ torch.eye(D)).to(x.dtype) if x.dtype == torch.float64 else x.half().float()
    )
    with pytest.raises(ValueError, match="in Own, got numbers that are off"):
        as_measurement(narrow, D, N, dtype=torch.float32)


@pytest.mark.parametrize(
    ("seeing", "words"),
    [
        (
            Smear(normal(N + 1, 1)),
            "expected Smear to take 4 signals of 12 numbers in torch.float64 on cpu, got RuntimeError",
        ),
        (Smear(normal(1, 1)), "Smear to take 4 signals .* got IndexError"),
        (own(observe=lambda self, x: x @ torch.eye(D)), "Own to take 4 signals .* in torch.float64"),
    ],
    ids=["too many", "too few", "type"],
)
def test_what_torch_says_of_one_that_does_not_fit_comes_with_its_name(seeing: AbstractMeasurement, words: str):
    with pytest.raises(ValueError, match=words):
        as_measurement(seeing, D, N)


def test_one_that_autograd_cannot_follow_is_refused_by_name():
    with pytest.raises(TypeError, match=r"autograd follows.*write adjoint\(r\)"):
        as_measurement(own(observe=lambda self, x: x.detach().roll(1, -1)), D, N)


def test_a_correct_one_of_ones_own_passes():
    for N_ in (1, 2, N, 20):
        assert as_measurement(own(), D, N_).observe(normal(N_, D)).shape == (N_, D)
        assert as_measurement(own(), D, N_, dtype=torch.float32)
