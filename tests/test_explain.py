"""What is said of a signal: cures exist, harmless things are called so, and nothing is blamed that is not known."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from test_inversion import net, noisy, signals
from torch import Tensor

import cvxinv as ci
from cvxinv.command.demo import load_shipped
from cvxinv.inversion.explain import NEAREST, NO, SIGNAL_ONLY, YES, Explanation, explain
from cvxinv.inversion.method import options_of
from cvxinv.inversion.methods import METHODS

EVERYWHERE = {"noise", "prior", "measurement", "method", "generator"}  # keywords of invert and explain themselves


@cache
def digits() -> tuple[ci.Generator, Tensor, Tensor]:
    """The shipped generator, samples of it, and real digits, which are out of its range."""
    G, images, _ = load_shipped()
    return G, G(G.sample_latent(3, torch.Generator().manual_seed(1))), images[:3]


def situations(method: str) -> Iterator[tuple[ci.Generator, ci.Inversion]]:
    """One inversion each: out of range, loosely and tightly noisy, cut short, unfinished, infinite, rank-deficient."""
    G, x, images = digits()
    options: dict = {"on_fail": "ignore", "truth": G.sample_latent(3, torch.Generator().manual_seed(1))}
    options |= {"max_iter": 60} if method == "gradient_descent" else {}
    options |= {"restarts": 1} if method in ("hybrid", "levenberg_marquardt") else {}
    out = ci.invert(G, images, method, **options)
    yield G, out
    yield G, ci.invert(G, images, method, noise=("l2", 0.05), **options)
    yield G, ci.invert(G, x, method, noise=("l2", 2.0), **options)
    yield G, ci.invert(G, x, method, noise=("gaussian", 0.05), **options)
    yield G, ci.invert(G, x, method, measurement=torch.arange(64) < 5, **options) if method in _ANYWHERE else out
    if "max_iter" in options_of(METHODS[method]) and method in _ANYWHERE:
        yield G, ci.invert(G, x, method, **(options | {"max_iter": 2}))
    status = out.verdict.status.copy()
    status[:] = "user_limit"
    yield G, replace(out, verdict=replace(out.verdict, status=status))
    yield (
        G,
        replace(
            out, z=torch.full_like(out.z, torch.nan), verdict=replace(out.verdict, status=_all(status, "numerical_error"))
        ),
    )
    yield (
        G,
        replace(out, verdict=replace(out.verdict, status=_all(status, "stationary"), sigma_max=0 * out.verdict.sigma_max)),
    )
    if out.layers:
        yield G, _unfinished(out)


_ANYWHERE = ("hybrid", "levenberg_marquardt", "gradient_descent")


def _all(status, word: str):
    new = status.copy()
    new[:] = word
    return new


def _unfinished(out: ci.Inversion) -> ci.Inversion:
    first = out.layers[0]
    certificate = replace(first.solution.certificate, status=_all(first.solution.certificate.status, "user_limit"))
    return replace(out, layers=(replace(first, solution=replace(first.solution, certificate=certificate)), *out.layers[1:]))


def unknown_options(word: Explanation, ran: str) -> list[str]:
    """Options that an explanation advises and that the method which is meant does not have."""
    missing = []
    for advice in word.advice:
        for part in re.split(r"\bor (?=\w+=)|; ", advice):
            named = re.search(r"method='(\w+)'", part)
            kind = METHODS[named[1] if named else ran]
            known = EVERYWHERE | set(options_of(kind)) if kind.priors else (EVERYWHERE | set(options_of(kind))) - {"prior"}
            missing += [f"{name} of {kind.name}" for name in re.findall(r"(?<![\w(])(\w+)=", part) if name not in known]
            missing += [f"{kind.name} itself" for _ in range(bool(named) and named[1] == ran and ran == "hybrid")]
            above = re.search(r"\bmax_iter\b", part)
            missing += ["max_iter without effect"] if above and "debias" in options_of(kind) else []
    return missing


@pytest.mark.parametrize("method", [method for method in METHODS if "phase" not in method])  # signals are seen whole
def test_every_cure_exists_on_the_method_that_ran_or_is_named_with_its_own(method: str):
    said = 0
    for G, inversion in situations(method):
        for generator in (G, None):
            for word in explain(inversion, list(range(len(inversion))), generator):
                assert unknown_options(word, method) == [], word
                said += len(word.advice)
    assert said >= 20


def test_the_check_of_cures_sees_a_wrong_one():
    def word(advice: str) -> Explanation:
        return Explanation(0, NO, "solver", "", (), (advice,))

    assert unknown_options(word("restarts=20"), "latent_pursuit") == ["restarts of latent_pursuit"]
    assert unknown_options(word("solver='auto' for the layers, or method='hybrid' with restarts=20"), "latent_pursuit") == []
    assert unknown_options(word("prior=cvxinv.Gaussian(1.0)"), "oracle") == ["prior of oracle"]
    assert unknown_options(word("a larger max_iter"), "latent_pursuit") == ["max_iter without effect"]
    assert unknown_options(word("method='hybrid'"), "hybrid") == ["hybrid itself"]


def test_infeasible_layers_of_an_explained_signal_are_said_to_be_harmless_and_of_others_not():
    G = net((8, 30, 60, 100))
    _, x = signals(G, 6)
    y = x.clone()
    y[5] += noisy(x, 0.3)[1][5]
    # half the units are called off: no input does that
    R = ci.invert(G, y, noise=("l2", 1e-6), support_threshold=0.5, on_fail="ignore", restarts=2)
    assert (R.layer_status == "infeasible").any() and R.verdict.explained[:5].all()
    i = next(i for i in range(5) if (R.layer_status[i] == "infeasible").any())
    words = explain(R, [i, 5], G)
    assert words[0].trust == YES and "harmless here: G(z) and y alone were judged" in str(words[0])
    assert "is infeasible: proved" in str(words[0]) and "harmless" not in str(words[1])
    harmless = sum(bool((R.layer_status[k] == "infeasible").any()) for k in range(5))
    assert f"{harmless} explained signals have a layer that is not optimal; harmless" in R.summary()
    assert "harmless" not in ci.invert(G, x).summary()


def test_a_picture_out_of_range_is_the_nearest_signal_found_with_its_misfit():
    G, _, images = digits()
    R = ci.invert(G, images, on_fail="ignore")
    for word in explain(R, [0, 1, 2], G):
        share = 100 * float(R.verdict.relative_misfit[word.index])
        said = re.search(r"G\(z\) is the nearest signal found, misfit ([\d.]+) % of \|y\|", word.verdict)
        assert word.trust == NEAREST and said and float(said[1]) == pytest.approx(share, rel=0.05)
        assert any("noise=('l2'" in advice for advice in word.advice) and any("prior=" in advice for advice in word.advice)
        assert "cannot be trusted" not in str(word)


def test_the_signal_is_blamed_only_where_that_is_proved():
    G, _, images = digits()
    R = ci.invert(G, images, "levenberg_marquardt", on_fail="ignore")
    for word in explain(R, [0, 1, 2], G):  # no layers, no proof
        assert word.cause == "signal or search" and "or the search missed it" in word.verdict


def test_a_misfit_far_above_the_stated_noise_says_how_far():
    G, _, images = digits()
    R = ci.invert(G, images, noise=("l2", 0.05), on_fail="ignore", restarts=0)
    (word,) = explain(R, [0])
    times = float(re.search(r"([\d.]+) times what the stated noise explains", word.verdict)[1])
    assert times == pytest.approx(float(R.verdict.misfit[0]) / 0.05, rel=0.05)


def test_layers_that_failed_are_not_credited_with_what_a_descent_found():
    G = net((8, 30, 60, 100))
    _, x = signals(G, 6)
    good = ci.invert(G, x)
    assert set(good.used) == {"layered"}
    R = ci.invert(G, x, support_threshold=0.5, on_fail="ignore")  # half the units are called off
    failed = (R.layer_status == "infeasible").any(1)
    assert failed.any() and not any(u == "layered" for u, f in zip(R.used, failed, strict=True) if f)
    assert "layers and a descent" in R.used
    i = R.used.index("layers and a descent")
    assert "z came from: layers and a descent" in R.explain(i) and "answers by:" in R.summary()


# --- noise, priors --------------------------------------------------------------------------------


def test_gaussian_noise_without_a_prior_leads_to_one_where_z_is_open():
    G = net((8, 12, 30))
    _, x = signals(G, 6)
    y, e = noisy(x, 0.5)
    R = ci.invert(G, y, noise=("gaussian", e.norm(dim=1) / 30**0.5), on_fail="ignore")
    loose = [w for w in explain(R, list(range(6)), G) if w.trust == SIGNAL_ONLY and "only roughly" in w.verdict]
    assert loose and all("prior=cvxinv.Gaussian(1.0)" in str(w) and "standard deviation of z is" in str(w) for w in loose)
    with_prior = ci.invert(G, y, noise=("gaussian", e.norm(dim=1) / 30**0.5), prior=ci.Gaussian(1.0), on_fail="ignore")
    for word in explain(with_prior, list(range(6)), G):
        assert "under the prior Gaussian(precision=1" in str(word) and "prior=cvxinv" not in str(word)


def test_a_box_that_holds_z_is_said():
    G = net((4, 20, 40))
    z, _ = signals(G, 3)
    z[:, 0] = 3.0
    y = noisy(G(z), 0.02)[0]
    R = ci.invert(G, y, noise=("gaussian", 0.05), prior=ci.Box(-1.0, 1.0), on_fail="ignore")
    (word,) = explain(R, [0], G)
    count = int((R.z[0].abs() >= 1 - 1e-9).sum())
    assert count and f"{count} of 4 coordinates of z lie on the border of the box" in str(word)
    R = ci.invert(G, y, noise=("gaussian", 0.05), prior=ci.Ball(1.0), on_fail="ignore")
    assert "z lies on the border of the ball" in R.explain(0)
    wide = ci.invert(G, y, noise=("gaussian", 0.05), prior=ci.Box(-1e3, 1e3), on_fail="ignore")
    assert "border" not in wide.explain(0)


def test_an_estimated_level_is_said_with_its_error():
    G = net((4, 20, 60))
    _, x = signals(G, 3)
    y, e = noisy(x, 0.05)
    R = ci.invert(G, y, noise="auto", on_fail="ignore")
    said = re.search(r"noise per entry: ([\d.e-]+) \+- ([\d.e-]+), estimated", R.explain(0, generator=G))
    true = float(e[0].norm()) / 60**0.5
    assert said and abs(float(said[1]) - true) < 4 * float(said[2])
    assert "counts as noise" in R.explain(0)


def test_what_the_time_cut_is_told_to_take_more_time():
    G = net((6, 40, 80), "sigmoid", seed=2)
    y = torch.rand(2, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    R = ci.invert(G, y, time_limit=1e-9, on_fail="ignore")
    assert set(R.status) == {"user_limit"} and explain(R, [0])[0].advice == ("a larger time_limit",)
    assert ": 2" not in str(R) or "nothing yet: 2" in str(R)


def test_with_a_prior_more_noise_is_stated_as_gaussian_and_that_works():
    G = net((6, 40, 80), seed=2)
    _, x = signals(G, 2)
    y = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    told = {"prior": ci.Gaussian(1.0), "on_fail": "ignore"}
    (word,) = explain(ci.invert(G, y, noise=("gaussian", 0.02), **told), [0])
    (level,) = re.findall(r"noise=\('gaussian', ([\d.e-]+)\)", " ".join(word.advice))
    assert "'l2'" not in " ".join(word.advice) and 0.08 < float(level) < 0.12
    assert ci.invert(G, y, noise=("gaussian", float(level)), **told).verdict.explained[0]
    assert "'auto'" in " ".join(word.advice)
