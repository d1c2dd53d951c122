"""Ada-LISTA, its rivals and its theorem: what they compute, that bounds are true, and that the learned parts learn."""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
import torch

import cvxinv as ci
from cvxinv.sparse_models.varying_dictionaries import Dictionaries, soft

DOUBLE = torch.float64


def drawn(N=6, n=12, m=20, seed=0, own=True):
    """Signals `(N, n)` of two atoms each, and dictionaries with unit columns, each signal's own."""
    g = torch.Generator().manual_seed(seed)
    D = torch.randn(N if own else 1, n, m, generator=g, dtype=DOUBLE)
    D = D / D.norm(dim=1, keepdim=True)
    x = torch.zeros(N, m, dtype=DOUBLE)
    x[:, 3], x[:, 8] = 2.0, -1.5
    y = (D @ x[:, :, None])[:, :, 0] + 0.1 * torch.randn(N, n, generator=g, dtype=DOUBLE)
    return y, D if own else D[0]


def optimum(y, D, lam):
    """CVXPY's, one signal at a time."""
    values = []
    for one, dictionary in zip(y.numpy(), D.expand(len(y), -1, -1).numpy(), strict=True):
        x = cp.Variable(dictionary.shape[1])
        problem = cp.Problem(cp.Minimize(cp.sum_squares(one - dictionary @ x) / 2 + lam * cp.norm1(x)))
        values.append(problem.solve(solver=cp.CLARABEL))
    return torch.tensor(values, dtype=DOUBLE)


def dense_step(z, y, A, C, gam, threshold):
    """One step of the definition, with C'C formed, of one signal."""
    v = z - gam * (C.T @ (C @ z)) + gam * (A.T @ y)
    return np.sign(v) * np.maximum(np.abs(v) - threshold, 0)


# --- proximal gradient steps and what their points prove ---


def test_codes_of_own_dictionaries_have_the_optimum_of_cvxpy():
    y, D = drawn()
    codes = ci.certified_codes(y, D, 0.3)
    assert bool(codes.certified.all()) and "6 certified" in repr(codes)
    assert torch.allclose(codes.objective, optimum(y, D, 0.3), rtol=1e-6)  # Clarabel stops at 1e-8
    assert bool((codes.gap <= 1e-10 * y.square().sum(1) / 2).all())


def test_codes_of_one_dictionary_are_those_of_the_layer_problem():
    y, D = drawn(own=False)
    seen = torch.rand(y.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    codes = ci.certified_codes(torch.where(seen, y, torch.nan), D, 0.2, seen=seen)
    rows = ci.Rows(ci.Dense(D), torch.zeros(len(D), dtype=DOUBLE), y, seen, torch.zeros_like(seen))
    solution = ci.solve(ci.Lasso(rows, 0.2))
    assert torch.allclose(codes.objective, solution.certificate.objective, rtol=1e-7)
    assert torch.allclose(codes.x, solution.h, atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3])
def test_the_gap_bounds_the_excess_of_every_code(scale):
    y, D = drawn(N=3)
    best = optimum(y, D, 0.3)
    x = scale * torch.randn(3, 20, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    objective, gap = ci.code_gap(y, D, 0.3, x)
    by_hand = (y - (D @ x[:, :, None])[:, :, 0]).square().sum(1) / 2 + 0.3 * x.abs().sum(1)
    assert torch.allclose(objective, by_hand)
    assert bool((objective - best <= gap + 1e-6 * best).all())


def test_a_code_worked_out_by_hand():
    """D = diag(1, 2), y = (3, 1), lam = 1: x = soft(3, 1) = 2, and 2 (2 x - 1) = -1 has x = 1/4. So (2, 1/4), of the value
    1/2 + 1/8 + 9/4."""
    D, y = torch.diag(torch.tensor([1.0, 2.0], dtype=DOUBLE)), torch.tensor([[3.0, 1.0]], dtype=DOUBLE)
    codes = ci.certified_codes(y, D, 1.0, tol=1e-14)
    assert torch.allclose(codes.x, torch.tensor([[2.0, 0.25]], dtype=DOUBLE), atol=1e-6)
    assert float(codes.objective[0]) == pytest.approx(2.875, rel=1e-10)
    # one unit step by hand: soft(D'y, 1) = soft((3, 2), 1) = (2, 1)
    x = ci.ProximalGradient(step=1.0).iterates(y, D, 1.0, 1)
    assert x[0].tolist() == [[2.0, 1.0]]


def test_steps_are_those_of_their_rules():
    y, D = drawn(N=4)
    L = torch.linalg.matrix_norm(D, 2)[:, None].square()
    plain = ci.ProximalGradient().iterates(y, D, 0.3, 2)
    A = Dictionaries(D)
    x1 = soft(A.adjoint(y) / L, 0.3 / L)
    assert torch.allclose(plain[0], x1)
    assert torch.allclose(plain[1], soft(x1 - A.adjoint(A(x1) - y) / L, 0.3 / L))
    # the first two iterates of FISTA are ISTA's, as t_0 = 1
    fast = ci.ProximalGradient(momentum=True).iterates(y, D, 0.3, 60)
    assert torch.allclose(fast[:2], plain) and not torch.allclose(fast[-1], plain[-1])

    def values(rule, K=60):
        return torch.stack([ci.code_gap(y, D, 0.3, x)[0] for x in rule.iterates(y, D, 0.3, K)])

    for rule in (ci.ProximalGradient(), ci.ProximalGradient(backtracking=True)):
        assert bool((values(rule).diff(dim=0) <= 1e-12).all()), rule
    restarted = values(ci.ProximalGradient(momentum=True, restart=True), 150)[-1]
    assert bool((restarted <= values(ci.ProximalGradient(momentum=True), 150)[-1] + 1e-12).all())
    # |D|^2 > 2 here, so that unit steps diverge and backtracking has something to do
    assert bool((L > 2).all())
    assert float(values(ci.ProximalGradient(step=1.0))[-1].max()) > 1e3


def test_restarts_are_those_of_the_solver_of_layer_problems():
    """FISTA of one dictionary with |D| = 1: the same iterates, also after momentum has started again."""
    y, D = drawn(N=4, own=False)
    D = D / torch.linalg.matrix_norm(D, 2)
    seen = torch.ones_like(y, dtype=torch.bool)
    rows = ci.Rows(ci.Dense(D), torch.zeros(12, dtype=DOUBLE), y, seen)
    work, started = ci.FISTA().start(ci.Lasso(rows, 0.02)), False
    mine = ci.ProximalGradient(step=1.0, momentum=True, restart=True).iterates(y, D, 0.02, 80)
    for x in mine:
        work.advance(1)
        assert torch.allclose(x, work.h, atol=1e-9)
        started |= bool((work.t[:, 0] == 1).any())
    assert started


def test_backtracking_takes_a_step_that_majorises():
    y, D = drawn(N=4)
    state = ci.ProximalGradient(backtracking=True).begin(y, Dictionaries(D), torch.tensor([[0.3]], dtype=DOUBLE))
    for _ in range(10):
        before = state.x
        d = state.advance().x - before
        assert bool((Dictionaries(D)(d).square().sum(1) <= state.c[:, 0] * d.square().sum(1) * (1 + 1e-5)).all())
    assert set(state.c[:, 0].log2().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}


# --- networks ---


def shaken(network, seed=0):
    """Parameters moved off their start, so that nothing is an identity."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g).to(p))
    return network.double()


@pytest.mark.parametrize("kind", [ci.AdaLISTA, ci.AdaLFISTA, ci.SingleWeightAdaLISTA])
def test_networks_compute_their_definition(kind):
    y, D = drawn(N=2)
    network = shaken(kind(12, 3))
    found = network(y, D, 0.4)
    W = {name: p.detach().numpy() for name, p in network.named_parameters()}
    for i in range(2):
        dictionary = D[i].numpy()
        if kind is ci.SingleWeightAdaLISTA:
            A = W["W"] @ dictionary
        else:
            A, C = W["W1"] @ dictionary, W["W2"] @ dictionary
        x = before = np.zeros(20)
        t = 1.0
        for gam, eta in zip(W["gam"], np.exp(W["log_eta"]), strict=True):
            z = x
            if kind is ci.AdaLFISTA and x is not before:
                t, last = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
                z = x + (last - 1) / t * (x - before)
            if kind is ci.SingleWeightAdaLISTA:
                v = z + gam * A.T @ (y[i].numpy() - dictionary @ z)
                new = np.sign(v) * np.maximum(np.abs(v) - 0.4 * eta, 0)
            else:
                new = dense_step(z, y[i].numpy(), A, C, gam, 0.4 * eta)
            before, x = x, new
        assert np.allclose(found[i].detach().numpy(), x, atol=1e-10) and (x != 0).any()


def test_reverse_networks_compute_their_definition():
    y, D = drawn(N=3, own=False)
    seen = torch.rand(y.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    network = shaken(ci.ReverseAdaLISTA(D, 2))
    found = network(torch.where(seen, y, torch.inf), seen, torch.tensor([0.1, 0.2, 0.3]))
    for i, lam in enumerate((0.1, 0.2, 0.3)):
        mask = np.diag(seen[i].double().numpy())
        A, C = mask @ network.W1.detach().numpy(), mask @ network.W2.detach().numpy()
        x = np.zeros(20)
        for gam, eta in zip(network.gam.detach().numpy(), network.log_eta.detach().exp().numpy(), strict=True):
            x = dense_step(x, y[i].numpy(), A, C, gam, np.float32(lam).astype(float) * eta)
        assert np.allclose(found[i].detach().numpy(), x, atol=1e-9) and (x != 0).any()
    positive = ci.NonnegativeReverseAdaLFISTA(D, 0)(y, seen, 0.1)
    step = float(torch.linalg.matrix_norm(D, 2)) ** -2
    # float32 holds the steps at the start
    assert torch.allclose(positive, (step * ((y * seen) @ D) - 0.1 * step).clamp(min=0), rtol=1e-6, atol=1e-7)


def test_untrained_networks_are_proximal_gradient_steps():
    """Unit steps for the adaptive ones and LISTA (lam = 1), steps 1 / |D|^2 for the reverse ones."""
    y, D = drawn(N=5, own=False)
    D = D / torch.linalg.matrix_norm(D, 2)
    unit = ci.ProximalGradient(step=1.0).iterates(y, D, 1.0, 4)[-1]
    for network in (ci.AdaLISTA(12, 3).double(), ci.SingleWeightAdaLISTA(12, 3).double()):
        assert torch.allclose(network(y, D, 1.0), unit, atol=1e-12)
    assert torch.allclose(ci.LISTA(D, 3)(y), unit, atol=1e-12)
    seen = torch.ones_like(y, dtype=torch.bool)
    fista = ci.ProximalGradient(momentum=True).iterates(y, 2 * D, 0.05, 6)[-1]
    assert torch.allclose(ci.ReverseAdaLFISTA(2 * D, 5)(y, seen, 0.05), fista, atol=1e-6)


def test_permuted_columns_permute_the_code():
    y, D = drawn(N=5, own=False)
    order = torch.rand(5, 20, generator=torch.Generator().manual_seed(4)).argsort(1)
    own = torch.stack([D[:, one] for one in order])
    for kind in (ci.AdaLISTA, ci.AdaLFISTA, ci.SingleWeightAdaLISTA):
        network = shaken(kind(12, 3))
        assert torch.allclose(network(y, own, 0.3), network(y, D, 0.3).gather(1, order), atol=1e-10)


@pytest.mark.parametrize("kind", [ci.AdaLISTA, ci.AdaLFISTA, ci.SingleWeightAdaLISTA, ci.LISTA, ci.ReverseAdaLFISTA])
def test_every_network_learns_with_all_of_its_parameters(kind):
    y, D = drawn(N=64, own=False)
    seen = torch.rand(y.shape, generator=torch.Generator().manual_seed(3)) < 0.8
    D = D / torch.linalg.matrix_norm(D, 2)  # unit steps diverge for a larger |D|
    labels = ci.certified_codes(y, D, 0.3, seen=seen if kind is ci.ReverseAdaLFISTA else None).x
    dictionary_given = kind in (ci.LISTA, ci.ReverseAdaLFISTA)
    network = kind(D if dictionary_given else 12, 2).double()
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    given = {ci.LISTA: (y,), ci.ReverseAdaLFISTA: (y, seen, 0.3)}.get(kind, (y, D, 0.3))
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (network(*given) - labels).square().sum(1).mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())
    assert losses[-1] < 0.7 * losses[0], losses[::20]


# --- the theorem ---


def sparse_instance(n=400, m=60, s=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    D = torch.randn(n, m, generator=g, dtype=DOUBLE)
    D = D / D.norm(dim=0)
    x = torch.zeros(1, m, dtype=DOUBLE)
    x[0, :s] = torch.tensor([1.0, -0.7], dtype=DOUBLE)[:s]
    return D, x


def with_thresholds(thresholds, n):
    network = ci.SingleWeightAdaLISTA(n, len(thresholds) - 1).double()
    with torch.no_grad():
        network.log_eta.copy_(torch.as_tensor(thresholds, dtype=DOUBLE).log())
    return network


def test_the_theorem_holds_where_it_says_so_and_for_permuted_dictionaries():
    D, x = sparse_instance()
    eye, noise = torch.eye(400, dtype=DOUBLE), 1e-3
    rate = ci.adaptive_rate(eye, D, s=2, size=1.0, noise=noise, steps=8)
    assert rate.status.tolist() == ["holds"], rate
    network = with_thresholds(rate.numbers["th_k"][:, 0], 400)
    e = torch.randn(1, 400, generator=torch.Generator().manual_seed(9), dtype=DOUBLE)
    e = noise * e / (e @ D).abs().max()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    for dictionary, code in ((D, x), (D[:, order], x[:, order])):
        y = code @ dictionary.T + e
        for k in range(8):
            found = with_thresholds(rate.numbers["th_k"][: k + 1, 0], 400)(y, dictionary, 1.0).detach()
            assert bool((found[code == 0] == 0).all())
            assert float((found - code).abs().max()) <= float(rate.bounds[f"x_{k + 1}"][0])
    # the other function, asked of this very network, says the same of it, with bounds that are no larger
    own = ci.adaptive_recovery(network, D, 1.0, x)
    assert own.status.tolist() == ["holds"], own
    assert all(float(own.bounds[k][0]) <= float(rate.bounds[k][0]) + 1e-12 for k in own.bounds)
    again = ci.adaptive_rate(eye, D[:, order], s=2, size=1.0, noise=noise, steps=8)
    assert torch.allclose(rate.numbers["mu"], again.numbers["mu"])


def test_steps_and_diagonals_of_any_size_are_counted():
    """D = I, W = I, gam = 1/2, s = 1, x = (1, 0): c = 1/2, so th = 1/2 is needed; x_1 = soft(1/2, 1/2) = 0 is off by 1."""
    network = with_thresholds([0.5], 2)
    with torch.no_grad():
        network.gam.fill_(0.5)
    D, x = torch.eye(2, dtype=DOUBLE), torch.tensor([[1.0, 0.0]], dtype=DOUBLE)
    found = ci.adaptive_recovery(network, D, 1.0, x)
    assert found.status.tolist() == ["holds"] and float(found.bounds["x_1"][0]) == pytest.approx(1.0)
    assert network(x, D, 1.0).tolist() == [[0.0, 0.0]]
    less = ci.adaptive_recovery(network, D, 0.9, x)
    assert less.status.tolist() == ["fails"] and float(less.bounds["x_1"][0]) == float("inf")


def test_the_theorem_does_not_speak_of_the_published_sizes():
    g = torch.Generator().manual_seed(0)
    D = torch.randn(3, 50, 70, generator=g, dtype=DOUBLE)
    D = D / D.norm(dim=1, keepdim=True)
    found = ci.adaptive_rate(torch.eye(50, dtype=DOUBLE), D, s=4, size=3.0)
    assert found.counts() == {"fails": 3} and bool((found.numbers["mu"] > 0.35).all())
    assert "2 mu s < 1" in str(found)


@pytest.mark.gpu
def test_the_theorem_says_the_same_of_what_is_on_a_card():
    D, x = sparse_instance()
    network, eye = with_thresholds([1.0, 0.5], 400), torch.eye(400, dtype=DOUBLE)
    here, rate = ci.adaptive_recovery(network, D, 1.0, x, 0.01), ci.adaptive_rate(eye, D, s=2, size=1.0)
    there = ci.adaptive_recovery(network.cuda(), D.cuda(), 1.0, x.cuda(), 0.01)
    for one, other in ((here, there), (rate, ci.adaptive_rate(eye.cuda(), D.cuda(), s=2, size=1.0))):
        assert one.status.tolist() == other.status.tolist()
        assert all(torch.allclose(one.bounds[k], other.bounds[k]) for k in one.bounds)


# --- learned starts ---


def masked_problem(N=16, m=30, n=20, lam=0.05, seed=0):
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(m, n, generator=g, dtype=DOUBLE) / m**0.5
    h = torch.relu(torch.randn(N, n, generator=g, dtype=DOUBLE) - 0.5)
    seen = torch.rand(N, m, generator=g) < 0.6
    y = h @ W.T + 0.3
    rows = ci.Rows(ci.Dense(W), torch.full((m,), 0.3, dtype=DOUBLE), y, seen, torch.zeros_like(seen))
    return ci.NonnegativeLasso(rows, lam)


def test_a_start_changes_iterations_and_not_the_answer():
    problem = masked_problem()
    plain = ci.solve(problem, ci.FISTA(), polish=False)
    unit = problem.normalised().h_unit
    near = ci.solve(problem, ci.FISTA(first=lambda part: plain.h / unit), polish=False)
    assert bool(near.certificate.holds.all()) and bool((near.iterations <= plain.iterations).all())
    assert int(near.iterations.max()) == ci.FISTA.first_check
    far = ci.solve(problem, ci.FISTA(first=lambda part: torch.full((part.N, part.n), 50.0)))
    network = ci.NonnegativeReverseAdaLFISTA(problem.normalised().problem.rows.W.matrix().float(), 4)
    learned = ci.solve(problem, ci.FISTA(first=ci.LearnedStart(network)))
    for other in (far, learned):
        assert bool(other.certificate.holds.all())
        assert torch.allclose(other.certificate.objective, plain.certificate.objective, rtol=1e-5)


def test_a_learned_start_is_the_network_at_the_normalised_problem():
    problem = masked_problem()
    small = problem.normalised().problem
    W = small.rows.W.matrix().float()
    start = ci.LearnedStart(ci.NonnegativeReverseAdaLFISTA(W, 3))(small)
    # untrained it is FISTA with x >= 0: four steps of the solver itself
    work = ci.FISTA().start(small)
    restarts = work.t.clone()
    work.advance(2)
    assert bool((restarts == 1).all())
    two = ci.LearnedStart(ci.NonnegativeReverseAdaLFISTA(W, 1))(small)
    assert torch.allclose(two, work.h, atol=1e-5) and start.shape == small.rows.y.new_zeros(16, 20).shape


# --- what does not fit ---


def test_what_does_not_fit_is_refused():
    y, D = drawn(N=2)
    one = D[0]
    zero = D.clone()
    zero[1, :, 5] = 0
    network, reverse = ci.AdaLISTA(12, 1).double(), ci.ReverseAdaLISTA(one, 1)
    hidden = torch.ones(2, 12, dtype=torch.bool)
    hidden[1] = False
    wide = masked_problem(n=21).normalised().problem
    start = ci.LearnedStart(ci.NonnegativeReverseAdaLFISTA(torch.ones(30, 20), 1))
    cases = [
        (lambda: network(y[:, :11], D, 0.1), r"y of shape \(N, 12\)"),
        (lambda: network(y, D[:1], 0.1), "a dictionary for each of 2 signals, got 1"),
        (lambda: network(y, zero, 0.1), "zeros alone in column 5 of the dictionary of signal 1"),
        (lambda: network(y, zero[1], 0.1), "zeros alone in column 5 of the dictionary;"),
        (lambda: network(y, D, -0.1), "lam as a finite number >= 0 or 2 of them, got -0.1"),
        (lambda: network(y, D, torch.tensor([0.1, 0.2, 0.3])), "lam as a finite number >= 0 or 2 of them, got a tensor"),
        (lambda: network(y.float(), D, 0.1), "y in torch.float64"),
        (lambda: network(y * torch.nan, D, 0.1), "expected finite y"),
        (lambda: ci.LISTA(one, 1)(y * torch.nan), "expected finite y"),
        (lambda: network(y, D * torch.inf, 0.1), "expected finite dictionaries"),
        (lambda: ci.AdaLISTA(11, 1).double()(y, D, 0.1), "dictionaries of 11 rows as was trained, got 12"),
        (lambda: reverse(y, hidden, 0.1), "at least one entry of each signal, got none of signal 1"),
        (lambda: reverse(y, hidden.double(), 0.1), "seen as a bool mask"),
        (lambda: ci.certified_codes(y, D, 0.1, seen=hidden), "got none of signal 1"),
        (lambda: ci.AdaLISTA(12, -1), "unfoldings must be an integer >= 0, got -1"),
        (lambda: ci.AdaLISTA(0, 1), "length must be an integer >= 1, got 0"),
        (lambda: ci.ReverseAdaLISTA(torch.zeros(3, 4), 1), "not all 0"),
        (lambda: ci.ProximalGradient(step=0.0), "step must be > 0 and finite, got 0.0"),
        (lambda: ci.ProximalGradient(restart=True), "momentum=True beside restart=True"),
        (lambda: ci.ProximalGradient().iterates(y, D, 0.1, 0), "iterations must be an integer >= 1, got 0"),
        (lambda: ci.code_gap(y, D, 0.1, y), r"x of shape \(2, 20\)"),
        (lambda: ci.adaptive_rate(torch.eye(12), one.float(), s=0, size=1.0), "s and steps as whole numbers >= 1, got 0"),
        (lambda: ci.adaptive_rate(torch.eye(12), one, s=2, size=1.0, steps=0), ">= 1, got 2 and 0"),
        (lambda: ci.adaptive_recovery(ci.SingleWeightAdaLISTA(11, 1), D, 0.1, y), "dictionaries of 11 rows"),
        (lambda: start(wide), r"a layer of shape \(30, 20\) as was trained, got \(30, 21\)"),
        (lambda: ci.solve(masked_problem(), ci.FISTA(first=lambda part: part.rows.y)), r"finite h of shape \(16, 20\)"),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=words):
            call()
    rows = masked_problem().normalised().problem.rows
    for call, words in (
        (lambda: ci.LearnedStart(network), "expected a NonnegativeReverseAdaLFISTA, got AdaLISTA"),
        (lambda: start(ci.Lasso(rows, 0.1)), "expected a NonnegativeLasso, got Lasso"),
        (lambda: ci.adaptive_recovery(network, D, 0.1, y), "expected a SingleWeightAdaLISTA, got AdaLISTA"),
    ):
        with pytest.raises(TypeError, match=words):
            call()
    assert replace(ci.ProximalGradient(), step=2.0).step == 2.0
