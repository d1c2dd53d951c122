"""The papers' problems, transcribed into plain CVXPY, against answers worked out on paper.

What each problem minimises and what it asks of its rows stands in its file once more, as `FORM`, which all of them share: an
objective, an interval for every row, and for some problems a ball around y.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest
from page import misfit

_spec = importlib.util.spec_from_file_location("gallery", Path(__file__).with_name("gallery.py"))
gallery = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(gallery)

GALLERY = list(gallery.gallery())
CASES = [pytest.param(*case, id=f"{case[0]}-{case[1].name}") for case in GALLERY]
FEASIBLE = [case for case in CASES if case.values[1].answer is not None]
INFEASIBLE = [case for case in CASES if case.values[1].answer is None]
# On a round ball CLARABEL may stop a little short of its tolerance; the hand answers judge what it reached.
inaccurate = pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")


def form(name):
    """What a problem's file says of it in the form that all of them share."""
    return gallery.problem(name).FORM


def ends(name, instance):
    """Both ends of every row, infinite where nothing is asked."""
    low, high = np.full(instance.b.shape, -np.inf), np.full(instance.b.shape, np.inf)
    low[instance.on], high[instance.on], high[instance.off] = form(name).ends(instance)
    return low, high


def conditions(name, instance, x):
    """What is asked of x, as CVXPY constraints."""
    rows = instance.W @ x + instance.b
    low, high = ends(name, instance)
    asked = [rows[i] >= low[i] for i in np.flatnonzero(np.isfinite(low))]
    asked += [rows[i] <= high[i] for i in np.flatnonzero(np.isfinite(high))]
    asked += [x >= 0] if form(name).nonnegative else []
    if form(name).ball and instance.on.any():
        # A ball of radius zero has no interior, which an interior point method needs.
        asked += [cp.norm2(misfit(instance, x)) <= instance.penalty] if instance.penalty else [misfit(instance, x) == 0]
    return asked


def largest(name, instance, p):
    """The largest p'v over all v whose rows are as asked: infinite where p leans on a row without that end."""
    low, high = ends(name, instance)
    ball = 0.0
    if form(name).ball:
        on = instance.on
        ball = p[on] @ instance.y[on] + instance.penalty * np.linalg.norm(p[on] / np.sqrt(instance.weight[on]))
        p = np.where(on, 0, p)
    return ball + p[p > 0] @ high[p > 0] + p[p < 0] @ low[p < 0]


def at(instance, point):
    """A CVXPY variable with a value, in which objective and conditions can be evaluated."""
    x = cp.Variable(instance.W.shape[1])
    x.value = point
    return x


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


@inaccurate
@pytest.mark.parametrize("name", gallery.names())
def test_off_rows_bind_in_several_instances_and_never_where_they_do_not_count(name):
    feasible = [instance for instance in gallery.instances(name) if instance.answer is not None and instance.off.any()]
    without = [replace(instance, off=np.zeros_like(instance.off)) for instance in feasible]
    saved = [i.value - gallery.problem(name).transcription(w)[0] for i, w in zip(feasible, without, strict=True)]
    assert len(saved) >= 3
    # whether off rows are asked anything, or, in a fit, which has no number, are part of the objective
    count = any(np.any(np.isfinite(form(name).ends(i)[2])) or i.numbers == () for i in feasible)
    assert sum(saving > 1e-3 for saving in saved) >= 3 if count else max(saved) < 1e-8


@pytest.mark.parametrize(("name", "instance"), CASES)
def test_every_instance_has_consistent_shapes(name, instance):
    m, n = instance.W.shape
    for part in (instance.b, instance.y, instance.on, instance.off, instance.weight):
        assert part.shape == (m,)
    assert instance.on.dtype == bool and instance.off.dtype == bool
    assert not (instance.on & instance.off).any()
    assert (instance.weight > 0).all() and (instance.penalty is None or instance.penalty >= 0)
    assert instance.answer is None or instance.answer.shape == (n,)
    assert instance.ray is None or instance.ray.shape == (m,)
    low, high = ends(name, instance)
    assert low.shape == high.shape == (m,) and (low <= high).all()


@pytest.mark.parametrize(("name", "instance"), FEASIBLE)
def test_hand_answer_is_feasible_and_has_the_hand_value(name, instance):
    x = at(instance, instance.answer)
    for condition in conditions(name, instance, x):
        assert np.max(condition.violation()) <= 1e-12
    assert form(name).objective(instance, x).value == pytest.approx(instance.value, rel=1e-12, abs=1e-12)


@inaccurate
@pytest.mark.parametrize(("name", "instance"), FEASIBLE)
def test_transcription_reaches_the_hand_answer(name, instance):
    value, x = gallery.problem(name).transcription(instance)
    assert value == pytest.approx(instance.value, rel=1e-8, abs=1e-8)
    if instance.unique:
        np.testing.assert_allclose(x, instance.answer, rtol=0, atol=1e-6)


def farthest_optimum(name, instance, direction):
    """The optimum farthest along direction, up to the slack in the value, inside a box of side 10."""
    x = cp.Variable(instance.answer.size)
    optimal = form(name).objective(instance, x) <= instance.value + 1e-6
    problem = cp.Problem(cp.Maximize(direction @ x), [optimal, cp.abs(x) <= 10, *conditions(name, instance, x)])
    problem.solve(solver="CLARABEL")
    return x.value


@inaccurate
@pytest.mark.parametrize(("name", "instance"), FEASIBLE)
def test_unique_says_whether_there_is_one_optimum_only(name, instance):
    axes = np.eye(instance.answer.size)
    optima = np.array([farthest_optimum(name, instance, axis) for axis in (*axes, *-axes)])
    # A slack of 1e-6 in the value moves a unique answer by about 1e-3, its square root.
    if instance.unique:
        np.testing.assert_allclose(optima - instance.answer, 0, atol=1e-2)
    else:
        assert np.ptp(optima, axis=0).max() > 1 / 2


@pytest.mark.parametrize(("name", "instance"), INFEASIBLE)
def test_transcription_finds_nothing_where_nothing_is_feasible(name, instance):
    value, x = gallery.problem(name).transcription(instance)
    assert value == np.inf and instance.value == np.inf
    assert x is None


@pytest.mark.parametrize(("name", "instance"), INFEASIBLE)
def test_ray_proves_infeasibility(name, instance):
    p = instance.ray
    image = instance.W.T @ p
    assert (image >= 0).all() if form(name).nonnegative else (image == 0).all()
    assert (p[instance.off] >= 0).all() and (p[~(instance.on | instance.off)] == 0).all()
    # A feasible x would have p'(W x + b) between these two.
    assert instance.b @ p > largest(name, instance, p)
