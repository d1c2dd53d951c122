"""Adapters to other programs: pandas, notebooks, scikit-learn, deepinv."""

import pickle
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

import cvxinv as ci
from cvxinv.bitmaps import inline_pictures


def made(n0: int, d: int, dtype: torch.dtype = torch.float64) -> ci.Generator:
    torch.manual_seed(d)
    net = nn.Sequential(nn.Linear(n0, 4 * n0), nn.ReLU(), nn.Linear(4 * n0, d))
    return ci.load_generator(net).to(dtype)


def samples(G: ci.Generator, N: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    z = G.sample_latent(N, torch.Generator().manual_seed(seed))
    return z.numpy(), G(z).numpy()


# --- numpy, pandas, notebooks ---------------------------------------------------------------------


def inverted(G: ci.Generator, X: np.ndarray, **options: object) -> ci.Inversion:
    return ci.invert(G, X, on_fail="ignore", **options)


def test_arrays_of_an_inversion_are_its_tensors():
    G = made(2, 12)
    z, X = samples(G)
    R = inverted(G, X, noise=("gaussian", 0.1), truth=z)
    found = R.numpy()
    assert all(type(value) is np.ndarray for value in found.values())
    assert np.array_equal(found["z"], R.z.numpy()) and np.array_equal(found["hidden 1"], R.hidden[0].numpy())
    assert np.array_equal(found["z_std"], R.uncertainty.z_std.numpy()) and np.array_equal(found["status"], R.status)
    assert np.array_equal(found["snr z"], R.snr["z"].numpy())
    one = inverted(G, X[0]).numpy()
    assert one["z"].shape == (2,) and one["misfit"].shape == (1,) and "z_std" not in one


@pytest.mark.parametrize("noise", [None, ("gaussian", 0.1)], ids=["no noise", "gaussian"])
def test_a_frame_has_a_row_for_each_signal_and_the_units_of_its_columns(noise: object):
    pytest.importorskip("pandas")
    G = made(2, 12)
    z, X = samples(G)
    R = inverted(G, X, noise=noise, truth=z)
    frame = R.to_pandas()
    assert frame.index.name == "signal" and len(frame) == len(R) and frame.attrs["method"] == "hybrid"
    assert list(frame["status"]) == list(R.status) and np.array_equal(frame["misfit"], R.verdict.misfit.numpy())
    assert frame["determined"].dtype == bool and list(frame["used"]) == list(R.used)
    assert ("sigma" in frame) == (noise is not None) and set(frame.attrs["units"]) < set(frame.columns)
    assert frame.attrs["units"]["snr z"] == "dB" and frame.attrs["units"]["misfit"] == "signal units"
    frame["misfit"] = 0.0
    assert bool((R.to_pandas()["status"] == R.status).all()) and len(inverted(G, X[0]).to_pandas()) == 1


class Cells(HTMLParser):
    """Counts of a page's tags, and its text; fails on a tag that is left open."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize(("d", "pictures"), [(16, 10), (12, 0)])
def test_an_inversion_shows_its_first_signals_in_a_notebook(d: int, pictures: int):
    G = made(2, d)
    R = inverted(G, samples(G, 12)[1])
    page = Cells(R._repr_html_())
    assert page.tags.count("img") == pictures and page.tags.count("tr") == 11 and "script" not in page.tags
    assert "the first 10 of 12" in page.words and "explained" in page.words
    assert Cells(R[0]._repr_html_()).tags.count("tr") == 2 and Cells(inverted(G, samples(G)[1][0])._repr_html_())


def test_signals_without_finite_numbers_are_shown():
    G = made(2, 16)
    X = samples(G)[1]
    X[1] = np.nan
    assert "numerical_error" in Cells(inverted(G, X)._repr_html_()).words
    assert inline_pictures(np.full((2, 16), np.nan)) == ([], "")
    assert "black -3, white 5" in inline_pictures(np.array([[-3.0] * 8 + [5.0] * 8]))[1]
    assert len(inline_pictures(np.zeros((1, 3, 4, 4)))[0]) == 1


def test_words_of_the_user_are_escaped():
    G = made(2, 12)
    named = ci.Generator(G.layers, (12,), {"name": "<script>alert(1)</script>"})
    page = Cells(named._repr_html_())
    assert "script" not in page.tags and "<script>" in page.words and page.tags.count("tr") == 1 + len(G.layers)
    R = replace(inverted(G, samples(G)[1]), used=("<b>&",) * 6, notes=("<i>",))
    page = Cells(R._repr_html_())
    assert "<b>&" in page.words and "<i>" in page.words and page.tags.count("b") == 1 and "i" not in page.tags


def test_a_solution_is_shown_in_a_notebook():
    G = made(2, 12)
    layer = G.layers[-1]
    X = torch.from_numpy(samples(G, 12)[1])
    rows = ci.Rows(layer.W, layer.b, X, torch.ones_like(X, dtype=torch.bool))
    S = ci.solve(ci.NonnegativeLasso(rows, 0.1))
    page = Cells(S._repr_html_())
    assert page.tags.count("tr") == 11 and "optimal" in page.words and "the first 10 of 12" in page.words


# --- scikit-learn ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_transformer_finds_latents_and_gives_signals(dtype: torch.dtype):
    G = made(3, 20, dtype)
    z, X = samples(G)
    inverter = ci.GeneratorInverter(G).fit(X)
    found = inverter.transform(X)
    assert found.dtype == X.dtype and found.shape == z.shape
    assert np.array_equal(found, ci.invert(G, torch.from_numpy(X)).z.numpy())
    assert np.allclose(inverter.inverse_transform(found), X, atol=1e-5 if dtype == torch.float32 else 1e-10)
    assert inverter.result_.verdict.explained.all() and inverter.n_features_in_ == 20
    assert np.array_equal(ci.GeneratorInverter(G).fit_transform(X), found)
    assert inverter.transform(X.astype(np.float64)).dtype == X.dtype


def test_a_measurement_says_how_many_columns_there_are():
    G = made(2, 12)
    z, X = samples(G)
    A = torch.randn(7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inverter = ci.GeneratorInverter(G, measurement=A).fit(X @ A.numpy().T)
    assert np.allclose(inverter.transform(X @ A.numpy().T), z, atol=1e-8)
    assert np.allclose(inverter.inverse_transform(z), X)
    with pytest.raises(ValueError, match=r"expected X of shape \(N, 7\), got \(6, 12\)"):
        ci.GeneratorInverter(G, measurement=A).fit(X)


def test_score_is_minus_the_share_that_is_missed():
    G = made(2, 12)
    _, X = samples(G)
    off = X + 0.1 * np.random.default_rng(0).normal(size=X.shape)
    inverter = ci.GeneratorInverter(G, on_fail="ignore").fit(X)
    assert -1e-10 < inverter.score(X) <= 0
    missed = np.linalg.norm(inverter.inverse_transform(inverter.transform(off)) - off, axis=1) / np.linalg.norm(off, axis=1)
    assert inverter.score(off) == pytest.approx(-missed.mean())


def test_copies_of_a_transformer_share_the_generator_and_give_the_same():
    G = made(2, 12)
    _, X = samples(G)
    inverter = ci.GeneratorInverter(G, ci.Hybrid(restarts=2), seed=3).fit(X)
    twin = clone(inverter)
    assert twin.generator is G and not hasattr(twin, "result_") and twin.get_params()["seed"] == 3
    again = pickle.loads(pickle.dumps(inverter))
    assert np.array_equal(again.transform(X), inverter.transform(X))
    assert twin.set_params(noise=("l2", 0.1)).noise == ("l2", 0.1)


def test_names_of_latents_and_frames():
    pd = pytest.importorskip("pandas")
    G = made(2, 12)
    _, X = samples(G)
    inverter = ci.GeneratorInverter(G).set_output(transform="pandas")
    frame = inverter.fit_transform(pd.DataFrame(X, index=list("abcdef"), columns=[f"pixel {i}" for i in range(12)]))
    assert list(frame.index) == list("abcdef") and list(frame.columns) == list(inverter.get_feature_names_out())
    assert list(frame.columns) == ["generatorinverter0", "generatorinverter1"]
    assert list(inverter.feature_names_in_)[1] == "pixel 1"


def test_pipelines_and_grids_choose_parameters():
    G = made(2, 12)
    z, X = samples(G, 12)
    target = z @ [1.0, -2.0]
    line = make_pipeline(ci.GeneratorInverter(G), Ridge(alpha=1e-9))
    grid = GridSearchCV(line, {"generatorinverter__method": ["hybrid", "levenberg_marquardt"]}, cv=2).fit(X, target)
    assert grid.best_score_ > 0.999999
    alone = GridSearchCV(ci.GeneratorInverter(G, on_fail="ignore"), {"prior": [None, ci.Ball(0.1)]}, cv=2).fit(X)
    assert alone.best_params_ == {"prior": None}


def test_what_no_generator_makes_is_refused_with_its_cure():
    G = made(2, 12)
    _, X = samples(G)
    with pytest.raises(TypeError, match=r"load_generator"):
        ci.GeneratorInverter(nn.Linear(2, 12)).fit(X)
    with pytest.raises(ValueError, match=r"expected X of shape \(N, 12\), got \(6, 5\).*reshape"):
        ci.GeneratorInverter(G).fit(X[:, :5])
    with pytest.raises(ValueError, match=r"expected latents Z of shape \(N, 2\)"):
        ci.GeneratorInverter(G).fit(X).inverse_transform(X)
    with pytest.raises(ValueError, match="NaN"):
        ci.GeneratorInverter(G).fit(np.where(X == X.max(), np.nan, X))


class OfAnyWidth(ci.GeneratorInverter):
    """The transformer with a generator made for as many columns as `fit` was given: its own fixes them."""

    measurement = noise = prior = chunk = None
    seed, on_fail = 0, "ignore"

    def __init__(self, latent_dim: int = 1, method: object = "levenberg_marquardt"):
        self.latent_dim, self.method = latent_dim, method

    generator = property(lambda self: made(self.latent_dim, getattr(self, "n_features_in_", 3)))


WIDTH = {  # checks of scikit-learn that call with other numbers of columns than the generator's ten
    "check_fit_score_takes_y", "check_estimators_overwrite_params", "check_dont_overwrite_parameters",
    "check_estimators_fit_returns_self", "check_readonly_memmap_input", "check_n_features_in_after_fitting",
    "check_positive_only_tag_during_fit", "check_estimators_dtypes", "check_pipeline_consistency",
    "check_estimators_nan_inf", "check_estimators_pickle", "check_f_contiguous_array_estimator",
    "check_transformer_data_not_an_array", "check_transformer_general", "check_methods_sample_order_invariance",
    "check_methods_subset_invariance", "check_fit2d_1feature", "check_dict_unchanged", "check_fit_idempotent",
    "check_fit_check_is_fitted", "check_n_features_in", "check_fit2d_predict1d",
}  # fmt: skip


def check_all(inverter: ci.GeneratorInverter, expected: dict[str, str]) -> list[str]:
    """The names of checks that fail as expected; any other failure raises. What is skipped is printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = check_estimator(inverter, expected_failed_checks=expected, on_skip=None, on_fail="raise")
    for entry in found:
        if entry["status"] != "passed":
            print(entry["check_name"], entry["status"], entry["expected_to_fail_reason"] or entry["exception"])
    return [entry["check_name"] for entry in found if entry["status"] == "xfail"]


def test_check_estimator_fails_only_where_it_passes_other_numbers_of_columns():
    quick = ci.LevenbergMarquardt(restarts=1, max_iter=3)
    expected = dict.fromkeys(WIDTH, "the generator makes ten numbers, the check passes others")
    assert set(check_all(ci.GeneratorInverter(made(2, 10), quick, on_fail="ignore"), expected)) == WIDTH


def test_check_estimator_passes_where_a_generator_is_made_for_each_number_of_columns():
    assert check_all(OfAnyWidth(1, ci.LevenbergMarquardt(restarts=1, max_iter=3)), {}) == []


# --- deepinv --------------------------------------------------------------------------------------


@pytest.fixture
def dinv() -> Any:
    return pytest.importorskip("deepinv", reason="deepinv is not installed: pip install deepinv")


def pictures(G: ci.Generator, N: int = 3) -> torch.Tensor:
    return torch.from_numpy(samples(G, N)[1]).reshape(N, 1, 8, 8)


def physics_of(dinv: Any, name: str) -> Any:
    if name == "inpainting":
        return dinv.physics.Inpainting(img_size=(1, 8, 8), mask=0.6)
    if name == "blur":
        return dinv.physics.Blur(filter=dinv.physics.functional.blur.gaussian_blur(sigma=(0.8, 0.8)), padding="circular")
    if name == "downsampling":
        return dinv.physics.Downsampling(img_size=(1, 8, 8), filter="gaussian", factor=2)
    if name == "stacked":
        return physics_of(dinv, "inpainting").stack(physics_of(dinv, "downsampling"))
    return dinv.physics.CompressedSensing(m=20, img_size=(1, 8, 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["inpainting", "blur", "downsampling", "compressed sensing", "stacked"])
def test_a_reconstructor_finds_pictures_from_what_a_physics_saw(dinv: Any, name: str, dtype: torch.dtype):
    G = made(2, 64, dtype)
    x, physics = pictures(G), physics_of(dinv, name)
    model = ci.GeneratorReconstructor(G, img_size=(1, 8, 8), on_fail="ignore")
    y = physics(x.float())  # physics of deepinv compute in float32
    found = model(y, physics)
    assert isinstance(model, dinv.models.Reconstructor) and found.dtype == torch.float32
    assert found.shape == x.shape and model.result.z.dtype == dtype
    assert torch.allclose(found.to(dtype), x, atol=1e-4)


def test_masks_and_filters_of_single_pictures_are_used_for_these(dinv: Any):
    G = made(2, 64)
    x, draw = pictures(G), torch.Generator().manual_seed(0)
    masks = (torch.rand(3, 1, 8, 8, generator=draw) < 0.5).double()
    inpainting = dinv.physics.Inpainting(img_size=(1, 8, 8), mask=masks)
    model = ci.GeneratorReconstructor(G, img_size=(1, 8, 8))
    assert torch.allclose(model(inpainting(x), inpainting), x, atol=1e-6) and model.result.settings["measurement"] == "Mask"
    blur = dinv.physics.Blur(filter=torch.rand(3, 1, 3, 3, generator=draw).double(), padding="circular")
    assert torch.allclose(model(blur(x), blur), x, atol=1e-6) and len(model.result) == 3


def test_the_noise_that_a_physics_states_is_used(dinv: Any):
    G = made(2, 64)
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.05)).double()
    y = physics(pictures(G))
    model = ci.GeneratorReconstructor(G, img_size=(1, 8, 8), on_fail="ignore")
    model(y, physics)
    assert model.result.settings["noise"] == "gaussian:0.05"
    poisson = dinv.physics.Denoising(dinv.physics.PoissonNoise())
    with pytest.raises(ValueError, match=r"got PoissonNoise; .*noise=\"auto\""):
        model(y, poisson)
    with pytest.raises(ValueError, match="img_size=") as refused:
        ci.GeneratorReconstructor(G, img_size=(1, 8, 8))(y[..., :4], dinv.physics.Denoising(dinv.physics.ZeroNoise()))
    assert "got 32" in str(refused.value)
    with pytest.raises(TypeError, match="LinearPhysics"):
        model(y, nn.Identity())
    with pytest.raises(ValueError, match="expected img_size of 64 numbers"):
        ci.GeneratorReconstructor(G, img_size=(3, 8, 8))


# --- documents, and what is not installed ------------------------------------------------------------------------


def test_the_blocks_of_the_document_run():
    text = (Path(__file__).parents[1] / "docs" / "other_programs.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 2
    exec("\n".join(blocks), {"__name__": "document"})


def test_without_other_programs_the_package_works_and_names_the_cures():
    code = """
import sys
sys.modules |= dict.fromkeys(("sklearn", "pandas", "deepinv"))
import torch
import cvxinv as ci
from cvxinv import *
R = invert(load_generator(torch.nn.Linear(2, 5)), torch.ones(1, 5).double(), on_fail="ignore")
for ask in (R.to_pandas, lambda: ci.GeneratorInverter, lambda: ci.GeneratorReconstructor):
    try:
        ask()
    except ci.BackendNotInstalledError as error:
        print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in said] == [f"pip install {p}" for p in ("pandas", "scikit-learn", "deepinv")]
    assert {"GeneratorInverter", "GeneratorReconstructor"} <= set(dir(ci)) and not hasattr(ci, "GeneratorInverters")
