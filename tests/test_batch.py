"""`Batch`: what is declared per signal is taken, joined and moved per signal; what is shared stays as it is."""

from dataclasses import dataclass, replace

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


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_what_is_put_stands_where_it_was_put_and_nowhere_else(index: Tensor | slice):
    line = torch.arange(N, dtype=torch.float64)
    whole, other, inner = outer(torch.zeros(N, 2)), outer(torch.ones(N, 2)), Inner(line + 0.5)
    whole = replace(whole, inner=Inner(line.clone()), snr={"z": line.clone()}, hidden=(line.clone(), 10 * line[:, None]))
    chosen = np.arange(N)[index if isinstance(index, slice) else index.numpy()].tolist()
    new = replace(
        other, z=other.z + 100, words=tuple("efgh"), status=np.array(list("stuv")), inner=inner, snr={"z": -other.z[:, 0]}
    )
    z, kept = whole.z, outer()
    whole.put(index, new.take(index))
    assert whole.z is z and [int(v) for v in z[:, 0]] == [k + 100 * (k in chosen) for k in range(N)]
    assert whole.words == tuple("efgh"[k] if k in chosen else "abcd"[k] for k in range(N))
    assert whole.status.tolist() == ["stuv"[k] if k in chosen else "wxyz"[k] for k in range(N)]
    assert whole.inner.value.tolist() == [k + 0.5 * (k in chosen) for k in range(N)]
    assert whole.snr["z"].tolist() == [-k if k in chosen else k for k in range(N)]
    assert whole.bias[:, 0].tolist() == [float(k in chosen) for k in range(N)]
    assert torch.equal(whole.hidden[1], kept.hidden[1]) and whole.columns.shape == (N,) and whole.given is None


def test_what_is_put_is_cast_and_what_is_shared_stays():
    whole, single = outer(), outer().to(torch.float32)
    whole.put(slice(0, 1), replace(single, z=single.z + 7).take(slice(0, 1)))
    assert whole.z.dtype == torch.float64 and whole.z[:, 0].tolist() == [7, 1, 2, 3]
    assert whole.bias.shape == (N,) and whole.bias.dtype == torch.float64, "as long as there are signals, and shared"


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
