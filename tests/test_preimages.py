"""Is z the only latent: proofs, second preimages, and the traps: dead units, units at 0, latents at corners."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.exact.network import as_network
from cvxinv.guarantees.layered import nonnegative_step
from cvxinv.guarantees.one_certificate import unit_columns


def chain(*layers: tuple[Tensor, Tensor, ci.AbstractActivation]) -> ci.Generator:
    parts = tuple(ci.Layer(ci.Dense(W.double()), b.double(), phi) for W, b, phi in layers)
    return ci.Generator(parts, (parts[-1].W.m,), {})


def random_net(seed: int, sizes: tuple[int, ...], slope: float = 0.0, bias: float = 0.3) -> ci.Generator:
    """A random net, identity output."""
    draw, layers = torch.Generator().manual_seed(seed), []
    for k, (a, b) in enumerate(pairwise(sizes)):
        W = torch.randn(b, a, generator=draw, dtype=torch.float64) / a**0.5
        hidden = k < len(sizes) - 2
        phi = (ci.LeakyReLU(slope) if slope else ci.ReLU()) if hidden else ci.Identity()
        layers.append((W, bias * torch.randn(b, generator=draw, dtype=torch.float64), phi))
    return chain(*layers)


def misfits(G: ci.Generator, z: Tensor, other: Tensor) -> Tensor:
    """|G(other) - G(z)| / |G(z)|, `(N,)`, by a plain forward pass."""

    def values(z: Tensor) -> Tensor:
        for layer in G.layers:
            z = layer.activation(z @ layer.W.matrix().T + layer.b)
        return z

    x = values(z)
    return (values(other) - x).norm(dim=1) / x.norm(dim=1)


# --- unique, not unique, undecided ------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_wide_random_nets_are_proved_and_narrow_ones_refuted(slope: float):
    for seed in range(4):
        wide, narrow = random_net(seed, (3, 18, 40), slope), random_net(seed, (6, 7, 40))
        z = wide.sample_latent(20, torch.Generator().manual_seed(seed)).double()
        found = ci.uniqueness(wide, wide(z), z)
        assert (found.status == "unique").sum() >= 18 and not (found.status == "undecided").any(), found.explain()
        assert (found.radius[found.everywhere] < 1e-6).all()
        z = narrow.sample_latent(10, torch.Generator().manual_seed(seed)).double()
        found = ci.uniqueness(narrow, narrow(z), z)
        loose = found.rank < 6
        assert loose.sum() >= 9 and (found.status[loose.numpy()] == "not_unique").all()
        assert (misfits(narrow, z, found.other)[loose] <= 1e-10).all()
        assert ((found.other - z).norm(dim=1)[loose] > 1e-3).all() and (found.other.abs().nan_to_num() <= found.box[1]).all()


def test_no_unique_verdict_is_contradicted_by_a_search():
    """Small nets of every kind, hundreds of latents: from 20 starts no other latent gives a signal that is called unique."""
    proved = 0
    by = set()
    for seed in range(12):
        sizes = ((2, 5, 9), (2, 4, 5, 8), (2, 10, 6), (2, 8, 7))[seed % 4]
        G = random_net(seed, sizes, (0.0, 0.0, 0.3)[seed // 4], bias=seed % 2)
        z = G.sample_latent(6, torch.Generator().manual_seed(seed)).double()
        found = ci.uniqueness(G, G(z), z, starts=2, time_limit=0.5)
        for i in (found.status == "unique").nonzero()[0]:
            starts = 3 * torch.randn(20, G.latent_dim, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
            starts = starts.clamp(*found.box)
            end = ci.invert(
                G, G(z[i : i + 1]).expand(20, -1), "levenberg_marquardt", z0=starts, restarts=0, on_fail="ignore"
            ).z
            same = (misfits(G, z[i : i + 1].expand(20, -1), end) < 1e-12) & ((end - z[i]).norm(dim=1) > 1e-4)
            same &= (end.abs() <= found.box[1]).all(1) | bool(found.everywhere[i])
            by.add(str(found.how[i]))
            assert not same.any(), f"net {seed}, signal {i}: {end[same][0]} gives the same as {z[i]}"
            proved += 1
    assert proved > 30 and by == {"layers", "engine"}


def test_a_dead_unit_and_a_unit_at_zero_are_no_traps():
    """relu(z1), relu(-z1), relu(z2), relu(-z2), and a unit that is never on: all of z is known, also at z = 0 where all four
    are 0. Without relu(-z2) everything with z2 <= 0 gives the same."""
    W = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0, 0]])
    b = torch.tensor([0.0, 0, 0, 0, -1])
    G = chain((W, b, ci.ReLU()), (torch.eye(5), torch.zeros(5), ci.Identity()))
    z = torch.tensor([[1.0, 2], [-1, 0.5], [3, -2], [0.3, 0.0]]).double()
    assert ci.uniqueness(G, G(z), z).status.tolist() == ["unique"] * 4
    less = chain((W[[0, 1, 2, 4]], b[[0, 1, 2, 4]], ci.ReLU()), (torch.eye(4), torch.zeros(4), ci.Identity()))
    z = torch.tensor([[1.0, 2], [1, -2], [1, 0], [-0.5, -1e-9]]).double()
    found = ci.uniqueness(less, less(z), z)
    assert found.status.tolist() == ["unique", "not_unique", "not_unique", "not_unique"]
    assert (found.other[1:, 1] <= 0).all() and torch.allclose(found.other[1:, 0], z[1:, 0])


def test_the_layer_that_decides_is_named():
    wide, tall = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.eye(12)
    G = chain((wide, torch.zeros(12), ci.ReLU()), (tall[:2], torch.ones(2), ci.Identity()))
    z = torch.tensor([[1.0, 0.5, -0.2]]).double()
    found = ci.uniqueness(G, G(z), z)
    assert found.layer.tolist() == [1] and "lost at layers[1]" in found.explain()
    G = chain((wide, torch.zeros(12), ci.ReLU()), (tall, torch.zeros(12), ci.Identity()))
    seen = torch.zeros(12, dtype=torch.bool)
    seen[:3] = True
    found = ci.uniqueness(G, G(z), z, measurement=seen)
    assert found.layer.tolist() == [2] and "lost at the measurement" in found.explain()


def test_a_latent_that_gives_another_signal_decides_nothing():
    G = random_net(0, (3, 18, 40))
    z = G.sample_latent(2, torch.Generator().manual_seed(0)).double()
    found = ci.uniqueness(G, G(z), z + torch.tensor([[0.0], [1e-3]]))
    assert found.status.tolist() == ["unique", "undecided"] and found.z[1].isnan().all() and found.layer.tolist()[1] == -1
    assert "no latent is known" in found.explain(1)


def test_a_stated_tol_is_not_proved_by_an_engine_that_knows_none():
    """G = (max(z, 0) + max(-z, 0), max(-z, 0) / 20): of y = (1, 0) z = -1 misses .05, and z = 1 nothing."""
    G = chain(
        (torch.tensor([[1.0], [-1.0]]), torch.zeros(2), ci.ReLU()),
        (torch.tensor([[1.0, 1.0], [0.0, 0.05]]), torch.zeros(2), ci.Identity()),
    )
    y, z = torch.tensor([[1.0, 0.0]]).double(), torch.ones(1, 1).double()
    assert ci.uniqueness(G, y, z, box=3.0).status.tolist() == ["unique"]
    assert ci.uniqueness(G, y, z, box=3.0, tol=0.1).status.tolist() == ["undecided"]


def test_what_does_not_fit_is_refused():
    G = random_net(0, (3, 18, 40))
    z = torch.ones(1, 3).double()
    with pytest.raises(ValueError, match=r"outside for signal 0: its largest coordinate is 1"):
        ci.uniqueness(G, G(z), z, box=0.5)
    with pytest.raises(ValueError, match=r"tol as a number in \(0, 1\), got 2"):
        ci.uniqueness(G, G(z), z, tol=2)
    with pytest.raises(TypeError, match="chain of layers"):
        ci.local_geometry(nn.Linear(3, 4), z)


# --- around one latent ------------------------------------------------------------------------------


def test_local_geometry_by_hand():
    """u = (z1, z2 - 3): at (4, 2) unit 0 is 4 away and on, unit 1 is 1 away and off; W = (2 0; 0 5) sees only z1."""
    G = chain(
        (torch.eye(2), torch.tensor([0.0, -3]), ci.ReLU()),
        (torch.diag(torch.tensor([2.0, 5])), torch.zeros(2), ci.Identity()),
    )
    near = ci.local_geometry(G, torch.tensor([[4.0, 2], [4, 4.5]]).double())
    assert near.rank.tolist() == [1, 2] and near.distance.tolist() == [1.0, 1.5] and near.face_unit.tolist() == [1, 1]
    assert near.smallest.tolist() == [0.0, 2.0] and near.largest.tolist() == [2.0, 5.0]
    assert near.amplification.tolist() == [np.inf, 0.5] and near.layer.tolist() == [0, 1]


def test_at_a_kink_all_pieces_that_meet_are_looked_at():
    """z - max(z - c, 0) is constant from c on: at c, and a rounding before it, more than z gives the same. With the slope
    1/2 in place of 1 it is not. Of max(z, 0), max(-z, 0), z + 3 at 0 the two sides of z know z; the pattern with both units
    on, or both off, has no latents."""

    def ramp(c: float, slope: float) -> ci.Generator:
        first = torch.ones(2, 1), torch.tensor([10.0, -c]).double(), ci.ReLU()
        return chain(first, (torch.tensor([[1.0, -slope]]), torch.tensor([-10.0]), ci.Identity()))

    G, z = ramp(0.3, 1.0), torch.tensor([[0.3], [0.1 + 0.2], [0.3 - 1e-6]]).double()
    near = ci.local_geometry(G, z)
    assert near.at_kinks.tolist() == [1, 1, 0] and near.determined.tolist() == [False, False, True]
    assert ci.local_geometry(ramp(0.3, 0.5), z).determined.all()
    told = ci.uniqueness(G, G(z), z, starts=0, box=5.0, time_limit=0)
    assert told.isolated.tolist() == [False, False, True] and set(told.status) == {"undecided"}
    assert "whether z is the only one near by is not known" in told.explain(0) and "only one near by." in told.explain(2)
    W = torch.tensor([[1.0], [-1], [1]])
    both = chain((W, torch.tensor([0.0, 0, 3]), ci.ReLU()), (torch.eye(3), torch.zeros(3), ci.Identity()))
    near = ci.local_geometry(both, torch.zeros(1, 1).double())
    assert near.at_kinks.tolist() == [2] and near.determined.all()


def test_kinks_behind_kinks_and_of_curved_activations_count():
    """max(z, 0) at 0 is 0 to the left. u - elu(u), of slope 2 left of 0, is 0 right of it: its units' kink is one, too. At 0
    of a net without biases too many pieces meet to be looked at."""
    eye, zero = torch.eye(2), torch.zeros(2)
    G = chain((torch.tensor([[1.0], [0]]), torch.tensor([0.0, 1]), ci.ReLU()), (eye, zero, ci.ReLU()),
              (torch.ones(1, 2), torch.zeros(1), ci.Identity()))  # fmt: skip
    near = ci.local_geometry(G, torch.tensor([[0.0], [1]]).double())
    assert near.at_kinks.tolist() == [2, 0] and near.determined.tolist() == [False, True]
    W = torch.ones(2, 1)
    G = chain((W, torch.tensor([0.0, 10]), ci.ELU(2.0)), (torch.tensor([[1.0, -1]]), torch.zeros(1), ci.Identity()))
    near = ci.local_geometry(G, torch.zeros(1, 1).double())
    assert near.full.all() and near.at_kinks.tolist() == [1] and not near.determined.any()
    wide = random_net(0, (2, 40, 60), bias=0.0)
    near = ci.local_geometry(wide, torch.zeros(1, 2).double())
    assert near.at_kinks.tolist() == [40] and not near.determined.any()


def test_within_the_distance_no_unit_switches_and_beyond_it_one_does():
    G = random_net(3, (4, 12, 15, 20), 0.1)
    z = G.sample_latent(30, torch.Generator().manual_seed(0)).double()
    near = ci.local_geometry(G, z)
    draw = torch.Generator().manual_seed(1)

    def phases(z: Tensor) -> Tensor:
        return torch.cat([u > 0 for u in G.preactivations(z)[:-1]], 1)

    for _ in range(50):
        v = torch.randn(z.shape, generator=draw, dtype=torch.float64)
        inside = z + v / v.norm(dim=1, keepdim=True) * near.distance[:, None] * (1 - 1e-9)
        assert (phases(inside) == phases(z)).all()
    for i in range(len(z)):
        layer, unit = int(near.face_layer[i]), int(near.face_unit[i])
        at = z[i].clone().requires_grad_()
        (g,) = torch.autograd.grad(G.preactivations(at)[layer][unit], at)
        u = float(G.preactivations(z[i])[layer][unit])
        foot = z[i] - u * g / g.square().sum()
        assert abs(float((foot - z[i]).norm()) - float(near.distance[i])) < 1e-12
        assert abs(float(G.preactivations(foot)[layer][unit])) < 1e-9


# --- the set of preimages ---------------------------------------------------------------------------


def test_a_polytope_by_hand():
    """u = (z1, z2 - 1, z2 + 2 z3 - 4) at z = (1, 0, 0): only unit 0 is on, so z2 and z3 are free with z2 <= 1 and
    z2 + 2 z3 <= 4, in the box of 5: z2 in [-5, 1], z3 in [-5, 4.5]. At (1, 1, 0) unit 1 is at 0, at (1, 1, 1.5) two."""
    W = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 2]])
    G = chain((W, torch.tensor([0.0, -1, -4]), ci.ReLU()), (torch.eye(3), torch.zeros(3), ci.Identity()))
    found = ci.preimage_set(G, torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1.5], [1, 2, 0]]).double(), box=5.0)
    assert found.dimension.tolist() == [2, 2, 2, 1] and found.rank.tolist() == [1, 1, 1, 2]
    for i in range(3):
        assert torch.allclose(found.low[i], torch.tensor([1.0, -5, -5]).double())
        assert torch.allclose(found.high[i], torch.tensor([1, 1, 4.5]).double())
    assert torch.allclose(found.low[3], torch.tensor([1.0, 2, -5]).double())
    assert torch.allclose(found.high[3], torch.tensor([1.0, 2, 1]).double())


def test_units_at_zero_on_both_sides_leave_fewer_dimensions():
    """z2 <= 0 and -z2 <= 0 with both units at 0: what is left of two free coordinates is z3."""
    W = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, -1, 0]])
    G = chain((W, torch.zeros(3), ci.ReLU()), (torch.eye(3), torch.zeros(3), ci.Identity()))
    found = ci.preimage_set(G, torch.tensor([1.0, 0, 0]).double(), box=5.0)
    assert found.rank.tolist() == [1] and found.dimension.tolist() == [1]
    assert found.low.tolist() == [[1, 0, -5]] and found.high.tolist() == [[1, 0, 5]]


def test_points_of_the_set_give_the_same_and_its_ends_are_reached():
    G = random_net(2, (6, 8, 12, 20))
    z = G.sample_latent(6, torch.Generator().manual_seed(3)).double()
    found = ci.preimage_set(G, z, box=4.0)
    assert int(found.dimension.max()) >= 2
    draw = torch.Generator().manual_seed(0)
    for i in range(len(z)):
        if not int(found.dimension[i]):
            assert torch.equal(found.low[i], z[i]) and torch.equal(found.high[i], z[i])
            continue
        x = G(z[i])
        j = int(found.width[i].argmax())
        assert float(found.low[i, j]) < float(z[i, j]) < float(found.high[i, j])
        null = found.null[i]
        for _ in range(200):  # of what is drawn along the null space, all that lies on the piece is in the box
            t = null @ torch.randn(null.shape[1], generator=draw, dtype=torch.float64) * 2
            other = z[i] + t
            same = all(
                torch.equal(a > 0, b > 0)
                for a, b in zip(G.preactivations(other)[:-1], G.preactivations(z[i])[:-1], strict=True)
            )
            if same and bool((other.abs() <= 4).all()):
                assert ((other >= found.low[i] - 1e-9) & (other <= found.high[i] + 1e-9)).all()
                assert float((G(other) - x).norm()) <= 1e-10 * float(x.norm())


# --- out of range -----------------------------------------------------------------------------------


def test_what_is_out_of_range_is_proved_and_what_is_within_is_shown():
    """G(z) = (max(z, 0), max(-z, 0)): the points of its two half lines nearest to (1, 1) are (1, 0) and (0, 1), 1 away."""
    G = chain((torch.tensor([[1.0], [-1]]), torch.zeros(2), ci.ReLU()), (torch.eye(2), torch.zeros(2), ci.Identity()))
    y = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.1]]).double()
    found = ci.out_of_range(G, y, torch.tensor([0.9, 1.1, 0.2]).double(), box=3.0)
    assert found.status.tolist() == ["out_of_range", "within", "within"] and found.proved.tolist() == [True, False, False]
    assert 0.9 < float(found.bound[0]) <= 1 + 1e-9 and (found.misfit[1:] <= found.eps[1:]).all()
    assert "no latent of the box comes nearer than" in found.explain(0)
    assert ci.out_of_range(G, y[:1], 0.999, box=3.0).status.tolist() == ["out_of_range"]


def test_out_of_range_agrees_with_many_starts():
    G = random_net(1, (3, 10, 14))
    draw = torch.Generator().manual_seed(5)
    y = G(G.sample_latent(2, draw).double()) + 0.3 * torch.randn(2, 14, generator=draw, dtype=torch.float64)
    best = ci.invert(G, y, "levenberg_marquardt", restarts=10, on_fail="ignore").verdict.misfit
    below, above = ci.out_of_range(G, y, 0.97 * best), ci.out_of_range(G, y, 1.01 * best)
    assert below.proved.all() and (below.bound > below.eps).all() and (below.bound <= best * (1 + 1e-9)).all()
    assert above.status.tolist() == ["within"] * 2


# --- what the proofs rest on ------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_signals_differ_by_the_piece_and_by_what_units_do_in_their_other_phase(slope: float):
    """A (G(z') - G(z)) = J (z' - z) + sum C w, w >= 0 computed from the units of z' and z, for latents far apart."""
    G = random_net(5, (4, 9, 11, 13), slope)
    network = as_network(G)
    z = G.sample_latent(20, torch.Generator().manual_seed(0)).double()
    others = 3 * torch.randn(20, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for at, to in zip(z, others, strict=True):
        u, v = G.preactivations(at)[:2], G.preactivations(to)[:2]
        built = unit_columns(network, u, network.last)
        assert built is not None
        J, C = built
        w = [torch.where(a > 0, (-b).clamp(min=0), b.clamp(min=0)) for a, b in zip(u, v, strict=True)]
        assert torch.allclose(G(to) - G(at), J @ (to - at) + C @ torch.cat(w[::-1]), atol=1e-12)


def test_vectors_that_are_nonnegative_stay_within_what_the_step_says():
    """A x = A x0 + B r with x >= 0: ends of coordinates by linear programs, for random r, beside the lengths of T's rows."""
    tried = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        A = rng.standard_normal((8, 11))
        B = 0.01 * A @ np.abs(rng.standard_normal((11, 3)))
        x = np.abs(rng.standard_normal(11)) * (np.arange(11) < 3)
        T = nonnegative_step(torch.from_numpy(A), torch.from_numpy(B), torch.from_numpy(x > 0))
        if T is None:
            continue
        reach = T.norm(dim=1).numpy()
        for _ in range(2):
            r = np.abs(rng.standard_normal(3))
            goal = A @ x + B @ (r / np.linalg.norm(r))
            for j in range(11):
                for sign in (1.0, -1.0):
                    end = linprog(sign * np.eye(11)[j], A_eq=A, b_eq=goal, bounds=(0, None))
                    if end.status == 0:
                        assert np.abs(end.x - x)[j] <= reach[j] * (1 + 1e-9) + 1e-9
                        tried += 1
    assert tried > 80


def test_a_layer_wider_than_the_signal_is_proved_by_a_certificate():
    """44 units for 40 rows: no layer has full column rank, and all the same z is the only one."""
    G = random_net(0, (5, 44, 40))
    z = G.sample_latent(12, torch.Generator().manual_seed(0)).double()
    found = ci.uniqueness(G, G(z), z, time_limit=0)
    assert (found.how == "layers").sum() >= 10 and (found.status[found.everywhere.numpy()] == "unique").all()


@pytest.mark.parametrize(
    ("given", "kind"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)]
)
def test_seconds_that_are_none_are_refused(given: object, kind: type[Exception]):
    G = ci.load_generator("digits_8x8")
    y = G(G.sample_latent(1, torch.Generator().manual_seed(0)))
    for asked in (lambda: ci.uniqueness(G, y, time_limit=given), lambda: ci.out_of_range(G, y, 0.1, time_limit=given)):
        with pytest.raises(kind, match="expected time_limit"):
            asked()
