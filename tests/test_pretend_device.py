"""Everything on a pretend device: nothing that CUDA would refuse, the CPU's statuses, few kernels and few waits.

Statuses are compared, not numbers: a batch on the device is factorised in another order. Which calls there are comes from
`TORCH_SOLVERS` and `METHODS`, so that a new solver or method is run here by itself.
"""

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cases
import numpy as np
import pytest
import torch
from checks import serves
from pretend_device import THERE, WAIT, Far, PretendDevice
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.command.exact_check import check_against_cvxpy
from cvxinv.guarantees.inspection import inspect_generator
from cvxinv.solvers.known import TORCH_SOLVERS

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a CUDA device here, and need for none that pretends"
)

# --- the device itself ----------------------------------------------------------------------------


@pytest.fixture
def device():
    with PretendDevice() as there:
        yield there


def waits(device: PretendDevice, call: Callable[[], object]) -> list[str]:
    with device.counting() as tally:
        call()
    return sorted(kind for (kind, _), n in tally.waited.items() for _ in range(n))


def kernels(device: PretendDevice, call: Callable[[], object]) -> int:
    with device.counting() as tally:
        call()
    return tally.kernels


def far(*shape: int) -> Tensor:
    return torch.ones(*shape, device="cuda")


def test_what_is_put_on_cuda_says_so(device):
    for x in (
        torch.zeros(2, device="cuda"),
        torch.ones(2).cuda(),
        torch.ones(2).to("cuda"),
        torch.tensor([1.0], device="cuda:0"),
        torch.from_numpy(np.ones(2)).to("cuda"),
        torch.zeros_like(torch.ones(2), device="cuda"),
        far(2).new_zeros(1),
    ):
        assert isinstance(x, Far) and x.device == THERE and x.is_cuda
    assert type(far(2).cpu()) is Tensor and type(far(2).new_zeros(2, device="cpu")) is Tensor
    assert far(2).tolist() == [1, 1] and float(far(2).sum()) == 2 and "cuda:0" in repr(far(1))


def test_outside_of_its_context_nothing_is_left():
    with PretendDevice():
        x = far(2)
        assert torch.cuda.is_available()
    assert not torch.cuda.is_available() and torch.ones(1).device.type == "cpu" and (x + 1).tolist() == [2, 2]


@pytest.mark.parametrize(
    "call",
    [
        lambda x, c: x + c,
        lambda x, c: x @ c,
        lambda x, c: torch.cat([x, c]),
        lambda x, c: torch.where(c > 0, x, x),
        lambda x, c: torch.gather(x, 0, c.long()),
        lambda x, c: c.add_(x),
        lambda x, c: x.index_select(0, torch.tensor([0])),
        lambda x, c: x.__setitem__(slice(0, 1), c[:1]) or x.index_put_((torch.tensor([0]),), c[:1]),
        lambda x, c: torch.linalg.solve(x, c),
    ],
)
def test_two_devices_in_one_operation_are_refused(device, call):
    with pytest.raises(RuntimeError, match="same device"):
        call(torch.eye(3, device="cuda"), torch.eye(3))


def test_other_things_are_refused_as_cuda_refuses_them(device):
    with pytest.raises(IndexError, match="either on cpu"):
        torch.ones(3)[far(3) > 0]
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        np.asarray(far(3))
    with pytest.raises(RuntimeError, match="not implemented for 'Int64'"):
        far(1, 3).long() @ far(3, 1).long()
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.randn(3, device="cuda", generator=torch.Generator())
    assert (far(3) * torch.tensor(2.0)).is_cuda and far(3)[torch.tensor([0])].is_cuda  # which CUDA allows


def test_waits_and_kernels_are_counted(device):
    x, square = far(3), torch.eye(3, device="cuda")
    for call, expected in (
        (lambda: x.sum().item(), ["item"]),
        (lambda: bool((x > 0).all()), ["item"]),
        (lambda: x.cpu(), ["to host"]),
        (lambda: torch.ones(3).to("cuda"), ["from host"]),
        (lambda: x[x > 0], ["mask"]),
        (lambda: x.__setitem__(x > 0, 1.0), []),
        (lambda: x[[0, 1]], ["from host"]),
        (lambda: torch.linalg.svdvals(square), ["svd"]),
        (lambda: torch.linalg.cholesky(square), ["linalg check"]),
        (lambda: torch.linalg.cholesky_ex(square), []),
        (lambda: torch.where(x > 0, x, 0.0).sum(), []),
    ):
        assert waits(device, call) == expected
    assert kernels(device, lambda: x + 1) == 1 and kernels(device, lambda: square.T[0].view(3)[None]) == 0
    with device.counting() as tally:
        _ = far(1000, 1000) @ far(1000, 1000)
    assert abs(tally.busy - 2 * 5e-6 - 2e9 / 30e12) < 1e-9 and tally.seconds == tally.busy + WAIT * tally.waits


def test_a_captured_graph_runs_again_and_may_not_wait(device):
    x, graph = far(3), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x.add_(x * 2)
    for _ in range(2):
        graph.replay()
    assert x.tolist() == [9, 9, 9]  # recording runs nothing
    with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        float(x.sum())


# --- layer problems -------------------------------------------------------------------------------

# of root finding's hard instances each takes a minute: this one has all kinds of rows but off rows
CHOSEN = {name: ("leaky",) if name.endswith("l2") else ("tall-masked", "masked") for name in cases.NAMES}


@cache
def small(name: str) -> ci.AbstractLayerProblem:
    specs = [(k, spec) for k, spec in enumerate(cases.dense_specs(name)) if spec.label in CHOSEN[name]]
    return cases.dense_case(name, specs[0][1], specs[0][0]).problem.take(torch.arange(3))


@cache
def alike(name: str) -> ci.AbstractLayerProblem:
    """The same problem where all signals see all rows: what the methods on a shared Gram matrix serve."""
    rows = cases.dense_case(name, cases.Spec("alike", 36, 12, N=3)).rows
    numbers = () if name in cases.named("excess") else (3.0 if name.endswith("l2") else 0.1,)
    return cases.kind_of(name)(ci.Rows(rows.W, rows.b, rows.y, rows.on | rows.off), *numbers)


@cache
def chain(name: str) -> ci.AbstractLayerProblem:
    """A multi-layer pursuit, which is no layer of a generator."""
    draw = cases.seeded(2)
    maps = [ci.Dense(cases.normal(m, n, draw=draw) / m**0.5) for m, n in ((30, 40), (40, 35))]
    return ci.multi_layer_pursuit(maps, cases.normal(4, 30, draw=draw), (0.05, 0.1), nonnegative="nonnegative" in name)


def asked() -> list[tuple[str, str, Callable[[str], ci.AbstractLayerProblem]]]:
    """Every layer problem with "auto", with every torch solver that serves it, and with a CVXPY solver or two."""
    found: list[tuple[str, str, Callable[[str], ci.AbstractLayerProblem]]] = []
    for name in cases.NAMES:
        exact = ("CLARABEL", "SCS") if "l2" in name else ("CLARABEL", "HIGHS")
        found += [(name, solver, small) for solver in ("auto", *exact)]
        for solver in TORCH_SOLVERS:
            makers = [
                make for make in ((small,) if name == cases.INTERVAL else (small, alike)) if serves(solver, make(name))
            ]
            found += [(name, solver, make) for make in makers[:1]]
    many = ("multi_layer_pursuit", "nonnegative_multi_layer_pursuit")
    return found + [(name, solver, chain) for name in many for solver in ("auto", "shared_layered", "graph_admm")]


def test_no_solver_is_left_out():
    assert {solver for _, solver, _ in asked()} >= set(TORCH_SOLVERS) | {"auto"}


@pytest.mark.parametrize("name, solver, make", asked())
def test_solvers_reach_on_a_device_what_they_reach_on_the_cpu(name: str, solver: str, make, device):
    problem, limit = make(name), 40 if solver in TORCH_SOLVERS else None
    here = ci.solve(problem, solver, max_iter=limit, on_fail="ignore")
    there = ci.solve(problem.to(device="cuda"), solver, max_iter=limit, on_fail="ignore")
    assert list(there.status) == list(here.status)
    assert there.h.device == there.p.device == THERE
    on_cpu = (*vars(there.certificate).values(), there.iterations, there.polished)
    assert all(x.device.type == "cpu" for x in on_cpu if isinstance(x, Tensor))


def test_a_problem_behind_an_activation_reaches_the_same(device):
    rows = alike("lasso").rows
    problem = ci.ActivatedLasso(rows, ci.Tanh(), 0.1)
    here, there = (ci.solve(p, on_fail="ignore", max_iter=200) for p in (problem, problem.to(device="cuda")))
    assert list(there.status) == list(here.status)


def test_block_pivoting_certifies_on_a_device_what_it_certifies_on_the_cpu(device):
    # with a misfit of 1e-9 of y, p is the small difference of large numbers
    draw = cases.seeded(1)
    W, h = cases.normal(80, 40, draw=draw), cases.normal(8, 40, draw=draw).clamp(min=0)
    u, b = h @ W.T, torch.zeros(80, dtype=torch.float64)
    seen = torch.rand(u.shape, generator=draw, dtype=torch.float64) > 0.2
    problem = ci.NonnegativeLasso(ci.Rows(ci.Dense(W), b, u + 1e-9 * cases.normal(*u.shape, draw=draw), seen), 0.0)
    here, there = (ci.solve(p, on_fail="ignore") for p in (problem, problem.to(device="cuda")))
    assert list(here.status) == list(there.status) == ["optimal"] * 8


def test_bfloat16_is_used_where_the_card_itself_multiplies_in_it(device, monkeypatch):
    from cvxinv.solvers.shared.shared_gram import fast_type

    asked = []
    for capability, expected in (((7, 0), torch.float32), ((7, 5), torch.float32), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda d, c=capability: asked.append(d) or c)
        assert fast_type(far(1)) == expected
    assert set(asked) == {THERE}  # of the tensor, not of whichever card is current


# --- inversions -----------------------------------------------------------------------------------


@cache
def net(output: str = "identity") -> ci.Generator:
    draw = cases.seeded(3)
    made = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 40)]
    for parameter in (p for layer in made for p in layer.parameters()):
        parameter.data = cases.normal(*parameter.shape, draw=draw) / 2
    return ci.load_generator(nn.Sequential(*made).eval(), output)


Z = cases.normal(3, 3, draw=cases.seeded(4))
MASK = torch.rand(3, 40, generator=cases.seeded(5)) > 0.15
A = cases.normal(20, 40, draw=cases.seeded(6))
NOISE = 0.01 * cases.normal(3, 40, draw=cases.seeded(7))
TASKS: dict[str, tuple[str, dict]] = {
    "all": ("identity", {}),
    "masked, in chunks": ("relu", {"measurement": MASK, "chunk": 2}),
    "noisy": ("tanh", {"noise": ("l2", 0.1)}),
    "matrix": ("identity", {"measurement": A}),
    "magnitudes": ("identity", {"measurement": ci.Magnitudes(A)}),
}


# steps, or rounds that each hold a descent: what they do on a device is done in the first ones
SHORT = {
    "csgm": 30,
    "deep_phase_retrieval": 30,
    "generative_admm": 10,
    "gradient_descent": 30,
    "gradient_descent_with_negation": 30,
    "intermediate_layers": 30,
    "mirrored_descent": 10,
    "plugin": 30,
    "projected_gradient": 3,
}


def called(G: ci.Generator, method: str, what: str, device: str | torch.device) -> ci.Inversion | str:
    """An inversion, or the reason it was refused."""
    _, options = TASKS[what]
    y, more = G(Z.to(G.device)).cpu(), dict(options)
    y = y + NOISE if "noise" in more else y @ A.T if what in ("matrix", "magnitudes") else y
    y = y.abs() if what == "magnitudes" else y
    if method == "oracle":
        more["truth"] = Z
    if method == "layered_basis_pursuit" and "noise" in more:
        more["cardinalities"] = (torch.full((3,), 8),)
    if method in SHORT:
        more["max_iter"] = SHORT[method]
    sent = {k: v.to(device=device) if isinstance(v, Tensor | ci.Magnitudes) else v for k, v in more.items()}
    if "cardinalities" in sent:
        sent["cardinalities"] = tuple(s.to(device) for s in sent["cardinalities"])
    try:
        return ci.invert(G, y.to(device), method, on_fail="ignore", **sent)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("what", TASKS)
@pytest.mark.parametrize("method", ci.METHODS)
def test_methods_reach_on_a_device_what_they_reach_on_the_cpu(method: str, what: str, device):
    G = net(TASKS[what][0])
    here, there = called(G, method, what, "cpu"), called(G.to(device="cuda"), method, what, "cuda")
    if isinstance(here, str):
        assert there == here
        return
    assert isinstance(there, ci.Inversion), there
    assert list(there.status) == list(here.status)
    assert there.layer_status.tolist() == here.layer_status.tolist()
    assert there.z.device == there.signal.device == THERE and all(h.device == THERE for h in there.hidden)
    said = (*vars(there.verdict).values(), there.starts, *there.snr.values())
    assert all(x.device.type == "cpu" for x in said if isinstance(x, Tensor))


@pytest.fixture
def inverted(device) -> tuple[ci.Generator, Tensor, ci.Inversion]:
    G = net().to(device="cuda")
    y = G(Z.to("cuda"))
    return G, y, ci.invert(G, y, truth=Z.to("cuda"))


def test_results_are_taken_from_by_an_index_on_any_device(inverted):
    _, _, found = inverted
    report = found.layers[0]
    for index in (torch.tensor([0, 2]), torch.tensor([True, False, True])):
        for i in (index, index.to("cuda")):
            assert len(found[i]) == len(found.verdict.take(i)) == len(report.solution.take(i)) == 2
            assert len(report.solution.certificate.take(i)) == 2
    explained = found.verdict.explained  # on the CPU: says something of each signal
    assert len(found[explained]) == len(found.z[explained]) == 3


def test_what_is_done_with_a_result_works_on_a_device(inverted, tmp_path: Path):
    G, y, found = inverted
    assert all(row["agree"] for row in check_against_cvxpy(found, 1))
    assert "explained" in repr(found) and found.explain(0, generator=G)
    found.save(tmp_path / "result")
    assert list(ci.Inversion.load(tmp_path / "result").status) == list(found.status)
    found.export(tmp_path / "claims", G, y)
    ci.write_report(found, tmp_path / "report.html", y=y, generator=G, truth=Z.to("cuda"))
    ci.save_generator(G, tmp_path / "net.safetensors")
    assert list(ci.verify(G, y, found.z).status) == list(found.status)
    assert inspect_generator(G, 20, 3).samples == 20


def test_the_command_line_inverts_on_a_device(device, tmp_path: Path):
    from typer.testing import CliRunner

    from cvxinv.command.cli import app

    ci.save_generator(net(), tmp_path / "net.safetensors")
    np.save(tmp_path / "y.npy", net()(Z).numpy())
    np.save(tmp_path / "z.npy", Z.numpy())
    files = [str(tmp_path / name) for name in ("net.safetensors", "y.npy")]
    for more in (["--exact-check", "1"], ["--method", "oracle"]):
        call = [
            "invert",
            *files,
            "--out",
            str(tmp_path / "out"),
            "--device",
            "cuda",
            "--truth",
            str(tmp_path / "z.npy"),
            "--overwrite",
            "-q",
        ]
        done = CliRunner().invoke(app, [*call, *more])
        assert done.exit_code == 0, done.output


def test_what_lies_on_another_device_is_refused_by_name(device):
    G, y = net().to(device="cuda"), net()(Z).to("cuda")
    masks = tuple(h > 0 for h in net().hidden(Z))
    for what, options in {
        "the true latents": {"truth": Z},
        "the noise bound": {"noise": ("l2", torch.ones(3))},
        "a mask or a measurement matrix": {"measurement": MASK},
        "lam": {"lam": torch.ones(3)},
        "cardinality 1": {"method": "layered_basis_pursuit", "cardinalities": (torch.full((3,), 8),)},
        "the support of hidden layer 1": {"method": "oracle", "supports": masks},
    }.items():
        with pytest.raises(ValueError, match=f"expected {what} on cuda:0, got .* on cpu; move it with"):
            ci.invert(G, y, **options)
    with pytest.raises(ValueError, match=r"expected a torch.Generator on the CPU, .* got one on cuda:0; use"):
        G.sample_latent(2, torch.Generator("cuda"))
    assert G.sample_latent(2, torch.Generator().manual_seed(1)).is_cuda


@pytest.mark.parametrize("default", ["cuda", "meta"])
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_the_default_device_is_nobodys_concern(default: str, place: str, device):
    problem, G = small("nonnegative_lasso").to(device=place), net().to(device=place)
    first, y = torch.tensor([0], device=place), G(Z.to(place))
    with torch.device(default), warnings.catch_warnings():
        solution = ci.solve(problem)
        assert list(solution.take(first).status) == ["optimal"]
        assert list(ci.certify(problem, solution.h).take(first).status) == ["optimal"]
        assert problem.complete(solution.h).device.type == place
        found = ci.invert(G, y)
        assert len(found[:2]) == 2 and found.layer_status.shape == (3, 2) and "explained" in found.summary()
        assert list(ci.verify(G, y, found.z).status) == list(found.status)


# --- launches and memory --------------------------------------------------------------------------


def test_chunks_are_sized_by_the_memory_that_is_free(device):
    from cvxinv.solvers.choose import chunk_size

    problem = small("nonnegative_lasso")
    there, each = problem.to(device="cuda"), 8 * (6 * problem.n**2 + 30 * (problem.n + problem.rows.m))
    assert chunk_size(problem) == 1_500_000_000 // each
    assert chunk_size(there) == int(0.4 * device.memory[0]) // each
    device.memory = (1000 * each, device.memory[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "mem_get_info", lambda *_: device.memory)
        patch.setattr(torch.cuda, "memory_reserved", lambda *_: 500 * each)  # of which torch uses nothing
        assert chunk_size(there) == 600


def test_the_norm_of_a_map_goes_with_it_where_no_weight_is_rounded(device):
    W = ci.Dense(cases.normal(100, 80, draw=cases.seeded(1)))
    on_cpu, single = W.norm(), W.to(torch.float32)
    for there in (W.to(device="cuda"), ci.Dense(W.weight.to("cuda"))):  # kept, and computed anew
        with device.counting() as tally:
            assert there.norm() == pytest.approx(on_cpu, rel=1e-14)
        assert not [what for (what, _), _ in tally.waited.items() if what == "svd"]
    assert W.to(device="cuda").to(device="cpu").__dict__["_kept_norm"] == on_cpu
    assert "_kept_norm" not in single.__dict__ and single.norm() != on_cpu
    assert single.to(torch.float64).__dict__["_kept_norm"] == single.norm()


def test_the_judge_asks_the_device_few_questions(device):
    problem = alike("nonnegative_lasso")
    solution = ci.solve(problem)
    there, point = problem.to(device="cuda"), ci.Point(*(x.to("cuda") for x in solution.point))
    here, far_away = ci.certify(problem, solution.point), ci.certify(there, point)
    for name, value in vars(here).items():
        if isinstance(value, Tensor):
            got = getattr(far_away, name)
            assert got.dtype == value.dtype and torch.allclose(got.double(), value.double(), rtol=1e-9, atol=1e-9)
    with device.counting() as tally:
        ci.certify(there, point)
    assert tally.waits <= 10 and sum(n for (what, _), n in tally.waited.items() if what == "to host") <= 4


def test_block_pivoting_settles_where_the_data_are_met_and_h_is_open(device):
    # fewer rows on than unknowns: by the signs of reduced costs that are rounding, guesses would go round for ever
    from cvxinv.solvers.active_set.pivoting import BlockPivoting

    G = ci.load_generator(Path(ci.__file__).parent / "shipped" / "mnist_gan.safetensors", dtype=torch.float64)
    layer = G.layers[1]
    h = G.hidden(G.sample_latent(64, cases.seeded(0)))[0]
    u = layer.W(h) + layer.b
    few = ((u > 0).sum(1) < layer.W.n).nonzero()[:, 0]
    assert len(few) == 2
    rows = ci.Rows(layer.W, layer.b, u.clamp(min=0), u > 0, u <= 0).take(few)
    problem = ci.NonnegativeLasso(rows, 0.0)
    for normal in (problem.normalised().problem, problem.to(device="cuda").normalised().problem):
        method = BlockPivoting().start(normal)
        method.advance(100)
        assert method.settled.all() and int(method.rounds.max()) <= 30
        assert ci.certify(normal, method.point()).holds.all()


@pytest.mark.parametrize("solver, name", [("fista", "lasso"), ("pdhg", "lasso"), ("pdhg", "basis_pursuit_linf")])
def test_steps_in_a_graph_are_the_same_steps(solver: str, name: str, device, monkeypatch):
    problem, answers = alike(name).to(device="cuda").normalised().problem, []
    for asked in ("", "1"):
        monkeypatch.setenv("CVXINV_CUDA_GRAPHS", asked)
        with device.counting() as tally:
            work = TORCH_SOLVERS[solver]().start(problem)
            for steps in (30, 5, 25):  # the second are too few to be recorded
                work.advance(steps)
                work.keep(torch.arange(2, device="cuda"))
        answers.append((work.point(), tally.kernels))
    (eager, many), (recorded, few) = answers
    assert torch.equal(eager.h, recorded.h) and torch.equal(eager.p, recorded.p) and few < many / 2
