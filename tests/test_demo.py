"""The demonstration: what it returns, what it writes, and what it does where something is missing."""

import io
import json
import re
import struct
import sys
from pathlib import Path

import gallery
import pytest
import torch
from rich.console import Console

import cvxinv
from cvxinv.command import demo
from cvxinv.pages import plots

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guide.md"
PICTURES = gallery.load(GUIDE.parent / "pictures.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    """Folder, dict and printed text of one run with the defaults."""
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    text = io.StringIO()
    report = demo.run_demo(out, 0, Console(file=text, width=80))
    return out, report, text.getvalue()


def rows(report: dict, **wanted: object) -> list[dict]:
    return [row for row in report["rows"] if all(row[key] == value for key, value in wanted.items())]


def png_size(content: bytes) -> tuple[int, int]:
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


# --- what it finds --------------------------------------------------------------------------------


def test_hybrid_explains_every_sample_and_recovers_every_determined_latent(found):
    _, report, _ = found
    hybrid = rows(report, data="samples", method="hybrid")
    assert len(hybrid) == 2
    for row in hybrid:
        assert row["statuses"] == {"explained": 32}
        assert row["z_determined"] == 32 and row["z_recovered"] == 32
        assert row["z_snr_db_median"] > 200
    assert report["all_explained_in_range"] is True and report["passed"] is True


def test_no_method_claims_to_explain_a_real_digit_without_a_noise_statement(found):
    _, report, _ = found
    for row in rows(report, data="digits", noise_stated=False):
        assert "explained" not in row["statuses"]
        assert row["z_recovered"] is None and row["z_snr_db_median"] is None
        assert row["misfit_percent_of_y_median"] > 1
    assert all(row["statuses"]["explained"] > 0 for row in rows(report, data="digits", noise_stated=True))


def test_every_layer_problem_agrees_with_cvxpy(found):
    _, report, _ = found
    check = report["cvxpy"]
    assert check["agree"] == check["of"] == len(check["rows"]) == 8 * 3
    for row in check["rows"]:
        assert row["exact_status"] == "optimal" and row["fast_status"] == "optimal"
        assert abs(row["fast"] - row["exact"]) <= row["allowed"] <= 1.1e-6 * row["exact"]
    assert report["all_agree_with_cvxpy"] is True


def test_a_disagreement_or_a_signal_left_is_not_passed(found):
    _, report, _ = found
    generator, images, _ = demo.load_shipped()
    data = demo._Data.draw(generator, images[:4], 0)
    runs = []
    for visible in (None, data.visible):
        poor = cvxinv.invert(generator, data.samples, "hybrid", measurement=visible, truth=data.latents, on_fail="ignore")
        runs.append(demo.Run("samples", visible, "hybrid", False, poor))
    wrong = [report["cvxpy"]["rows"][0] | {"agree": False}]
    assert demo._report(runs, report["cvxpy"]["rows"], 0, generator)["passed"] is True
    assert demo._report(runs, wrong, 0, generator)["passed"] is False
    assert demo._report(runs, [], 0, generator)["passed"] is False
    bad = cvxinv.invert(generator, images[:4], "hybrid", truth=data.latents, on_fail="ignore")
    runs[1] = demo.Run("samples", None, "hybrid", False, bad)
    assert demo._report(runs, report["cvxpy"]["rows"], 0, generator)["passed"] is False


def test_the_numbers_in_a_row_add_up(found):
    _, report, _ = found
    assert {(r["data"], r["seen"]) for r in report["rows"]} == {
        ("samples", "all 64 pixels"), ("samples", "35 of 64 pixels"),
        ("digits", "all 64 pixels"), ("digits", "35 of 64 pixels"),
    }  # fmt: skip
    for row in report["rows"]:
        assert sum(row["statuses"].values()) == row["signals"] == 32
        assert 0 <= row["layers_optimal"] <= row["layers"]
        assert row["layers"] == (96 if row["method"] in ("latent_pursuit", "hybrid") else 0)


def test_the_masks_hide_what_they_say_and_differ_between_signals():
    generator, images, labels = demo.load_shipped()
    data = demo._Data.draw(generator, images[:32], 0)
    assert (data.visible.sum(1) == 35).all()
    assert len({tuple(row.tolist()) for row in data.visible}) == 32
    assert torch.equal(data.samples, generator(data.latents))
    assert images.shape == (64, 64) and images.min() == 0 and images.max() == 1 and labels.shape == (64,)


# --- what it writes and prints --------------------------------------------------------------------


def test_both_files_are_there_and_nothing_else(found):
    out, report, _ = found
    assert sorted(p.name for p in out.iterdir()) == ["demo.json", "demo.png"]
    assert report["files"] == [str(out / "demo.png"), str(out / "demo.json")]
    assert json.loads((out / "demo.json").read_text()) == report


def test_the_picture_is_a_picture_of_sane_size(found):
    out, _, _ = found
    content = (out / "demo.png").read_bytes()
    width, height = png_size(content)
    assert 800 <= width <= 3000 and 600 <= height <= 3000
    assert 20_000 < len(content) < 200_000


def test_the_readme_picture_shows_what_the_demo_draws(found):
    """Its layout, and the numbers behind it; a rounding on another machine may move one signal of 32."""
    out, report, _ = found
    shown = (GUIDE.parent / "demo.png").read_bytes()
    assert png_size(shown) == png_size((out / "demo.png").read_bytes())
    assert len(shown) < 200_000
    noted = json.loads(PICTURES.NOTES.read_text())["demo.png"]["explained"]
    today = PICTURES.explained(report)
    moved = {row: (noted.get(row), today[row]) for row in today if abs(noted.get(row, -9) - today[row]) > 1}
    assert set(noted) == set(today) and not moved, f"docs/demo.png is not what the demo draws: {moved}; run `make pictures`"


def test_the_table_fits_80_columns_and_has_every_row(found):
    out, report, text = found
    assert all(len(line) <= 80 for line in text.splitlines() if str(out) not in line)
    assert "…" not in text
    for method in demo.METHODS:
        assert len(re.findall(rf"^  {method} .*\d\.\d\d\s*$", text, re.M)) == 4
    assert text.count("hybrid, noise stated") == 2
    assert re.search(r"24 of 24 layer problems", text.replace("\n", " "))
    assert all(path in text for path in report["files"])


def test_silent_without_a_console_and_repeatable_with_a_seed(tmp_path: Path, found, capfd: pytest.CaptureFixture):
    report = demo.run_demo(tmp_path, 0)
    assert capfd.readouterr() == ("", "")
    timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in report["rows"]]
    assert timeless == [{k: v for k, v in row.items() if k != "seconds"} for row in found[1]["rows"]]


def test_without_matplotlib_it_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_signals: None):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = io.StringIO()
    report = demo.run_demo(tmp_path, 0, Console(file=text, width=200))
    assert [p.name for p in tmp_path.iterdir()] == ["demo.json"]
    assert report["files"] == [str(tmp_path / "demo.json")]
    assert "pip install matplotlib" in report["notes"][0] and report["notes"][0] in text.getvalue()


@pytest.fixture
def few_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run: what is written does not depend on how many signals there are."""
    monkeypatch.setattr(demo, "_SIGNALS", 8)
    monkeypatch.setattr(demo, "_CHECKED", 1)
    monkeypatch.setattr(demo, "METHODS", demo._DRAWN)


# --- what it does where it cannot write -----------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "invert", lambda *a, **k: pytest.fail("worked before it looked at the folder"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="expected a folder"):
        demo.run_demo(tmp_path / "file" / "inside")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("failing", ["demo.png", "demo.json"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str):
    (tmp_path / "demo.png").write_bytes(b"old picture")
    (tmp_path / "demo.json").write_bytes(b"old report")
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if failing in path.name:
            write(path, content[: len(content) // 2])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        demo._write(tmp_path, b"new picture", b"new report")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"demo.png": b"old picture", "demo.json": b"old report"}


def test_a_stale_picture_does_not_stay_beside_a_new_report(tmp_path: Path):
    demo._write(tmp_path, b"picture", b"report")
    demo._write(tmp_path, None, b"new report")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"demo.json": b"new report"}


# --- plots ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn() -> tuple[cvxinv.Generator, torch.Tensor, torch.Tensor, dict[str, cvxinv.Inversion]]:
    generator, images, _ = demo.load_shipped()
    data = demo._Data.draw(generator, images[:4], 0)
    names = ("hybrid", "levenberg_marquardt")
    common = {"measurement": data.visible, "truth": data.latents, "on_fail": "ignore"}
    return generator, data.samples, data.visible, {n: cvxinv.invert(generator, data.samples, n, **common) for n in names}


def test_the_grid_has_a_column_per_signal_and_marks_hidden_pixels_and_no_others(drawn):
    from matplotlib.colors import to_rgb

    generator, truth, visible, inversions = drawn
    figure = plots.image_grid(inversions, truth, visible=visible, shape=generator.signal_shape)
    assert len(figure.axes) == 4 * (2 + 2)
    shown = [ax.images[0].get_array() for ax in figure.axes]
    hidden = torch.tensor(to_rgb(plots.HIDDEN_COLOUR)).double()
    for k, image in enumerate(shown):
        marked = torch.as_tensor(image.data).isclose(hidden).all(-1).reshape(-1)
        expected = ~visible[k - 4] if 4 <= k < 8 else torch.zeros(64, dtype=torch.bool)
        assert torch.equal(marked, expected)
    assert torch.as_tensor(shown[0].data).reshape(64, 3)[:, 0].allclose(1 - truth[0].clamp(0, 1))
    captions = [ax.get_xlabel() for ax in figure.axes[8:]]
    assert all(re.fullmatch(r"-?\d+ dB", caption) for caption in captions)


def test_captions_are_misfits_where_the_truth_is_not_known(drawn):
    generator, truth, _, _ = drawn
    found = cvxinv.invert(generator, truth + 0.1, on_fail="ignore")
    figure = plots.image_grid({"hybrid": found}, truth)
    percent = [float(ax.get_xlabel().removesuffix(" %")) for ax in figure.axes[4:]]
    assert percent == pytest.approx((100 * found.verdict.relative_misfit).tolist(), rel=0.06)


def test_error_curves_are_sorted_relative_errors(drawn):
    _, _, _, inversions = drawn
    figure = plots.error_curves(inversions)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")}
    assert set(lines) == {"hybrid", "levenberg marquardt"}
    error = plots.relative_error(inversions["levenberg_marquardt"]).clamp(min=1e-17).sort().values
    assert torch.as_tensor(lines["levenberg marquardt"].get_ydata()[1:]).allclose(error)
    assert figure.axes[0].get_yscale() == "log"
    assert "unit" in figure.axes[0].get_ylabel() and "%" in figure.axes[0].get_xlabel()


def test_relative_error_is_the_error_over_the_truth(drawn):
    generator, truth, visible, _ = drawn
    latents = demo._Data.draw(generator, torch.zeros(4, 64), 0).latents
    found = cvxinv.invert(
        generator, truth, "levenberg_marquardt", truth=latents, measurement=visible, max_iter=2, on_fail="ignore"
    )
    expected = (found.z - latents).norm(dim=1) / latents.norm(dim=1)
    assert plots.relative_error(found).allclose(expected, rtol=1e-9)


def test_plots_name_what_does_not_fit(drawn):
    _, truth, _, inversions = drawn
    with pytest.raises(ValueError, match=r"inversions of 3 signals as truth has, got 4"):
        plots.image_grid(inversions, truth[:3])
    with pytest.raises(ValueError, match=r"picture of 64 numbers, got \(1, 5, 5\)"):
        plots.image_grid(inversions, truth, shape=(1, 5, 5))
    with pytest.raises(ValueError, match="at least one inversion"):
        plots.image_grid({}, truth)
    with pytest.raises(ValueError, match="expected the SNR of 'hidden 9'"):
        plots.error_curves(inversions, "hidden 9")


def test_plots_leave_matplotlibs_global_state_alone(drawn):
    import matplotlib
    from matplotlib import _pylab_helpers

    _, truth, visible, inversions = drawn
    before = dict(matplotlib.rcParams), len(_pylab_helpers.Gcf.figs)
    plots.overview([plots.Grid(inversions, truth, visible)], inversions).savefig(io.BytesIO(), format="png")
    assert (dict(matplotlib.rcParams), len(_pylab_helpers.Gcf.figs)) == before
