"""The page of a comparison, and `cvxinv compare`: what they show and write, exit codes, bad input."""

import html
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_cli import flat, read_json
from test_report import Page
from torch import nn
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv.command import cli
from cvxinv.inversion.comparing import bench
from cvxinv.pages.comparison import interval

QUICK = ["hybrid", "levenberg_marquardt", "oracle"]


@pytest.fixture(scope="module")
def G() -> ci.Generator:
    torch.manual_seed(0)
    return ci.load_generator(nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 30)))


@pytest.fixture(scope="module")
def found(G: ci.Generator) -> ci.Comparison:
    """Four methods on own samples of which a third is hidden; one refuses."""
    seen = torch.arange(30) < 20
    refuses = ci.LayeredBasisPursuit(cardinalities=(3, 40))
    methods = {**{name: name for name in QUICK}, "<i>mine</i>": refuses}
    return ci.compare(G, methods=methods, samples=6, measurement=seen)


def page_of(found: ci.Comparison, folder: Path) -> Page:
    return Page(ci.write_comparison(found, folder / "page.html").read_text())


def test_the_page_is_one_file_and_says_which_method_to_take(found: ci.Comparison, tmp_path: Path):
    text = ci.write_comparison(found, tmp_path / "page.html").read_text()
    page = Page(text)
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|<link|@import|url\(", text) and text.endswith("</html>")
    assert found.recommendation in page.text and found.advice.best in QUICK
    assert "oracle: told the true latents. It shows what can be hoped for, and is no candidate." in flat(page.text)
    assert found.rows[3].outcome == "refused" and f"<i>mine</i> refused: {found.rows[3].reason}" in page.text
    assert "<i>mine</i>" not in text and html.escape("<i>mine</i>") in text


def test_every_picture_has_a_title_axes_with_units_and_a_row_for_each_method(found: ci.Comparison, tmp_path: Path):
    text = ci.write_comparison(found, tmp_path / "page.html").read_text()
    charts = {re.search(r'aria-label="([^"]*)"', c)[1]: c for c in re.findall(r'<svg class="chart".*?</svg>', text, re.S)}
    assert list(charts) == [
        "success rates", "statuses", "success against time", "iterations", "SNR of z", "SNR of hidden 1", "SNR of signal",
        "misfit", "error unseen",
    ]  # fmt: skip
    units = {"success rates": "share of the signals, %", "SNR of z": "SNR of z, dB", "misfit": "misfit / |y|, no unit"}
    units |= {"success against time": "time per signal, s", "statuses": "share of the signals, %"}
    units |= {"iterations": "iterations of a signal"}
    assert all(unit in charts[title] for title, unit in units.items())
    assert all("<title>" in c and "<desc>" in c for c in charts.values())
    for title, drawing in charts.items():
        if title != "success against time":
            assert all(f'text-anchor="end">{name}</text>' in drawing for name in QUICK), title
    assert text.count('<ul class="legend">') == 3
    for name in QUICK:  # the tip of its mark, and its place in the legend
        assert re.search(rf"<title>{name}: \d+ %, [\d.]+ (s|ms|us) per signal</title>", charts["success against time"])


def test_the_tables_hold_the_numbers_of_the_comparison(found: ci.Comparison, tmp_path: Path):
    page = page_of(found, tmp_path)
    words = flat(page.text)
    for row in found.rows[:3]:
        median = float(np.quantile(row.snr["z"].numpy(), 0.5))
        assert f"{median:.1f}" in words and "6 of 6" in words
    for cell in (cell for line in found.cells() for cell in line):
        assert flat(cell) in words
    assert "everything seen" not in words and "33% hidden" in words and "restarts=10" in words


def test_without_the_truth_nothing_is_said_of_it(G: ci.Generator, tmp_path: Path):
    y = G(G.sample_latent(3, torch.Generator().manual_seed(0)))
    page = page_of(ci.compare(G, y, ["hybrid", "oracle"]), tmp_path)
    assert "SNR per layer" not in page.text and "explained, % of the signals" in page.text
    assert "latents found" not in page.text and "needs the supports" in page.text


def test_where_nothing_ran_there_is_a_page_too(G: ci.Generator, tmp_path: Path):
    y = G(G.sample_latent(3, torch.Generator().manual_seed(0)))
    page = page_of(ci.compare(G, y, "oracle"), tmp_path)
    assert "No method that competes has run" in page.text and not page.attributes("svg", "viewbox")


def test_a_page_of_noise_nan_and_one_signal_is_drawn(G: ci.Generator, tmp_path: Path):
    y = G(G.sample_latent(3, torch.Generator().manual_seed(0)))
    y[1] = torch.nan
    page = page_of(ci.compare(G, y, QUICK[:2], noise="auto", time_limit=9.0), tmp_path)
    assert "numerical_error" in page.text and "A time limit makes the work equal" in page.text
    assert "1 signal of" in page_of(ci.compare(G, y[0], QUICK[:2]), tmp_path).text


def test_a_page_of_something_else_or_nowhere_is_refused(found: ci.Comparison, tmp_path: Path):
    with pytest.raises(TypeError, match="expected a Comparison, got str"):
        ci.write_comparison("x", tmp_path / "page.html")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="expected a folder for the page"):
        ci.write_comparison(found, tmp_path / "no" / "page.html")


def test_wilsons_interval_is_that_of_the_formula():
    # 0 of n: (0, z^2 / (n + z^2)); n of n mirrors it; half of n is symmetric
    z2 = 1.96**2
    assert interval(0, 10) == pytest.approx((0.0, 100 * z2 / (10 + z2)))
    assert interval(10, 10) == pytest.approx((100 * 10 / (10 + z2), 100.0))
    low, high = interval(5, 10)
    assert low + high == pytest.approx(100) and high - low == pytest.approx(
        200 * (z2 / 40 + z2 * z2 / 400) ** 0.5 / (1 + z2 / 10)
    )


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, G: ci.Generator) -> Path:
    monkeypatch.chdir(tmp_path)
    ci.save_generator(G, "tiny")
    z = G.sample_latent(4, torch.Generator().manual_seed(3))
    np.save("z.npy", z.numpy())
    np.save("y.npy", G(z).numpy())
    np.save("far.npy", G(z).numpy() + 5.0 * np.sign(np.arange(30) % 2 - 0.5))
    np.save("mask.npy", np.arange(30) < 20)
    A = torch.randn(12, 30, generator=torch.Generator().manual_seed(4), dtype=torch.float64).numpy()
    np.save("A.npy", A)
    np.save("Ay.npy", G(z).numpy() @ A.T)
    return tmp_path


def run(*words: object) -> Any:
    return CliRunner().invoke(cli.app, ["compare", *(str(word) for word in words)])


def test_the_command_prints_the_table_and_the_recommendation(folder: Path):
    before = {p.name for p in folder.iterdir()}
    result = run("tiny", "y.npy", "--truth", "z.npy", "--methods", "hybrid, oracle")
    words = flat(result.stdout)
    assert result.exit_code == 0, result.output
    assert "2 methods on 4 signals of" in words and "Take hybrid: no other method competes here" in words
    assert "4 of 4" in words and "oracle: told the true latents, and no candidate." in words
    assert {p.name for p in folder.iterdir()} == before
    assert run("tiny", "y.npy", "--quiet", "--methods", "hybrid").stdout == ""


def test_out_holds_page_numbers_and_runs_and_a_second_call_goes_on(folder: Path):
    first = run("tiny", "y.npy", "-o", "out", "--methods", "hybrid", "--json")
    assert first.exit_code == 0 and read_json(first)["report"] == "out/report.html"
    names = {"comparing.json", "comparison.json", "comparison.safetensors", "hybrid", "report.html"}
    assert {p.name for p in (folder / "out").iterdir()} == names
    assert len(ci.Inversion.load("out/hybrid")) == 4
    assert run("tiny", "y.npy", "-o", "out").exit_code == 2
    more = run("tiny", "y.npy", "-o", "out", "--methods", "hybrid,levenberg_marquardt", "--resume", "--json")
    assert [m["name"] for m in read_json(more)["methods"]] == ["hybrid", "levenberg_marquardt"]
    assert read_json(more)["methods"][0] == read_json(first)["methods"][0]
    other = run("tiny", "far.npy", "-o", "out", "--methods", "hybrid", "--resume")
    assert other.exit_code == 2 and "go on as it began, got another: signals" in flat(other.stderr)
    assert run("tiny", "y.npy", "-o", "out", "--methods", "hybrid", "--overwrite").exit_code == 0


def test_an_interrupted_command_says_what_is_kept_and_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def stops(G: ci.Generator, y: torch.Tensor, method: ci.AbstractMethod, **more: Any) -> ci.Inversion:
        if method.name == "levenberg_marquardt":
            raise KeyboardInterrupt
        return ci.invert(G, y, method, **more)

    with monkeypatch.context() as patched:
        patched.setattr(bench, "invert", stops)
        result = run("tiny", "y.npy", "-o", "out", "--methods", "hybrid,levenberg_marquardt")
    assert result.exit_code == 130 and "interrupted, 1 of 2 methods are kept in out; go on with: cvxinv " in flat(
        result.stderr
    )
    assert run("tiny", "y.npy", "-o", "out", "--methods", "hybrid,levenberg_marquardt", "--resume").exit_code == 0


def test_json_is_all_of_stdout_and_says_everything(folder: Path):
    told = read_json(run("tiny", "--samples", 5, "--measurements", 12, "--noise", "gaussian:0.01", "--seed", 3, "--json",
                         "--methods", "hybrid,gradient_descent", "--restarts", 2, "--signal-time-limit", 1))  # fmt: skip
    s = told["settings"]
    assert (s["signals"], s["seed"], s["restarts"], s["signal_time_limit"]) == (5, 3, 2, 1.0)
    assert s["matrix"] == "gaussian, 12 measurements" and s["noise"] == "gaussian:0.01" and s["noise added"] == "gaussian"
    assert told["best"] == "hybrid" or "gradient_descent" in told["recommendation"]
    assert all(len(m["snr_quantiles"]["z"]) == 5 and m["signals"] == 5 for m in told["methods"])
    assert (
        read_json(run("tiny", "--samples", 2, "--methods", "hybrid", "--restarts", 0, "--json"))["settings"]["restarts"]
        is None
    )


def test_masks_matrices_and_whole_signals_are_taken(folder: Path):
    known = run("tiny", "y.npy", "--mask", "mask.npy", "--whole", "--methods", "hybrid", "--json")
    assert max(read_json(known)["methods"][0]["unseen_error_quantiles"]) < 1e-8
    assert read_json(run("tiny", "y.npy", "--mask", "mask.npy", "--methods", "hybrid", "--json"))["methods"][0][
        "unseen_error_quantiles"
    ] is None  # fmt: skip
    small = read_json(run("tiny", "Ay.npy", "--matrix", "A.npy", "--truth", "z.npy", "--methods", "hybrid", "--json"))
    assert small["methods"][0]["found"] == 4 and small["settings"]["seen"] == "Matrix, 12 measurements"
    assert run("tiny", "--samples", 2, "--matrix", "A.npy", "--methods", "hybrid", "--json").exit_code == 0


def test_the_exit_code_tells_whether_the_method_to_take_explains_all(folder: Path):
    assert run("tiny", "far.npy", "--methods", "hybrid").exit_code == 1
    refused = run("tiny", "y.npy", "--methods", "oracle", "--json")
    assert refused.exit_code == 1 and read_json(refused)["best"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "hybird"), "hybird"),
        (("--methods", ","), "expected --methods as all, or each once with commas between, got ','"),
        (("--samples", "3"), "expected SIGNALS or --samples, got both"),
        (("--mask", "mask.npy", "--measurements", "3"), "--matrix or --measurements, got both"),
        (("--resume",), "expected --out OUT beside --resume, got none"),
        (("-o", "out", "--resume", "--overwrite"), "expected --resume or --overwrite, got both"),
        (("--noise", "l3:1"), "norm of --noise"),
        (("--dtype", "float16"), "float16"),
        (("--hide-clipped",), "PNG signals"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, words: tuple[str, ...], said: str):
    result = run("tiny", "y.npy", *words)
    assert result.exit_code == 2 and result.stdout == "" and said in flat(result.stderr), result.stderr
    assert result.stderr.count("\n") == 1 and not (folder / "out").exists()


def test_whole_and_clipped_pixels_need_signals(folder: Path):
    for option in ("--whole", "--hide-clipped"):
        result = run("tiny", option)
        assert result.exit_code == 2 and f"expected SIGNALS beside {option}" in flat(result.stderr)


@pytest.mark.slow
def test_a_killed_command_goes_on_with_the_same_numbers(folder: Path):
    words = [sys.executable, "-m", "cvxinv", "compare", "tiny", "y.npy", "-o", "out", "--seed", "1", "--chunk", "1", "-q",
             "--methods", "hybrid,levenberg_marquardt,gradient_descent,latent_pursuit"]  # fmt: skip
    process = subprocess.Popen(words)
    try:
        limit = time.monotonic() + 120
        while not (folder / "out" / "hybrid" / "result.json").exists() and time.monotonic() < limit:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert (folder / "out" / "hybrid" / "result.json").exists() and not (folder / "out" / "report.html").exists()
    assert subprocess.run([*words, "--resume"], check=False).returncode == 0
    whole = json.loads(json.dumps(_without_times(ci.Comparison.load("out").to_dict())))
    subprocess.run([*words, "--overwrite"], check=False)
    assert _without_times(ci.Comparison.load("out").to_dict()) == whole


def _without_times(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in method.items() if k != "seconds_per_signal"} for method in told["methods"]]
