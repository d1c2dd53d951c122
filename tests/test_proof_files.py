"""Proofs on the disk: saved and loaded, kept while they go on, resumed after a kill or an interrupt; told to inversions."""

import json
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.batch import Batch
from cvxinv.inversion.moments import INTERRUPTED, Moment

SEED, SHARE = 3, 1.0  # a net and noise that take many steps


def net(sizes: tuple[int, int, int] = (4, 24, 24), seed: int = SEED) -> ci.Generator:
    torch.manual_seed(seed)
    a, b, c = sizes
    return ci.load_generator(nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c)).eval())


def noisy(G: ci.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Latents near the true ones, and signals with much noise."""
    draw = torch.Generator().manual_seed(1)
    z = G.sample_latent(count, draw)
    x = G(z)
    e = torch.randn(x.shape, generator=draw, dtype=x.dtype)
    y = x + SHARE * e * x.norm(dim=1, keepdim=True) / e.norm(dim=1, keepdim=True)
    return ci.invert(G, y, "levenberg_marquardt", z0=z, on_fail="ignore", restarts=1).z, y


def assert_equal(one: object, other: object) -> None:
    """The same in every field, bit for bit."""
    if isinstance(one, Batch):
        for f in fields(one):  # type: ignore[arg-type]
            assert_equal(getattr(one, f.name), getattr(other, f.name))
    elif isinstance(one, Tensor):
        assert isinstance(other, Tensor) and one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(7.25), other.nan_to_num(7.25))
    elif isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray) and (one == other).all()
    elif isinstance(one, tuple):
        assert isinstance(other, tuple) and len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


def test_a_proof_is_read_as_it_was_written(tmp_path: Path):
    G = net()
    z, y = noisy(G, 3)
    y[2, 0] = torch.nan
    for proof in (
        ci.prove(G, y, z, gap=0.01),
        ci.prove(G, y, z, gap=0.01, noise=("gaussian", 0.1), prior=ci.Gaussian(1.0)),
    ):
        assert proof.save(tmp_path) == tmp_path
        again = ci.Proof.load(tmp_path)
        assert_equal(proof, again)
        assert again.explain(0) == proof.explain(0) and again.summary() == proof.summary()


def test_damaged_files_are_refused(tmp_path: Path):
    G = net()
    z, y = noisy(G, 1)
    ci.prove(G, y, z, time_limit=0).save(tmp_path)
    tensors = tmp_path / "proof.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    with pytest.raises(ValueError, match="sha256"):
        ci.Proof.load(tmp_path)
    tensors.unlink()
    with pytest.raises(FileNotFoundError, match="half a copy"):
        ci.Proof.load(tmp_path)
    (tmp_path / "proof.json").write_text("{}")
    tensors.write_bytes(b"")
    with pytest.raises(ValueError, match="format"):
        ci.Proof.load(tmp_path)


def test_a_stopped_proof_goes_on_and_ends_as_one_that_was_not(tmp_path: Path):
    G = net()
    z, y = noisy(G, 2)
    whole = ci.prove(G, y, z, gap=1e-3, batch=1)
    seen = list[Moment]()

    def second(moment: Moment) -> bool:
        seen.append(moment)
        return len(seen) % 2 == 0

    part = ci.prove(G, y, z, gap=1e-3, batch=1, checkpoint=tmp_path, callback=second)
    assert part.stopped == "the callback" and not part.proved.all() and (tmp_path / "proving").is_dir()
    assert (part.bound <= whole.misfit).all()
    while part.stopped:
        before = part
        part = ci.prove(G, y, z, gap=1e-3, batch=1, checkpoint=tmp_path, resume=True, callback=second)
        assert (part.nodes >= before.nodes).all() and part.seconds > before.seconds
        assert (part.bound >= before.bound * (1 - 1e-12)).all()
    assert torch.equal(part.nodes, whole.nodes) and torch.equal(part.rounds, whole.rounds)
    assert torch.allclose(part.bound, whole.bound, rtol=1e-12) and torch.equal(part.z, whole.z)
    assert part.status.tolist() == whole.status.tolist() and torch.equal(part.unique, whole.unique)
    assert not (tmp_path / "proving").exists()
    assert_equal(ci.prove(G, y, z, gap=1e-3, batch=1, checkpoint=tmp_path, resume=True), ci.Proof.load(tmp_path))


def test_a_folder_with_a_proof_is_left_alone_and_another_question_is_refused(tmp_path: Path):
    G = net()
    z, y = noisy(G, 1)
    ci.prove(G, y, z, time_limit=0, checkpoint=tmp_path)
    with pytest.raises(FileExistsError, match="resume"):
        ci.prove(G, y, z, time_limit=0, checkpoint=tmp_path)
    for options, word in (({"gap": 0.5}, "gap"), ({"box": 2.0}, "box"), ({"noise": ("l2", 1.0)}, "noise")):
        with pytest.raises(ValueError, match=word):
            ci.prove(G, y, z, checkpoint=tmp_path, resume=True, **options)
    with pytest.raises(ValueError, match="signals"):
        ci.prove(G, y + 1, z, checkpoint=tmp_path, resume=True)
    again = ci.prove(G, y, z, time_limit=0, checkpoint=tmp_path, overwrite=True, gap=0.5)
    assert again.settings["gap"] == 0.5 and ci.Proof.load(tmp_path).settings["gap"] == 0.5
    with pytest.raises(ValueError, match="one of them"):
        ci.prove(G, y, z, checkpoint=tmp_path, overwrite=True, resume=True)


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import cvxinv as ci
from cvxinv.exact import keeping
from test_proof_files import net, noisy
keeping.SHARE = 0  # after each step, however short
G = net()
z, y = noisy(G, 2)
options = dict(gap=1e-3, batch=1, time_limit=None, checkpoint=sys.argv[2], resume=True)
ci.prove(G, y, z, callback=lambda moment: print(moment, flush=True), **options)
"""


def test_a_killed_run_loses_one_step_at_most(tmp_path: Path):
    G = net()
    z, y = noisy(G, 2)
    folder = tmp_path / "kept"
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        lines = [child.stdout.readline() for _ in range(3)]
        child.kill()
    assert all("signals proved" in line for line in lines), (lines, child.returncode)
    steps = [json.loads(p.read_text())["steps"] for p in (folder / "proving").glob("*.json")]
    assert max(steps) >= 2, "a step and what was done before it are lost"
    state = max((folder / "proving").glob("*.json"), key=lambda p: json.loads(p.read_text())["steps"])
    state.write_bytes(state.read_bytes()[:100])  # what a kill in the middle of writing leaves: half of the newer state
    proof = ci.prove(G, y, z, gap=1e-3, batch=1, time_limit=None, checkpoint=folder, resume=True)
    whole = ci.prove(G, y, z, gap=1e-3, batch=1, time_limit=None)
    assert proof.status.tolist() == whole.status.tolist() and torch.equal(proof.nodes, whole.nodes)
    assert torch.allclose(proof.bound, whole.bound, rtol=1e-9) and len(proof.history.seconds) >= 3


def test_an_interrupt_gives_what_is_proved_so_far():
    G = net()
    z, y = noisy(G, 2)
    whole = ci.prove(G, y, z, gap=1e-3, batch=1)
    told = list[float]()

    def interrupts(moment: Moment) -> None:
        told.append(float(moment.bound[0]))
        if len(told) == 2:
            raise KeyboardInterrupt

    proof = ci.prove(G, y, z, gap=1e-3, batch=1, callback=interrupts)
    assert proof.stopped == INTERRUPTED and len(told) == 2 and not proof.proved.all()
    assert (proof.bound <= whole.misfit).all() and "stopped by an interrupt" in proof.summary()

    class Ended(KeyboardInterrupt):
        pass

    def ends(moment: Moment) -> None:
        raise Ended

    with pytest.raises(Ended):
        ci.prove(G, y, z, gap=1e-3, batch=1, callback=ends)


def test_an_interrupt_of_a_proof_that_is_a_part_ends_the_whole(monkeypatch: pytest.MonkeyPatch):
    G = net()
    z, y = noisy(G, 1)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cvxinv.exact.search.Search.step", interrupted)
    assert ci.prove(G, y, z, gap=1e-3).stopped == INTERRUPTED
    with pytest.raises(KeyboardInterrupt):
        ci.out_of_range(G, y, 0.1)


def test_an_interrupt_in_the_middle_of_a_step_loses_that_step_alone(monkeypatch: pytest.MonkeyPatch):
    from cvxinv.exact.search import Search

    G = net()
    z, y = noisy(G, 2)
    whole = ci.prove(G, y, z, gap=1e-3, batch=1)
    round_, count = Search.round, [0]

    def cut(search: Search, *told: object, **options: object) -> object:
        count[0] += 1
        if count[0] == 3:
            search.f.zero_()  # what half a step may leave
            raise KeyboardInterrupt
        return round_(search, *told, **options)

    monkeypatch.setattr(Search, "round", cut)
    proof = ci.prove(G, y, z, gap=1e-3, batch=1)
    assert proof.stopped == INTERRUPTED and (proof.misfit > 0).all()
    assert (proof.bound <= whole.misfit).all() and not proof.proved.all()


def test_the_history_tells_how_it_went():
    G = net()
    z, y = noisy(G, 2)
    proof = ci.prove(G, y, z, gap=1e-3, batch=1)
    h = proof.history
    assert h.bound.shape == h.misfit.shape == h.undecided.shape == h.open.shape == (2, len(h.seconds))
    assert (h.seconds.diff() >= 0).all() and (h.bound.diff(dim=1) >= -1e-12).all() and (h.misfit.diff(dim=1) <= 1e-12).all()
    assert (h.open[:, -1] == 0).all() and torch.allclose(h.bound[:, -1], proof.bound)
    part = proof.take(torch.tensor([1]))
    assert part.history.bound.shape == (1, len(h.seconds)) and len(part) == 1


def test_what_is_wrong_told_to_an_inversion(tmp_path: Path):
    G = net()
    z, y = noisy(G, 3)
    found = ci.invert(G, y, "levenberg_marquardt", restarts=1, on_fail="ignore", truth=z)
    proof = ci.prove(G, y, found, gap=1e-3, batch=1)
    told = found.with_proof(proof)
    assert torch.equal(told.z, proof.z) and torch.allclose(told.signal, G(told.z)) and told.proof is proof
    assert torch.allclose(told.verdict.misfit, (G(told.z) - y).norm(dim=1)) and torch.equal(told.hidden[0], proof.hidden[0])
    assert (told.verdict.misfit <= found.verdict.misfit * (1 + 1e-9)).all()
    assert told.status.tolist() == ["proved_optimal" if p else "stationary" for p in proof.proved]
    for i in range(3):
        assert (told.used[i] == "proof") == bool(proof.improved[i])
        assert bool(told.snr["z"][i].isnan()) == bool(proof.improved[i])
    columns = told.numpy()
    assert (columns["proof"] == proof.status).all() and np.allclose(columns["proved bound"], proof.bound)
    told.save(tmp_path)
    again = ci.Inversion.load(tmp_path)
    assert_equal(told.proof, again.proof)
    assert again.status.tolist() == told.status.tolist() and torch.equal(again.z, told.z)
    assert "proved optimal" in told.explain(int(proof.proved.nonzero()[0, 0]))
    with pytest.raises(ValueError, match="3 signals"):
        found.with_proof(proof.take(slice(0, 2)))
    with pytest.raises(ValueError, match="noise"):
        found.with_proof(ci.prove(G, y, found, noise=("l2", 0.1), time_limit=0))
    with pytest.raises(ValueError, match="knows the inversion's latents"):
        told.with_proof(ci.prove(G, y, time_limit=0, box=0.01))


def test_a_proof_of_other_signals_or_of_another_generator_is_not_told():
    G, other = net(), net(seed=SEED + 1)
    z, y = noisy(G, 3)
    found = ci.invert(G, y, on_fail="ignore")
    with pytest.raises(ValueError, match=r"the inversion's signals, got one whose signal 0 has length"):
        found.with_proof(ci.prove(G, G(z), z, time_limit=0))
    with pytest.raises(ValueError, match="the inversion's generator, got one of another"):
        found.with_proof(ci.prove(other, y, z, time_limit=0))


def test_of_one_signal_the_inversion_has_no_batch_axis():
    G = net()
    _, y = noisy(G, 1)
    found = ci.invert(G, y[0], "levenberg_marquardt", restarts=1, on_fail="ignore", noise=("gaussian", 0.1))
    told = found.with_proof(ci.prove(G, y[0], found, noise=("gaussian", 0.1)))
    assert told.z.shape == (4,) and told.signal.shape == (24,) and told.uncertainty.z_std.shape == (4,)
    assert told.status.shape == (1,) and told.explain(0)


def test_the_bar_moves(capsys: pytest.CaptureFixture):
    G = net()
    z, y = noisy(G, 2)
    began = time.perf_counter()
    proof = ci.prove(G, y, z, gap=0.01, progress=True)
    words = capsys.readouterr().err
    assert "2/2 proved" in words and "median gap" in words and "open nodes" in words
    assert proof.seconds < time.perf_counter() - began
