"""Long runs: whatever stops one, and whenever, it goes on where it stopped and ends with the same bits."""

import errno
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci

N, D = 24, 20
COMMAND = [sys.executable, "-m", "cvxinv"]
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}


def net(seed: int = 0, output: nn.Module | None = None) -> ci.Generator:
    torch.manual_seed(seed)
    layers = [nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, D)]
    return ci.load_generator(nn.Sequential(*layers, *([] if output is None else [output])))


def signals(G: ci.Generator, count: int = N) -> Tensor:
    """Signals of which one is far from the range, one is not finite, and one is 0."""
    y = G(G.sample_latent(count, torch.Generator().manual_seed(3)))
    y[1] += 2.0
    y[4, 3] = torch.nan
    y[6] = 0.0
    return y


def check_same(a: ci.Inversion, b: ci.Inversion) -> None:
    """Bit for bit, but for the time that it took."""
    tensors = [(a.z, b.z), (a.signal, b.signal), (a.starts, b.starts), *zip(a.hidden, b.hidden, strict=True)]
    tensors += [
        (getattr(a.verdict, name), getattr(b.verdict, name)) for name in ("misfit", "size", "determined", "sigma_min")
    ]
    tensors += [(a.snr[name], b.snr[name]) for name in a.snr]
    if a.uncertainty is not None:
        tensors += [(a.uncertainty.sigma, b.uncertainty.sigma), (a.uncertainty.z_cov, b.uncertainty.z_cov)]
    for one, other in zip(a.layers, b.layers, strict=True):
        tensors += [(one.solution.h, other.solution.h), (one.solution.p, other.solution.p)]
    for one, other in tensors:
        assert one.dtype == other.dtype and torch.equal(one.nan_to_num(-7.0), other.nan_to_num(-7.0))
    assert a.status.tolist() == b.status.tolist() and a.used == b.used and a.notes == b.notes
    assert a.settings == b.settings and a.versions == b.versions


FAST: dict[str, Any] = {"method": "levenberg_marquardt", "on_fail": "ignore"}


class StoppedError(Exception):
    """What a test stops a run with."""


def stop_after(chunks: int) -> Any:
    def callback(progress: ci.RunProgress) -> None:
        if progress.chunk + 1 == chunks:
            raise StoppedError

    return callback


MASKS = torch.rand(N, D, generator=torch.Generator().manual_seed(1)) > 0.2
CASES: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "masks": {"measurement": MASKS},
    "noise per signal": {"noise": ("l2", torch.linspace(0.01, 0.1, N, dtype=torch.float64))},
    "noise of an unknown level": {"noise": "auto", "restarts": 2},
    "a prior": {"noise": ("gaussian", 0.1), "prior": ci.Gaussian(1.0), "restarts": 2},
    "starts": {"z0": torch.linspace(-1, 1, 3 * N, dtype=torch.float64).reshape(N, 3), "method": "levenberg_marquardt"},
    "layers alone": {"method": "latent_pursuit"},
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_was_stopped_ends_with_the_same_bits(case: str, tmp_path: Path):
    G, options = net(), {"on_fail": "ignore", "chunk": 5, **CASES[case]}
    y = signals(G)
    reference = ci.invert(G, y, **options)
    with pytest.raises(StoppedError):
        ci.invert(G, y, checkpoint=tmp_path / "out", callback=stop_after(2), **options)
    with pytest.raises(FileNotFoundError, match="run that is not finished"):
        ci.Inversion.load(tmp_path / "out")
    # another generator object, on which nothing was worked out before
    again = ci.invert(net(), y, checkpoint=tmp_path / "out", resume=True, **options)
    check_same(reference, again)
    check_same(reference, ci.Inversion.load(tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["result.json", "result.safetensors"]
    asked: list[int] = []
    finished = ci.invert(net(), y, checkpoint=tmp_path / "out", resume=True, callback=asked.append, **options)
    check_same(reference, finished)
    assert not asked, "a finished run is read, not computed"


def test_chunks_that_are_done_are_not_computed_again(tmp_path: Path):
    G = net()
    y = signals(G)
    with pytest.raises(StoppedError):
        ci.invert(G, y, chunk=5, checkpoint=tmp_path, callback=stop_after(3), **FAST)
    told: list[ci.RunProgress] = []
    ci.invert(G, y, checkpoint=tmp_path, resume=True, callback=told.append, **FAST)
    assert [word.chunk for word in told] == [3, 4] and [word.done for word in told] == [20, 24]
    assert sum(told[-1].counts.values()) == N


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 1}, r"seed \(1 in place of 0\)"),
    "option": ({"restarts": 3}, r"restarts \(3 in place of 1\)"),
    "method": ({"method": "gradient_descent"}, "method"),
    "noise": ({"noise": ("l2", 0.2)}, "noise"),
    "chunk": ({"chunk": 7}, r"chunk \(7 in place of 5\)"),
    "mask": ({"measurement": MASKS}, "measurement"),
    "z0": ({"z0": torch.zeros(3, dtype=torch.float64)}, "z0"),
    "truth": ({"truth": torch.zeros(N, 3, dtype=torch.float64)}, "truth"),
    "prior": ({"prior": ci.Box(-3.0, 3.0)}, "prior"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_run_is_refused_by_name(change: str, tmp_path: Path):
    G = net()
    y = signals(G)
    with pytest.raises(StoppedError):
        ci.invert(G, y, chunk=5, checkpoint=tmp_path, callback=stop_after(1), **FAST)
    options, name = CHANGES[change]
    with pytest.raises(ValueError, match=f"got another: .*{name}"):
        ci.invert(G, y, checkpoint=tmp_path, resume=True, **(FAST | options))


def test_another_generator_and_other_signals_are_refused_by_name(tmp_path: Path):
    G = net()
    y = signals(G)
    with pytest.raises(StoppedError):
        ci.invert(G, y, chunk=5, checkpoint=tmp_path, callback=stop_after(1), **FAST)
    last = y.clone()
    last[-1, -1] += 1e-15
    for other, seen, name in ((net(1), y, "generator"), (G, last, "signals"), (net(0, nn.Tanh()), y, "generator")):
        with pytest.raises(ValueError, match=rf"got another: {name} \(other values\); pass the same"):
            ci.invert(other, seen, checkpoint=tmp_path, resume=True, **FAST)
    bias = replace(G.layers[0], b=G.layers[0].b + 1e-15)
    with pytest.raises(ValueError, match="generator"):
        ci.invert(replace(G, layers=(bias, *G.layers[1:])), y, checkpoint=tmp_path, resume=True, **FAST)


def test_results_are_replaced_only_where_that_is_asked_for(tmp_path: Path):
    G = net()
    y = signals(G)
    first = ci.invert(G, y[:3], checkpoint=tmp_path, **FAST)
    with pytest.raises(FileExistsError, match="holds a result; go on with resume=True"):
        ci.invert(G, y, checkpoint=tmp_path, **FAST)
    check_same(first, ci.Inversion.load(tmp_path))
    with pytest.raises(ValueError, match="expected resume=True or overwrite=True, got both"):
        ci.invert(G, y, checkpoint=tmp_path, resume=True, overwrite=True)
    with pytest.raises(ValueError, match="expected checkpoint=folder beside resume=True"):
        ci.invert(G, y, resume=True)
    with pytest.raises(ValueError, match="expected y of shape"):  # before anything goes
        ci.invert(G, y[:, :7], checkpoint=tmp_path, overwrite=True)
    check_same(first, ci.Inversion.load(tmp_path))
    second = ci.invert(G, y, checkpoint=tmp_path, overwrite=True, **FAST)
    assert len(second) == N
    check_same(second, ci.Inversion.load(tmp_path))
    with pytest.raises(StoppedError):
        ci.invert(G, y, chunk=5, checkpoint=tmp_path, overwrite=True, callback=stop_after(1), **FAST)
    with pytest.raises(FileExistsError, match="holds a run that is not finished"):
        ci.invert(G, y, checkpoint=tmp_path, **FAST)


def test_a_result_that_does_not_say_of_what_is_not_gone_on_with(tmp_path: Path):
    G = net()
    ci.invert(G, signals(G), on_fail="ignore").save(tmp_path)
    with pytest.raises(ValueError, match="a result that does not say of what"):
        ci.invert(G, signals(G), checkpoint=tmp_path, resume=True)


def test_a_damaged_chunk_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    G = net()
    y = signals(G)
    reference = ci.invert(G, y, chunk=5, **FAST)
    with pytest.raises(StoppedError):
        ci.invert(G, y, chunk=5, checkpoint=tmp_path, callback=stop_after(3), **FAST)
    chunks = sorted((tmp_path / "chunks").glob("*.safetensors"))
    chunks[0].write_bytes(chunks[0].read_bytes()[:-3])
    chunks[1].unlink()
    check_same(reference, ci.invert(G, y, checkpoint=tmp_path, resume=True, **FAST))
    assert caplog.text.count("is damaged and is computed again") == 2


@pytest.mark.parametrize("write", [1, 2, 3, 4, 5, 6, 8, 10, 12, 13])
def test_a_full_disk_says_what_is_kept_and_loses_nothing_else(write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    G = net()
    y, calls, real = signals(G, 10), 0, os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    options = {"chunk": 4, "on_fail": "ignore", "method": "levenberg_marquardt", "checkpoint": tmp_path / "out"}
    monkeypatch.setattr(os, "fsync", full)
    failure = None
    try:
        ci.invert(G, y, **options)
    except OSError as error:
        failure = error
    monkeypatch.setattr(os, "fsync", real)
    if failure is not None:
        assert failure.errno == errno.ENOSPC and "No space left" in str(failure) and "resume=True" in str(failure)
        assert "of 3 chunks" in str(failure)
    assert not list(tmp_path.rglob("*.partial"))
    found = ci.invert(G, y, **options, resume=True)
    check_same(found, ci.invert(G, y, "levenberg_marquardt", chunk=4, on_fail="ignore"))


# --- time -----------------------------------------------------------------------------------------


def test_what_is_not_finished_in_time_comes_back_as_user_limit_and_the_run_goes_on(tmp_path: Path):
    G = net()
    y = signals(G)
    reference = ci.invert(G, y, chunk=5, **FAST)
    part = ci.invert(G, y, chunk=5, **FAST, time_limit=1e-9, checkpoint=tmp_path)
    assert len(part) == N and set(part.status[5:]) == {"user_limit"} and bool(part.z[5:].isnan().all())
    assert part.status[4] == "numerical_error" and "stopped by the time limit" in part.notes[-1]
    assert ci.Inversion.load(tmp_path).status.tolist() == part.status.tolist()
    with pytest.raises(FileExistsError):
        ci.invert(G, y, chunk=5, checkpoint=tmp_path, **FAST)
    check_same(reference, ci.invert(G, y, checkpoint=tmp_path, resume=True, **FAST))
    check_same(reference, ci.Inversion.load(tmp_path))


@pytest.mark.parametrize("noise", [None, ("linf", 1e-3), "auto"], ids=str)
@pytest.mark.parametrize("method", ["hybrid", "levenberg_marquardt", "gradient_descent"])
def test_a_limit_for_each_signal_ends_what_takes_longer(method: str, noise: Any):
    G = net()
    y = G(G.sample_latent(6, torch.Generator().manual_seed(3))) + 3.0
    began = time.monotonic()
    found = ci.invert(G, y, method, noise=noise, restarts=3000, signal_time_limit=0.02, on_fail="ignore")
    assert time.monotonic() - began < 30
    assert len(found) == 6 and bool(found.z.isfinite().all()) and set(found.status) <= {"user_limit", "explained"}


def test_a_limit_that_is_not_met_changes_nothing():
    G = net()
    y = signals(G)
    reference = ci.invert(G, y, chunk=5, **FAST)
    check_same(reference, ci.invert(G, y, chunk=5, **FAST, time_limit=1e6, signal_time_limit=1e6))


@pytest.mark.parametrize("how", ["True", "StopIteration"])
def test_a_callback_stops_a_run(how: str):
    G = net()
    y, told = signals(G), []

    def callback(progress: ci.RunProgress) -> bool:
        told.append(progress)
        if how == "StopIteration" and len(told) == 2:
            raise StopIteration
        return len(told) == 2

    found = ci.invert(G, y, chunk=5, **FAST, callback=callback)
    assert [word.chunk for word in told] == [0, 1] and told[1].chunks == 5 and told[1].done == 10
    assert set(found.status[10:]) == {"user_limit"} and "stopped by the callback" in found.notes[-1]
    assert told[1].remaining > 0 and told[1].seconds > told[0].seconds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_limit": 0}, "time_limit > 0 seconds, got 0"),
        ({"time_limit": float("nan")}, "time_limit > 0 seconds, got nan"),
        ({"signal_time_limit": "1"}, "signal_time_limit as a number of seconds, got str"),
        ({"callback": 3}, "callback as a function of one RunProgress, got int"),
    ],
)
def test_limits_that_are_none_are_refused(options: dict[str, Any], message: str):
    with pytest.raises((TypeError, ValueError), match=message):
        ci.invert(net(), signals(net()), **options)


def test_chunks_are_logged_where_somebody_listens(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture):
    G = net()
    y = signals(G)
    ci.invert(G, y, chunk=12, **FAST)
    assert not caplog.records and capfd.readouterr() == ("", "")
    with caplog.at_level(logging.INFO, "cvxinv"):
        ci.invert(G, y, chunk=12, **FAST)
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["chunk 1 of 2", "chunk 2 of 2"]
    assert all(r.levelno == logging.INFO and r.name == "cvxinv" for r in caplog.records)


# --- processes ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    G = net()
    ci.save_generator(G, "tiny")
    y = signals(G, 60)
    np.save("y.npy", torch.where(y.isfinite(), y, torch.zeros_like(y)).numpy())
    return tmp_path


WORDS = (
    "invert",
    "tiny",
    "y.npy",
    "-o",
    "out",
    "--chunk",
    "1",
    "--quiet",
    "--method",
    "levenberg_marquardt",
    "--restarts",
    "4",
)


def start(*words: str) -> subprocess.Popen:
    return subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ALONE)


def begun(process: subprocess.Popen, chunks: int) -> None:
    """Wait until the process has done so many chunks, or is done."""
    limit = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < limit:
        if len(list(Path("out/chunks").glob("*.json"))) >= chunks:
            return
        time.sleep(0.002)


def test_a_run_that_is_killed_at_any_time_goes_on_and_ends_with_the_same_bits(folder: Path):
    draw, codes = random.Random(5), []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        done = len(list(Path("out/chunks").glob("*.json")))
        process = start(*WORDS, "--resume")
        begun(process, done + draw.randint(1, 8))
        time.sleep(draw.random() * 0.02)
        process.send_signal(number)
        _, words = process.communicate(timeout=120)
        codes.append(process.returncode)
        assert "Traceback" not in words
        if process.returncode == 130:
            assert f"interrupted, {len(list(Path('out/chunks').glob('*.json')))} of 60 chunks" in words
            assert "go on with: cvxinv invert tiny y.npy -o out --chunk 1" in words and words.strip().endswith("--resume")
    assert codes == [-signal.SIGKILL, 143, 130], "each came while chunks were being computed"
    again = start(*WORDS)
    assert again.wait(timeout=120) == 2 and "expected a folder without results" in again.stderr.read()
    last = start(*WORDS, "--resume")
    assert last.wait(timeout=120) == 1, last.stderr.read()  # one signal is out of range
    G = ci.load_generator("tiny")
    reference = ci.invert(G, np.load("y.npy"), "levenberg_marquardt", restarts=4, chunk=1, on_fail="ignore")
    check_same(reference, ci.Inversion.load("out"))
    assert sorted(p.name for p in Path("out").iterdir()) == ["result.json", "result.safetensors"]


def test_an_interrupted_start_prints_no_traceback(folder: Path):
    for wait in (0.15, 0.4, 0.8):
        process = start(*WORDS)
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=120)
        assert process.returncode == 130 and "Traceback" not in words and "interrupted, " in words, (wait, words)


def test_a_time_limit_on_the_command_line_leaves_a_run_that_goes_on(folder: Path):
    from typer.testing import CliRunner

    from cvxinv.command import cli

    stopped = CliRunner().invoke(cli.app, [*WORDS, "--time-limit", "1e-9"])
    assert stopped.exit_code == 1, stopped.output
    assert json.loads(Path("out/result.json").read_text())["counts"]["user_limit"] >= 59
    done = CliRunner().invoke(cli.app, [*WORDS, "--resume"])
    assert done.exit_code == 1 and ci.Inversion.load("out").verdict.counts()["explained"] >= 50
    refused = CliRunner().invoke(cli.app, [*WORDS, "--resume", "--certificates", "proofs"])
    assert refused.exit_code == 2 and "files keep no layer problems" in " ".join(refused.output.split())


# --- warm starts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hybrid", "levenberg_marquardt", "gradient_descent"])
def test_an_earlier_result_is_a_start_where_it_knows_one(method: str, tmp_path: Path):
    G = net()
    y = G(G.sample_latent(8, torch.Generator().manual_seed(3)))
    broken = y.clone()
    broken[2] = torch.nan
    before = ci.invert(G, broken, on_fail="ignore")
    options = {"restarts": 0, "on_fail": "ignore", "chunk": 3}
    again = ci.invert(G, y, method, z0=before, **options)
    assert [again.used[i] for i in range(8) if i != 2] == ["z0"] * 7 and again.used[2] != "z0"
    assert again.settings["z0"] == "an earlier result"
    with pytest.raises(StoppedError):
        ci.invert(G, y, method, z0=before, checkpoint=tmp_path, callback=stop_after(1), **options)
    with pytest.raises(ValueError, match="z0"):
        ci.invert(G, y, method, z0=before.z.nan_to_num(), checkpoint=tmp_path, resume=True, **options)
    check_same(again, ci.invert(G, y, method, z0=before, checkpoint=tmp_path, resume=True, **options))
    with pytest.raises(ValueError, match="of the earlier result of shape"):
        ci.invert(G, y[:3], method, z0=before, **options)


def test_several_starts_of_a_signal_are_tried_in_turn():
    G = net()
    z = G.sample_latent(4, torch.Generator().manual_seed(3))
    far = torch.full_like(z, -30.0)
    found = ci.invert(G, G(z), "levenberg_marquardt", z0=torch.stack([far, z], 1), restarts=0, max_iter=2, on_fail="ignore")
    assert found.used == ("z0 2",) * 4 and bool(found.verdict.explained.all())
