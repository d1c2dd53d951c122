"""What every method of inversion owes its user, whatever it does: those known by name, and whoever joins them."""

import inspect
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from test_inversion import net, signals

import cvxinv as ci

ROOT = Path(__file__).resolve().parent.parent
G = net((4, 40, 80))
Z, Y = signals(G, 5)
SMALL = {"max_iter": 30, "restarts": 2}  # of what a method has: enough to move, too few to end in rounding


def has(method: str, option: str) -> bool:
    return option in {f.name for f in fields(ci.METHODS[method])}


def run(method: str, y: torch.Tensor = Y, *, small: bool = True, **words: Any) -> ci.Inversion:
    """An inversion with a small budget, of a method that takes it."""
    idle = "max_iter" if getattr(ci.METHODS[method], "debias", "piece") is None else ""  # it is refused where it is idle
    budget = {name: value for name, value in SMALL.items() if small and has(method, name) and name != idle}
    truth = {"truth": Z[: len(y)]} if method == "oracle" and y.ndim == 2 and "truth" not in words else {}
    seen = seen_by(method)
    if seen is not None:
        y = seen.observe(y if y.ndim == 2 else y[None]).reshape(*y.shape[:-1], -1)
        words = {"measurement": seen} | words
    return ci.invert(G, y, method, on_fail="ignore", progress=False, **budget, **truth, **words)


def seen_by(method: str) -> ci.AbstractMeasurement | None:
    """What a method sees of a signal: everything, where it takes that."""
    kind = getattr(ci, "Magnitudes", None)
    return kind() if kind is not None and "phase" in method else None


@pytest.fixture(params=list(ci.METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def test_an_answer_is_the_same_again_and_the_seed_decides_its_random_starts(method: str):
    first, again = run(method, seed=1), run(method, seed=1)
    assert torch.equal(first.z, again.z) and list(first.used) == list(again.used)
    state = torch.random.get_rng_state()
    run(method, seed=2)
    assert torch.equal(state, torch.random.get_rng_state()), "torch's own stream was drawn from"


def test_a_signals_answer_does_not_depend_on_its_neighbours(method: str):
    whole, cut = run(method, seed=3), run(method, seed=3, chunk=2)
    assert torch.allclose(whole.z, cut.z, rtol=1e-6, atol=1e-7), (whole.z - cut.z).abs().max()
    turned = run(method, Y.flip(0), seed=3, **({"truth": Z.flip(0)} if method == "oracle" else {}))
    assert torch.allclose(whole.z, turned.z.flip(0), rtol=1e-6, atol=1e-7)


def test_one_signal_that_is_no_number_costs_itself(method: str):
    y = Y.clone()
    y[2] = torch.nan
    clean, R = run(method, seed=3), run(method, y, seed=3)
    assert R.status[2] == "numerical_error" and R.z[2].isnan().all()
    others = [0, 1, 3, 4]
    assert torch.allclose(R.z[others], clean.z[others], rtol=1e-6, atol=1e-7)


def test_a_matrix_per_signal_is_taken_or_refused_by_name(method: str):
    A = torch.randn(5, 30, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 30**0.5
    y = (A @ Y[..., None])[..., 0]
    kind = getattr(ci, "Magnitudes", None)
    seen, y = (kind(A), y.abs()) if kind is not None and "phase" in method else (A, y)
    words = {"truth": Z} if method == "oracle" else {}
    try:
        refused, found = "", ci.invert(G, y, method, measurement=seen, on_fail="ignore", progress=False, **words)
    except ValueError as error:
        refused, found = str(error), None
    assert (found.verdict.relative_misfit <= 0.05).all() if found else names(refused, method)
    assert found or method not in ("hybrid", "levenberg_marquardt", "csgm", "plugin")


def test_time_that_is_over_is_no_error(method: str):
    R = run(method, small=False, time_limit=1e-6)
    assert len(R) == 5 and set(R.status) <= {"user_limit", "explained"}
    R = run(method, small=False, signal_time_limit=1e-6)
    assert R.z.isfinite().all() and set(R.status) <= {"user_limit", "explained", "stationary"}


def test_float32_comes_back_as_float32_and_one_signal_as_one(method: str):
    single = G.to(torch.float32)
    seen, words = seen_by(method), {"truth": Z} if method == "oracle" else {}
    y = Y if seen is None else seen.observe(Y)
    R = ci.invert(single, y.float(), method, measurement=seen, on_fail="ignore", **words)
    assert R.z.dtype == R.signal.dtype == torch.float32 and R.z.isfinite().all()
    if method != "oracle":
        assert run(method, Y[0]).z.shape == (4,)


def test_the_judge_says_of_z_what_the_result_says(method: str):
    R, seen = run(method), seen_by(method)
    again = ci.verify(G, Y if seen is None else seen.observe(Y), R.z, measurement=seen)
    assert list(again.status) == list(R.status) and torch.equal(again.misfit, R.verdict.misfit)


def test_it_starts_from_an_earlier_answer_and_levenberg_marquardt_finishes_it(method: str):
    R, seen = run(method, small=False), seen_by(method)
    if has(method, "z0"):
        near = run(method, small=False, z0=Z + 1e-6)
        assert (near.verdict.relative_misfit <= 1e-5).all()
        assert run(method, z0=R).z.isfinite().all()
    y = Y if seen is None else seen.observe(Y)
    ended = ci.invert(G, y, "levenberg_marquardt", measurement=seen, z0=R, restarts=0, on_fail="ignore")
    assert (ended.verdict.misfit <= R.verdict.misfit * (1 + 1e-9) + 1e-12).all()


def test_options_that_cannot_be_right_are_refused_when_they_are_said(method: str):
    kind, refused = ci.METHODS[method], 0
    for f in fields(kind):
        if isinstance(f.default, bool) or not isinstance(f.default, (int, float)):
            continue
        for bad in (-1, "many", float("nan")):
            with pytest.raises((ValueError, TypeError), match=f.name):
                kind(**{f.name: bad})
        refused += 1
    assert refused or method in ("latent_pursuit", "oracle", "layered_basis_pursuit", "hybrid", "levenberg_marquardt")


@pytest.mark.parametrize("noise", [("l2", 0.1), ("linf", 0.02), ("l1", 1.0), ("gaussian", 0.01)], ids=str)
def test_noise_is_heeded_or_refused_with_a_cure(method: str, noise: Any):
    seen = seen_by(method)
    refused, found = attempt(method, noise=noise)
    judged = found and ci.verify(G, Y if seen is None else seen.observe(Y), found.z, measurement=seen, noise=noise)
    # refused by name with a cure, or judged by that noise
    assert judged.status.tolist() == found.status.tolist() if found else names(refused, method, noise[0])


def test_a_prior_is_heeded_or_refused(method: str):
    refused, found = attempt(method, prior=ci.Box(-0.1, 0.1))
    if not ci.METHODS[method].priors:
        assert names(refused, "prior")
    assert found.z.abs().max() <= 0.1 + 1e-12 if found else names(refused, "prior", "Box")


def attempt(method: str, **words: Any) -> tuple[str, ci.Inversion | None]:
    """Why a method refuses something, or what it found."""
    try:
        return "", run(method, **words)
    except ValueError as error:
        return str(error), None


def names(refused: str, *any_of: str) -> bool:
    """Whether a refusal names one of these, and a cure."""
    return any(word in refused for word in any_of) and (";" in refused or "Use" in refused)


def test_it_counts_iterations_and_is_told_of_chunks(method: str):
    told = list[int]()
    R = run(method, chunk=2, callback=lambda progress: told.append(progress.done))
    assert R.iterations.shape == (5,) and told == [2, 4, 5]
    idle = method == "oracle"  # whose least squares takes none
    assert (R.iterations == 0).all() if idle else (R.iterations > 0).all()
    assert torch.equal(R.iterations, run(method).iterations)


def test_its_result_is_kept_with_the_options_it_had(method: str, tmp_path: Path):
    R = run(method)
    loaded = ci.Inversion.load(R.save(tmp_path / "result"))
    assert (
        torch.equal(loaded.z, R.z)
        and torch.equal(loaded.iterations, R.iterations)
        and loaded.settings == R.settings
        and loaded.method == method
    )
    for name, value in SMALL.items():
        assert not has(method, name) or method == "oracle" or loaded.settings[name] == value
    assert loaded.summary() == R.summary() and loaded.explain(0) == R.explain(0)


def test_its_page_says_what_it_computes_and_where_that_is_from(method: str):
    kind = ci.METHODS[method]
    page = inspect.getdoc(sys.modules[kind.__module__]) or ""
    assert "ource" in page or "steps/" in page, "no source, nor a file of steps that has it"
    said = inspect.getdoc(kind) or ""
    for f in fields(kind):
        assert f"{f.name}:" in said or f"{f.name}," in said, f"{f.name} is not documented"
    assert f'| `"{method}"`' in (ROOT / "README.md").read_text(), "the table of methods in the README does not have it"
    assert getattr(ci, kind.__name__) is kind


@pytest.mark.parametrize("name", [m for m in ci.METHODS if has(m, "tol") and not has(m, "solver")])
def test_a_coarse_tol_ends_sooner_and_a_fine_one_is_met(name: str):
    """Where it ends steps; that of the methods with a solver ends the solves of layers."""
    exact, coarse, fine = (run(name, small=False, restarts=1, **w) for w in ({}, {"tol": 0.03}, {"tol": 1e-5}))
    assert (coarse.iterations <= exact.iterations).all() and (coarse.iterations < exact.iterations).any()
    assert (coarse.iterations <= fine.iterations).all()
    if name in ("levenberg_marquardt", "mirrored_descent"):  # a share of |y|
        assert (fine.verdict.relative_misfit <= 1e-5).all() and (coarse.verdict.relative_misfit <= 0.03).all()
        assert (coarse.verdict.relative_misfit > 1e-9).any()
    with pytest.raises(ValueError, match="tol must be"):
        run(name, tol=-1.0)
