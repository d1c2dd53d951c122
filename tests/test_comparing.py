"""`compare`: the same task, starts and budget for every method; what did not run; what goes on; and the recommendation."""

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import cvxinv as ci
from cvxinv.batch import per_signal
from cvxinv.inversion.comparing import bench
from cvxinv.inversion.comparing.folder import words_of_comparison
from cvxinv.inversion.comparing.recommending import by_chance, recommend, where_not_best

QUICK = ["hybrid", "levenberg_marquardt"]


def small() -> ci.Generator:
    torch.manual_seed(0)
    return ci.load_generator(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 40)))


G = small()
Z = G.sample_latent(5, torch.Generator().manual_seed(7))
Y = G(Z)


@dataclass(frozen=True, eq=False)
class Still(ci.AbstractMethod):
    """Gives the first start; refuses what it is told to, raises where it is told to."""

    name: ClassVar[str] = "still"

    restarts: int = 1
    refuses: bool = False
    raises: bool = False
    saw: list = per_signal(default=None)  # type: ignore[assignment]

    def check(self, task: ci.Task) -> None:
        if self.refuses:
            raise ValueError("still takes no such task; pass another")

    def run(self, task: ci.Task, starts: ci.Starts) -> ci.Latents:
        if self.raises:
            raise ZeroDivisionError("by zero")
        return ci.Latents(starts.latents(0, self.restarts)[-1:].expand(task.N, -1).clone())


# --- who takes part -------------------------------------------------------------------------------


def test_all_is_every_known_method_and_each_has_a_row():
    found = ci.compare(G, Y, truth=Z, restarts=2, signal_time_limit=0.5)
    assert [row.name for row in found.rows] == list(ci.METHODS) and len(found) == len(ci.METHODS)
    tensors = [value for row in found.rows for value in row.tensors().values()]
    assert all(value.shape == (5,) and value.device.type == "cpu" for value in tensors)
    assert {row.outcome for row in found.rows} <= {"ran", "refused"}
    assert found["hybrid"].explained.all() and found["hybrid"].succeeded.all()
    with pytest.raises(KeyError, match="expected one of hybrid, "):
        found["hybird"]


def test_a_method_that_refuses_has_a_row_with_its_own_reason():
    found = ci.compare(G, Y, ["oracle", "hybrid"])
    row = found["oracle"]
    assert (row.outcome, row.knows, row.N) == ("refused", False, 0) and "neither supports= nor truth=" in row.reason
    assert found["hybrid"].ran and f"oracle refused: {row.reason}" in found.summary()
    row = ci.compare(G, Y, [Still(refuses=True), "hybrid"])["still"]
    assert row.reason == "still takes no such task; pass another"


def test_one_that_is_told_the_truth_is_marked_and_never_recommended():
    found = ci.compare(G, Y, ["oracle", "hybrid"], truth=Z)
    assert [row.knows for row in found.rows] == [True, False]
    assert found.advice.best == "hybrid" and "no other method competes" in found.recommendation
    assert "oracle: told the true latents, and no candidate." in found.summary() and "oracle (knows)" in found.table()


def test_one_that_raises_costs_its_own_row_and_is_told_of():
    with pytest.warns(ci.CvxinvWarning, match=r"1 methods failed: still \(ZeroDivisionError: by zero\)"):
        found = ci.compare(G, Y, [Still(raises=True), "hybrid"])
    assert found["still"].outcome == "failed" and found["still"].reason == "ZeroDivisionError: by zero"
    assert found["hybrid"].explained.all() and found.advice.best == "hybrid"


def test_methods_are_names_objects_or_a_mapping_to_them():
    mixed = ci.compare(G, Y, {"ten": "hybrid", "mine": Still(), "short": ci.LevenbergMarquardt(max_iter=2)})
    assert [(r.name, r.method) for r in mixed.rows] == [
        ("ten", "hybrid"), ("mine", "still"), ("short", "levenberg_marquardt")
    ]  # fmt: skip
    assert mixed["short"].options == {"max_iter": 2, "restarts": 10}
    two = ci.compare(G, Y, [ci.LevenbergMarquardt(max_iter=k) for k in (2, 3)], restarts=None)
    assert [r.name for r in two.rows] == ["levenberg_marquardt(max_iter=2)", "levenberg_marquardt(max_iter=3)"]
    assert len(ci.compare(G, Y, "hybrid")) == len(ci.compare(G, Y, ci.Hybrid())) == 1


@pytest.mark.parametrize(
    ("methods", "error", "words"),
    [
        (["hybrid", "hybrid"], ValueError, "of different names, got 2 of the name 'hybrid'; pass a mapping"),
        ([], ValueError, "at least one method, got none"),
        (["hybird"], ValueError, "hybird"),
        (3, TypeError, "names, objects such as"),
        ([ci.Hybrid], TypeError, "got the class Hybrid"),
    ],
)
def test_what_means_no_methods_is_refused_before_anything_runs(methods: object, error: type, words: str):
    with pytest.raises(error, match=words):
        ci.compare(G, Y, methods)


# --- the same for all -----------------------------------------------------------------------------


def test_every_method_gets_the_same_starts_and_as_many():
    found = ci.compare(G, Y, {"a": Still(), "b": Still(restarts=5)}, restarts=3, seed=4)
    assert all(row.options["restarts"] == 3 for row in found.rows)
    assert torch.equal(found["a"].misfit, found["b"].misfit)
    alone = ci.invert(G, Y, Still(restarts=3), seed=4, on_fail="ignore")
    assert torch.equal(found["a"].relative_misfit, alone.verdict.relative_misfit)
    own = ci.compare(G, Y, {"a": Still(), "b": Still(restarts=5)}, restarts=None, seed=4)
    assert not torch.equal(own["a"].misfit, own["b"].misfit)
    assert "at most 3 random starts" in found.heading and "their own numbers" in own.heading


def test_a_row_holds_what_invert_gives():
    found, alone = ci.compare(G, Y, QUICK, truth=Z, restarts=10)["hybrid"], ci.invert(G, Y, "hybrid", truth=Z, restarts=10)
    assert (found.status == alone.status).all() and torch.equal(found.relative_misfit, alone.verdict.relative_misfit)
    assert torch.equal(found.starts, alone.starts) and torch.equal(found.determined, alone.determined)
    assert found.snr.keys() == {"z", "hidden 1", "signal"} and all(
        torch.equal(found.snr[k], alone.snr[k]) for k in alone.snr
    )
    assert torch.allclose(20 * found.z_error.log10(), -found.snr["z"], atol=1e-3)
    assert torch.equal(found.iterations, alone.iterations)
    assert (found.iterations > torch.stack([r.solution.iterations for r in alone.layers]).sum(0)).all()  # and a descent


def test_iterations_of_each_signal_are_counted_whatever_stands_beside_it():
    for name in ("levenberg_marquardt", "gradient_descent", "generative_admm", "projected_gradient"):
        options = {"max_iter": 30, "restarts": 2, "on_fail": "ignore"}
        together, alone = ci.invert(G, Y, name, **options), ci.invert(G, Y[2:3], name, **options)
        assert together.iterations[2] == alone.iterations[0] > 0, name
        assert torch.equal(ci.invert(G, Y, name, chunk=2, **options).iterations, together.iterations), name
    twice = ci.invert(G, Y, "gradient_descent", max_iter=30, restarts=2, on_fail="ignore", steps=(0.1,))
    assert set(twice.iterations.tolist()) <= {30, 60}


def test_a_time_limit_is_every_methods_own():
    found = ci.compare(G, Y, ["gradient_descent", "hybrid"], time_limit=1e-6)
    assert found["gradient_descent"].counts() == {"user_limit": 5} and found["hybrid"].ran
    assert "1e-06 s for each method" in found.heading
    with pytest.raises(ValueError, match="time_limit > 0"):
        ci.compare(G, Y, QUICK, time_limit=0.0)


def test_whoever_comes_first_pays_for_nobody_else(monkeypatch: pytest.MonkeyPatch):
    made = []
    monkeypatch.setattr(bench, "invert", lambda G, *args, **more: made.append(G) or ci.invert(G, *args, **more))
    ci.compare(G, Y, {"a": "hybrid", "b": "hybrid"})
    assert len(made) == 2 and made[0].kept is not made[1].kept and made[0].kept is not G.kept


def test_nothing_of_the_truth_reaches_a_method():
    seen = torch.rand(5, 40, generator=torch.Generator().manual_seed(1)) > 0.3
    with_, without = (ci.compare(G, Y, QUICK, measurement=seen, truth=t) for t in (Z, None))
    wrong = ci.compare(G, Y, QUICK, measurement=seen, truth=Z + 1)
    for name in QUICK:
        assert torch.equal(with_[name].misfit, without[name].misfit) and torch.equal(wrong[name].misfit, with_[name].misfit)
    assert without["hybrid"].succeeded is None and without["hybrid"].unseen_error is None and not without["hybrid"].snr
    assert not wrong["hybrid"].succeeded.any() and "z found" not in without.table()


# --- what is compared on --------------------------------------------------------------------------


def test_own_samples_are_drawn_from_the_seed_with_known_latents():
    first, again, other = (ci.compare(G, methods=QUICK, samples=4, seed=s) for s in (1, 1, 2))
    assert first["hybrid"].succeeded.all() and first.settings["signals from"] == "the generator's own"
    assert torch.equal(first["hybrid"].misfit, again["hybrid"].misfit)
    assert not torch.equal(first["hybrid"].misfit, other["hybrid"].misfit)
    assert len(ci.compare(G, methods="hybrid")["hybrid"].misfit) == 20


def test_measurements_draw_one_matrix_of_the_stated_size_and_variance(monkeypatch: pytest.MonkeyPatch):
    got = []
    monkeypatch.setattr(bench, "invert", lambda *args, **more: got.append((args, more)) or ci.invert(*args, **more))
    found = ci.compare(G, Y, "hybrid", measurements=30, truth=Z, seed=3)
    (_, y, _), more = got[0]
    A = more["measurement"]
    assert A.shape == (30, 40) and torch.allclose(y, Y @ A.T) and abs(float(A.std()) * 30**0.5 - 1) < 0.05
    assert found["hybrid"].succeeded.all() and float(found["hybrid"].unseen_error.max()) < 1e-8
    assert found.settings["matrix"] == "gaussian, 30 measurements" and "Matrix, 30 measurements" in found.heading
    ci.compare(G, methods="hybrid", measurements=30, samples=2, seed=3)
    assert torch.equal(got[1][1]["measurement"], A)  # the same seed, whatever the signals


def test_hidden_entries_count_where_the_whole_signal_is_known():
    seen = torch.arange(40) < 30
    y = torch.where(seen, Y, torch.nan)
    by_truth, by_signals = ci.compare(G, y, QUICK, measurement=seen, truth=Z), ci.compare(
        G, y, QUICK, measurement=seen, signals=Y
    )  # fmt: skip
    for row in (*by_truth.rows, *by_signals.rows):
        assert float(row.unseen_error.max()) < 1e-8
    off = Y + torch.where(seen, 0, 1)
    error = ci.compare(G, y, "hybrid", measurement=seen, signals=off)["hybrid"].unseen_error
    expected = 10**0.5 / off[:, 30:].norm(dim=1)  # ten hidden entries, each off by 1
    assert torch.allclose(error, expected, rtol=1e-6)
    assert ci.compare(G, Y, "hybrid", truth=Z)["hybrid"].unseen_error is None


@pytest.mark.parametrize("noise", [("gaussian", 0.05), ("l2", 0.3), ("linf", 0.05), ("l1", 0.3), "auto"])
def test_noise_of_the_stated_kind_is_added_to_own_samples_and_to_no_others(noise: object, monkeypatch: pytest.MonkeyPatch):
    got = []
    monkeypatch.setattr(bench, "invert", lambda *args, **more: got.append(args[1]) or ci.invert(*args, **more))
    found = ci.compare(G, methods="hybrid", samples=8, noise=noise)
    e = got[0] - G(G.sample_latent(8, torch.Generator().manual_seed(0)))
    if noise == "auto":
        assert not e.any() and found.settings["noise"] == "auto" and "the noise level of its own fit" in found.summary()
        return
    kind, size = noise
    sizes = {"gaussian": e.std(), "l2": e.norm(dim=1).mean(), "linf": e.abs().max(), "l1": e.abs().sum(1).mean()}
    measured = sizes[kind]
    assert abs(float(measured) / size - 1) < 0.1 and found.settings["noise added"] == kind
    assert found["hybrid"].explained.sum() >= 7  # of gaussian noise one draw in a thousand is longer
    ci.compare(G, Y, "hybrid", noise=noise)
    assert torch.equal(got[1], Y)


def test_a_signal_with_nan_costs_itself():
    y = Y.clone()
    y[2, 3] = torch.nan
    found = ci.compare(G, y, QUICK, truth=Z)
    for row in found.rows:
        assert row.status.tolist() == ["explained"] * 2 + ["numerical_error"] + ["explained"] * 2
    assert found.table() and found.advice.best in QUICK and "1 of 5 signals explained by none" in found.recommendation
    small_ = ci.compare(G, y, QUICK, measurements=20)
    assert small_["hybrid"].status[2] == "numerical_error" and small_["hybrid"].status[0] != "numerical_error"


def test_one_signal_is_a_batch_of_one():
    for y, z in ((Y[0], Z[0]), (Y[:1], Z[:1]), (Y[0].numpy(), Z[0].numpy())):
        found = ci.compare(G, y, QUICK, truth=z)
        assert found.settings["signals"] == 1 and found["hybrid"].succeeded.tolist() == [True]
    assert ci.compare(G, Y[0], "hybrid", measurements=20, truth=Z[0])["hybrid"].N == 1
    assert "1 method on 1 signal of" in ci.compare(G, Y[0], "hybrid").heading


def test_signals_that_are_zero_have_a_misfit_and_no_share_of_it():
    zero = torch.zeros(2, 40, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ci.compare(G, zero, QUICK, signal_time_limit=0.5)
    assert not found["hybrid"].explained.any() and found["hybrid"].relative_misfit.isinf().all()
    assert found.advice.best is not None and found.recommendation.startswith("No method explains any of the 2 signals")


def test_one_that_ignores_the_limit_is_named():
    found = ci.compare(G, Y, QUICK, signal_time_limit=1.0)
    late = replace(found, rows=(replace(found.rows[0], seconds=7.0), found.rows[1]))
    assert "hybrid took 7 s of 5 s" in late.summary() and " of 5 s" not in found.summary() and found.allowed == 5.0


def test_float32_signals_and_generators_are_compared():
    F = G.to(torch.float32)
    found = ci.compare(F, F(Z.float()), QUICK, truth=Z)
    assert found["hybrid"].explained.all() and found.versions["dtype"] == "torch.float32"
    assert "The signals came in float32" in found.summary() and "float32" not in ci.compare(G, Y, "hybrid").summary()
    assert ci.compare(F, methods=QUICK, samples=3, measurements=20)["hybrid"].N == 3


def test_what_does_not_fit_is_refused_by_name():
    cases = [
        (dict(y=Y, samples=3), "expected y= or samples=, got both"),
        (dict(truth=Z), "truth= beside signals y"),
        (dict(y=Y, measurement=torch.ones(40) > 0, measurements=3), "measurement= or measurements=, got both"),
        (dict(y=Y, signals=Y[:2]), "whole signals for 5 y, got 2"),
        (dict(y=Y, truth=Z[:2]), r"true latents of shape \(5, 4\)"),
        (dict(y=Y, restarts=0), "restarts must be an integer >= 1"),
        (dict(y=Y, measurements=0), "measurements must be an integer >= 1"),
        (dict(samples=0), "samples must be an integer >= 1"),
        (dict(y=Y, resume=True), "checkpoint=folder beside resume=True"),
        (dict(y=Y[:, :7]), r"expected y of shape \(N, 40\)"),
        (dict(y=Y, noise=("l3", 1.0)), "expected the noise's norm as"),
    ]
    for given, words in cases:
        with pytest.raises(ValueError, match=words):
            ci.compare(G, methods=QUICK, **given)  # type: ignore[arg-type]


# --- going on -------------------------------------------------------------------------------------


def same(a: ci.ComparisonRow, b: ci.ComparisonRow) -> bool:
    """Equal bit for bit, the time aside."""
    one, other = a.tensors(), b.tensors()
    plain = a.spec() | {"seconds": 0} == b.spec() | {"seconds": 0}
    return (
        plain
        and one.keys() == other.keys()
        and all(torch.equal(one[k].nan_to_num(-1), other[k].nan_to_num(-1)) for k in one)
    )


def test_an_interrupted_comparison_goes_on_and_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    more = dict(methods=["hybrid", "latent_pursuit", "levenberg_marquardt", "oracle"], truth=Z, chunk=3, restarts=2)
    whole = ci.compare(G, Y, checkpoint=tmp_path / "whole", **more)  # type: ignore[arg-type]
    runs = []

    def stops(*args: object, **options: object) -> ci.Inversion:
        runs.append(args[2].name)  # type: ignore[attr-defined]
        if len(runs) == 3:  # in the midst of the third method: one chunk is done
            options["callback"] = _interrupt
        return ci.invert(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "invert", stops)
    with pytest.raises(KeyboardInterrupt):
        ci.compare(G, Y, checkpoint=tmp_path / "part", **more)  # type: ignore[arg-type]
    assert words_of_comparison(tmp_path / "part").startswith("2 of 4 methods are kept in ")
    assert not (tmp_path / "part" / "comparison.json").exists()
    begun = list(runs)
    again = ci.compare(G, Y, checkpoint=tmp_path / "part", resume=True, **more)  # type: ignore[arg-type]
    assert begun[:2] == runs[:2] and begun[2] == runs[3] and not set(runs[3:]) & set(begun[:2])
    assert len(again) == len(whole) and all(map(same, again.rows, whole.rows)) and again.settings == whole.settings
    runs.clear()
    third = ci.compare(G, Y, checkpoint=tmp_path / "part", resume=True, **more)  # type: ignore[arg-type]
    assert not runs and third.summary() == again.summary()
    assert torch.equal(ci.Inversion.load(tmp_path / "part" / "hybrid").z, ci.invert(G, Y, restarts=2, chunk=3).z)


def _interrupt(progress: object) -> None:
    raise KeyboardInterrupt


def test_more_methods_may_be_asked_for_later_and_another_task_may_not(tmp_path: Path):
    ci.compare(G, Y, "hybrid", checkpoint=tmp_path)
    found = ci.compare(G, Y, ["levenberg_marquardt", "hybrid"], checkpoint=tmp_path, resume=True)
    assert [row.name for row in found.rows] == ["levenberg_marquardt", "hybrid"]
    for other, words in ((dict(seed=1), "seed"), (dict(measurements=9), "signals"), (dict(time_limit=9.0), "time_limit")):
        with pytest.raises(ValueError, match=f"go on as it began, got another: .*{words}"):
            ci.compare(G, Y, "oracle", truth=None, checkpoint=tmp_path, resume=True, **other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"hybrid: restarts \(3 in place of 10\)"):
        ci.compare(G, Y, "hybrid", restarts=3, checkpoint=tmp_path, resume=True)
    with pytest.raises(FileExistsError, match="which holds one; go on with resume=True"):
        ci.compare(G, Y, "hybrid", checkpoint=tmp_path)
    with pytest.raises(ValueError, match="resume=True or overwrite=True, got both"):
        ci.compare(G, Y, "hybrid", checkpoint=tmp_path, resume=True, overwrite=True)
    (tmp_path / "mine.txt").write_text("kept")
    anew = ci.compare(G, Y, {"odd name / here": "levenberg_marquardt"}, seed=1, checkpoint=tmp_path, overwrite=True)
    assert anew.rows[0].name == "odd name / here" and (tmp_path / "mine.txt").read_text() == "kept"
    assert not (tmp_path / "hybrid").exists() and len(list(tmp_path.glob("odd-name-here-*"))) == 1


def test_a_method_cut_by_its_time_is_not_given_more_by_resuming(tmp_path: Path):
    first = ci.compare(G, Y, "gradient_descent", time_limit=1e-6, chunk=2, checkpoint=tmp_path)
    again = ci.compare(G, Y, "gradient_descent", time_limit=1e-6, chunk=2, checkpoint=tmp_path, resume=True)
    assert same(first.rows[0], again.rows[0]) and again.rows[0].seconds == first.rows[0].seconds


# --- what comes back ------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path: Path):
    seen = torch.rand(5, 40, generator=torch.Generator().manual_seed(1)) > 0.3
    found = ci.compare(G, Y, ["hybrid", "oracle", Still(refuses=True)], truth=Z, measurement=seen, noise=("gaussian", 0.01))
    again = ci.Comparison.load(found.save(tmp_path / "out"))
    assert all(map(same, found.rows, again.rows)) and again.settings == found.settings and again.versions == found.versions
    assert again.summary() == found.summary() and again.to_dict() == found.to_dict()
    json.dumps(found.to_dict(), allow_nan=False)
    path = tmp_path / "out" / "comparison.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="sha256"):
        ci.Comparison.load(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"expected comparison.json in"):
        ci.Comparison.load(tmp_path)
    with pytest.raises(ValueError, match="cvxinv comparison format"):
        result = ci.invert(G, Y).save(tmp_path / "result")
        (result / "result.json").rename(result / "comparison.json")
        (result / "result.safetensors").rename(result / "comparison.safetensors")
        ci.Comparison.load(result)


def test_the_frame_has_a_row_for_each_method_and_signal():
    found = ci.compare(G, Y, [*QUICK, Still(refuses=True)], truth=Z, measurements=20)
    frame = found.to_pandas()
    assert list(frame.index.names) == ["method", "signal"] and len(frame) == 10 and frame.loc["hybrid"]["explained"].all()
    assert frame.attrs["units"]["snr z"] == "dB" and {"misfit", "z error", "unseen error", "starts"} <= set(frame.columns)
    assert len(ci.compare(G, Y, Still(refuses=True)).to_pandas()) == 0


def test_a_notebook_shows_table_and_recommendation_escaped():
    found = ci.compare(G, Y, {"<b>": "hybrid", "lm": "levenberg_marquardt"})
    page = found._repr_html_()
    assert "&lt;b&gt;" in page and "<b>" in page and "Time per signal" in page and page.count("<tr>") == 3


def test_a_comparison_is_frozen():
    found = ci.compare(G, Y, "hybrid")
    with pytest.raises(AttributeError):
        found.rows = ()  # type: ignore[misc]


# --- the recommendation ---------------------------------------------------------------------------


def row(
    name: str, explained: list[int], found: list[int] | None = None, seconds: float = 1.0, **more: object
) -> ci.ComparisonRow:
    """A made-up row: which signals are explained, and whose z is the true one."""
    status = np.array(["explained" if e else "stationary" for e in explained])
    error = None if found is None else torch.tensor([0.0 if f else 1.0 for f in found])
    misfit = torch.tensor([1e-12 if e else 0.1 for e in explained])
    usual = dict(misfit=misfit, size=torch.ones_like(misfit), determined=misfit > -1)
    return replace(ci.ComparisonRow(name, name, status=status, z_error=error, seconds=seconds), **(usual | more))


def test_signals_explained_come_first_then_true_latents_then_time():
    fast = row("fast", [1, 1, 0], [1, 1, 0], 0.1)
    true, slow = row("true", [1, 1, 1], [1, 1, 1], 9.0), row("slow", [1, 1, 1], [1, 1, 0], 1.0)
    advice = recommend([fast, slow, true], noisy=False)
    assert advice.best == "true"
    assert "Signals explained: slow and true 3 of 3, then fast 2 of 3" in advice.words
    assert "True z found to 1e-06: true 3 of 3, then slow 2 of 3" in advice.words and advice.words.startswith("Take true.")
    assert recommend([slow, replace(true, seconds=0.5, z_error=slow.z_error)], noisy=False).best == "true"


def test_the_truth_decides_nothing_where_it_is_not_known():
    a, b = row("a", [1, 1], seconds=2.0), row("b", [1, 1], seconds=1.0)
    advice = recommend([a, b], noisy=False)
    assert advice.best == "b" and "True z" not in advice.words and "Signals explained: 2 of 2 by both" in advice.words


def test_in_noise_the_lowest_misfit_comes_before_time_and_without_noise_it_does_not():
    low = row("low", [1] * 3, seconds=9.0, misfit=torch.tensor([0.1, 0.1, 0.1]))
    high = row("high", [1] * 3, seconds=1.0, misfit=torch.tensor([0.1005, 0.2, 0.2]))
    assert recommend([low, high], noisy=True).best == "low" and recommend([low, high], noisy=False).best == "high"
    words = recommend([low, high], noisy=True).words
    assert "Lowest misfit to 1%: low 3 of 3 (median 0.1 |y|), then high 1 of 3 (median 0.2 |y|)" in words
    equal = replace(high, misfit=torch.tensor([0.1005, 0.1, 0.1]))
    assert recommend([low, equal], noisy=True).best == "high"


def test_ties_are_said():
    a, b = row("a", [1, 0], [1, 0], 1.0), row("b", [1, 0], [1, 0], 1.2)
    advice = recommend([b, a], noisy=False)
    assert advice.best == "a" and advice.words.startswith("Take a; b came out equal, in time to 25%.")
    assert "1 of 2 signals explained by none" in advice.words


def test_where_nobody_explains_anything_the_nearest_is_named_and_nothing_is_called_right():
    a = row("a", [0, 0], seconds=1.0, misfit=torch.tensor([0.3, 0.3]))
    b = row("b", [0, 0], seconds=9.0, misfit=torch.tensor([0.2, torch.nan]))
    c = row("c", [0, 0], seconds=9.0, misfit=torch.tensor([0.2, 0.29]))
    advice = recommend([a, b, c], noisy=False)
    assert advice.best == "c" and advice.words.startswith("No method explains any of the 2 signals; c comes nearest.")
    nan = row("n", [0, 0], misfit=torch.tensor([torch.nan, torch.nan]), seconds=float("nan"))
    assert recommend([nan, a], noisy=False).best == "a" and recommend([nan], noisy=True).best == "n"


def test_where_none_competes_the_reasons_are_given():
    refused = ci.ComparisonRow("x", "x", "refused", "too small")
    knows = row("oracle", [1, 1], [1, 1], knows=True)
    assert recommend([refused, knows], noisy=False) == recommend([knows, refused], noisy=True)
    advice = recommend([refused, knows], noisy=False)
    assert advice.best is None and "x: too small" in advice.words


def test_a_difference_that_chance_could_make_is_said_to_be_one():
    # 5 signals on which two differ, all one way: two-sided 2 / 2^5 = 0.0625; 6 of them: 0.03125
    for count, chance in ((5, 0.0625), (6, 0.03125)):
        a, b = np.ones(9, dtype=bool), np.arange(9) >= count
        assert by_chance(a, b) == by_chance(b, a) == chance
        words = recommend([row("a", a.tolist()), row("b", b.tolist())], noisy=False).words
        assert ("may be chance" in words) == (count == 5)
    assert by_chance(np.ones(3, dtype=bool), np.ones(3, dtype=bool)) == 1.0


def test_a_much_faster_method_that_does_nearly_as_well_is_named():
    best, fast = row("best", [1] * 20, seconds=9.0), row("fast", [1] * 18 + [0] * 2, seconds=1.0)
    words = "Where time counts more: fast, 50 ms in place of 450 ms per signal, 18 of 20 explained."
    assert words in recommend([best, fast], noisy=False).words
    assert words[:23] not in recommend([best, replace(fast, seconds=4.0)], noisy=False).words
    unsure = recommend([replace(best, z_error=torch.zeros(20)), replace(fast, z_error=torch.ones(20))], noisy=False)
    assert words[:23] not in unsure.words
    assert words[:23] not in recommend([best, row("fast", [1] * 17 + [0] * 3, seconds=1.0)], noisy=False).words


def test_an_explained_signal_with_another_z_is_no_success_and_that_is_said():
    advice = recommend([row("a", [1, 1], [1, 0]), row("b", [1, 0], [1, 0])], noisy=False)
    assert "For 1 of the signals that it explains its z is not the true one" in advice.words
    loose = row("a", [1, 1], determined=torch.tensor([True, False]))
    assert "what was seen does not determine z" in recommend([loose, row("b", [1, 0])], noisy=False).words


def test_where_a_method_is_not_the_best_is_told():
    a, b = row("a", [1, 1], [1, 1], 5.0), row("b", [1, 0], [1, 0], 1.0)
    assert where_not_best([a, b], "a", noisy=False) == "" == where_not_best([a, b], "c", noisy=False)
    assert where_not_best([a, b], "b", noisy=False) == "a is ahead in signals explained: 2 of 2, b 1 of 2"
    refused = ci.ComparisonRow("c", "c", "refused", "no")
    assert where_not_best([a, refused], "c", noisy=False) == "c refuses: no"
    near = row("d", [1, 1], [1, 1], 4.5)
    assert "d is as good; time per signal 2.25 s, a 2.5 s" == where_not_best([a, near], "a", noisy=False)


# --- on real nets ---------------------------------------------------------------------------------


def test_the_nets_of_the_readme_are_compared():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 80), nn.ReLU(), nn.Linear(80, 200)).eval()
    R = ci.load_generator(net)
    seen = torch.rand(6, 200, generator=torch.Generator().manual_seed(2)) > 0.45
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no method fails, and no warning is meant
        found = ci.compare(R, samples=6, measurement=seen, signal_time_limit=0.5)
    assert found["hybrid"].succeeded.all() and found["hybrid"].unseen_error.max() < 1e-8
    assert found["hybrid"].snr.keys() == {"z", "hidden 1", "hidden 2", "signal"} and found.advice.best is not None


@pytest.mark.generators
def test_a_trained_generator_is_compared(real_generator):
    H = real_generator("csinva_vae_20_400_784")
    found = ci.compare(H, methods=["hybrid", "levenberg_marquardt"], samples=4, measurements=25, signal_time_limit=4.0)
    assert found["hybrid"].explained.sum() >= 3 and (found["hybrid"].succeeded == found["hybrid"].explained).all()
    assert found.settings["generator"] == "csinva_vae_20_400_784"


def test_a_signal_of_which_little_was_seen_costs_its_chunk_nothing():
    """The first signal's 3 rows are too few for 16 hidden units: no reason to refuse those beside it, nor itself alone."""
    mask = torch.ones(5, 40, dtype=torch.bool)
    mask[0, 3:] = False
    found = ci.invert(G, Y, "latent_pursuit", measurement=mask, chunk=1, on_fail="ignore")
    assert found.verdict.explained[1:].all() and torch.isfinite(found.z).all()
    (row,) = ci.compare(G, Y, ["latent_pursuit"], measurement=mask, progress=False).rows
    assert (row.outcome, row.reason) == ("ran", "")
    with pytest.raises(ValueError, match="latent_pursuit cannot invert this: layer 1 has 3 seen rows for 16"):
        ci.invert(G, Y[:1], "latent_pursuit", measurement=mask[:1])  # where nobody sees more
