"""`Batch`: what is declared per signal is taken, joined and moved per signal; what is shared stays as it is."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from cvxinv.batch import Batch, each_per_signal, per_signal, tensor_names


@dataclass(frozen=True, eq=False)
class Inner(Batch):
    value: Tensor = per_signal()
    tol: float = 1e-6


@dataclass(frozen=True, eq=False)
class Outer(Batch):
    z: Tensor = per_signal()
    words: tuple[str, ...] = per_signal()
    status: np.ndarray = per_signal()
    inner: Inner = per_signal()
    bias: Tensor = per_signal(ndim=2)
    hidden: tuple[Tensor, ...] = each_per_signal()
    snr: dict[str, Tensor] = each_per_signal()
    columns: Tensor | None = None  # shared, and as long as there are signals
    given: Tensor | None = per_signal(default=None)


N = 4


def outer(bias: Tensor | None = None) -> Outer:
    line = torch.arange(N, dtype=torch.float64)
    bias = line if bias is None else bias
    return Outer(
        line[:, None] + torch.zeros(N, 2), tuple("abcd"), np.array(list("wxyz")), Inner(line), bias,
        (line, 10 * line[:, None]), {"z": line}, torch.ones(N),
    )  # fmt: skip


INDICES = [torch.tensor([2, 0]), torch.tensor([False, True, False, True]), slice(1, 3), torch.tensor([-1])]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_taken_signals_are_the_same_in_every_field(index: Tensor | slice):
    part = outer().take(index)
    expected = np.arange(N)[index if isinstance(index, slice) else index.numpy()]
    assert part.z[:, 0].tolist() == expected.tolist() == part.inner.value.tolist() == part.snr["z"].tolist()
    assert part.words == tuple("abcd"[k] for k in expected) and part.status.tolist() == ["wxyz"[k] for k in expected]
    assert part.hidden[1][:, 0].tolist() == (10 * expected).tolist() and isinstance(part.hidden, tuple)
    assert part.given is None


def test_shared_fields_stay_even_where_they_are_as_long_as_there_are_signals():
    part = outer().take(torch.tensor([0]))
    assert part.bias.shape == (N,) == part.columns.shape
    again = Outer.joined([part, outer().take(torch.tensor([1, 2, 3]))])
    assert again.bias.shape == (N,) == again.columns.shape
    assert outer(torch.zeros(N, 3)).take(torch.tensor([0])).bias.shape == (1, 3)


def test_joined_parts_are_the_whole():
    whole = outer(torch.arange(2.0 * N).reshape(N, 2))
    parts = [whole.take(slice(0, 1)), whole.take(slice(1, 3)), whole.take(slice(3, 4))]
    again = Outer.joined(parts)
    assert (again.z == whole.z).all() and again.words == whole.words and (again.status == whole.status).all()
    assert (again.inner.value == whole.inner.value).all() and (again.bias == whole.bias).all()
    assert all((a == b).all() for a, b in zip(again.hidden, whole.hidden, strict=True))
    assert Outer.joined([whole]) is whole


def test_floats_are_cast_and_masks_are_not():
    @dataclass(frozen=True, eq=False)
    class Mixed(Batch):
        y: Tensor = per_signal()
        on: Tensor = per_signal()

    cast = Mixed(torch.ones(2, dtype=torch.float64), torch.tensor([True, False])).to(torch.float32)
    assert cast.y.dtype == torch.float32 and cast.on.dtype == torch.bool
    assert outer().to(torch.float32).inner.value.dtype == torch.float32 and outer().to(torch.float32).words == tuple("abcd")


def test_a_row_of_a_table_names_the_tensors_per_signal():
    assert tensor_names(Outer) == ("z", "bias") and tensor_names(Inner) == ("value",)
