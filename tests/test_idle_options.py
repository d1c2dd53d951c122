"""Every option of every method changes something that can be seen, or is refused where it would change nothing."""

from dataclasses import MISSING, fields
from functools import cache
from typing import Any

import pytest
import torch
from test_inversion import net, noisy, signals

import cvxinv as ci
from cvxinv.inversion.method import options_of
from cvxinv.inversion.methods import METHODS

G = net((5, 20, 40, 60))
Z, X = signals(G, 4)
Y, NOISE = noisy(X, 0.02)
FAR = torch.cat([Y[:3], torch.randn(1, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)])
BOUND = ("l2", NOISE.norm(dim=1) * 1.001)
S = net((5, 20, 60), "sigmoid", seed=1)

# for each option another value, and what else is asked for so that it matters
CHANGES: dict[str, dict[str, Any]] = {
    "lam": {"lam": 0.3},
    "gamma": {"gamma": 1.0},
    "support_threshold": {"support_threshold": 0.4},
    "solver": {"solver": "graph_admm"},
    "tol": {"tol": 1e-3},
    "levenberg_marquardt tol": {"tol": 0.3},  # more than the noise leaves
    "mirrored_descent tol": {"tol": 0.3},
    "image_layer": {"image_layer": "preactivation", "of": "sigmoid"},
    "layer_problems": {"layer_problems": {0: lambda rows: ci.GaussianLatent(rows, 10.0)}},
    "max_iter": {"max_iter": 1, "y": FAR},
    "restarts": {"restarts": 3, "y": FAR},
    "debias": {"debias": "gradient"},
    "steps": {"steps": (0.01,)},
    "step": {"step": 0.01},
    "descent": {"descent": "gradient"},
    "rate": {"rate": 0.05},
    "finish": {"finish": "levenberg_marquardt", "max_iter": 20, "y": FAR},
    "deep_phase_retrieval finish": {"finish": None},
    "layered_linear_programs solver": {"solver": "pdhg"},
    "generative_admm restarts": {"restarts": 1, "y": FAR},
    "loss": {"loss": "l1", "y": FAR},
    "rho": {"rho": 0.1, "y": FAR},
    "sigma": {"sigma": 0.1, "y": FAR},
    "split": {"split": "signal", "measurement": torch.arange(60) < 40, "y": FAR},
    "multiplier": {"multiplier": "adaptive", "y": FAR},
    "inner": {"inner": "levenberg_marquardt", "y": FAR},
    "inner_iter": {"inner_iter": 3, "y": FAR},
    "eta": {"eta": 0.1, "y": FAR},
    "radius": {"radius": 0.0, "y": FAR},
    "sign_test": {"sign_test": "settled"},
    "momentum": {"momentum": 0.1},
    "decay": {"decay": 1.5, "y": FAR, "max_iter": 400},
    "cardinalities": {"cardinalities": (2, 2)},
    "form": {"form": "layered"},
    "norm": {"norm": "l1"},
    "eps": {"eps": 0.5},
    "growth": {"growth": 3.0, "y": FAR},
    "rounds": {"rounds": 0, "y": FAR},
    "supports": {"supports": tuple(torch.ones(4, n, dtype=torch.bool) for n in (20, 40))},
    "z0": {"z0": Z + 1.0, "y": FAR},
}
ELSEWHERE = {"force": "a CVXPY call that is predicted to take ten minutes: test_layer_problems.py"}


# what many small steps do is seen in the first ones
SHORT = {"csgm": 50, "generative_admm": 20, "gradient_descent": 200, "gradient_descent_with_negation": 200,
         "mirrored_descent": 10, "plugin": 200, "projected_gradient": 3}  # fmt: skip
# what is seen in the last ones only, once everything has settled
SETTLED = {("csgm", "tol"), ("csgm", "z0"), ("generative_admm", "multiplier"), ("generative_admm", "tol")}


def asked(method: str, change: dict[str, Any]) -> tuple[tuple[str, int | None, Any], dict[str, Any]]:
    """Which signals are inverted, in how many steps at most (None: its own), what is seen of them; and the change alone."""
    change = dict(change)
    far, sigmoid = change.pop("y", None) is not None, change.pop("of", None) is not None
    short = None if any((method, option) in SETTLED for option in change) else SHORT.get(method)
    limit = change.pop("max_iter") if len(change) > 1 and "max_iter" in change else short
    measurement = change.pop("measurement", None) if len(change) > 1 else None
    return ("of a sigmoid" if sigmoid else "far" if far else "near", limit, measurement), change


def outcome(method: str, which: str, limit: int | None, measurement: Any, change: dict[str, Any]) -> list[Any]:
    """All that can be seen of an inversion with the change."""
    y = {"near": Y, "far": FAR, "of a sigmoid": S(signals(S, 4)[0])}[which]
    generator, noise = (S, None) if which == "of a sigmoid" else (G, BOUND)
    beside = {"max_iter": limit, "measurement": measurement}
    options = {key: value for key, value in beside.items() if value is not None} | change
    y, options = (y.abs(), options | {"measurement": ci.Magnitudes()}) if "phase" in method else (y, options)
    R = ci.invert(generator, y, method, noise=noise, truth=Z, on_fail="ignore", **options)
    seen = [R.z, R.starts, *R.hidden]
    for layer in R.layers:
        seen += [layer.solution.h, layer.penalty.nan_to_num(), layer.threshold, layer.solution.certificate.gap]
    return [*seen, [(layer.kind, layer.solution.certificate.tol) for layer in R.layers], R.notes]


@cache
def plain(method: str, which: str, limit: int | None, measurement: Any) -> list[Any]:
    """All that can be seen without a change: once for all options that ask for the same."""
    once, again = (outcome(method, which, limit, measurement, {}) for _ in range(2))
    assert same(once, again), "a second run differs by itself"
    return once


def same(a: list[Any], b: list[Any]) -> bool:
    def equal(x: Any, y: Any) -> bool:
        return torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else x == y

    return len(a) == len(b) and all(map(equal, a, b))


@pytest.mark.parametrize(
    ("method", "option"), [(m, o) for m, kind in METHODS.items() for o in options_of(kind) if o not in ELSEWHERE]
)
def test_an_option_changes_something_or_is_refused(method: str, option: str):
    assert option in CHANGES, f"{option} of {method} is new: say in CHANGES where it matters"
    change = CHANGES.get(f"{method} {option}", CHANGES[option])
    base, change = asked(method, change)
    without = plain(method, *base)
    try:
        changed = outcome(method, *base, change)
    except ValueError as error:
        assert "would change nothing" in str(error) and (method, option) in REFUSED
    else:
        assert not same(without, changed), f"{option} of {method} changed nothing and said nothing"


REFUSED = {("hybrid", "gamma"), ("oracle", "max_iter")}  # the oracle debiases only where that is asked for


LEAKY = net((5, 20, 60), hidden=ci.LeakyReLU(0.1))
ONE = net((5, 60))
FEW = torch.arange(60) < 8
IDLE = {
    "gamma of hybrid": (G, "hybrid", {"gamma": 1.0}, r"prior=cvxinv\.Gaussian\(gamma\) with noise=\('gaussian', sigma\)"),
    "lam without layers": (G, "hybrid", {"lam": 0.1, "measurement": FEW}, "layered start is possible: layer 2 has 8 seen"),
    "tol without layers": (G, "hybrid", {"tol": 1e-3, "measurement": FEW}, "no layered start is possible"),
    "solver without layers": (G, "hybrid", {"solver": "CLARABEL", "measurement": FEW}, "no layered start is possible"),
    "lam of leaky layers": (LEAKY, "hybrid", {"lam": 0.1}, "no layer problem of this generator has an l1 weight"),
    "threshold of leaky layers": (LEAKY, "latent_pursuit", {"support_threshold": 0.1}, "cuts anything off"),
    "lam of one layer": (ONE, "latent_pursuit", {"lam": 0.1}, "no layer problem of this generator has an l1 weight"),
    "lam of an interval": (S, "latent_pursuit", {"lam": 0.1}, "no layer problem of this generator has an l1 weight"),
    "gamma of a given latent": (
        G, "latent_pursuit", {"gamma": 1.0, "layer_problems": {0: lambda rows: ci.GaussianLatent(rows, 1.0)}}, "is given"),
    "reading of a given image": (
        S, "latent_pursuit",
        {"image_layer": "preactivation", "layer_problems": {1: lambda rows: ci.NonnegativeLasso(rows, 1.0)}}, "is given"),
    "force without CVXPY": (G, "latent_pursuit", {"force": True}, "none is asked for"),
    "force of hybrid": (G, "hybrid", {"force": True, "solver": "graph_admm"}, "none is asked for"),
    "steps of no debiasing": (G, "latent_pursuit", {"debias": None, "max_iter": 5}, "no step is taken"),
    "steps of the oracle": (G, "oracle", {"max_iter": 5, "supports": CHANGES["supports"]["supports"]}, "no step is taken"),
    "split of signals that are seen whole": (G, "generative_admm", {"split": "signal"}, "where everything is seen"),
    "cardinalities without noise": (G, "layered_basis_pursuit", {"cardinalities": (2, 2)}, "without noise"),
    "cardinalities beside lam": (
        G, "layered_basis_pursuit", {"cardinalities": (2, 2), "lam": 0.1, "noise": BOUND}, "with lam="),
    "lam of one layer's basis pursuit": (ONE, "layered_basis_pursuit", {"lam": 0.1}, "there is no hidden layer"),
}  # fmt: skip


@pytest.mark.parametrize("case", IDLE)
def test_an_option_without_effect_is_refused_with_the_reason(case: str):
    generator, method, options, reason = IDLE[case]
    y = generator(signals(generator, 4)[0])
    with pytest.raises(ValueError, match=reason) as caught:
        ci.invert(generator, y, method, on_fail="ignore", **options)
    assert "would change nothing" in str(caught.value) and (
        "leave it out" in str(caught.value) or "pass" in str(caught.value)
    )


def test_a_default_that_is_said_is_no_option():
    options = {f.name: f.default for f in fields(ci.LayerOptions) if f.default is not MISSING}
    assert ci.invert(G, X, "hybrid", measurement=FEW, on_fail="ignore", restarts=1, **options).starts.any()
