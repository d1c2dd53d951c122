"""The command line: what it prints and writes, its exit codes, and what it says of bad input."""

import html
import json
import os
import re
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv.command import cli, reading, showing, speaking, terminal
from cvxinv.pages.png import encode, read_pictures, write_pictures

D = 20  # entries of a signal of the generator `tiny`


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with generators `tiny` and `sigmoid`, and signals, masks and matrices in files."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 10), nn.ReLU(), nn.Linear(10, D))
    G = ci.load_generator(net)
    ci.save_generator(G, "tiny")
    ci.save_generator(G.with_output("sigmoid"), "sigmoid")
    z = G.sample_latent(4, torch.Generator().manual_seed(3))
    y = G(z).numpy()
    np.save("z.npy", z.numpy())
    np.save("y.npy", y)
    np.save("y32.npy", y.astype(np.float32))
    far = y.copy()
    far[1] += 5.0
    np.save("far.npy", far)
    A = torch.randn(15, D, generator=torch.Generator().manual_seed(4), dtype=torch.float64).numpy()
    np.save("A.npy", A)
    np.save("Ay.npy", y @ A.T)
    np.save("mask.npy", np.arange(D) < D - 3)
    np.save("short.npy", np.arange(7) < 3)
    np.save("hidden.npy", np.zeros(D, dtype=bool))
    return tmp_path


def run(*words: object) -> Any:
    """A command; an inversion may replace the result that an earlier one of the test left in its folder."""
    more = ["--overwrite"] if words[:1] == ("invert",) and not {"--help", "--resume", "--overwrite"} & set(words) else []
    return CliRunner().invoke(cli.app, [*(str(word) for word in words), *more])


def flat(text: str) -> str:
    return " ".join(text.split())


def read_json(result: Any) -> dict:
    """stdout as JSON: fails where anything else is on it."""
    return json.loads(result.stdout)


# --- invert ---------------------------------------------------------------------------------------


def test_invert_writes_a_result_that_explains_the_signals(folder: Path):
    result = run("invert", "tiny", "y.npy", "-o", "out")
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["result.json", "result.safetensors"]
    loaded = ci.Inversion.load("out")
    assert list(loaded.status) == ["explained"] * 4
    assert torch.allclose(ci.load_generator("tiny")(loaded.z), torch.from_numpy(np.load("y.npy")), atol=1e-8)


def test_the_tables_say_what_came_out(folder: Path):
    words = flat(run("invert", "tiny", "y.npy", "-o", "out").stdout)
    for part in (
        "hybrid: 4 signals",
        "4 explained",
        "median",
        "worst",
        "SNR",
        "none",
        "seconds",
        "layered: 4",
        "written to",
    ):
        assert part in words, part
    for part in ("NonnegativeLasso", "GaussianLatent", "4 optimal", "worst relative gap"):
        assert part in words, part


def test_one_signal_that_is_not_explained_makes_exit_code_1(folder: Path):
    result = run("invert", "tiny", "far.npy", "-o", "out", "--json")
    assert result.exit_code == 1 and read_json(result)["statuses"]["explained"] == 3
    assert len(ci.Inversion.load("out")) == 4


def test_what_is_not_explained_is_told_for_the_first_signals(folder: Path):
    np.save("bad.npy", np.load("y.npy")[[0, 1, 2, 3, 0, 1, 2]] + np.array([[0, 5, 5, 5, 5, 5, 5]]).T)
    result = run("invert", "tiny", "bad.npy", "-o", "out", "--json")
    assert read_json(result)["not_explained"] == [1, 2, 3, 4, 5, 6]
    result = run("invert", "tiny", "bad.npy", "-o", "out")
    inversion, G = ci.Inversion.load("out"), ci.load_generator("tiny")
    lines = [line for line in result.stdout.splitlines() if line.startswith("signal ")]
    assert [int(line.split()[1].strip(",")) for line in lines] == [1, 2, 3, 4, 5]
    assert all(f", {inversion.status[k]}: it is the " in line for k, line in enumerate(lines, 1)) and G.latent_dim == 2
    assert "1 more is not explained; cvxinv invert ... --report out.html tells for each signal why" in result.stdout
    reported = run("invert", "tiny", "bad.npy", "-o", "out", "--report", "r.html").stdout
    assert "--report" not in reported and "signal 1, " in reported
    assert "signal 0" not in run("invert", "tiny", "y.npy", "-o", "out").stdout


def test_one_signal_is_one(folder: Path):
    np.save("one.npy", np.load("y.npy")[:1])
    np.save("onez.npy", np.load("z.npy")[:1])
    assert "hybrid: 1 signal\n" in re.sub(" +\n", "\n", run("invert", "tiny", "one.npy", "-o", "out").stdout)
    assert "verify: 1 signal\n" in re.sub(" +\n", "\n", run("verify", "tiny", "one.npy", "onez.npy").stdout)


def test_answers_are_sorted_and_told_with_colons(folder: Path):
    inversion = ci.Inversion.load(run("invert", "tiny", "y.npy", "-o", "out", "--json") and "out")
    mixed = replace(inversion, used=("random start 10", "random start 2", "layered", "random start 2"))
    table = terminal.pairs("")
    showing.add_answers(table, mixed)
    assert list(table.columns[1].cells) == ["layered: 1, random start 2: 2, random start 10: 1"]


def test_invert_json_is_all_of_stdout(folder: Path):
    found = read_json(run("invert", "tiny", "y.npy", "-o", "out", "--json", "--exact-check", "2"))
    assert (found["method"], found["out"], found["signals"], found["statuses"]) == ("hybrid", "out", 4, {"explained": 4})
    assert found["relative_misfit"]["worst"] < 1e-8 and found["status"] == ["explained"] * 4
    assert [layer["index"] for layer in found["layers"]] == [1, 0]
    assert [(row["signal"], row["layer"]) for row in found["exact_check"]] == [(0, 1), (0, 0), (1, 1), (1, 0)]
    assert found["settings"]["seed"] == 0 and "torch" in found["versions"]


def test_json_has_null_for_what_is_not_finite(folder: Path):
    y = np.load("y.npy")
    y[2, 0] = np.nan
    np.save("nan.npy", y)
    result = run("invert", "tiny", "nan.npy", "-o", "out", "--json")
    assert result.exit_code == 1 and "NaN" not in result.stdout
    assert read_json(result)["misfit"][2] is None and read_json(result)["status"][2] == "numerical_error"


def test_quiet_is_quiet(folder: Path):
    result = run("invert", "tiny", "y.npy", "-o", "out", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_the_options_reach_the_method(folder: Path):
    result = run(
        "invert", "tiny", "y.npy", "-o", "out", "--method", "levenberg_marquardt", "--seed", 3, "--restarts", 2,
        "--chunk", 3, "--json",
    )  # fmt: skip
    found = read_json(result)
    assert (found["method"], found["layers"]) == ("levenberg_marquardt", [])
    asked = {"seed": 3, "restarts": 2, "chunk": 3}
    assert {k: found["settings"][k] for k in asked} == asked
    assert set(found["settings"]) - set(asked) == {"noise", "measurement", "generator", "mark"}
    assert read_json(run("invert", "tiny", "y.npy", "-o", "out", "--tol", "1e-5", "--json"))["settings"]["tol"] == 1e-5


def test_without_layer_problems_the_exact_check_says_so(folder: Path):
    result = run("invert", "tiny", "y.npy", "-o", "out", "--method", "levenberg_marquardt", "--exact-check", 2)
    assert "solved no layer problems" in flat(result.stdout)


def test_the_exact_check_prints_both_objectives(folder: Path):
    words = flat(run("invert", "tiny", "far.npy", "-o", "out", "--exact-check", 2).stdout)
    assert "fast against CVXPY" in words and "allowed" in words and "yes" in words and "NO" not in words


def test_a_mask_and_a_matrix_are_used(folder: Path):
    assert run("invert", "tiny", "y.npy", "-o", "masked", "--mask", "mask.npy").exit_code == 0
    assert run("invert", "tiny", "Ay.npy", "-o", "measured", "--matrix", "A.npy").exit_code == 0
    assert ci.Inversion.load("measured").signal.shape == (4, D)


def test_magnitudes_are_inverted_and_judged_as_magnitudes(folder: Path):
    for name, words in (("y", ()), ("Ay", ("--matrix", "A.npy"))):
        np.save("abs.npy", np.abs(np.load(f"{name}.npy")))
        assert run("invert", "tiny", "abs.npy", "-o", f"from_{name}", "--magnitudes", *words).exit_code == 0
        assert run("verify", "tiny", "abs.npy", f"from_{name}", "--magnitudes", *words).exit_code == 0
        assert ci.Inversion.load(f"from_{name}").settings["measurement"].startswith("Magnitudes(")
    done = run("verify", "tiny", "abs.npy", "from_y")
    assert done.exit_code == 2 and "Magnitudes(Everything)" in done.output and "--magnitudes" in done.output


def test_latents_from_magnitudes_are_not_judged_by_a_linear_measurement_nor_the_other_way(folder: Path):
    np.save("abs.npy", np.abs(np.load("Ay.npy")))
    assert run("invert", "tiny", "abs.npy", "-o", "phaseless", "--magnitudes", "--matrix", "A.npy").exit_code == 0
    assert run("invert", "tiny", "Ay.npy", "-o", "linear", "--matrix", "A.npy").exit_code == 0
    done = run("verify", "tiny", "abs.npy", "phaseless", "--matrix", "A.npy")
    said = " ".join(done.output.split())
    assert done.exit_code == 2 and "expected magnitudes, as the inversion was made with Magnitudes(Matrix)" in said
    assert "got a linear measurement" in said and "pass --magnitudes" in said
    done = run("verify", "tiny", "abs.npy", "linear", "--matrix", "A.npy", "--magnitudes")
    said = " ".join(done.output.split())
    assert done.exit_code == 2 and "expected a linear measurement, as the inversion was made with Matrix" in said
    assert "leave --magnitudes out" in said
    # latents in a file of their own say nothing of what they were found with
    np.save("z.npy", ci.Inversion.load("linear").z.numpy())
    assert run("verify", "tiny", "abs.npy", "z.npy", "--matrix", "A.npy", "--magnitudes").exit_code == 0


def test_noise_is_used(folder: Path):
    np.save("noisy.npy", np.load("y.npy") + 1e-3)
    assert run("invert", "tiny", "noisy.npy", "-o", "out", "--quiet").exit_code == 1
    for noise in ("l2:0.01", "linf:0.005"):
        assert run("invert", "tiny", "noisy.npy", "-o", "out", "--noise", noise, "--quiet").exit_code == 0


def noisy_file() -> np.ndarray:
    y = np.load("y.npy")
    e = 0.05 * np.random.default_rng(0).standard_normal(y.shape)
    np.save("noisy.npy", y + e)
    return e


@pytest.mark.parametrize("prior", ["gaussian:1", "gaussian:2:0.5", "box:-3:3", "ball:5"])
@pytest.mark.parametrize("noise", ["gaussian:0.05", "auto"])
def test_noise_and_prior_are_those_of_python(folder: Path, noise: str, prior: str):
    noisy_file()
    found = read_json(run("invert", "tiny", "noisy.npy", "-o", "out", "--noise", noise, "--prior", prior, "--json"))
    kind, *numbers = prior.split(":")
    known = {"gaussian": ci.Gaussian, "box": ci.Box, "ball": ci.Ball}[kind](*map(float, numbers))
    stated = noise if noise == "auto" else ("gaussian", 0.05)
    expected = ci.invert(ci.load_generator("tiny"), np.load("noisy.npy"), noise=stated, prior=known, on_fail="ignore")
    assert torch.equal(ci.Inversion.load("out").z, expected.z) and found["settings"]["prior"] == repr(known)
    assert found["uncertainty"]["estimated"] is (noise == "auto")
    assert found["uncertainty"]["sigma"] == pytest.approx(expected.uncertainty.sigma.tolist())
    assert np.allclose(found["uncertainty"]["z_std"], expected.uncertainty.z_std)
    checked = run("verify", "tiny", "noisy.npy", "out", "--noise", noise, "--prior", prior, "--json")
    assert read_json(checked)["statuses"] == found["statuses"]


@pytest.mark.parametrize("noise", ["gaussian:0.05", "auto"])
def test_verify_takes_noise_and_prior_of_a_result(folder: Path, noise: str):
    noisy_file()
    made = read_json(run("invert", "tiny", "noisy.npy", "-o", "out", "--noise", noise, "--json"))
    found = read_json(run("verify", "tiny", "noisy.npy", "out", "--json"))
    assert found["statuses"] == made["statuses"] and np.allclose(found["explained_below"], made["explained_below"])
    assert any("judged by the noise that out was made with, gaussian" in note for note in found["notes"])
    assert not any("prior" in note for note in found["notes"])
    made = read_json(
        run("invert", "tiny", "noisy.npy", "-o", "out", "--noise", noise, "--prior", "gaussian:3:0.1", "--json")
    )
    found = read_json(run("verify", "tiny", "noisy.npy", "out", "--json"))
    assert found["statuses"] == made["statuses"]
    words = "judged by the prior that out was made with, Gaussian(precision=3, mean=0.1)"
    assert any(words in note for note in found["notes"])
    # a Gaussian prior weighs nothing against a bound
    notes = read_json(run("verify", "tiny", "noisy.npy", "out", "--noise", "l2:9", "--json"))["notes"]
    assert any("not used here is the prior" in note for note in notes)


def test_the_table_says_level_and_spread(folder: Path):
    noisy_file()
    words = flat(run("invert", "tiny", "noisy.npy", "-o", "out", "--noise", "auto").stdout)
    assert "uncertainty" in words and "estimated" in words and "standard deviation of z" in words
    assert "uncertainty" not in run("invert", "tiny", "y.npy", "-o", "out").stdout


def test_latents_to_begin_with_are_used_and_credited(folder: Path):
    found = read_json(run("invert", "tiny", "y.npy", "-o", "out", "--z0", "z.npy", "--json"))
    assert set(found["used"]) == {"z0"} and found["statuses"] == {"explained": 4}
    wrong = run("invert", "tiny", "y.npy", "-o", "out", "--z0", "y.npy")
    assert wrong.exit_code == 2 and "expected" in wrong.stderr
    wrong = run("invert", "tiny", "y.npy", "-o", "out", "--z0", "z.npy", "--method", "latent_pursuit")
    assert wrong.exit_code == 2 and "has no option --z0" in wrong.stderr


def test_float32_rounds_float64_signals_aloud(folder: Path):
    found = read_json(run("invert", "tiny", "y.npy", "-o", "out", "--dtype", "float32", "--json"))
    assert found["versions"]["dtype"] == "torch.float32"
    assert "float64 signals were rounded to float32, as --dtype float32 asks" in found["notes"]
    again = read_json(run("invert", "tiny", "y32.npy", "-o", "out", "--dtype", "float32", "--json"))
    assert not any("rounded" in note for note in again["notes"])


def test_float32_signals_are_lifted_without_loss(folder: Path):
    result = run("invert", "tiny", "y32.npy", "-o", "out", "--json")
    found = read_json(result)
    assert found["versions"]["dtype"] == "torch.float64" and found["versions"]["signals in"] == "torch.float32"
    assert result.exit_code == 0


def test_output_replaces_the_last_activation(folder: Path):
    assert run("invert", "sigmoid", "y.npy", "-o", "out", "--output", "identity", "--quiet").exit_code == 0


def test_a_result_is_replaced_by_the_next(folder: Path):
    run("invert", "tiny", "y.npy", "-o", "out", "--quiet")
    assert run("invert", "tiny", "far.npy", "-o", "out", "--quiet").exit_code == 1
    assert ci.Inversion.load("out").status[1] != "explained"


def test_the_shipped_generator_goes_by_its_name(folder: Path):
    G = ci.load_generator(Path(ci.__file__).parent / "shipped" / "digits_8x8")
    np.save("digits.npy", G(G.sample_latent(2, torch.Generator().manual_seed(0))).numpy())
    assert run("invert", "digits_8x8", "digits.npy", "-o", "out", "--quiet").exit_code == 0


# --- reports and pictures -------------------------------------------------------------------------


@pytest.fixture
def pictures(folder: Path) -> Path:
    """Beside `folder`'s files: a generator `small` of 4 x 4 pictures in [0, 1], and a folder `in` with two samples."""
    torch.manual_seed(0)
    G = ci.load_generator(
        nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 16), nn.Unflatten(1, (1, 4, 4)), nn.Sigmoid())
    )
    ci.save_generator(G, "small")
    write_pictures(G(G.sample_latent(2, torch.Generator().manual_seed(0))), G, folder / "in", ["b.png", "a.png"])
    return folder


def test_a_report_is_written_beside_the_result(folder: Path):
    result = run("invert", "tiny", "far.npy", "-o", "out", "--truth", "z.npy", "--report", "r.html", "--json")
    assert result.exit_code == 1 and read_json(result)["report"] == "r.html" and len(read_json(result)["snr"]["z"]) == 4
    text = html.unescape(Path("r.html").read_text())
    assert ci.Inversion.load("out").explain(0, generator=ci.load_generator("tiny")).splitlines()[1].strip() in text
    assert "SNR in dB" in text and "3 of 4" in text
    assert "SNR" in run("invert", "tiny", "y.npy", "-o", "out", "--truth", "z.npy").stdout


def test_a_report_of_masked_and_of_measured_signals(folder: Path):
    for words in (("y.npy", "--mask", "mask.npy"), ("Ay.npy", "--matrix", "A.npy")):
        assert run("invert", "tiny", *words, "-o", "out", "--report", "r.html").exit_code == 0
        assert "4 of 4" in Path("r.html").read_text()


def test_a_report_of_float32_signals(folder: Path):
    assert run("invert", "tiny", "y32.npy", "-o", "out", "--dtype", "float32", "--report", "r.html").exit_code == 0


def test_a_folder_of_pictures_comes_back_under_the_same_names(pictures: Path):
    result = run("invert", "small", "in", "-o", "out", "--noise", "linf:0.002", "--json")
    found = read_json(result)
    assert result.exit_code == 0 and found["statuses"] == {"explained": 2} and found["pictures"] == "out/recovered"
    assert sorted(p.name for p in Path("out/recovered").iterdir()) == ["a.png", "b.png"]
    assert any("0 (black) to 1 (white)" in note for note in found["notes"])
    assert any("--noise linf:0.002" in note for note in found["notes"])
    G = ci.load_generator("small")
    given, back = (read_pictures(Path(place), G)[0] for place in ("in", "out/recovered"))
    # within the stated noise, and half a step of 8 bits more
    assert float((given - back).abs().max()) <= 0.002 + 0.5 / 255 + 1e-9


def test_one_picture_is_one_signal_and_a_mask_may_be_one(pictures: Path):
    seen = np.full((4, 4), 255, np.uint8)
    seen[0] = 0
    Path("mask.png").write_bytes(encode(seen))
    result = run("invert", "small", "in/a.png", "-o", "out", "--mask", "mask.png", "--noise", "linf:0.002", "--json")
    assert read_json(result)["signals"] == 1 and read_json(result)["settings"]["measurement"] == "Mask"
    assert [p.name for p in Path("out/recovered").iterdir()] == ["a.png"]
    verdict = run("verify", "small", "in/a.png", "out", "--mask", "mask.png", "--noise", "linf:0.002", "--json")
    assert read_json(verdict)["statuses"] == read_json(result)["statuses"]


def test_clipped_pixels_can_be_left_out(pictures: Path):
    # samples of a generator that leaves [-1, 1]: as pictures they are explained only without what was clipped
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 64))
    with torch.no_grad():
        net[2].weight *= 4
    G = replace(ci.load_generator(net), signal_shape=(8, 8), description={"output": {"range": [-1, 1]}})
    ci.save_generator(G, "wild")
    x = G(G.sample_latent(3, torch.Generator().manual_seed(0)))
    assert 0.1 < float((x.abs() > 1).double().mean()) < 0.9
    write_pictures(x, G, Path("wild-in"), ["0.png", "1.png", "2.png"])
    words = ("invert", "wild", "wild-in", "-o", "out", "--json")
    plain = run(*words)
    note = next(note for note in read_json(plain)["notes"] if "may be clipped" in note)
    assert plain.exit_code == 1 and "--hide-clipped" in note and "0 or 255" in note
    bound = re.search(r"--noise (linf:[\d.]+)", str(read_json(plain)["notes"]))[1]
    found = run(*words, "--hide-clipped", "--noise", bound)
    assert found.exit_code == 0 and read_json(found)["settings"]["measurement"] == "Mask"
    checked = run("verify", "wild", "wild-in", "out", "--hide-clipped", "--noise", bound, "--json")
    assert checked.exit_code == 0 and read_json(checked)["misfit"] == pytest.approx(read_json(found)["misfit"], rel=1e-6)
    np.save("mask8.npy", np.arange(64).reshape(8, 8) < 50)
    both = run(*words, "--hide-clipped", "--noise", bound, "--mask", "mask8.npy")
    assert both.exit_code == 0
    hidden = torch.arange(64) >= 50
    inside = read_pictures("wild-in", G)[0].abs() < 1 - 1e-9
    r = (ci.load_generator("wild")(ci.Inversion.load("out").z) - read_pictures("wild-in", G)[0]) * (inside & ~hidden)
    assert read_json(both)["misfit"] == pytest.approx(r.norm(dim=1).tolist(), rel=1e-9)


def test_arrays_become_pictures_where_that_is_asked_for(pictures: Path):
    G = ci.load_generator("small")
    np.save("x.npy", G(G.sample_latent(3)).numpy())
    assert run("invert", "small", "x.npy", "-o", "plain").exit_code == 0 and not Path("plain/recovered").exists()
    assert run("invert", "small", "x.npy", "-o", "out", "--png").exit_code == 0
    assert sorted(p.name for p in Path("out/recovered").iterdir()) == ["000.png", "001.png", "002.png"]


def test_inspect_draws_a_picture(pictures: Path):
    result = run("inspect", "small", "--samples", 30, "--picture", "p.png")
    assert result.exit_code == 0 and "wrote p.png" in result.stdout
    assert Path("p.png").read_bytes()[:4] == b"\x89PNG"
    assert read_json(run("inspect", "tiny", "--samples", 30, "--picture", "c.png", "--json"))["picture"] == "c.png"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("invert", "tiny", "y.npy", "-o", "out", "--report", "none/r.html"), "expected a folder for the report"),
        (("invert", "tiny", "y.npy", "-o", "out", "--report", "."), "expected a file for the report, got the folder"),
        (("invert", "tiny", "y.npy", "-o", "out", "--report", "tiny.json"), "expected a page FILE.html for --report, got"),
        (("invert", "tiny", "y.npy", "-o", "out", "--report", "far.npy/r.html"), "for the report, got the file"),
        (("inspect", "tiny", "--picture", "none/p.png"), "expected a folder for the picture at"),
        (("diagnose", "small", "in/a.png", "--picture", "in/a.png"), "for --picture, got in/a.png, which is read"),
        (("diagnose", "small", "in", "--picture", "in/a.png"), "for --picture, got in/a.png, which is read"),
        (("invert", "tiny", "y.npy", "-o", "out", "--png"), "expected a generator of pictures for --png"),
        (("invert", "tiny", "in", "-o", "out"), "expected a generator of pictures to read in"),
        (("invert", "small", "empty", "-o", "out"), "expected PNG files in the folder empty, found none"),
        (("invert", "small", "wide.png", "-o", "out"), "got 5 x 4 in wide.png"),
        (("invert", "small", "in", "-o", "out", "--mask", "in/a.png"), "black and white pixels in in/a.png"),
        (("invert", "tiny", "y.npy", "-o", "out", "--hide-clipped"), "expected PNG signals and no --matrix"),
        (
            ("invert", "small", "in", "-o", "out", "--hide-clipped", "--mask", "short.npy"),
            "expected a mask of 16 entries, or",
        ),
        (("invert", "tiny", "y.npy", "-o", "out", "--truth", "A.npy"), "expected the true latents of shape (4, 2)"),
        (("inspect", "tiny", "--picture", "p.jpg"), "expected a picture FILE.png for --picture, got p.jpg; pass e.g. p.png"),
    ],
)
def test_bad_reports_and_pictures_are_one_line_and_write_nothing(pictures: Path, words: tuple[str, ...], expected: str):
    Path("empty").mkdir()
    Path("wide.png").write_bytes(encode(np.zeros((4, 5), np.uint8)))
    result = run(*words)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and expected in result.stderr
    assert not Path("out").exists()


def test_a_report_goes_to_a_device_or_where_a_link_leads(folder: Path):
    Path("link.html").symlink_to("page.html")
    for place in (os.devnull, "link.html"):
        assert run("invert", "tiny", "y.npy", "-o", "out", "--report", place, "-q").exit_code == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert Path("link.html").is_symlink() and Path("page.html").read_text().startswith("<!DOCTYPE html>")


def test_pictures_that_are_read_are_not_replaced(pictures: Path):
    assert run("invert", "small", "in", "-o", "out").exit_code in (0, 1)
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    refused = run("invert", "small", "out/recovered", "-o", "out", "--overwrite")
    assert refused.exit_code == 2 and "expected another folder for pictures than out/recovered" in refused.stderr
    assert before == {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}


# --- verify, inspect, demo, version ---------------------------------------------------------------


def test_verify_judges_latents_and_results(folder: Path):
    run("invert", "tiny", "y.npy", "-o", "out", "--quiet")
    for latents in ("out", "z.npy", "out/result.safetensors"):
        result = run("verify", "tiny", "y.npy", latents)
        assert result.exit_code == 0 and "4 explained" in result.stdout
    found = read_json(run("verify", "tiny", "y.npy", "z.npy", "--json"))
    assert found["statuses"] == {"explained": 4} and max(found["misfit"]) == 0.0


def test_verify_judges_a_result_by_the_noise_it_was_made_with(folder: Path):
    np.save("noisy.npy", np.load("y.npy") + 1e-3)
    for norm, bound in (("l2", 0.0123456789), ("linf", 0.0050000001)):
        run("invert", "tiny", "noisy.npy", "-o", "out", "--noise", f"{norm}:{bound!r}", "--quiet")
        found = read_json(run("verify", "tiny", "noisy.npy", "out", "--json"))
        assert found["statuses"] == {"explained": 4} and found["explained_below"] == [bound] * 4
        assert any(f"judged by the noise that out was made with, {norm}:" in note for note in found["notes"])
    other = run("verify", "tiny", "noisy.npy", "out", "--noise", "l2:0", "--json")
    assert other.exit_code == 1 and read_json(other)["notes"] == []
    assert run("verify", "tiny", "noisy.npy", "out/result.safetensors").exit_code == 1, "an array says nothing of noise"
    assert "judged by the noise" in flat(run("verify", "tiny", "noisy.npy", "out").stdout)


def test_verify_says_that_a_result_was_made_with_a_mask(folder: Path):
    run("invert", "tiny", "y.npy", "-o", "out", "--mask", "mask.npy", "--quiet")
    notes = read_json(run("verify", "tiny", "y.npy", "out", "--json"))["notes"]
    assert notes == ["out was made with --mask or --hide-clipped, and none is passed here: every entry counts as seen"]
    assert read_json(run("verify", "tiny", "y.npy", "out", "--mask", "mask.npy", "--json"))["notes"] == []
    np.save("I.npy", np.eye(D))
    run("invert", "tiny", "y.npy", "-o", "out", "--matrix", "I.npy", "--quiet")
    assert "with --matrix" in read_json(run("verify", "tiny", "y.npy", "out", "--json"))["notes"][0]


def test_verify_says_what_is_not_explained(folder: Path):
    result = run("verify", "tiny", "far.npy", "z.npy", "--json")
    assert result.exit_code == 1 and read_json(result)["status"][1] != "explained"
    np.save("off.npy", np.load("z.npy") + 0.1)
    assert run("verify", "tiny", "y.npy", "off.npy").exit_code == 1
    assert run("verify", "tiny", "y.npy", "off.npy", "--noise", "l2:100").exit_code == 0


def test_inspect_shows_layers_and_hopes(folder: Path):
    result = run("inspect", "sigmoid", "--samples", 50)
    words = flat(result.stdout)
    assert result.exit_code == 0
    for part in ("2 latents -> 20 entries", "Dense", "Sigmoid()", "s_1 > n0", "smallest rank", "latent pursuit"):
        assert part in words, part
    assert "s_i: nonzeros of hidden layer i; n0 = 2 latents; n = 20 entries" in words
    found = read_json(run("inspect", "sigmoid", "--output", "identity", "--samples", 50, "--json"))
    assert found["layers"][1]["activation"] == "Identity()" and found["samples"] == 50


def test_demo_hands_its_options_on(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def run_demo(out: Path, seed: int, console: object) -> dict:
        console.print("words for people")
        return {"out": out, "seed": seed, "passed": seed == 5}

    monkeypatch.setattr("cvxinv.command.demo.run_demo", run_demo)
    result = run("demo", "--out", "shown", "--seed", 5, "--json")
    assert result.exit_code == 0 and read_json(result) == {"out": "shown", "seed": 5, "passed": True}
    failed = run("demo")
    assert "words for people" in failed.stdout and failed.exit_code == 1


def test_version_and_help():
    assert run("--version").stdout.startswith(f"cvxinv {ci.__version__}, torch ")
    words = run("--help").stdout
    assert all(name in words for name in ("demo", "invert", "verify", "inspect", "doctor"))


# --- bad input ------------------------------------------------------------------------------------


def bad_files() -> None:
    """Files that are wrong in one way each, in the working folder."""
    content = Path("y.npy").read_bytes()
    Path("cut.npy").write_bytes(content[:-30])
    Path("empty.npy").touch()
    Path("words.npy").write_text("not numpy")
    Path("y.csv").write_text("1,2")
    Path("afile").write_text("mine")
    np.save("bytes.npy", np.zeros((4, D), dtype=np.uint8))
    np.save("complex.npy", np.zeros((4, D), dtype=complex))
    np.save("strings.npy", np.array(["a"]))
    np.save("objects.npy", np.array([{}], dtype=object))
    np.save("wide.npy", np.zeros((4, D + 1)))
    np.save("none.npy", np.zeros((0, D)))
    np.save("nans.npy", np.full((4, D), np.nan))
    np.savez("two.npz", a=np.zeros((4, D)), b=np.zeros((4, D)))
    np.save("zeros.npy", np.zeros((3, D)))
    save_file({"weight": torch.zeros(2, 2)}, "alone.safetensors")
    save_file({"weight": torch.zeros(2, 2)}, "odd.safetensors")
    Path("odd.json").write_text("{}")
    Path("broken.safetensors").write_bytes(Path("tiny.safetensors").read_bytes()[:-8])
    Path("broken.json").write_bytes(Path("tiny.json").read_bytes())
    Path("model.pt").write_bytes(b"\x80")
    (Path("half") / "x").mkdir(parents=True)
    (Path("half") / "result.json").write_text("{")


INVERT = ("invert", "tiny", "y.npy", "-o", "out")
BAD = [
    (("invert", "tny", "y.npy", "-o", "out"), "expected a file at tny, found none; near it: tiny.safetensors"),
    (("invert", "digits_8x9", "y.npy", "-o", "out"), "shipped ones: digits_8x8"),
    (("invert", "alone", "y.npy", "-o", "out"), "got no alone.json"),
    (("invert", "odd", "y.npy", "-o", "out"), "list 'layers'"),
    (("invert", "broken", "y.npy", "-o", "out"), "truncated or of another generator"),
    (("invert", "model.pt", "y.npy", "-o", "out"), "the module that model.pt, a pickle of weights, belongs to"),
    (("invert", "half", "y.npy", "-o", "out"), "got the folder half"),
    (("invert", "y.npy", "y.npy", "-o", "out"), "error: "),
    (("invert", "tiny", "x.npy", "-o", "out"), "expected a file at x.npy, found none; near it: "),
    (("invert", "tiny", "no/x.npy", "-o", "out"), "there is no folder"),
    (("invert", "tiny", "y.csv", "-o", "out"), "expected a file .npy, .npz, .safetensors, got y.csv"),
    (("invert", "tiny", "cut.npy", "-o", "out"), "truncated or damaged"),
    (("invert", "tiny", "empty.npy", "-o", "out"), "truncated or damaged"),
    (("invert", "tiny", "words.npy", "-o", "out"), "expected a numpy file, got words.npy"),
    (("invert", "tiny", "bytes.npy", "-o", "out"), "/ 255"),
    (("invert", "tiny", "complex.npy", "-o", "out"), "got dtype complex128"),
    (("invert", "tiny", "strings.npy", "-o", "out"), "got dtype <U1"),
    (("invert", "tiny", "objects.npy", "-o", "out"), "got Python objects, which are never read"),
    (("invert", "tiny", "two.npz", "-o", "out"), "got 2: a, b"),
    (("invert", "tiny", "wide.npy", "-o", "out"), "got (4, 21)"),
    (("invert", "tiny", "none.npy", "-o", "out"), "expected at least one signal"),
    (("invert", "tiny", "nans.npy", "-o", "out"), "expected finite signals"),
    (("invert", "tiny", "y.npy", "-o", "afile"), "expected a folder for the result, got the file"),
    (("invert", "tiny", "y.npy", "-o", "afile/out"), "expected a folder for the result, got the file"),
    ((*INVERT, "--mask", "short.npy"), "error: expected"),
    ((*INVERT, "--mask", "hidden.npy"), "the mask hides everything"),
    ((*INVERT, "--mask", "y.npy"), "expected a mask of bool in y.npy, got torch.float64"),
    ((*INVERT, "--mask", "gone.npy"), "expected a file at gone.npy"),
    ((*INVERT, "--mask", "mask.npy", "--matrix", "A.npy"), "expected --mask or --matrix, got both"),
    ((*INVERT, "--matrix", "A.npy"), "expected SIGNALS of shape (N, 15), got (4, 20)"),
    ((*INVERT, "--matrix", "zeros.npy"), "got all zeros"),
    ((*INVERT, "--matrix", "mask.npy"), "expected a matrix in float32 or float64"),
    (
        ("invert", "sigmoid", "Ay.npy", "-o", "out", "--matrix", "A.npy", "--method", "latent_pursuit"),
        "a measurement matrix acts on the signal behind its Sigmoid",
    ),
    ((*INVERT, "--method", "hybird"), "did you mean 'hybrid'?"),
    ((*INVERT, "--methd", "hybrid"), "--method"),
    ((*INVERT, "--output", "relo"), "relu"),
    ((*INVERT, "--noise", "l3:0.1"), "unknown norm of --noise 'l3': did you mean 'l2'?"),
    ((*INVERT, "--noise", "l2"), "expected --noise as NORM:BOUND, got 'l2'"),
    ((*INVERT, "--noise", "l2:much"), "expected --noise as NORM:BOUND, got 'l2:much'"),
    ((*INVERT, "--noise", "l2:-1"), "expected a bound >= 0 in --noise, got 'l2:-1'; pass e.g. --noise l2:0.1"),
    ((*INVERT, "--prior", "box:-3"), "expected 2 numbers after box in --prior, got 1; pass e.g. --prior box:-3:3"),
    ((*INVERT, "--prior", "ball"), "expected 1 numbers after ball in --prior, got 0"),
    ((*INVERT, "--prior", "gaussian:much"), "expected numbers in --prior, got 'gaussian:much'"),
    ((*INVERT, "--prior", "gauss:1"), "unknown kind of --prior 'gauss': did you mean 'gaussian'?"),
    ((*INVERT, "--prior", "gaussian:1"), "noise"),
    ((*INVERT, "--prior", "box:3:-3"), "expected lo <= hi"),
    ((*INVERT, "--method", "latent_pursuit", "--restarts", "3"), "has no option --restarts; it belongs to"),
    ((*INVERT, "--noise", "l2:nan"), "expected a bound >= 0 in --noise, got 'l2:nan'"),
    ((*INVERT, "--dtype", "float16"), "unknown --dtype 'float16': did you mean"),
    ((*INVERT, "--device", "gpu"), "expected a device as 'cpu', 'cuda' or 'cuda:1', got 'gpu'; pass --device cpu"),
    ((*INVERT, "--device", "cuda:99"), "got 'cuda:99'"),
    ((*INVERT, "--tol", "2"), "expected --tol as a number in (0, 1), got '2'; pass e.g. --tol 1e-6"),
    ((*INVERT, "--tol", "small"), "expected --tol as a number in (0, 1), got 'small'; pass e.g. --tol 1e-6"),
    ((*INVERT, "--method", "oracle", "--tol", "1e-3"), "has no option --tol"),
    ((*INVERT, "--restarts", "-1"), "expected --restarts as an integer >= 0, got '-1'; pass e.g. --restarts 10"),
    ((*INVERT, "--chunk", "0"), "expected --chunk as an integer >= 1, got '0'; pass e.g. --chunk 64"),
    ((*INVERT, "--seed", "-1"), "expected --seed as an integer >= 0"),
    ((*INVERT, "--exact-check", "0"), "--exact-check"),
    (("invert", "tiny", "y.npy"), "--out"),
    (("verify", "tiny", "y.npy", "y.npy"), "expected LATENTS of shape (4, 2), got (4, 20)"),
    (("verify", "tiny", "y.npy", "half"), "got no result.safetensors"),
    (("verify", "tiny", "y.npy", "nowhere"), "got nowhere"),
    (("verify", "tiny", "y.npy", "z.npy", "--noise", "inf:1"), "unknown norm of --noise"),
    (("inspect", "nothing"), "expected a file at nothing"),
    (("inspect", "tiny", "--samples", "0"), "--samples"),
    (("demo", "--out", "afile"), "got the file"),
    (("invrt", "tiny", "y.npy"), "invert"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words[:3] + words[5:]) for words, _ in BAD])
@pytest.mark.parametrize("as_json", [False, True], ids=["", "json"])
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, words: tuple[str, ...], said: str, as_json: bool):
    bad_files()
    before = sorted(folder.rglob("*"))
    result = run(*words, *(["--json"] if as_json else []))
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert flat(said) in flat(result.stderr.replace("│", " ")), result.stderr
    assert sorted(folder.rglob("*")) == before
    if result.stderr.startswith("error: "):
        assert result.stderr.count("\n") == 1


PRIOR = ("--noise", "gaussian:0.1", "--prior")
TYPED = [
    ((*INVERT, "--tol", "0"), "expected --tol as a number in (0, 1), got '0'; pass e.g. --tol 1e-6"),
    ((*INVERT, "--tol=nan"), "expected --tol as a number in (0, 1), got 'nan'"),
    ((*INVERT, "--seed", str(2**70)), "expected --seed as an integer >= 0 and <= 9223372036854775807"),
    ((*INVERT, "--time-limit", "0"), "expected --time-limit as a number > 0, got '0'; pass e.g. --time-limit 60"),
    ((*INVERT, "--exact-check", "few"), "expected --exact-check as an integer >= 1, got 'few'; pass e.g. --exact-check 3"),
    ((*INVERT, "--label", "-1"), "expected --label as an integer >= 0"),
    ((*INVERT, "--method", "oracle"), "nor --truth; pass --truth LATENTS, or supports=masks (from Python only)"),
    ((*INVERT, "--method", "deep_phase_retrieval"), "pass --magnitudes, or use --method hybrid"),
    ((*INVERT, "--method", "plugin", "--prior", "ball:5"), "expected no --prior with the method plugin, got ball:5, which"),
    ((*INVERT, "--prior", "gaussian:1"), "expected --noise gaussian:SIGMA beside the prior gaussian:1, got no noise"),
    ((*INVERT, "--prior", "gaussian:1"), "or use box:LOW:HIGH or ball:RADIUS, which take any noise"),
    ((*INVERT, *PRIOR, "gaussian:0"), "expected --prior as gaussian:PRECISION with PRECISION > 0"),
    ((*INVERT, *PRIOR, "box:nan:1"), "expected --prior as box:LOW:HIGH with LOW <= HIGH, got 'box:nan:1'"),
    ((*INVERT, *PRIOR, "ball:0"), "got 0.0; pass e.g. --prior ball:5"),
    ((*INVERT, "--noise", "gaussian:0"), "expected a standard deviation > 0 in --noise, got 'gaussian:0'"),
    ((*INVERT, "--noise", "auto:1"), "unknown norm of --noise 'auto': expected one of 'l2', 'linf', 'l1', 'gaussian'"),
    ((*INVERT, "--z0", "A.npy"), "expected --z0 of shape (4, 2) or (2,), got (15, 20)"),
    ((*INVERT, "--truth", "A.npy"), "got (15, 20); pass --truth LATENTS of them"),
    ((*INVERT, "--output", "tanhh"), "--output: expected one of"),
    ((*INVERT, "--magnitudes"), "state --noise where noise has done that; where numbers have signs leave --magnitudes out"),
    ((*INVERT, "--resume", "--overwrite"), "expected --resume or --overwrite, got both"),
    (
        ("invert", "tiny", "Ay.npy", "-o", "out"),
        "expected SIGNALS of shape (N, 20) or (20,), got (4, 15); reshape it, or pass ",
    ),
    (("invert", "tiny", "Ay.npy", "-o", "out"), "--matrix FILE if it is not the whole signal"),
    (("compare", "tiny", "--chunk", "0"), "expected --chunk as an integer >= 1, got '0'; pass e.g. --chunk 64"),
    (("compare", "tiny", "--samples", "0"), "expected --samples as an integer >= 1"),
    (("compare", "tiny", "--signal-time-limit", "-1"), "expected --signal-time-limit as a number > 0"),
    (("compare", "tiny", "--methods", "hybrid,hybrid"), "expected --methods as all, or each once with commas between"),
    (("compare", "tiny", "--methods", "hybird"), "unknown method in --methods 'hybird': did you mean 'hybrid'?"),
    (("compare", "tiny", "--truth", "z.npy"), "expected --truth beside signals y, got no signals"),
    (("prove", "tiny", "y.npy", "--gap", "0"), "expected --gap as a number in (0, 1), got '0'; pass e.g. --gap 1e-4"),
    (("prove", "tiny", "y.npy", "--gap", "nan"), "expected --gap as a number in (0, 1), got 'nan'"),
    (("prove", "tiny", "y.npy", "--batch", "0"), "expected --batch as an integer >= 1"),
    (("prove", "tiny", "y.npy", "--time-limit", "-1"), "expected --time-limit as a number >= 0, got '-1'"),
    (("prove", "tiny", "y.npy", "--noise", "auto"), "state the level that was estimated, --noise gaussian:SIGMA"),
    (("prove", "tiny", "y.npy", "--box", "-inf:inf"), "pass --box LOWEST:HIGHEST with numbers"),
    (("prove", "tiny", "y.npy", "A.npy"), "expected RESULT of shape"),
    (("diagnose", "tiny", "--seed", "-3"), "expected --seed as an integer >= 0 and <= 9223372036854775807, got '-3'"),
    (("diagnose", "tiny", "--samples", "0"), "expected --samples as an integer >= 1"),
    (
        ("diagnose", "tiny", "--noise-levels", "0,nan"),
        "in [0, 1) in --noise-levels, got '0,nan'; pass e.g. --noise-levels 0,",
    ),
    (("diagnose", "tiny", "--time-limit", "nan"), "expected --time-limit as a number >= 0"),
    (("inspect", "tiny", "--seed", "-3"), "expected --seed as an integer >= 0"),
    (("demo", "--seed", "-1"), "expected --seed as an integer >= 0"),
    (("morph", "tiny", "y.npy:0", "y.npy:1", "-o", "m", "--frames", "0"), "expected --frames as an integer >= "),
    (("morph", "tiny", "y.npy:0", "y.npy:1", "-o", "m", "--eps", "nan"), "expected --eps as a number > 0"),
    (("morph", "tiny", "y.npy:0", "y.npy:1", "-o", "m", "--floor", "inf"), "expected --floor as a number"),
    (("morph", "tiny", "y.npy:0", "y.npy:1", "-o", "m", "--planner", "x"), "unknown --planner 'x'"),
    (("exercise", "check", "1", "x.py", "--memory", "inf"), "expected --memory as a number >= 0.1"),
    (
        ("exercise", "check", "1", "x.py"),
        "expected a file with an answer at x.py, found none; begin one: cvxinv exercise start",
    ),
    (("exercise", "shw"), "no such command 'shw', did you mean 'show'"),
]


@pytest.mark.parametrize(("words", "said"), TYPED, ids=[" ".join((words[0], *words[-2:])) for words, _ in TYPED])
def test_errors_are_told_as_it_is_typed(folder: Path, words: tuple[str, ...], said: str):
    """On one line, before anything is written, and no option is named as Python has it unless only Python has it."""
    before = sorted(folder.rglob("*"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = CliRunner().invoke(cli.app, list(words))
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1, result.output
    assert said in result.stderr, result.stderr
    assert not re.search(r"\b[a-z_0-9]+=\S*(?! \(from Python only\))(\s|$)", result.stderr.replace("=masks (from", "")), (
        result.stderr
    )
    assert sorted(folder.rglob("*")) == before


OPTIONS = {"noise": "--noise", "prior": "--prior", "time_limit": "--time-limit", "out": "--out", "matrix": "--matrix"}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("pass noise=None for none", "pass no --noise for none"),
        ("state noise=('l2', 0.31)", "state --noise l2:0.31"),
        ("noise=('gaussian', result.uncertainty.sigma)", "--noise gaussian:SIGMA"),
        ("pass prior=cvxinv.Gaussian(2.0), or leave it", "pass --prior gaussian:2.0, or leave it"),
        ("got Box(lo=-3, hi=3) and Gaussian(precision=4, mean=0.5)", "got box:-3:3 and gaussian:4:0.5"),
        ("a larger time_limit; with checkpoint=folder", "a larger time_limit; with --out OUT"),
        ("use method='hybrid' or 'csgm'", "use --method hybrid or csgm (of cvxinv invert)"),
        ("with lam=0.5", "with lam=0.5 (from Python only)"),
        ("pass measurement=A", "pass --matrix FILE"),
        ("export with opset_version=17 in a=b.npy", "export with opset_version=17 in a=b.npy"),
        ("time_limit must be > 0", "--time-limit must be > 0"),
        ("expected a prior of latents", "expected a prior of latents"),
    ],
)
def test_options_of_python_are_said_as_they_are_typed(told: str, said: str):
    assert speaking.spoken(told) == told
    with speaking.as_typed(OPTIONS, {"method": "--method"}, {"out": "OUT"}):
        assert speaking.spoken(told) == said
    assert speaking.spoken(told) == told


def test_errors_of_usage_suggest_the_closest_command():
    assert "invert" in run("invrt").stderr and run("invrt").exit_code == 2


def test_a_wrong_generator_lists_onnx_files_too(folder: Path):
    for name in ("net.onnx", "other.onnx", "net.safetensors"):
        Path(name).touch()
    for name, near in (
        ("nett.onnx", "net.onnx"),
        ("nt", "net.onnx, net.safetensors"),
        ("net2.safetensors", "net.safetensors"),
    ):
        result = run("inspect", name)
        assert result.exit_code == 2 and f"near it: {near}" in result.stderr and "other.onnx" in result.stderr
    for name in ("nett.onnx", "nt"):
        with pytest.raises(FileNotFoundError, match=r"ONNX files near it: net\.onnx, other\.onnx"):
            ci.load_generator(name)


def test_warnings_of_the_package_are_notes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    real = reading.load_generator

    def load(*words: Any, **options: Any) -> ci.Generator:
        for _ in range(2):
            warnings.warn("net.onnx was not compared with onnxruntime: [onnx] is missing", ci.CvxinvWarning, stacklevel=2)
        return real(*words, **options)

    monkeypatch.setattr(reading, "load_generator", load)
    result = run("invert", "tiny", "y.npy", "-o", "out", "--json")
    assert result.stderr == "note: net.onnx was not compared with onnxruntime: [onnx] is missing\n"
    assert read_json(result)["statuses"] == {"explained": 4}


# --- interruptions and faults ---------------------------------------------------------------------


def raising(error: BaseException) -> Callable:
    def replacement(*_: object, **__: object) -> None:
        raise error

    return replacement


def test_an_interrupted_run_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli, "invert", raising(KeyboardInterrupt()))
    result = run(*INVERT)
    assert result.exit_code == 130 and result.stderr == "interrupted, nothing was written\n" and result.stdout == ""
    assert not (folder / "out").exists()


def test_an_interrupted_write_leaves_no_unfinished_result(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "write_bytes", raising(KeyboardInterrupt()))
    result = run(*INVERT)
    assert result.exit_code == 130 and "out holds no unfinished result" in result.stderr
    assert list((folder / "out").iterdir()) == []


def test_an_interrupted_check_keeps_the_result(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli, "check_against_cvxpy", raising(KeyboardInterrupt()))
    result = run(*INVERT, "--exact-check", 1)
    assert result.exit_code == 130 and "the result in out is complete" in result.stderr
    assert len(ci.Inversion.load("out")) == 4


def test_a_fault_of_the_program_asks_for_a_report(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli, "invert", raising(IndexError("no such thing")))
    result = run(*INVERT)
    assert result.exit_code == 3 and "Traceback" not in result.output
    assert "internal error: IndexError: no such thing" in result.stderr and "please report it" in result.stderr


def test_too_little_memory_has_a_cure(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")):
        monkeypatch.setattr(cli, "invert", raising(error))
        result = run(*INVERT)
        assert result.exit_code == 2 and "pass a smaller --chunk" in result.stderr


def test_a_traceback_is_shown_when_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CVXINV_DEBUG", "1")
    monkeypatch.setattr(cli, "invert", raising(IndexError("no such thing")))
    result = run(*INVERT)
    assert result.exit_code == 3 and "Traceback" in result.stderr


# --- as a process ---------------------------------------------------------------------------------


CODE = ("-c", "from cvxinv.command.cli import main; main()")


def process(*words: str, how: tuple[str, ...] = CODE) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *how, *words], capture_output=True, text=True, env=environment)


def test_the_entry_point_works_and_is_named(folder: Path):
    done = process("invert", "tiny", "y.npy", "-o", "out", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["statuses"] == {"explained": 4}
    assert "Usage: cvxinv" in process("--help").stdout


def test_the_package_can_be_run_as_a_module(folder: Path):
    assert process("--version", how=("-m", "cvxinv")).stdout == process("--version").stdout != ""
    assert process("verify", "tiny", "far.npy", "z.npy", how=("-m", "cvxinv")).returncode == 1


def test_bad_input_as_a_process_is_one_line(folder: Path):
    done = process("invert", "tiny", "x.npy", "-o", "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: expected a file at x.npy") and done.stderr.count("\n") == 1
