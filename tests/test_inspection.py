"""`inspect_generator`: against hand-worked generators, and against the tables of the trained ones."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch import nn

import cvxinv as ci
from cvxinv.command.exact_check import check_against_cvxpy
from cvxinv.guarantees.inspection import Inspection, _spectrum, inspect_and_sample, inspect_generator
from cvxinv.pages.plots import inspection_picture, png_bytes

# mean nonzeros per hidden layer, never active units, smallest rank and median condition number of the Jacobian (None
# where the rank is short), as measured once with an independent forward pass on other random latents
TABLE = {
    "lei_vae_relu_20_60_784_nobias": ([29.9], [0], 20, 44.6),
    "csinva_vae_20_400_784": ([202.2], [0], 20, 15.0),
    "zeesky_vae_10_400_784": ([221.3], [0], 10, 5.5),
    "jezza_fashion_vae_20_400_784": ([194.4], [0], 20, 583.0),
    "laug_vae_5_128_256_784": ([70.9, 171.2], [0, 9], 5, 3.21),
    "jay_gan_bn_128_256_512_784": ([64.5, 126.6], [35, 95], 1, None),
    "lei_vae_leaky_20_200_500_784_nobias": ([100.1, 152.9], [0, 0], 20, 278.0),
    "ashish_gan_leaky_64_256_784": ([65.2], [0], 64, 973.0),
    "amshoka_dcgan_64x64": ([655.3, 1032.7, 1772.8, 4862.2], [0, 426, 1067, 1474], 100, 593.0),
    "aman_fashion_dcgan_28x28": ([2279.1, 7145.6], [0, 987], 100, 467.0),
}
# s_1 > n0, s_(i+1) >= 2 s_i, 2 s_L <= n for the mean, and the share of latents for which all hold
GROWTH = {
    "csinva_vae_20_400_784": ([True, True], 1.00),
    "laug_vae_5_128_256_784": ([True, True, True], 0.96),
    "jay_gan_bn_128_256_512_784": ([False, False, True], 0.0),
    "ashish_gan_leaky_64_256_784": ([None, None], None),
    "lei_vae_leaky_20_200_500_784_nobias": ([None, None, None], None),
    "amshoka_dcgan_64x64": ([True, False, False, True, False], 0.0),
    "aman_fashion_dcgan_28x28": ([True, True, False], 0.0),
}


def generator_of(*layers: nn.Module) -> ci.Generator:
    return ci.load_generator(nn.Sequential(*layers))


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    made = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        made.weight.copy_(torch.tensor(weight))
        made.bias.copy_(torch.tensor(bias or [0.0] * len(weight)))
    return made


@pytest.fixture(scope="module")
def mirrored() -> Inspection:
    """Hidden units (z, -z, -1): one of the first two is positive for every z, the third never; |W_1| = 3 |z|."""
    G = generator_of(linear([[1.0], [-1.0], [0.0]], [0, 0, -1]), nn.ReLU(), linear([[3.0, 0, 0], [0, 4, 0], [0, 0, 5]]))
    return inspect_generator(G, samples=200, latents=6)


def test_counts_of_a_mirrored_latent_are_one(mirrored: Inspection):
    (hidden,) = mirrored.hidden
    assert (hidden.mean, hidden.q05, hidden.q95, hidden.never_active, hidden.size) == (1.0, 1.0, 1.0, 1, 3)


def test_growth_of_a_mirrored_latent(mirrored: Inspection):
    # s_1 = 1 is not above n0 = 1; 2 s_1 = 2 is at most n = 3
    assert [(c.name, c.holds, c.share) for c in mirrored.growth] == [("s_1 > n0", False, 0.0), ("2 s_1 <= n", True, 1.0)]
    assert mirrored.growth_share == 0.0


def test_singular_values_of_the_layers(mirrored: Inspection):
    first, last = mirrored.layers
    assert first.sigma_max == pytest.approx(2**0.5)
    assert (last.sigma_max, last.sigma_min, last.condition, last.rank) == pytest.approx((5.0, 3.0, 5 / 3, 3))
    assert mirrored.rank == 1 and mirrored.condition == pytest.approx(1.0)


def test_a_short_rank_is_said_in_words():
    # the ReLU cuts everything: no latent changes the signal
    inspection = inspect_generator(generator_of(linear([[1.0], [1.0]], [-99, -99]), nn.ReLU(), linear([[1.0, 1.0]])), 50, 3)
    assert inspection.rank == 0 and inspection.condition is None
    words = " ".join(inspection.expectations)
    assert "z is not determined for 3 of 3 latents" in words and "2 of 2 units were never active" in words


def test_fewer_entries_than_latents_is_a_short_rank():
    inspection = inspect_generator(generator_of(linear([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])), 10, 2)
    assert (inspection.rank, inspection.condition, inspection.hidden, inspection.growth) == (2, None, (), ())
    assert (inspection.layers[0].rank, inspection.layers[0].condition) == (2, 1.0)


def test_a_rank_short_layer_has_no_condition_number():
    inspection = inspect_generator(generator_of(linear([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]])), 10, 2)
    assert (inspection.layers[0].rank, inspection.layers[0].condition) == (1, None)


def test_large_layers_are_not_decomposed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cvxinv.guarantees.inspection._LARGEST_SIDE", 3)
    layers = inspect_generator(generator_of(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 4)), 5, 2).layers
    assert layers[0].rank == 3 and (layers[1].sigma_max, layers[1].condition, layers[1].rank) == (None, None, None)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ([], "every layer is a convex problem"),
        ([nn.Sigmoid()], "before its Sigmoid"),
        ([nn.ReLU()], "every layer is a convex problem"),
    ],
)
def test_latent_pursuit_is_foretold(last: list[nn.Module], words: str):
    torch.manual_seed(0)
    G = generator_of(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 12), *last)
    inspection = inspect_generator(G, 50, 3)
    assert inspection.expectations[0].startswith("latent pursuit: ") and words in inspection.expectations[0]


def test_too_few_rows_are_foretold():
    torch.manual_seed(0)
    inspection = inspect_generator(generator_of(nn.Linear(2, 30), nn.ReLU(), nn.Linear(30, 5)), 50, 3)
    assert "not possible, layer 1 has 5 seen rows for 30" in inspection.expectations[0]


def test_an_inspection_is_json(mirrored: Inspection):
    again = json.loads(json.dumps(mirrored.to_dict()))
    assert again["layers"][1]["kind"] == "Dense" and again["hidden"][0]["never_active"] == 1


def test_the_seed_fixes_everything(mirrored: Inspection):
    torch.manual_seed(0)
    G = generator_of(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 12))
    assert inspect_generator(G, 50, 3, seed=4) == inspect_generator(G, 50, 3, seed=4)
    assert inspect_generator(G, 50, 3, seed=4) != inspect_generator(G, 50, 3, seed=5)


@pytest.mark.parametrize("wrong", [0, -1, True, 2.5])
def test_counts_must_be_positive_integers(wrong: object):
    with pytest.raises(ValueError, match="expected samples as an integer >= 1"):
        inspect_generator(generator_of(nn.Linear(2, 3)), wrong)


@pytest.mark.generators
@pytest.mark.parametrize("name", TABLE)
def test_trained_generators_agree_with_their_table(name: str, real_generator: Callable[..., ci.Generator]):
    means, never, rank, condition = TABLE[name]
    inspection = inspect_generator(real_generator(name), samples=2000, seed=0)
    assert [h.mean for h in inspection.hidden] == pytest.approx(means, rel=0.02)
    # a unit that one latent in a thousand makes positive is counted or not by chance
    assert [h.never_active for h in inspection.hidden] == pytest.approx(never, rel=0.02)
    assert inspection.rank == rank
    assert inspection.condition == (None if condition is None else pytest.approx(condition, rel=0.25))
    if name in GROWTH:
        holds, share = GROWTH[name]
        assert [c.holds for c in inspection.growth] == holds
        assert inspection.growth_share == (None if share is None else pytest.approx(share, abs=0.02))


# --- units that are never positive, and large maps ------------------------------------------------


def leaky_pair(weight: float) -> ci.Generator:
    """x = (z_1 + 50, weight / 2 (0.1 z_2 - 5)): its second hidden unit is always on the slope 0.5."""
    b = torch.tensor([50.0, -5.0]).double()
    layers = (
        ci.Layer(ci.Dense(torch.diag(torch.tensor([1.0, 0.1], dtype=torch.float64))), b, ci.LeakyReLU(0.5)),
        ci.Layer(ci.Dense(torch.diag(torch.tensor([1.0, weight]).double())), torch.zeros(2).double(), ci.Identity()),
    )  # fmt: skip
    return ci.Generator(layers, (2,), {})


@pytest.mark.parametrize("weight", [20.0, 60.0])
def test_a_leaky_unit_that_is_never_positive_carries_its_share_of_the_variation(weight: float):
    G = leaky_pair(weight)
    inspection = inspect_generator(G, samples=400, latents=2, seed=3)
    (hidden,) = inspection.hidden
    z = G.sample_latent(400, torch.Generator().manual_seed(3))[:100]  # those that shares are measured over
    first, second = z.var(0, unbiased=False).tolist()
    share = (weight / 20) ** 2 * second / (first + (weight / 20) ** 2 * second)
    assert (hidden.never_active, hidden.most) == (1, 1)
    assert hidden.carried == pytest.approx(share, rel=1e-9) and hidden.most_carried == pytest.approx(share, rel=1e-9)
    words = inspection.expectations[-1]
    assert (
        f"1 of 2 units were never positive: always on the slope 0.5, they are linear, and carry {100 * share:.3g} %" in words
    )
    assert "nothing" not in words


def test_a_leaky_unit_that_nothing_reads_carries_nothing():
    inspection = inspect_generator(leaky_pair(0.0), samples=50, latents=2)
    (hidden,) = inspection.hidden
    assert (hidden.never_active, hidden.carried, hidden.most_carried, hidden.most) == (1, 0.0, 0.0, None)
    assert "never positive: always on the slope 0.5, they are linear, and carry nothing" in inspection.expectations[-1]


def test_of_several_units_the_one_that_carries_most_is_named():
    # three units always on the slope 0.5 behind z, read with weights 1, 3 and -3.5: together 0.5, as the first is behind -z
    layers = (
        ci.Layer(ci.Dense(torch.ones(3, 1).double()), torch.full((3,), -99.0).double(), ci.LeakyReLU(0.5)),
        ci.Layer(ci.Dense(torch.tensor([[1.0, 3.0, -3.5]]).double()), torch.zeros(1).double(), ci.Identity()),
    )
    inspection = inspect_generator(ci.Generator(layers, (1,), {}), samples=50, latents=2)
    (hidden,) = inspection.hidden
    # all together are all there is; alone, the third is 3.5 of what is 0.5 in sum
    assert hidden.most == 2 and hidden.carried == pytest.approx(1.0) and hidden.most_carried == pytest.approx(49.0)
    assert "carry 100 % of the output's variation, unit 2 alone 49 times as much" in inspection.expectations[-1]


def picture_net(scale: float = 1.0) -> ci.Generator:
    """4 -> 6x12x12 -> 144, the small likeness of a net whose last convolution has many inputs and few outputs."""
    torch.manual_seed(0)
    G = generator_of(
        nn.Linear(4, 6 * 144), nn.ReLU(), nn.Unflatten(1, (6, 12, 12)), nn.Conv2d(6, 1, 3, padding=1), nn.Flatten()
    )
    first = G.layers[0]
    return replace(G, layers=(replace(first, W=first.W.scaled(scale), b=first.b * scale), *G.layers[1:]))


def test_a_large_map_is_asked_by_its_smaller_side_and_never_made_a_matrix(monkeypatch: pytest.MonkeyPatch):
    for W in (picture_net().layers[1].W, ci.ConvTranspose2d(torch.randn(2, 9, 3, 3).double(), (2, 5, 5), stride=(2, 2))):
        expected = torch.linalg.svdvals(W.make_matrix())
        with monkeypatch.context() as patch:
            patch.setattr("cvxinv.guarantees.inspection._LARGE", 1000)
            patch.setattr(type(W), "matrix", lambda _: pytest.fail("expected products"))
            found = _spectrum(W)
        assert found is not None and len(found) == min(W.m, W.n)
        assert torch.allclose(found, expected, rtol=1e-7, atol=0)


def test_a_large_map_of_short_rank_is_decomposed_after_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cvxinv.guarantees.inspection._LARGE", 0)
    torch.manual_seed(0)
    weight = torch.randn(9, 3).double() @ torch.randn(3, 5).double()
    G = ci.Generator((ci.Layer(ci.Dense(weight), torch.zeros(9).double(), ci.Identity()),), (9,), {})
    layer = inspect_generator(G, 5, 1).layers[0]
    assert (layer.rank, layer.condition) == (3, None) and layer.sigma_min is not None and layer.sigma_min < 1e-12


def test_what_would_take_minutes_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cvxinv.guarantees.inspection._LARGE", 1000)
    monkeypatch.setattr("cvxinv.guarantees.inspection._MOST_WORK", 1_000_000)
    layers = inspect_generator(picture_net(), 20, 2).layers
    assert layers[0].rank == 4 and (layers[1].sigma_max, layers[1].condition, layers[1].rank) == (None, None, None)


@pytest.mark.parametrize("scale", [1.0, 1e-42, 1e45])
def test_costly_generators_are_counted_in_float32_unless_that_counts_otherwise(
    scale: float, monkeypatch: pytest.MonkeyPatch
):
    G = picture_net(scale)
    plain = inspect_generator(G, 60, 3)
    monkeypatch.setattr("cvxinv.guarantees.activity.COSTLY", 0)
    monkeypatch.setattr("cvxinv.guarantees.inspection.COSTLY", 0)
    quick = inspect_generator(G, 60, 3)
    assert quick.hidden == plain.hidden and quick.rank == plain.rank
    assert quick.condition == pytest.approx(plain.condition, rel=1e-3 if scale == 1.0 else 1e-12)


# --- the exact check ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layered() -> ci.Inversion:
    torch.manual_seed(0)
    G = generator_of(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 20))
    y = G(G.sample_latent(4, torch.Generator().manual_seed(1)))
    return ci.invert(G, y + 0.01, "latent_pursuit", noise=("l2", 0.1), on_fail="ignore")


def test_the_exact_solver_agrees_with_the_fast_one(layered: ci.Inversion):
    rows = check_against_cvxpy(layered, 3)
    assert [(row["signal"], row["layer"]) for row in rows] == [(i, k) for i in range(3) for k in (1, 0)]
    for row in rows:
        assert row["agree"] and abs(row["difference"]) <= row["allowed"] and row["exact_status"] == "optimal"
        assert row["difference"] == row["fast"] - row["exact"] and row["fast"] > 0


@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_the_exact_check_sees_a_wrong_fast_answer(layered: ci.Inversion, factor: float):
    report = layered.layers[0]
    certificate = replace(report.solution.certificate, objective=report.solution.certificate.objective * factor)
    wrong = replace(report, solution=replace(report.solution, certificate=certificate))
    rows = check_against_cvxpy(replace(layered, layers=(wrong, *layered.layers[1:])), 1)
    assert [row["agree"] for row in rows] == [False, True]


def test_where_the_optimum_is_zero_the_exact_solver_stops_short():
    torch.manual_seed(0)
    G = generator_of(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 20))
    inversion = ci.invert(G, G(torch.ones(1, 3).double()), "latent_pursuit")
    image = check_against_cvxpy(inversion, 1)[0]
    assert image["fast"] < image["exact"] < 1e-10 and image["agree"]
    assert image["exact_status"] != "optimal" and "CLARABEL itself reaches" in image["note"]


def test_a_problem_too_large_for_cvxpy_is_a_row(layered: ci.Inversion, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cvxinv.solvers.reference._SECONDS_ALLOWED", 0.0)
    rows = check_against_cvxpy(layered, 1)
    assert len(rows) == 2 and all(row["agree"] is None and "too large" in row["note"] for row in rows)


def test_the_exact_check_takes_no_more_signals_than_there_are(layered: ci.Inversion):
    assert len(check_against_cvxpy(layered, 99)) == 8
    with pytest.raises(ValueError, match="expected a count of signals >= 1, got 0"):
        check_against_cvxpy(layered, 0)
    with pytest.raises(ValueError, match="did you mean 'CLARABEL'"):
        check_against_cvxpy(layered, 1, "CLARABELL")


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (7,)])
def test_no_title_of_the_picture_is_cut(shape: tuple[int, ...]):
    torch.manual_seed(0)
    d = int(np.prod(shape))
    G = ci.load_generator(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, d)))
    G = replace(G, signal_shape=shape, description={"name": "a generator of a long name " * 6})
    figure = inspection_picture(*inspect_and_sample(G, 40, progress=False))
    png_bytes(figure)  # lays it out
    width = figure.bbox.width
    # titles and labels; ticks outside of an axis are kept by matplotlib and not drawn
    texts = [text for text in figure.findobj(Text) if len(text.get_text()) > 12]
    assert any("singular values of the Jacobian" in text.get_text() for text in texts)
    for text in texts:
        box = text.get_window_extent()
        assert -1 <= box.x0 and box.x1 <= width + 1, text.get_text()


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 4), "dark on light (inverted), values from 0 (white) to 1 (black)"),
        ((3, 4, 4), "from 0 (black) to 1 (full colour)"),
    ],
)
def test_the_picture_says_which_end_is_dark(shape: tuple[int, ...], words: str):
    torch.manual_seed(0)
    G = ci.load_generator(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, int(np.prod(shape))), nn.Sigmoid()))
    figure = inspection_picture(*inspect_and_sample(replace(G, signal_shape=shape), 40, progress=False))
    assert any(words in text.get_text() for text in figure.findobj(Text))
