"""A method of inversion from outside the package: one class, no private name, the whole road."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from test_inversion import error, net, signals
from torch import Tensor

import cvxinv as ci
from cvxinv.batch import per_signal


@dataclass(frozen=True, eq=False)
class GaussNewton(ci.AbstractMethod):
    """Undamped Gauss-Newton from the best of a few random starts; near: a latent per signal to start from instead."""

    rounds: int = 30
    tries: int = 20
    near: Tensor | None = per_signal(default=None)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"expected rounds >= 1, got {self.rounds}; pass e.g. 30")

    def check(self, task: ci.Task) -> None:
        if task.measurement.length < task.generator.latent_dim:
            raise ValueError("GaussNewton cannot invert this: fewer entries than latents; use method='hybrid'")

    def run(self, task: ci.Task, starts: ci.Starts) -> ci.Latents:
        best = starts.latents(0).expand(task.N, -1) if self.near is None else self.near
        misfit = task.misfit(best)
        for k in range(self.tries if self.near is None else 1):
            z = starts.latents(k).expand(task.N, -1) if self.near is None else self.near
            for _ in range(self.rounds):
                r, J = task.linearize(z)
                z = z - torch.linalg.lstsq(J, r[..., None], driver="gelsd").solution[..., 0]
            new = task.misfit(z)
            best, misfit = torch.where((new < misfit)[:, None], z, best), torch.minimum(new, misfit)
            task.progress.reach((k + 1) / self.tries)
        return ci.Latents(best, notes=(f"{self.tries} tries",))


G = net((4, 40, 80), hidden=ci.LeakyReLU(0.5))
Z, Y = signals(G, 6)


def test_a_method_of_ones_own_goes_the_whole_road(tmp_path: Path):
    R = ci.invert(G, Y, GaussNewton(rounds=40), truth=Z, seed=3)
    assert R.verdict.explained.all() and error(R.z, Z) < 1e-6
    assert R.method == "gauss_newton" and set(R.used) == {"gauss_newton"} and R.notes == ("20 tries",)
    assert R.settings["rounds"] == 40 and "tries" not in R.settings and not R.starts.any()
    assert ci.verify(G, Y, R.z).explained.all()
    loaded = ci.Inversion.load(R.save(tmp_path / "result"))
    assert torch.equal(loaded.z, R.z) and loaded.settings == R.settings and loaded.summary() == R.summary()
    assert "can be trusted" in R.explain(0, generator=G) and "z came from: gauss_newton" in loaded.explain(1)
    page = ci.write_report(R, tmp_path / "report.html", y=Y, generator=G, truth=Z).read_text()
    assert "gauss_newton" in page
    R.export(tmp_path / "claims", G, Y)
    claims = json.loads((tmp_path / "claims" / "inversion.certificate.json").read_text())
    assert claims["status"] == ["explained"] * 6


def test_it_is_cut_to_chunks_with_what_it_holds_per_signal():
    near = Z + 1e-3
    whole, parts = (ci.invert(G, Y, GaussNewton(near=near), chunk=c) for c in (None, 4))
    assert error(whole.z, Z) < 1e-9 and error(parts.z, whole.z) < 1e-9 and parts.notes == whole.notes
    assert ci.invert(G, Y[0], GaussNewton(near=near[:1])).z.shape == (4,)


def test_what_it_refuses_is_refused_before_it_runs():
    with pytest.raises(ValueError, match="expected rounds >= 1"):
        GaussNewton(rounds=0)
    with pytest.raises(ValueError, match="GaussNewton cannot invert this: fewer entries"):
        ci.invert(G, Y[:, :2], GaussNewton(), measurement=torch.eye(80)[:2].double())
    with pytest.raises(TypeError, match=r"options of GaussNewton in the object, got rounds beside it; pass Gauss"):
        ci.invert(G, Y, GaussNewton(), rounds=3)
    with pytest.raises(TypeError, match=r"a method as an object, got the class GaussNewton; pass GaussNewton\("):
        ci.invert(G, Y, GaussNewton)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"as an object such as Hybrid\(restarts=20\), got int"):
        ci.invert(G, Y, 3)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Wrong(ci.AbstractMethod):
    """Gives what it was made with."""

    answer: object = None

    def run(self, task: ci.Task, starts: ci.Starts) -> ci.Latents:
        return self.answer  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Z, TypeError, r"expected Latents from Wrong\.run, got a tensor .*; return cvxinv\.Latents\(z\)"),
        (ci.Latents(Z[:2]), ValueError, r"latents z from Wrong\.run of shape \(6, 4\)"),
        (ci.Latents(Z.float()), ValueError, r"torch\.float64 on cpu, got a tensor torch\.float32"),
        (ci.Latents(Z, used=("me",)), ValueError, r"expected used from Wrong\.run for 6 signals, got 1"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_by_name(answer: object, kind: type[Exception], words: str):
    with pytest.raises(kind, match=words):
        ci.invert(G, Y, Wrong(answer))


def test_a_wrong_answer_is_judged_as_one():
    R = ci.invert(G, Y, Wrong(ci.Latents(torch.zeros_like(Z))), on_fail="ignore")
    assert not R.verdict.explained.any()


# --- the package's own, by name and by object -----------------------------------------------------


def test_an_object_and_its_name_with_keywords_are_the_same():
    H = net((5, 20, 40))
    z, y = signals(H, 3)
    pairs = [
        (ci.Hybrid(restarts=2, layers=ci.LayerOptions(lam=1e-9)), "hybrid", {"restarts": 2, "lam": 1e-9}),
        (ci.LatentPursuit(debias=None), "latent_pursuit", {"debias": None}),
        (ci.LevenbergMarquardt(restarts=3), "levenberg_marquardt", {"restarts": 3}),
        (ci.GradientDescent(max_iter=40), "gradient_descent", {"max_iter": 40}),
        (ci.LayeredBasisPursuit(lam=1e-6), "layered_basis_pursuit", {"lam": 1e-6}),
        (ci.LayeredLinearPrograms(norm="l1"), "layered_linear_programs", {"norm": "l1"}),
        (ci.Oracle(form="layered"), "oracle", {"form": "layered"}),
        (ci.GradientDescentWithNegation(step=0.5), "gradient_descent_with_negation", {"step": 0.5}),
        (ci.MirroredDescent(restarts=2), "mirrored_descent", {"restarts": 2}),
        (ci.Plugin(step=0.5), "plugin", {"step": 0.5}),
        (ci.DeepPhaseRetrieval(max_iter=40), "deep_phase_retrieval", {"max_iter": 40}),
        (ci.ProjectedGradient(max_iter=3), "projected_gradient", {"max_iter": 3}),
        (ci.GenerativeAdmm(max_iter=20, rho=2.0), "generative_admm", {"max_iter": 20, "rho": 2.0}),
        (ci.IntermediateLayers(max_iter=20), "intermediate_layers", {"max_iter": 20}),
        (ci.Csgm(max_iter=20, restarts=2), "csgm", {"max_iter": 20, "restarts": 2}),
    ]
    assert {name for _, name, _ in pairs} == set(ci.METHODS)
    for chosen, name, options in pairs:
        seen, words = (y.abs(), {"measurement": ci.Magnitudes()}) if "phase" in name else (y, {})
        words |= {"truth": z, "on_fail": "ignore"}
        by_object, by_name = (ci.invert(H, seen, m, **words, **o) for m, o in ((chosen, {}), (name, options)))
        assert torch.equal(by_object.z, by_name.z) and by_object.settings == by_name.settings
        assert by_object.method == by_name.method == name
    grouped = ci.invert(H, y, "hybrid", layers=ci.LayerOptions(lam=1e-9), tol=1e-5)
    assert grouped.settings["lam"] == 1e-9 and grouped.settings["tol"] == 1e-5
