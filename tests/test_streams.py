"""Streams and clusters: the same bits as one process has in memory, whoever computes them and wherever they are written."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci

FAST: dict[str, Any] = {"method": "levenberg_marquardt", "chunk": 10}


def net() -> ci.Generator:
    torch.manual_seed(0)
    return ci.load_generator(nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 40)))


def signals(G: ci.Generator, count: int = 50) -> Tensor:
    """Signals of which a whole chunk is not finite, and one is out of range."""
    y = G(G.sample_latent(count, torch.Generator().manual_seed(1)))
    y[3] += 1
    y[10:20] = torch.nan
    return y


MASK = torch.rand(50, 40, generator=torch.Generator().manual_seed(2)) > 0.2


def check_same(streamed: ci.StreamedInversion, reference: ci.Inversion) -> None:
    assert len(streamed) == len(reference) and streamed.counts() == reference.verdict.counts()
    assert np.array_equal(streamed.z[:], reference.z.numpy(), equal_nan=True)
    for name in ("misfit", "determined", "relative_misfit"):
        assert np.array_equal(getattr(streamed, name)[:], getattr(reference.verdict, name).numpy(), equal_nan=True)
    assert list(streamed.status[:]) == reference.status.tolist() and tuple(streamed.used[:]) == reference.used
    assert np.array_equal(streamed.starts[:], reference.starts.numpy())


@pytest.mark.parametrize("store", ["npy", "zarr"])
@pytest.mark.parametrize("source", ["npy", "zarr", "tensor"])
def test_a_stream_gives_the_bits_of_an_inversion_in_memory(source: str, store: str, tmp_path: Path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    G = net()
    y = signals(G)
    np.save(tmp_path / "y.npy", y.numpy())
    np.save(tmp_path / "mask.npy", MASK.numpy())
    zarr.open_array(tmp_path / "y.zarr", mode="w", shape=y.shape, chunks=(7, 40), dtype="f8")[:] = y.numpy()
    given = {"npy": tmp_path / "y.npy", "zarr": tmp_path / "y.zarr", "tensor": y}[source]
    reference = ci.invert(G, y, measurement=MASK, on_fail="ignore", **FAST)
    out, options = tmp_path / "out", {"measurement": tmp_path / "mask.npy", "store": store, "keep": ("signal", "hidden")}
    found = ci.invert_stream(G, given, out, **options, **FAST)
    check_same(found, reference)
    assert np.array_equal(found.arrays["signal"][:], reference.signal.numpy(), equal_nan=True)
    part = found.take(slice(0, 20), G)
    assert torch.equal(part.z.nan_to_num(), reference.z[:20].nan_to_num()) and part.status.tolist() == list(
        found.status[:20]
    )
    assert torch.allclose(part.signal.nan_to_num(), reference.signal[:20].nan_to_num(), rtol=1e-12, atol=1e-12)
    names = {"result.json", "result.zarr"} if store == "zarr" else {"result.json", *(f"{n}.npy" for n in found.arrays)}
    assert {path.name for path in out.iterdir()} == names
    with pytest.raises(ValueError, match=r"read it with cvxinv.StreamedInversion.load"):
        ci.Inversion.load(out)


@pytest.mark.parametrize("noise", [("l2", torch.linspace(0.01, 0.1, 50, dtype=torch.float64)), "auto"], ids=["l2", "auto"])
def test_a_stream_that_was_stopped_goes_on(noise: Any, tmp_path: Path):
    G = net()
    y = signals(G)
    reference = ci.invert(G, y, noise=noise, on_fail="ignore", **FAST)
    stopped = ci.invert_stream(G, y, tmp_path, noise=noise, callback=lambda word: word.chunk == 1, **FAST)
    assert stopped.counts()["user_limit"] >= 30 and list(stopped.status[20:]) == ["user_limit"] * 30
    with pytest.raises(ValueError, match="signals"):
        ci.invert_stream(G, y + 1e-9, tmp_path, noise=noise, resume=True, **FAST)
    check_same(ci.invert_stream(G, y, tmp_path, noise=noise, resume=True, **FAST), reference)
    with pytest.raises(FileExistsError):
        ci.invert_stream(G, y, tmp_path, noise=noise, **FAST)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": "none.npy"}, FileNotFoundError, "expected signals at none.npy, found nothing"),
        ({"source": [1.0]}, TypeError, "got list"),
        ({"source": torch.zeros(3, 7, dtype=torch.float64)}, ValueError, "expected y of shape"),
        ({"measurement": MASK[:3]}, ValueError, "one per signal"),
        ({"store": "hdf"}, ValueError, "store"),
        ({"keep": ("layers",)}, ValueError, "keep"),
        ({"cluster": "here"}, ValueError, "expected cluster as"),
        ({"cluster": 0}, ValueError, "expected cluster as"),
    ],
    ids=str,
)
def test_what_cannot_be_streamed_is_refused_first(options: dict, error: type[Exception], message: str, tmp_path: Path):
    G = net()
    options = {"source": signals(G), **options}
    with pytest.raises(error, match=message):
        ci.invert_stream(G, options.pop("source"), tmp_path / "out", **FAST, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cluster_gives_the_same_bits_though_a_worker_is_killed(tmp_path: Path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    G, method = net(), {"method": "latent_pursuit", "chunk": 4, "on_fail": "ignore"}
    y = signals(G)
    reference, killed = ci.invert(G, y, **method), []
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        distributed.Client(local, timeout=120) as client,
    ):

        def kill(progress: ci.RunProgress) -> None:
            if not killed:
                killed.append(next(iter(client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)

        found = ci.invert(G, y, cluster=client, callback=kill, checkpoint=tmp_path / "run", **method)
        assert killed and torch.equal(found.z.nan_to_num(), reference.z.nan_to_num()) and found.used == reference.used
        for one, other in zip(found.layers, reference.layers, strict=True):
            assert torch.equal(one.solution.h, other.solution.h) and torch.equal(one.solution.p, other.solution.p)
        check_same(ci.invert_stream(G, y, tmp_path / "stream", "latent_pursuit", chunk=4, cluster=client), reference)


def test_a_stream_goes_on_with_the_threads_that_it_began_with(tmp_path: Path):
    """Their number decides the last bits."""
    G, seen, before = net(), list[int](), torch.get_num_threads()

    def told(progress: ci.RunProgress) -> bool:
        seen.append(torch.get_num_threads())
        return progress.chunk == 0

    y = signals(G)
    try:
        torch.set_num_threads(1)
        ci.invert_stream(G, y, tmp_path / "out", callback=told, **FAST)
        torch.set_num_threads(2)
        ci.invert_stream(G, y, tmp_path / "out", callback=told, resume=True, **FAST)
        assert torch.get_num_threads() == 2 and len(seen) == 5 and set(seen) == {1}
    finally:
        torch.set_num_threads(before)
