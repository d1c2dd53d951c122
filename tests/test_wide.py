"""Wide and convolutional generators: products with Jacobians, normal equations by every way, and what they hold."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.generator import piece as pieces
from cvxinv.generator.maps import AbstractMap, Composition, Conv2d, ConvTranspose2d, Resampling2d
from cvxinv.inversion.steps import normal_equations as ne
from cvxinv.inversion.steps.newton import descend
from cvxinv.inversion.steps.reading import one_sided
from cvxinv.inversion.task import Task, make_task

RTOL = 1e-12


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def dcgan(
    n0: int = 6, widths: tuple[int, ...] = (16, 8, 4), channels: int = 2, last: nn.Module | None = None
) -> ci.Generator:
    """A transposed pyramid from n0 to `channels` pictures, LeakyReLU in its middle."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Unflatten(1, (n0, 1, 1)), nn.ConvTranspose2d(n0, widths[0], 4), nn.ReLU()]
    for a, b in pairwise(widths):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    layers += [nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), last or nn.Tanh()]
    for layer in layers:
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, (2 / layer.weight[:, 0].numel()) ** 0.5)
    return ci.load_generator(nn.Sequential(*layers), latent_dim=n0)


def upsampling(n0: int = 5) -> ci.Generator:
    """Dense, then nearest upsampling and a padded convolution, twice."""
    torch.manual_seed(1)
    return ci.load_generator(
        nn.Sequential(
            nn.Linear(n0, 8 * 16), nn.ReLU(), nn.Unflatten(1, (8, 4, 4)),
            nn.Upsample(scale_factor=2), nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(6, 3, 3, padding=1), nn.Sigmoid(),
        ),
        latent_dim=n0,
    )  # fmt: skip


def dense(n0: int = 7) -> ci.Generator:
    torch.manual_seed(2)
    return ci.load_generator(nn.Sequential(nn.Linear(n0, 20), nn.ReLU(), nn.Linear(20, 30)))


GENERATORS: dict[str, Callable[[], ci.Generator]] = {"dcgan": dcgan, "upsampling": upsampling, "dense": dense}


@pytest.fixture(params=GENERATORS)
def G(request: pytest.FixtureRequest) -> ci.Generator:
    return GENERATORS[request.param]()


# --- pieces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("before_output", [False, True])
def test_a_piece_multiplies_by_the_jacobian_of_autograd(G: ci.Generator, before_output: bool):
    z, v = normal(3, G.latent_dim), normal(3, 4, G.latent_dim, seed=1)
    target = G.with_output("identity") if before_output else G
    J = torch.stack([torch.autograd.functional.jacobian(target, one) for one in z])
    x, piece = G.piece(z, before_output)
    r = normal(3, 2, G.signal_dim, seed=2)
    assert torch.allclose(x, target(z), rtol=RTOL, atol=RTOL)
    for got, expected in (
        (piece.push(v), v @ J.mT),
        (piece.pull(r), r @ J),
        (piece.jacobian(), J),
        (piece.columns(1, 4), J.mT[:, 1:4]),
    ):
        assert got.shape == expected.shape and (got - expected).norm() <= 1e-12 * J.norm()


def test_a_piece_in_float32_is_the_same_piece(G: ci.Generator):
    z = normal(3, G.latent_dim)
    piece = G.piece(z)[1]
    J, single = piece.jacobian(), piece.single.jacobian()
    assert single.dtype == torch.float32 and (single - J).norm() <= 1e-5 * J.norm()
    # on the piece of float64, also where a unit is so near its kink that float32 would put it on another
    assert all(torch.equal(a.single.weight, a.weight.float()) for a in piece.maps if isinstance(a, ci.Dense))


@pytest.mark.parametrize("room", [200, 3000, 100_000])
def test_the_size_of_blocks_changes_nothing_but_memory(G: ci.Generator, room: int, monkeypatch: pytest.MonkeyPatch):
    z = normal(3, G.latent_dim)
    expected = G.linearize(z)[1]
    monkeypatch.setattr(pieces, "BLOCK_BYTES", {"cpu": room})
    piece = G.piece(z)[1]
    spans = piece.blocks()
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])] and spans[-1][1] == G.latent_dim
    assert (piece.jacobian() - expected).norm() <= 1e-13 * expected.norm()
    widths = [stop - start for start, stop in spans]
    assert max(widths) - min(widths) <= max(widths) // 2 + 1  # no block of a few
    each = 8 * 3 * max(W.widest for W in piece.maps)
    assert max(widths) == 1 or max(widths) * each <= room


# --- convolutions by other ways -------------------------------------------------------------------


def channels_last() -> AbstractMap:
    return ConvTranspose2d(normal(6, 16, 4, 4), (6, 5, 4), stride=(2, 2), padding=(1, 1), output_padding=(1, 0))


FAST: dict[str, Callable[[], AbstractMap]] = {
    "channels last": channels_last,
    "as a transposed one": lambda: Conv2d(normal(3, 4, 3, 2), (4, 6, 5), padding=(1, 0), dilation=(2, 1)),
    "as a transposed one, pad of a pixel kernel": lambda: Conv2d(normal(2, 4, 1, 1), (4, 6, 5)),
    "one pixel in": lambda: ConvTranspose2d(normal(5, 3, 4, 3), (5, 1, 1)),
    "upsampled": lambda: Composition(
        Conv2d(normal(2, 3, 3, 3), (3, 8, 8), padding=(1, 1)), Resampling2d.nearest((3, 4, 4), (2, 2))
    ),
}


@pytest.mark.parametrize("kind", FAST)
def test_other_ways_to_convolve_give_the_same_matrix(kind: str):
    W = FAST[kind]()
    one_by_one = torch.cat([W(unit[None]) for unit in torch.eye(W.n, dtype=torch.float64)]).T  # torch's plain products
    assert torch.allclose(W.matrix(), one_by_one, rtol=RTOL, atol=RTOL)
    assert torch.allclose(W(normal(20, W.n)), normal(20, W.n) @ one_by_one.T, rtol=RTOL, atol=1e-11)
    assert torch.allclose(W.adjoint(normal(20, W.m)), normal(20, W.m) @ one_by_one, rtol=RTOL, atol=1e-11)


@pytest.mark.parametrize(("stride", "padding", "dilation", "more"), [(2, 1, 1, 0), (3, 2, 2, 1), (1, 0, 1, 0)])
def test_few_channels_are_folded_in_float32(stride: int, padding: int, dilation: int, more: int):
    wide = ConvTranspose2d(
        normal(5, 3, 4, 3), (5, 6, 4), stride=(stride, stride), padding=(padding, padding),
        dilation=(dilation, dilation), output_padding=(more, 0),
    )  # fmt: skip
    h = normal(9, wide.n)
    assert (wide.single(h.float()) - wide(h)).norm() <= 1e-6 * wide(h).norm()


@pytest.mark.parametrize(
    ("W", "count"),
    [
        (ConvTranspose2d(normal(3, 2, 4, 4), (3, 3, 4), stride=(2, 2), padding=(1, 1)), 3 * 2 * 16 * 12),
        (Conv2d(normal(4, 3, 3, 3), (3, 5, 6), padding=(1, 1)), 4 * 3 * 9 * 30),
        (ci.Dense(normal(7, 5)), 35),
        (Resampling2d.nearest((3, 2, 4), (2, 3)), 3 * (2 * 4 * 12 + 4 * 2 * 12)),
    ],
)
def test_work_counts_multiplications(W: AbstractMap, count: int):
    assert W.work == count and Composition(W, W.scaled(1.0)).work == 2 * count if W.m == W.n else W.work == count


# --- normal equations -----------------------------------------------------------------------------


def tasks(G: ci.Generator) -> dict[str, Task]:
    """One signal seen in every way that there is."""
    y = G(normal(3, G.latent_dim, seed=5))
    mask = torch.rand(3, G.signal_dim, generator=seeded(6)) > 0.4
    A = normal(25, G.signal_dim, seed=7)
    cut = one_sided(make_task(G.with_output("relu"), y.clamp(min=0)))
    assert cut is not None
    return {
        "everything": make_task(G, y),
        "a mask each": make_task(G, torch.where(mask, y, 0.0), mask),
        "a matrix": make_task(G, y @ A.T, A),
        "one-sided": cut,
    }


@pytest.mark.parametrize("how", ["everything", "a mask each", "a matrix", "one-sided"])
def test_every_way_to_the_normal_equations_gives_the_same(G: ci.Generator, how: str, monkeypatch: pytest.MonkeyPatch):
    task, z = tasks(G)[how], normal(3, G.latent_dim, seed=8)
    r, J = task.linearize(z)
    H, g, mu = J.mT @ J, (J.mT @ r[..., None])[..., 0], torch.full((3,), 1e-3, dtype=torch.float64)
    monkeypatch.setattr(pieces, "BLOCK_BYTES", {"cpu": 3000})
    monkeypatch.setattr(ne, "_SHARE", 1)
    monkeypatch.setattr(ne, "_SOLVED", 0.0)
    for form, digits in ((ne.by_columns, 1e-13), (ne.by_blocks, 1e-13), (ne.in_single, 1e-6), (ne.by_krylov, 1e-5)):
        found = form(task, z, mu)
        assert (found.g - g).norm() <= 1e-13 * J.norm() * r.norm()  # exact in every way
        assert (found.H - H).norm() <= digits * H.norm() and torch.allclose(found.H, found.H.mT)


def test_a_short_krylov_space_gives_the_iterates_of_conjugate_gradients(monkeypatch: pytest.MonkeyPatch):
    G = dense(12)
    task, z = tasks(G)["everything"], normal(3, 12, seed=8)
    _, J = task.linearize(z)
    monkeypatch.setattr(ne, "_SHARE", 3)  # 4 vectors
    monkeypatch.setattr(ne, "_SOLVED", 0.0)
    H, g = ne.by_krylov(task, z, torch.full((3,), 0.1, dtype=torch.float64))
    for mu in (1e-2, 1.0):  # one space serves every damping
        A = J.mT @ J + mu * torch.eye(12, dtype=torch.float64)
        x, res = torch.zeros_like(g), g.clone()
        p = res.clone()
        for _ in range(4):
            Ap = (A @ p[..., None])[..., 0]
            a = (res * res).sum(1, keepdim=True) / (p * Ap).sum(1, keepdim=True)
            x, new = x + a * p, res - a * Ap
            p = new + (new * new).sum(1, keepdim=True) / (res * res).sum(1, keepdim=True) * p
            res = new
        d = torch.linalg.solve(H + mu * torch.eye(12, dtype=torch.float64), g[..., None])[..., 0]
        assert (d - x).norm() <= 1e-5 * x.norm()


def test_a_krylov_space_grows_until_little_of_the_gradient_is_left():
    G = dense(40)
    task, z = tasks(G)["everything"], normal(3, 40, seed=8)
    mu = torch.full((3,), 1e-2, dtype=torch.float64)
    H, g = ne.by_krylov(task, z, mu)
    full, _ = ne.by_columns(task, z, mu)
    s = torch.diagonal(H, dim1=-2, dim2=-1).mean(1)
    eye = (mu * s)[:, None, None] * torch.eye(40, dtype=torch.float64)
    d = torch.linalg.solve(H + eye, g[..., None])[..., 0]
    left = ((full + eye) @ d[..., None])[..., 0] - g
    assert (left.norm(dim=1) <= 0.1 * g.norm(dim=1)).all()


@pytest.mark.parametrize("scale", [1e-42, 1e45])
def test_weights_out_of_the_range_of_float32_are_done_in_float64(scale: float):
    G = dcgan(last=nn.Identity())
    last = replace(G.layers[-1], W=G.layers[-1].W.scaled(scale), b=G.layers[-1].b * scale)
    G = replace(G, layers=(*G.layers[:-1], last))
    task, z = make_task(G, G(normal(2, 6))), normal(2, 6, seed=1)
    mu = torch.full((2,), 1e-3, dtype=torch.float64)
    H, g = ne.in_single(task, z, mu)
    expected = ne.by_columns(task, z, mu)
    assert torch.equal(H, expected.H) and (g - expected.g).norm() <= 1e-13 * expected.g.norm()


def test_float32_is_kept_near_the_end_only_where_it_holds_the_smallest_eigenvalue():
    H = torch.diag_embed(torch.tensor([[1.0, 1e-3, 1e-5], [1.0, 1e-3, 1e-7], [1.0, 1e-3, 0.0]]).double())
    undamped, damped = torch.zeros(3).double(), torch.full((3,), 1e-4).double()
    assert ne._lost_in_single(H, undamped).tolist() == [False, True, True]
    assert ne._lost_in_single(H, damped).tolist() == [False, False, False]


def test_the_way_follows_cost_memory_and_latents(monkeypatch: pytest.MonkeyPatch):
    G = dcgan()
    task = make_task(G, G(normal(1, 6)))
    assert set(ne.ways_of(task)) == {"columns"}  # small generators: float64 from the first step on
    monkeypatch.setattr(ne, "_CHEAP", 0)
    assert ne.ways_of(task) == ("single", "single", "columns")
    assert set(ne.ways_of(task.to(torch.float32))) == {"columns"}
    monkeypatch.setattr(ne, "_MANY", 6)
    assert ne.ways_of(task) == ("krylov", "single", "columns")
    monkeypatch.setattr(ne, "_HELD", 100)
    assert ne.ways_of(task) == ("krylov", "blocks", "blocks")


def test_what_is_unusual_about_the_steps_is_said_with_the_answer(monkeypatch: pytest.MonkeyPatch):
    G = dcgan()
    y = G(normal(1, 6))
    assert not [note for note in ci.invert(G, y, "levenberg_marquardt", on_fail="ignore").notes if "Gauss-Newton" in note]
    monkeypatch.setattr(ne, "_CHEAP", 0)
    for method in ("levenberg_marquardt", "hybrid"):
        R = ci.invert(G, y, method, on_fail="ignore", restarts=1)
        (note,) = [note for note in R.notes if "Gauss-Newton" in note]
        assert "Jacobians in float32" in note and "the last steps, in float64" in note and note in R.explain(0, generator=G)
    monkeypatch.setattr(ne, "_MANY", 1)
    monkeypatch.setattr(ne, "_HELD", 0)
    first, second = ne.notes_of_ways(make_task(G, y))
    assert "Krylov spaces" in first and "by blocks of columns" in second and "9.8e-05 GB" in second


def test_blocks_of_signals_count_what_is_held_of_each(monkeypatch: pytest.MonkeyPatch):
    G = dcgan()  # 6 -> 2 x 32 x 32 = 2048 numbers
    task = make_task(G, G(normal(9, 6)))
    each = 8 * 6 * (6 + 2 * 2048)  # J before and behind the measurement, and H
    for room, sizes in ((each, [1] * 9), (3 * each, [3, 3, 3]), (4 * each, [5, 4]), (20 * each, [9])):
        monkeypatch.setattr("cvxinv.inversion.task._BLOCK_BYTES", {"cpu": room})
        assert [len(block) for block in task.blocks()] == sizes


@pytest.mark.parametrize("ways", [("single",) * 2, ("krylov", "single"), ("krylov", "krylov"), ("blocks", "blocks")])
def test_a_descent_ends_at_the_same_place_by_every_way(ways: tuple[str, str], monkeypatch: pytest.MonkeyPatch):
    G = dcgan(12)
    truth = normal(4, 12, seed=3)
    y = G(truth)
    y[2:] += 0.05 * normal(2, G.signal_dim, seed=4)  # two that nothing explains: a local optimum away from misfit 0
    task, z = make_task(G, y), truth + 0.1 * normal(4, 12, seed=5)
    expected = descend(task, z, exact=True)
    monkeypatch.setattr(ne, "ways_of", lambda _: ne.Ways(*ways, "columns"))
    found = descend(task, z, 300)
    assert (found.z[:2] - truth[:2]).norm() <= 1e-12 * truth.norm()
    # at a kink a descent may end a little earlier or later by another road; the judge finds nothing lower from there
    assert (found.misfit[2:] <= expected.misfit[2:] * (1 + 1e-5)).all()
    assert (descend(task, found.z, 12, exact=True).misfit >= found.misfit * (1 - 1e-6))[2:].all()


def test_a_signal_does_not_depend_on_its_neighbours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ne, "_CHEAP", 0)
    G = dcgan(12)
    truth = normal(3, 12, seed=3)
    task, z = make_task(G, G(truth)), truth + 0.1 * normal(3, 12, seed=5)
    whole = descend(task, z)
    for i in range(3):
        alone = descend(task.take(slice(i, i + 1)), z[i : i + 1])
        assert (alone.z - whole.z[i]).norm() <= 1e-12 and int(alone.steps) == int(whole.steps[i])


def test_the_judge_and_a_descent_that_is_told_so_stay_in_float64(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ne, "_CHEAP", 0)
    G = dcgan()
    y = G(normal(2, 6)) + 0.1 * normal(2, G.signal_dim, seed=2)
    R = ci.invert(G, y, "levenberg_marquardt", on_fail="ignore")

    def refuse(*_: object) -> ne.Equations:
        raise AssertionError("expected float64")

    monkeypatch.setitem(ne._WAYS, "single", refuse)
    verdict = ci.verify(G, y, R.z)
    assert (verdict.status == R.verdict.status).all() and (verdict.status == "stationary").all()
    with pytest.raises(AssertionError, match="expected float64"):
        descend(make_task(G, y), R.z + 0.1)


# --- layers too large for a matrix ----------------------------------------------------------------


def large_rows(off: bool = False, noise: float = 0.0) -> tuple[ci.Rows, Tensor]:
    """4 x 32 x 34 = 4352 unknowns behind a convolution to 6 x 32 x 34 = 6528 rows, and the true h."""
    W = Conv2d(0.3 * normal(6, 4, 3, 3), (4, 32, 34), padding=(1, 1))
    h, b = normal(1, W.n, seed=1).relu(), 0.1 * normal(W.m, seed=2)
    y = W(h) + b + noise * normal(1, W.m, seed=3)
    return (ci.Rows(W, b, y.relu(), y > 0) if off else ci.Rows(W, b, y, torch.ones_like(y, dtype=torch.bool))), h


@pytest.fixture
def no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution that becomes a matrix fails the test: 227 MB here."""

    def refuse(_: AbstractMap) -> Tensor:
        pytest.fail("expected products")

    monkeypatch.setattr(Conv2d, "matrix", refuse)


def test_a_large_layer_that_explains_its_data_is_solved_by_conjugate_gradients(no_matrix: None):
    rows, h = large_rows()
    solution = ci.solve(ci.NonnegativeLasso(rows, 0.0))
    assert solution.solver == ("least_squares",) and solution.certificate.holds.all()
    assert (solution.h - h).norm() <= 1e-10 * h.norm()
    assert solution.certificate.two_sided.all() and torch.isinf(solution.certificate.scope).all()


@pytest.mark.parametrize(("off", "who"), [(False, "fista"), (True, "pdhg")])
def test_a_large_layer_in_noise_is_certified_by_products_alone(off: bool, who: str, no_matrix: None):
    rows, _ = large_rows(off, noise=0.05)
    problem = ci.NonnegativeLasso(rows, 0.3)
    solution = ci.solve(problem)
    assert solution.solver == (who,) and solution.certificate.holds.all() and "products alone" in solution.explain()
    # the optimality conditions, worked out here: W'p + lam is 0 where h > 0 and not below 0 elsewhere
    slope = rows.W.adjoint(solution.p) + 0.3
    assert (slope * solution.h).abs().sum() <= 1e-5 * solution.certificate.objective and slope.min() >= -1e-3
    fit = rows.fit * rows.residual(solution.h)
    assert (torch.where(rows.on, solution.p - fit, 0.0)).norm() <= 1e-3 * fit.norm()


def test_the_judge_counts_the_terms_of_a_row_and_not_its_length():
    """An optimum of 0 on 6528 rows: with 4352 roundings a row it could not be told from one that is not 0."""
    rows, h = large_rows()
    problem = ci.NonnegativeLasso(rows, 0.0)
    assert ci.certify(problem, ci.Point(h, torch.zeros_like(rows.y))).status[0] == "optimal"
    way = normal(1, rows.n, seed=9).abs()
    moved = h + 1e-9 * rows.scale()[:, None] / rows.W(way).norm() * way  # its misfit is 1e-9 s_y
    assert ci.certify(problem, ci.Point(moved, torch.zeros_like(rows.y))).status[0] != "optimal"


@pytest.mark.parametrize(
    "W",
    [
        Conv2d(normal(4, 3, 3, 2), (3, 9, 8), padding=(1, 0)),
        ConvTranspose2d(normal(3, 2, 4, 4), (3, 5, 6), stride=(2, 2), padding=(1, 1)),
        ConvTranspose2d(normal(4, 3, 5, 3), (4, 6, 6), stride=(2, 1), groups=2),
        ConvTranspose2d(normal(2, 3, 3, 2), (2, 6, 7), dilation=(2, 3)),
    ],
)
def test_terms_of_a_convolution_are_the_entries_of_its_fullest_row(W: AbstractMap):
    assert int((W.matrix() != 0).sum(1).max()) == W.terms < W.n


def test_terms_of_sums_that_follow_each_other_add_up():
    upsampled = Composition(Conv2d(normal(3, 2, 3, 3), (2, 6, 8), padding=(1, 1)), Resampling2d.nearest((2, 3, 4), (2, 2)))
    assert upsampled.terms == 2 * 9 + 3 + 4  # a kernel of 2 x 3 x 3, after sums over 4 columns and over 3 rows


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_lengths_of_convolutions_need_no_pictures(scale: float, monkeypatch: pytest.MonkeyPatch):
    for make in (lambda: Conv2d(normal(4, 3, 3, 2), (3, 9, 8), padding=(1, 0), groups=1), channels_last):
        M, W = make().matrix(), make().scaled(scale)
        assert "_kept_matrix" not in W.__dict__
        monkeypatch.setattr(AbstractMap, "_lengths_by_units", lambda _: pytest.fail("expected squares"))
        assert torch.allclose(W.row_lengths() / scale, M.norm(dim=1), rtol=RTOL)
        assert torch.allclose(W.column_lengths() / scale, M.norm(dim=0), rtol=RTOL)


def test_lengths_of_weights_that_vanish_when_squared_are_found_one_by_one():
    W = Conv2d(torch.tensor([[[[1.0]]], [[[1e-200]]]], dtype=torch.float64), (1, 2, 2))
    assert W.row_lengths().tolist() == [1.0] * 4 + [1e-200] * 4


def test_layers_beyond_a_dense_solve_say_what_they_would_take():
    torch.manual_seed(0)
    G = ci.load_generator(
        nn.Sequential(nn.Linear(6, 4352), nn.ReLU(), nn.Unflatten(1, (4, 32, 34)), nn.Conv2d(4, 6, 3, padding=1))
    )
    z = normal(2, 6)
    words = (
        r"layer 1 has 4352 unknowns, more than the 4000 that a dense layer solve takes \(its matrices would be 0.38 GB\); "
        r"by products alone it may take 0.47 s per signal, which force=True allows"
    )  # 8 bytes x (4352^2 + 6528 x 4352), 4000 products of 216 x 32 x 34 multiplications at 2e9 per second
    with pytest.raises(ValueError, match=words):
        ci.invert(G, G(z), "latent_pursuit")
    R = ci.invert(G, G(z), "latent_pursuit", force=True)
    assert R.verdict.explained.all() and (R.z - z).norm() <= 1e-9 * z.norm()
    assert [r.solution.certificate.holds.all().item() for r in R.layers] == [True, True]
