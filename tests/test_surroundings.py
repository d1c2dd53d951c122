"""Answers do not depend on what surrounds a call: autocast, gradients, inference mode, default dtype and device, stdout."""

import contextlib
import io
import itertools
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.command.exact_check import check_against_cvxpy
from cvxinv.guarantees.inspection import inspect_generator
from cvxinv.solvers.silence import silent_stdout


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


torch_module = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 30), nn.Tanh()).eval()
for k, parameter in enumerate(torch_module.parameters()):
    parameter.data = 0.5 * normal(*parameter.shape, seed=k).float()
PICTURES = nn.Sequential(
    nn.ConvTranspose2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(3, 1, 3, padding=1)
).eval()
for k, parameter in enumerate(PICTURES.parameters()):
    parameter.data = 0.5 * normal(*parameter.shape, seed=k).float()

WIDE = nn.Sequential(nn.Linear(2, 300), nn.ReLU(), nn.Unflatten(1, (1, 1, 300)), nn.Upsample(scale_factor=(1, 2))).eval()

G = ci.load_generator(torch_module, "identity")
G32 = G.to(torch.float32)
Z = normal(3, 4, seed=7)
Y = G(Z)
NOISY = Y + 0.01 * normal(3, 30, seed=8)
MASK = torch.rand(30, generator=seeded(9)) > 0.2
W, B = normal(40, 30, seed=1), 0.1 * normal(40, seed=2)
H = normal(5, 30, seed=3).clamp(min=0)
U = H @ W.T + B
ROWS = ci.Rows(ci.Dense(W), B, U.clamp(min=0) + 0.01 * normal(5, 40, seed=4), U > 0)
ALL_ON = ci.Rows(ci.Dense(W), B, U + 0.01 * normal(5, 40, seed=4), torch.ones_like(U, dtype=torch.bool))


def lasso(rows: ci.Rows = ROWS) -> ci.NonnegativeLasso:
    return ci.NonnegativeLasso(rows, 0.1)


def point(s: Any) -> list[Tensor]:
    return [s.h, s.p, s.certificate.objective, s.certificate.bound, s.certificate.holds]


def inverted(R: Any) -> list[Tensor]:
    return [R.z, R.signal, *R.hidden, R.verdict.misfit, R.verdict.explained, *(t for r in R.layers for t in (r.solution.h,))]


def solved(make: Callable[[], ci.AbstractLayerProblem], solver: str = "auto") -> Callable[[], list[Tensor]]:
    return lambda: point(ci.solve(make(), solver, on_fail="ignore", max_iter=300 if solver != "auto" else None))


def _few(method: str) -> dict[str, Any]:
    """Few steps, of the methods that take any unasked; what is seen, where that is not everything."""
    seen = {"measurement": ci.Magnitudes()} if "phase" in method else {}
    return seen if method == "oracle" else seen | {"max_iter": 30}


def _seen(method: str) -> Tensor:
    return Y.abs() if "phase" in method else Y


def written(R: ci.Inversion) -> list[Tensor]:
    """What a result says of itself, as numbers."""
    words = R.explain(0, generator=G) + "".join(line for line in R.summary().split("\n") if " s" not in line[-8:])
    return [torch.tensor([ord(c) for c in words], dtype=torch.long, device="cpu")]


def loaded(source: Any, **options: Any) -> Callable[[], list[Tensor]]:
    return lambda: [t for layer in ci.load_generator(source, **options).layers for t in (layer.W.matrix(), layer.b)]


# what is computed anew under each of the surroundings, constructors included
CALLS: dict[str, Callable[[], list[Tensor]]] = {
    **{
        f"solve {solver}": solved(lambda: lasso(ALL_ON), solver)
        for solver in ("auto", "fista", "graph_admm", "pdhg", "interior_point", "sparse_active_set", "block_pivoting",
                       "linearized_admm", "shared_admm", "CLARABEL", "OSQP")
    },
    "solve with off rows": solved(lasso),
    "solve in float32": solved(lambda: lasso(ROWS.to(torch.float32))),
    "solve in float32 by name": solved(lambda: lasso(ROWS.to(torch.float32)), "graph_admm"),
    "solve a latent": solved(lambda: ci.GaussianLatent(ROWS, 0.1)),
    "solve a lasso": solved(lambda: ci.Lasso(ALL_ON, 0.1)),
    "solve an l2 bound": solved(lambda: ci.BasisPursuitL2(ALL_ON, 0.1)),
    "solve an l2 bound, off rows": solved(lambda: ci.NonnegativeBasisPursuitL2(ROWS, 0.1)),
    "solve linf bounds": solved(lambda: ci.NonnegativeBasisPursuitLinf(ROWS, 0.05)),
    "solve behind a tanh": solved(
        lambda: ci.IntervalBasisPursuit.behind(ci.Tanh(), ci.Dense(W), B, (0.1 * U).tanh(), 0.01)
    ),
    "solve what is not convex": solved(lambda: ci.ActivatedLasso(ALL_ON, ci.Tanh(), 0.1)),
    "certify": lambda: [getattr(ci.certify(lasso(), H, None), k) for k in ("objective", "bound", "violation", "holds")],
    "certify in words": lambda: [torch.tensor(list(repr(ci.certify(lasso(), H)).encode()), device="cpu")],
    "provably zero": lambda: [ci.provably_zero(lasso(ALL_ON), ci.Point(H, torch.zeros_like(U)))],
    **{f"invert {method}": lambda m=method: inverted(ci.invert(G, _seen(m), m, on_fail="ignore", truth=Z, **_few(m)))
       for method in ci.METHODS},
    "invert with noise": lambda: inverted(ci.invert(G, NOISY, noise=("l2", 0.1), on_fail="ignore")),
    "invert with noise, layered": lambda: inverted(
        ci.invert(G, NOISY, "latent_pursuit", noise=("linf", 0.03), on_fail="ignore")
    ),
    "invert in float32": lambda: inverted(ci.invert(G32, Y.float(), on_fail="ignore")),
    "invert a mask": lambda: inverted(ci.invert(G, Y, measurement=MASK, on_fail="ignore")),
    "invert a matrix": lambda: inverted(ci.invert(G, Y @ W[:20, :30].T, measurement=W[:20, :30], on_fail="ignore")),
    "invert behind a tanh": lambda: inverted(ci.invert(G.with_output("tanh"), Y.tanh(), on_fail="ignore")),
    "invert with penalties": lambda: inverted(
        ci.invert(G, NOISY, "latent_pursuit", lam=0.01, gamma=0.1 * torch.ones_like(Y[:, 0]), on_fail="ignore")
    ),
    "result in words": lambda: written(ci.invert(G, NOISY, truth=Z, on_fail="ignore", max_iter=20)),
    "verify": lambda: [getattr(ci.verify(G, NOISY, Z), k) for k in ("misfit", "determined", "sigma_min", "explained")],
    "load a module": loaded(torch_module),
    "load pictures": loaded(PICTURES),
    "load wide pictures": loaded(WIDE),
    "load what ships": loaded("digits_8x8"),
    "latents": lambda: [G.sample_latent(4, seeded(0)), G32.sample_latent(4, seeded(0))],
    "signals in float32": lambda: [G32(Z.float()), *G32.linearize(Z.float()), *G32.hidden(Z.float())],
    "maps in float32": lambda: [ci.Dense(W.float())(H.float()), ci.Dense(W.float()).adjoint(U.float())],
    "inspect": lambda: [torch.full((1,), inspect_generator(G, 20, 3).condition or 0, dtype=torch.float64, device="cpu")],
    "padding": lambda: [ci.Resampling2d.padding((1, 3, 300), (2, 2, 1, 1), "reflect").matrix()],
    "nearest": lambda: [ci.Resampling2d.nearest((2, 3, 300), (2, 1)).matrix()],
    "check against CVXPY": lambda: [
        torch.tensor([r["difference"] for r in check_against_cvxpy(ci.invert(G, NOISY, on_fail="ignore"), 1)], device="cpu",
                     dtype=torch.float64)
    ],
}  # fmt: skip


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default half": lambda: default_dtype(torch.float16),
    "another default device": lambda: default_device("meta"),  # stands for a card, which not every machine has
    "deterministic algorithms": deterministic,
}


@pytest.mark.parametrize("call", CALLS)
def test_no_surrounding_changes_a_bit_of_an_answer(call: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted, wrong = CALLS[call](), []
        for name, surrounding in SURROUNDINGS.items():
            with surrounding():
                got = CALLS[call]()
            same = len(got) == len(wanted) and all(
                a.dtype == b.dtype and a.device == b.device and not a.requires_grad
                and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
                for a, b in zip(got, wanted, strict=True)
            )  # fmt: skip
            wrong += [] if same else [name]
    assert not wrong, f"{call} gives something else under {wrong}"


def test_what_was_made_in_inference_mode_serves_outside():
    with torch.inference_mode():
        problem = ci.NonnegativeLasso(ROWS.take(torch.arange(2)))
        first, D = ci.solve(problem, on_fail="ignore"), ci.load_generator(torch_module, "identity")
    again = ci.solve(problem, on_fail="ignore")
    assert torch.equal(again.h, first.h) and not first.h.is_inference() and not first.p.is_inference()
    z = Z.clone().requires_grad_()
    D(z).sum().backward()
    assert z.grad is not None


# --- gradients ------------------------------------------------------------------------------------


def grad(tensor: Tensor) -> Tensor:
    return nn.Parameter(tensor.clone())


def same(tensor: Tensor) -> Tensor:
    return tensor.clone()


# what holds a tensor of the caller's, made of `t` of each tensor
SOFT = (0.1 * U).tanh()
HELD: dict[str, Callable[[Callable[[Tensor], Tensor]], Any]] = {
    "rows": lambda t: ci.Rows(ci.Dense(t(W)), t(B), t(ROWS.y), ROWS.on, weight=t(torch.ones_like(U))),
    "lam": lambda t: ci.NonnegativeLasso(ROWS, t(0.1 * torch.ones(5).double())),
    "gamma": lambda t: ci.GaussianLatent(ROWS, t(torch.tensor(0.1).double())),
    "eps": lambda t: ci.NonnegativeBasisPursuitL2(ROWS, t(0.1 * torch.ones(5).double())),
    "intervals": lambda t: ci.IntervalBasisPursuit(ROWS, t(ROWS.y - 0.1), t(ROWS.y + 0.1)),
    "behind": lambda t: ci.IntervalBasisPursuit.behind(
        ci.Tanh(), ci.Dense(W), B, t((0.1 * U).tanh()), t(torch.tensor(0.01))
    ),
    "kernels": lambda t: ci.Conv2d(t(normal(3, 2, 2, 2)), (2, 4, 4)),
    "transposed kernels": lambda t: ci.ConvTranspose2d(t(normal(2, 3, 2, 2)), (2, 4, 4)),
    "resampling": lambda t: ci.Resampling2d(t(normal(5, 3)), t(normal(4, 3)), 2),
    "matrix": lambda t: ci.Matrix(t(normal(3, 4))),
    "layer": lambda t: ci.Layer(ci.Dense(t(W)), t(B), ci.ReLU()),
}


def held(thing: Any) -> list[Tensor]:
    """All tensors in a dataclass, and in what it holds."""
    out = [value for value in vars(thing).values() if isinstance(value, Tensor)]
    return out + [t for value in vars(thing).values() if isinstance(value, (ci.Rows, ci.Dense)) for t in held(value)]


@pytest.mark.parametrize("what", HELD)
def test_what_is_built_of_parameters_holds_plain_tensors(what: str):
    tensors = held(HELD[what](grad))
    assert tensors and all(type(t) is Tensor and not t.requires_grad for t in tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, held(HELD[what](same)), strict=True))


@pytest.mark.parametrize("what", HELD)
def test_negative_views_hold_the_numbers_that_they_show(what: str):
    tensors = held(HELD[what](negated))
    assert not any(t.is_neg() for t in tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, held(HELD[what](same)), strict=True))


def negated(t: Tensor) -> Tensor:
    """The same numbers, stored with the other sign."""
    return torch._neg_view(-t)


def strided(t: Tensor) -> Tensor:
    """The same numbers, each beside one that is not read."""
    return torch.stack([t, t + 1], -1)[..., 0]


GIVEN: dict[str, Callable[[Callable[[Tensor], Any]], list[Tensor]]] = {
    **{
        f"solve {solver}": lambda t, s=solver: point(
            ci.solve(
                ci.NonnegativeLasso(ci.Rows(ci.Dense(t(W)), t(B), t(ALL_ON.y), ALL_ON.on), t(0.1 * torch.ones(5).double())),
                s, on_fail="ignore",
            )
        ) for solver in ("auto", "interior_point", "sparse_active_set", "graph_admm", "CLARABEL")
    },
    "certify": lambda t: [ci.certify(lasso(), t(H), t(U)).objective, ci.certify(lasso(), t(H), t(U)).bound],
    "invert": lambda t: inverted(
        ci.invert(G, t(NOISY), noise=("l2", t(torch.full((3,), 0.2).double())), truth=t(Z), on_fail="ignore")
    ),
    "invert with penalties": lambda t: inverted(
        ci.invert(G, t(NOISY), "latent_pursuit", lam=t(torch.tensor(0.01).double()), gamma=t(0.1 * torch.ones(3).double()),
                  on_fail="ignore")
    ),
    "invert a matrix": lambda t: inverted(ci.invert(G, t(Y @ W[:28, :30].T), measurement=t(W[:28, :30]), on_fail="ignore")),
    "verify": lambda t: [ci.verify(G, t(NOISY), t(Z)).misfit, ci.verify(G, t(NOISY), t(Z)).sigma_min],
}  # fmt: skip


@pytest.mark.parametrize(
    "how", [grad, strided, lambda t: torch._neg_view(-t)], ids=["parameter", "strided", "negative view"]
)
@pytest.mark.parametrize("call", GIVEN)
def test_the_form_of_a_tensor_changes_nothing_and_no_answer_has_a_graph(call: str, how: Callable[[Tensor], Tensor]):
    wanted, got = GIVEN[call](same), GIVEN[call](how)
    assert all(type(t) is Tensor and not t.requires_grad for t in got)
    for a, b in zip(wanted, got, strict=True):
        if how is strided:  # BLAS sums strided rows in another order
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, equal_nan=True)
        else:
            assert torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def test_nothing_is_computed_under_autograd(monkeypatch: pytest.MonkeyPatch):
    """Also where a user's own problem or generator asks for gradients inside."""
    seen: list[bool] = []
    objective = ci.NonnegativeLasso.objective

    def watched(self: ci.NonnegativeLasso, h: Tensor, v: Tensor | None = None) -> Tensor:
        seen.append(torch.is_grad_enabled())
        return objective(self, h, v)

    monkeypatch.setattr(ci.NonnegativeLasso, "objective", watched)
    for surrounding in (contextlib.nullcontext, torch.inference_mode):
        with surrounding():
            ci.solve(lasso(), on_fail="ignore")
            ci.certify(lasso(), H)
    assert seen and not any(seen)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [np.float32(0.25), np.float64(0.25), np.float16(0.25), np.longdouble(0.25), np.array(0.25), np.array(0.25, ">f4"),
     torch.tensor(0.25), torch.tensor(0.25).half(), torch.tensor([0.25] * 5).bfloat16(), np.full(5, 0.25)],
    ids=repr,
)  # fmt: skip
def test_a_number_of_numpy_or_torch_is_that_number(value: Any):
    assert torch.equal(ci.NonnegativeLasso(ROWS, value).lam, torch.full((5,), 0.25, dtype=torch.float64))


def test_an_inversion_takes_numbers_of_numpy():
    wanted, got = (
        ci.invert(G, NOISY, "latent_pursuit", lam=v, gamma=v, noise=("l2", v)).z for v in (0.25, np.float32(0.25))
    )
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("value", [np.int64(1), np.uint8(1), np.array(1), torch.tensor(1), 1])
def test_an_integer_is_a_number(value: Any):
    assert torch.equal(ci.NonnegativeLasso(ROWS, value).lam, torch.ones(5).double())


def test_options_may_be_numbers_of_numpy():
    options = {"restarts": 2, "max_iter": 7, "tol": 0.0078125, "support_threshold": 0.5}
    of_numpy = {k: np.int32(v) if isinstance(v, int) else np.float32(v) for k, v in options.items()}
    plain, other = (ci.invert(G, NOISY, on_fail="ignore", **o, seed=s) for o, s in ((options, 3), (of_numpy, np.int64(3))))
    assert torch.equal(plain.z, other.z) and plain.settings == other.settings
    assert all(type(v) in (int, float, str, type(None)) for v in other.settings.values())
    solved = ci.solve(lasso(), tol=np.float32(1e-6), max_iter=np.int64(50))
    assert solved.certificate.holds.all() and type(solved.certificate.tol) is float


@pytest.mark.parametrize("lam", [5e-324, 1e-310, 1e-30])
def test_a_penalty_of_next_to_nothing_is_solved(lam: float):
    s = ci.solve(lasso_of(lam))
    assert s.certificate.holds.all()


def lasso_of(lam: float) -> ci.NonnegativeLasso:
    return ci.NonnegativeLasso(ALL_ON, lam)


def test_an_array_that_may_not_be_written_to_is_read_without_a_warning():
    y = NOISY.numpy().copy()
    y.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = ci.verify(G, y, Z)
    assert torch.equal(got.misfit, ci.verify(G, NOISY, Z).misfit)


# --- what solvers print ---------------------------------------------------------------------------


def printing_problems() -> Iterator[ci.AbstractLayerProblem]:
    """Easy, degenerate, zero and infeasible ones, linear and quadratic; OSQP speaks where no bound is active."""
    for y, on in itertools.product((ALL_ON.y[:1], 0 * ALL_ON.y[:1]), (ALL_ON.on[:1], ROWS.on[:1])):
        rows = ci.Rows(ci.Dense(W), B, y, on)
        yield from (ci.GaussianLatent(rows, 0.1), ci.NonnegativeLasso(rows), ci.NonnegativeBasisPursuitLinf(rows, 0.1))
    nothing = torch.zeros(1, 2, dtype=torch.float64)
    never = ci.Rows(ci.Dense(torch.zeros(2, 2).double()), torch.ones(2).double(), nothing, torch.tensor([[True, False]]))
    yield from (ci.NonnegativeLasso(never, 0.1), ci.NonnegativeBasisPursuitLinf(never, 0.1))


@pytest.mark.parametrize("solver", ["CLARABEL", "OSQP", "SCS", "HIGHS", "ECOS", "auto"])
def test_a_solver_prints_nothing(solver: str, capfd: pytest.CaptureFixture):
    if solver == "ECOS":
        pytest.importorskip("ecos")
    for problem in printing_problems():
        ci.solve(problem, solver, on_fail="ignore")
    sys.stdout.flush()
    assert capfd.readouterr() == ("", "")


def test_a_solver_that_is_asked_for_words_prints_them(capfd: pytest.CaptureFixture):
    ci.solve(next(printing_problems()), "OSQP", solver_options={"verbose": True})
    sys.stdout.flush()
    assert "OSQP" in capfd.readouterr().out


@pytest.mark.parametrize("there", [None, "closed"])
def test_a_solver_needs_no_stdout(there: str | None, monkeypatch: pytest.MonkeyPatch):
    out = io.StringIO() if there else None
    if out:
        out.close()
    monkeypatch.setattr(sys, "stdout", out)
    assert ci.solve(next(printing_problems()), "OSQP").certificate.holds.all()
    assert sys.stdout is out


def test_silence_is_for_its_own_thread_and_ends(monkeypatch: pytest.MonkeyPatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with silent_stdout():
            inside.set()
            leave.wait(10)
            print("not this")

    thread = threading.Thread(target=other)
    with silent_stdout():
        thread.start()
        assert inside.wait(10)
        print("nor this")
    print("but this")  # the other is silent still
    leave.set()
    thread.join()
    assert out.getvalue() == "but this\n" and sys.stdout is out
