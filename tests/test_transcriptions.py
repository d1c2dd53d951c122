"""The papers' problems, transcribed into plain CVXPY, against answers worked out on paper."""

import importlib.util
from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("gallery", Path(__file__).with_name("gallery.py"))
gallery = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(gallery)

GALLERY = list(gallery.gallery())
CASES = [pytest.param(*case, id=f"{case[0]}-{case[1].name}") for case in GALLERY]
FEASIBLE = [case for case in CASES if case.values[1].answer is not None]
INFEASIBLE = [case for case in CASES if case.values[1].answer is None]
NONNEGATIVE = {"nonnegative_lasso": True, "gaussian_latent": False}
PRIOR = {
    "nonnegative_lasso": lambda lam, h: lam * h.sum(),
    "gaussian_latent": lambda gamma, z: gamma / 2 * (z @ z),
}


def objective(name, instance, x):
    misfit = (instance.W @ x + instance.b - instance.y)[instance.on]
    return (instance.weight[instance.on] * misfit**2).sum() / 2 + PRIOR[name](instance.penalty, x)


@pytest.mark.parametrize("name", gallery.names())
def test_every_problem_has_ten_instances_with_distinct_names(name):
    named = [instance.name for instance in gallery.instances(name)]
    assert len(named) >= 10
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("name", gallery.names())
def test_every_instance_is_listed_under_its_function_and_explains_itself(name):
    file = gallery.problem(name)
    for work, instance in zip(file.WORKED, file.INSTANCES, strict=True):
        lesson, blank, *working = work.__doc__.splitlines()
        assert work.__name__ == instance.name
        assert lesson.endswith(".") and not blank and len("".join(working).strip()) > 0


@pytest.mark.parametrize(("name", "instance"), CASES)
def test_every_instance_has_consistent_shapes(name, instance):
    m, n = instance.W.shape
    for part in (instance.b, instance.y, instance.on, instance.off, instance.weight):
        assert part.shape == (m,)
    assert instance.on.dtype == bool and instance.off.dtype == bool
    assert not (instance.on & instance.off).any()
    assert (instance.weight > 0).all() and instance.penalty >= 0
    assert instance.answer is None or instance.answer.shape == (n,)


@pytest.mark.parametrize(("name", "instance"), FEASIBLE)
def test_hand_answer_is_feasible_and_has_the_hand_value(name, instance):
    x = instance.answer
    excess = (instance.W @ x + instance.b)[instance.off]
    assert (excess <= 1e-12).all()
    assert not NONNEGATIVE[name] or (x >= 0).all()
    assert objective(name, instance, x) == pytest.approx(instance.value, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("name", "instance"), FEASIBLE)
def test_transcription_reaches_the_hand_answer(name, instance):
    value, x = gallery.problem(name).transcription(instance)
    assert value == pytest.approx(instance.value, rel=1e-8, abs=1e-8)
    if instance.unique:
        np.testing.assert_allclose(x, instance.answer, rtol=0, atol=1e-6)


def farthest_optimum(name, instance, direction):
    """The optimum farthest along direction, up to the slack in the value, inside a box of side 10."""
    x = cp.Variable(instance.answer.size)
    on, off = instance.on, instance.off
    misfit = instance.W[on] @ x + instance.b[on] - instance.y[on]
    prior = cp.sum(x) * instance.penalty if NONNEGATIVE[name] else cp.sum_squares(x) * instance.penalty / 2
    value = instance.weight[on] @ cp.square(misfit) / 2 + prior
    constraints = [
        value <= instance.value + 1e-6,
        instance.W[off] @ x + instance.b[off] <= 0,
        cp.abs(x) <= 10,
    ]
    constraints += [x >= 0] if NONNEGATIVE[name] else []
    problem = cp.Problem(cp.Maximize(direction @ x), constraints)
    problem.solve(solver="CLARABEL")
    return x.value


@pytest.mark.parametrize(("name", "instance"), FEASIBLE)
def test_unique_says_whether_there_is_one_optimum_only(name, instance):
    axes = np.eye(instance.answer.size)
    optima = [farthest_optimum(name, instance, axis) for axis in (*axes, *-axes)]
    spread = max(np.abs(x - instance.answer).max() for x in optima)
    # A slack of 1e-6 in the value moves a unique answer by about 1e-3, its square root.
    assert (spread < 1e-2) if instance.unique else (spread > 1 / 2)


@pytest.mark.parametrize(("name", "instance"), INFEASIBLE)
def test_transcription_finds_nothing_where_nothing_is_feasible(name, instance):
    value, x = gallery.problem(name).transcription(instance)
    assert value == np.inf and instance.value == np.inf
    assert x is None


@pytest.mark.parametrize(("name", "instance"), INFEASIBLE)
def test_ray_proves_infeasibility(name, instance):
    mu = instance.ray
    assert (mu >= 0).all() and (mu[~instance.off] == 0).all()
    image = instance.W.T @ mu
    assert (image >= 0).all() if NONNEGATIVE[name] else (image == 0).all()
    assert instance.b @ mu > 0
