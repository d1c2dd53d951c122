"""`cvxinv prove`, and proofs in explanations and on the page."""

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv.command import cli
from cvxinv.command.prove import box_of
from cvxinv.command.stopping import Terminated

D = 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the generator `tiny`, signals `y.npy` with noise, `clean.npy`, a mask and a matrix."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    G = ci.load_generator(nn.Sequential(nn.Linear(2, 10), nn.ReLU(), nn.Linear(10, D)).eval())
    ci.save_generator(G, "tiny")
    draw = torch.Generator().manual_seed(3)
    z = G.sample_latent(3, draw)
    x = G(z)
    np.save("z.npy", z.numpy())
    np.save("clean.npy", x.numpy())
    np.save("y.npy", (x + 0.1 * torch.randn(x.shape, generator=draw, dtype=x.dtype)).numpy())
    A = torch.randn(12, D, generator=draw, dtype=torch.float64)
    np.save("A.npy", A.numpy())
    np.save("Ax.npy", (x @ A.T).numpy())
    np.save("mask.npy", np.arange(D) < D - 4)
    return tmp_path


def run(*words: object) -> Any:
    return CliRunner().invoke(cli.app, ["prove", *(str(word) for word in words)])


def flat(text: str) -> str:
    return " ".join(text.split())


def test_signals_alone_are_inverted_and_proved(folder: Path):
    done = run("tiny", "y.npy", "-o", "out", "--report", "page.html")
    assert done.exit_code == 0, done.output
    assert "3 proved_optimal" in flat(done.stdout) and "|z_j| <= 4.243" in flat(done.stdout)
    assert "signal 0: proved optimal: no latent of the box is better by more than 0.01 %" in flat(done.stdout)
    proof, told = ci.Proof.load("out"), ci.Inversion.load("out")
    assert proof.proved.all() and (told.proof.status == proof.status).all()
    assert told.status.tolist() == ["proved_optimal"] * 3
    page = html.unescape(Path("page.html").read_text())
    assert "Is it the best one, and the only one?" in page and "3 proved_optimal" in page


def test_a_result_folder_takes_the_proof_and_other_latents_start_it(folder: Path):
    CliRunner().invoke(cli.app, ["invert", "tiny", "y.npy", "-o", "found"])
    done = run("tiny", "y.npy", "found", "-o", "found", "--json")
    answer = json.loads(done.stdout)
    assert done.exit_code == 0 and answer["statuses"] == {"proved_optimal": 3} and answer["out"] == "found"
    told = ci.Inversion.load("found")
    assert told.proof is not None and np.allclose(answer["bound"], told.proof.bound) and answer["gap"][0] <= 1e-4
    np.save("wrong.npy", np.load("z.npy") + 2.0)
    done = run("tiny", "clean.npy", "wrong.npy", "--json")
    answer = json.loads(done.stdout)
    assert done.exit_code == 0 and answer["improved"] == [True] * 3 and max(answer["misfit"]) < 1e-9
    refused = run("tiny", "clean.npy", "wrong.npy", "--report", "page.html")
    assert refused.exit_code == 2 and "result folder" in flat(refused.stderr)


def test_options_are_those_of_invert(folder: Path):
    masked = run("tiny", "clean.npy", "z.npy", "--mask", "mask.npy", "--json", "--gap", "0.001", "--box", "-6:7")
    answer = json.loads(masked.stdout)
    assert masked.exit_code == 0 and answer["settings"]["gap"] == 0.001 and answer["settings"]["measurement"] == "Mask"
    assert answer["box"] == {"low": [-6.0, -6.0], "high": [7.0, 7.0]}
    mapped = run("tiny", "Ax.npy", "z.npy", "--matrix", "A.npy", "-q")
    assert mapped.exit_code == 0 and mapped.stdout == ""
    noisy = run("tiny", "y.npy", "--noise", "l2:0.001", "--json")
    assert json.loads(noisy.stdout)["out_of_range"] == [True] * 3
    likely = run("tiny", "y.npy", "--noise", "gaussian:0.1", "--prior", "gaussian:1", "--json")
    assert likely.exit_code == 0 and json.loads(likely.stdout)["settings"]["prior"] == "Gaussian(precision=1, mean=0)"


def test_without_time_the_exit_code_is_one_and_the_proof_goes_on(folder: Path):
    stopped = run("tiny", "y.npy", "z.npy", "-o", "out", "--time-limit", 0)
    assert stopped.exit_code == 1 and "stopped by the time limit" in flat(stopped.stdout)
    assert "to do: more time" in flat(stopped.stdout)
    again = run("tiny", "y.npy", "z.npy", "-o", "out")
    assert again.exit_code == 2 and "--resume" in flat(again.stderr)
    assert run("tiny", "y.npy", "z.npy", "-o", "out", "--resume").exit_code == 0
    assert not Path("out/proving").exists() and ci.Proof.load("out").proved.all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gap", "2"), "gap"),
        (("--box", "a"), "--box"),
        (("--box", "1:2:3"), "LOW:HIGH"),
        (("--box", "0"), "box"),
        (("--batch", "0"), "batch"),
        (("--resume",), "--out"),
        (("--noise", "auto"), "state the level"),
        (("--time-limit", "nan"), "--time-limit"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(folder: Path, words: tuple[str, ...], said: str):
    done = run("tiny", "y.npy", "z.npy", *words)
    assert done.exit_code == 2 and said in flat(done.stderr) and len(done.stderr.strip().splitlines()) == 1


def test_boxes_in_words():
    assert box_of(None) is None and box_of("5") == 5.0 and box_of("-3:4") == (-3.0, 4.0)


def test_an_interrupt_says_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from cvxinv.exact.search import Search

    def interrupted(search: Search, *_: object) -> None:
        raise KeyboardInterrupt

    def terminated(search: Search, *_: object) -> None:
        raise Terminated

    monkeypatch.setattr(Search, "step", interrupted)
    done = run("tiny", "y.npy", "z.npy", "-o", "out")
    assert done.exit_code == 130 and "go on with" in done.stderr and "--resume" in done.stderr
    assert ci.Proof.load("out").stopped == "an interrupt"
    monkeypatch.setattr(Search, "step", terminated)
    done = run("tiny", "y.npy", "z.npy", "-o", "out", "--resume")
    assert done.exit_code == 143 and "open nodes of the proof are kept in out; go on with" in flat(done.stderr)
    monkeypatch.undo()
    assert run(str(folder / "tiny"), folder / "y.npy", folder / "z.npy", "-o", folder / "out", "--resume").exit_code == 0


def told(count: int = 3, **options: Any) -> tuple[ci.Inversion, ci.Generator]:
    torch.manual_seed(0)
    G = ci.load_generator(nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, D)).eval())
    draw = torch.Generator().manual_seed(3)
    x = G(G.sample_latent(count, draw))
    y = x + 0.1 * torch.randn(x.shape, generator=draw, dtype=x.dtype)
    found = ci.invert(G, y, "levenberg_marquardt", restarts=3, on_fail="ignore")
    return found.with_proof(ci.prove(G, y, found, **options)), G


def test_explanations_say_what_is_proved():
    inversion, _ = told()
    words = inversion.explain(0)
    assert words.startswith("signal 0: it is the signal; proved optimal") and "search missed" not in words
    assert "proof: latents spoken of: |z_j| <= 5.196" in words
    open_, _ = told(time_limit=0)
    words = open_.explain(0)
    assert "proof: not decided" in words and "search missed it" in words and open_.status[0] == "stationary"


def test_a_unique_latent_is_trusted_without_reserve():
    torch.manual_seed(0)
    G = ci.load_generator(nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, D)).eval())
    y = G(G.sample_latent(2, torch.Generator().manual_seed(3)))
    found = ci.invert(G, y)
    proof = ci.prove(G, y, found)
    assert proof.unique.all() and "not proved: that no other latent" in found.explain(0)
    sure = found.with_proof(proof)
    assert "not proved" not in sure.explain(0) and "as good lie on one affine piece" in sure.explain(0)
    assert sure.status.tolist() == ["explained"] * 2, "what is explained stays so"


@pytest.mark.parametrize("count", [3, 14])
def test_the_page_draws_the_proof(tmp_path: Path, count: int):
    inversion, G = told(count, time_limit=5)
    page = ci.write_report(inversion, tmp_path / "page.html", generator=G).read_text()
    part = page[page.index('<section id="proof"') : page.index('<section id="supports"')]
    titles = re.findall(r'<svg class="chart"[^>]*aria-label="([^"]*)"', part)
    assert titles[:3] == ["gap against time", "undecided units", "misfit of each signal, and what none is below"]
    drawn = [title for title in titles if "where latents as good may lie" in title]
    assert len(drawn) == count and "seconds since the proof began" in part and "half side, latent units" in part
    assert ("median of the signals" in part.split("undecided units")[0]) == (count > 12)
    for line in inversion.proof.summary().splitlines():
        assert line.strip() in html.unescape(part)
    plain = ci.write_report(inversion.take(slice(0, 2)), tmp_path / "two.html", generator=G).read_text()
    assert plain.count("where latents as good may lie</h3>") == 2


def test_a_result_without_a_proof_has_no_such_part(tmp_path: Path):
    inversion, G = told(1, time_limit=0)
    from dataclasses import replace

    page = ci.write_report(replace(inversion, proof=None), tmp_path / "page.html", generator=G).read_text()
    assert 'id="proof"' not in page and 'href="#proof"' not in page


@pytest.mark.parametrize(
    "wrong", [("--gap", 2), ("--box", -1), ("--batch", 0), ("--time-limit", "nan"), ("--noise", "auto")], ids=str
)
def test_what_is_wrong_is_refused_before_signals_are_inverted(folder: Path, wrong: tuple, monkeypatch: pytest.MonkeyPatch):
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("inverted first")

    monkeypatch.setattr("cvxinv.command.prove.invert", never)
    done = run("tiny", "y.npy", *wrong)
    assert done.exit_code == 2 and "error: " in done.output and "inverted first" not in done.output


def test_a_name_may_look_like_markup(folder: Path):
    for suffix in (".json", ".safetensors"):
        Path(f"tiny{suffix}").rename(f"net[v2]{suffix}")
    spec = json.loads(Path("net[v2].json").read_text())
    for name, seen in ((None, "net[v2]"), ("a[/b]", "a[/b]")):
        Path("net[v2].json").write_text(
            json.dumps({k: v for k, v in spec.items() if k != "name"} | ({"name": name} if name else {}))
        )
        done = CliRunner().invoke(cli.app, ["inspect", "net[v2]", "--samples", "4"])
        assert done.exit_code == 0 and seen in done.output, done.output


def test_a_proof_of_the_same_weights_under_another_name_is_told(folder: Path):
    G = ci.load_generator("tiny")
    copy = ci.Generator(G.layers, G.signal_shape, {})
    found = ci.invert(copy, np.load("y.npy"), on_fail="ignore")
    assert found.settings["generator"] != "tiny"
    found.save("found")
    done = run("tiny", "y.npy", "found")
    assert done.exit_code == 0, done.output
