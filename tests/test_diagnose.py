"""`diagnose`: numbers worked out by hand, counts against noise that is really added, words, page and command."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import flat, read_json, run
from test_inspection import generator_of, linear
from test_report import Page
from torch import nn

import cvxinv as ci
from cvxinv.guarantees.local import walk
from cvxinv.guarantees.phases import near_phases


def small(*sizes: int, seed: int = 0, output: nn.Module | None = None) -> ci.Generator:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for n, m in pairwise(sizes):
        parts += [nn.Linear(n, m), nn.ReLU()]
    return generator_of(*parts[:-1], *([] if output is None else [output])).to(torch.float64)


@pytest.fixture(scope="module")
def mirrored() -> ci.Generator:
    """G(z) = (3 (z)_+, 4 (-z)_+, 5 (z + 9)_+): unit 2 is on wherever anybody looks, and each z has a signal of its own."""
    return generator_of(
        linear([[1.0], [-1.0], [1.0]], [0, 0, 9]), nn.ReLU(), linear([[3.0, 0, 0], [0, 4, 0], [0, 0, 5]])
    ).to(torch.float64)


@pytest.fixture(scope="module")
def added() -> ci.Generator:
    """G(z) = (z_1)_+ + (z_2)_+: two numbers behind one."""
    return generator_of(linear([[1.0, 0], [0, 1.0]]), nn.ReLU(), linear([[1.0, 1.0]])).to(torch.float64)


def test_a_signal_by_hand(mirrored: ci.Generator):
    z = torch.tensor([[2.0], [-1.0]]).double()
    them = ci.diagnose(mirrored, mirrored(z), z, samples=50, progress=False).signals
    assert them is not None and them.status.tolist() == ["unique", "unique"]
    # J = (3, 0, 5)' and (0, -4, 5)'; the kinks lie at z = 0 and z = -9
    assert them.local.smallest.tolist() == pytest.approx([34**0.5, 41**0.5])
    assert them.local.amplification.tolist() == pytest.approx([34**-0.5, 41**-0.5])
    assert them.local.distance.tolist() == pytest.approx([2, 1]) and them.local.rank.tolist() == [1, 1]
    assert them.misfit.max() < 1e-14
    assert "proved" in them.explain(0) and "2 latent units away, where unit 0 of layers[0] switches" in them.explain(0)


def test_units_that_are_always_on_are_counted(mirrored: ci.Generator):
    found = ci.diagnose(mirrored, samples=500, progress=False)
    (hidden,) = found.inspection.hidden
    assert (hidden.never_active, hidden.always_active) == (0, 1)
    assert "hidden layer 1: 1 of 3 units were always positive, and are linear" in found.words
    assert found.words[0].endswith("yes, z is proved to be the only latent for all 8 signals that were asked")


def test_a_sum_is_not_unique_and_the_layer_that_adds_decides(added: ci.Generator):
    z = torch.tensor([[1.0, 2.0]]).double()
    found = ci.diagnose(added, added(z)[0], z[0], samples=50, progress=False)
    them = found.signals
    assert them is not None and len(them) == 1 and them.status.tolist() == ["not_unique"]
    assert them.unique is not None and them.unique.layer.tolist() == [1] and them.local.rank.tolist() == [1]
    assert them.unique.other[0].clamp(min=0).sum() == pytest.approx(3.0) and not torch.equal(them.unique.other, z)
    assert found.words[0].endswith("no, for all 8 signals that were asked another latent gives the same")
    assert any("layers[1], where the rank is lost" in line for line in found.words)


def test_latents_are_found_where_none_are_given():
    G = small(3, 12, 20)
    z = G.sample_latent(2, torch.Generator().manual_seed(4)).double()
    seen = torch.arange(20) < 18
    them = ci.diagnose(G, G(z), measurement=seen, samples=50, progress=False).signals
    assert them is not None and them.status.tolist() == ["unique", "unique"] and (them.z - z).abs().max() < 1e-8


def test_a_signal_that_its_latent_does_not_give_is_undecided(mirrored: ci.Generator):
    z = torch.tensor([[2.0], [1.0]]).double()
    them = ci.diagnose(mirrored, mirrored(z) + torch.tensor([[0.0], [1.0]]), z, samples=50, progress=False).signals
    assert them is not None and them.status.tolist() == ["unique", "undecided"]
    assert them.misfit.tolist() == pytest.approx([0, (3 / (16 + 1 + 51**2)) ** 0.5])
    assert "no latent is known that gives the signal" in them.explain(1)


# --- noise ----------------------------------------------------------------------------------------


def test_units_in_doubt_by_hand():
    G = generator_of(linear([[1.0, 0], [0, 1.0]]), nn.ReLU(), linear([[1.0, 0], [0, 10.0]])).to(torch.float64)
    z = torch.tensor([[1.0, 0.01]]).double()
    # |y| = |(1, 0.1)|; noise moves z_1 by eps |y| and z_2 by a tenth of that: they switch at eps = 1 / |y| and 0.1 / |y|
    ends = 0.1 / 1.01**0.5, 1 / 1.01**0.5
    levels = (0.0, 0.999 * ends[0], 1.001 * ends[0], 0.999 * ends[1], 0.9999)
    assert near_phases(G, z, levels)[:, 0].tolist() == [0, 0, 0.5, 0.5, 1]


@pytest.mark.parametrize("output", [None, nn.Tanh()], ids=["linear", "tanh"])
def test_a_unit_is_in_doubt_where_some_noise_really_switches_it(output: nn.Module | None):
    G, level = small(4, 14, 18, 30, output=output), 0.2
    z = G.sample_latent(1, torch.Generator().manual_seed(5)).double()
    size = level * G(z).norm()
    layers = list(walk(G, z))
    inverse = torch.linalg.pinv(layers[-1][2][0])  # of the Jacobian behind the output
    for column, (u, g, _) in enumerate(layers[:2]):
        switched = 0
        for value, gradient in zip(u[0], g[0], strict=True):
            push = inverse.T @ gradient
            e = -value.sign() * size * push / push.norm()  # the noise that moves this unit most towards its kink
            switched += bool((value + gradient @ inverse @ e) * value <= 0)
        assert near_phases(G, z, (level,))[0, column] == pytest.approx(switched / u.shape[1]) and switched > 0


def test_what_moves_along_a_null_space_is_in_doubt_without_noise(added: ci.Generator):
    z = torch.tensor([[1.0, 2.0], [1.0, -2.0]]).double()
    assert near_phases(added, z[:1], (0.0,)).tolist() == [[1.0]]  # z_1 - z_2 is free, and moves both units
    # of z_2 < 0 nothing is seen: unit 1 is in doubt, z_1 is what the signal says
    assert near_phases(added, z[1:], (0.0,)).tolist() == [[0.5]]


def test_the_engine_is_asked_from_the_least_noise_up_and_not_without_time():
    G = small(3, 10, 16)
    noise = ci.diagnose(G, samples=50, levels=(1e-2, 0.0), time_limit=60, progress=False).noise
    assert noise is not None and noise.layers == ((0, 10),) and (noise.latents, noise.asked) == (4, 2)
    assert noise.left.tolist() == [[0.0], [0.0]] and noise.near[1].tolist() == [0.0]
    without = ci.diagnose(G, samples=50, time_limit=0, progress=False).noise
    assert without is not None and without.left.isnan().all() and without.near.isfinite().all()


# --- words, files, page ---------------------------------------------------------------------------


def test_generators_that_nothing_is_proved_of_are_told_of_all_the_same(tmp_path: Path):
    torch.manual_seed(0)
    smooth = generator_of(nn.Linear(2, 9), nn.Softplus(), nn.Linear(9, 12))
    found = ci.diagnose(smooth, samples=50, progress=False)
    assert found.own is not None and found.own.unique is None and "layers[0] has Softplus" in found.own.why
    assert "near by z is determined; whether another latent far away gives the same is not known" in found.words[0]
    assert found.own.status.tolist() == ["undecided"] * 8 and "Undecided: layers[0] has" in found.own.explain(0)
    assert found.noise is not None and found.noise.layers == ()
    flat_net = generator_of(nn.Linear(2, 5))
    found = ci.diagnose(flat_net, samples=50, progress=False)
    assert "yes" in found.words[0] and Page(ci.write_diagnosis(found, tmp_path / "page.html").read_text()).text


def test_a_diagnosis_is_json_and_its_words(added: ci.Generator, tmp_path: Path):
    found = ci.diagnose(added, added(torch.ones(2, 2).double()), torch.ones(2, 2), samples=50, progress=False)
    folder = found.save(tmp_path / "new" / "folder")
    held = json.loads((folder / "diagnosis.json").read_text(), parse_constant=pytest.fail)
    assert held["words"] == list(found.words) and held["format"] == "cvxinv diagnosis"
    assert held["signals"]["status"] == ["not_unique"] * 2 and held["signals"]["noise_amplification"] == [None] * 2
    assert held["layers"][1]["n"] == 2 and held["noise"]["near"] == found.noise.near.tolist()
    assert str(found).endswith("\n".join(found.words)) and found.words[0] in repr(found)
    again = ci.diagnose(added, added(torch.ones(2, 2).double()), torch.ones(2, 2), samples=50, progress=False)
    assert again.words == found.words


def test_theorems_are_told_with_what_is_not_met(mirrored: ci.Generator, added: ci.Generator):
    words = [line for line in ci.diagnose(mirrored, samples=50, progress=False).words if line.startswith("theorem")]
    # s_1 = 2 of n = 3 columns that are independent: the spark is infinite
    assert "Theorem 1, uniqueness by sparsity: holds for 4 of 4; then z is the only solution" in words[0]
    assert "Corollary 1 (2021), counting nonzeros: holds for 4 of 4" in words[1] and len(words) == 4
    found = ci.diagnose(added, samples=50, seed=1, progress=False)
    held = found.to_dict()["conditions"]
    assert [entry["theorem"] for entry in held] == [condition.theorem for condition in found.conditions]
    of = len(found.conditions[0])
    # one row has no s_1 < n = 1, and one of two units is on at the most
    assert held[1]["counts"] == {"fails": of} and "not met: s_1 < n" in next(w for w in found.words if "Corollary 1" in w)
    assert {"text": "s_1 < n", "right": "1"}.items() <= held[1]["clauses"][2].items()


def test_the_page_is_one_file_with_all_that_was_found(mirrored: ci.Generator, tmp_path: Path):
    G = mirrored.__class__(mirrored.layers, mirrored.signal_shape, {"name": "<i>mine</i>"})
    z = torch.tensor([[2.0], [-1.0]]).double()
    found = ci.diagnose(G, G(z), z, samples=50, progress=False)
    text = ci.write_diagnosis(found, tmp_path / "page.html").read_text()
    page = Page(text)
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|<link|@import|url\(", text) and text.endswith("</html>")
    assert "<i>mine</i>" not in text and "When can <i>mine</i> be inverted" in page.text
    clauses = [clause.text for condition in found.conditions for clause in condition.clauses]
    for line in (*found.words, found.signals.explain(1), *clauses):
        assert flat(line) in flat(page.text), line
    charts = re.findall(r'<svg class="chart".*?aria-label="([^"]*)"', text, re.S)
    pictures = ["smallest singular value", "distance to the nearest face"]
    assert charts == ["units of the hidden layers", "undecided units against noise", *pictures, *pictures]
    with pytest.raises(TypeError, match=r"pass what cvxinv\.diagnose gives back"):
        ci.write_diagnosis(found.inspection, tmp_path / "no.html")
    with pytest.raises(FileNotFoundError, match="make it first"):
        ci.write_diagnosis(found, tmp_path / "none" / "page.html")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"y": np.zeros((2, 4))}, ValueError, "20"),
        ({"y": np.zeros((2, 20)), "z": np.zeros((1, 3))}, ValueError, "one latent for each of 2 signals, got 1"),
        ({"y": np.zeros((2, 20)), "z": np.full((2, 3), np.nan)}, ValueError, "finite latents"),
        ({"z": np.zeros((2, 3))}, ValueError, "expected y beside z"),
        ({"levels": ()}, TypeError, "expected levels as a sequence"),
        ({"levels": (0.1, 1.0)}, ValueError, "expected levels in"),
        ({"levels": "0.1"}, TypeError, "sequence of numbers"),
        ({"time_limit": -1}, ValueError, "expected time_limit >= 0"),
        ({"samples": 0}, ValueError, "expected samples"),
    ],
)
def test_bad_input_is_refused(options: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        ci.diagnose(small(3, 12, 20), **options, progress=False)
    with pytest.raises(TypeError, match="load_generator"):
        ci.diagnose(nn.Linear(2, 3))


def test_the_python_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (Path(__file__).resolve().parents[1] / "docs" / "diagnosis.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "diagnosis.md", "exec"), {"__name__": "docs"})
    assert "When can" in (tmp_path / "when.html").read_text()


# --- trained generators ---------------------------------------------------------------------------


@pytest.mark.generators
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("lei_vae_relu_20_60_784_nobias", "yes, z is proved to be the only latent"),
        ("jay_gan_bn_128_256_512_784", "no, for all 4 signals that were asked another latent gives the same"),
        ("amshoka_dcgan_64x64", "near by z is determined; whether another latent far away"),
    ],
)
def test_trained_generators(name: str, answer: str, real_generator):
    found = ci.diagnose(real_generator(name), samples=200, latents=4, time_limit=0, progress=False)
    assert answer in found.words[0]
    assert found.noise is not None and bool((found.noise.near.diff(dim=0) >= 0).all())  # more noise, more in doubt


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    G = small(2, 10, 20)
    ci.save_generator(G, "tiny")
    z = G.sample_latent(3, torch.Generator().manual_seed(3)).double()
    np.save("z.npy", z.numpy())
    np.save("y.npy", G(z).numpy())
    return tmp_path


def test_the_command_shows_and_writes(folder: Path):
    done = run("diagnose", "tiny", "y.npy", "--latents", "z.npy", "--samples", 50, "-o", "out", "--report", "page.html")
    words = flat(done.stdout)
    assert done.exit_code == 0, done.output
    for part in ("when can it be inverted", "undecided units against noise", "the signals: 3 signals, 3 unique",
                 "signal 2: Unique among all latents", "wrote out", "wrote page.html"):  # fmt: skip
        assert part in words, part
    assert json.loads(Path("out", "diagnosis.json").read_text())["signals"]["statuses"] == {"unique": 3}
    assert "The signals" in Path("page.html").read_text()


def test_json_is_all_of_stdout_and_inspect_is_an_alias(folder: Path):
    found = read_json(run("diagnose", "tiny", "--samples", 50, "--noise-levels", "0,0.1", "--time-limit", 0, "--json"))
    assert found["noise"]["levels"] == [0.0, 0.1] and found["signals"] is None and found["own"]["statuses"] == {"unique": 8}
    former = run("inspect", "tiny", "--samples", 50, "--json")
    assert read_json(former)["layers"] == found["layers"] and "part of cvxinv diagnose now" in flat(former.stderr)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tiny", "--latents", "z.npy"), "expected SIGNALS beside --latents"),
        (("tiny", "y.npy", "--latents", "y.npy"), "expected --latents of shape (N, 2), got (3, 20)"),
        (("tiny", "z.npy"), "20"),
        (("tiny", "--noise-levels", "1 %"), "expected numbers with commas in --noise-levels"),
        (("tiny", "--noise-levels", "2"), "expected shares of the signal's length in [0, 1) in --noise-levels"),
        (("tiny", "--time-limit", "-1"), "expected --time-limit as a number >= 0"),
        (("tiny", "--report", "none/page.html"), "make it first"),
        (("nothing",), "expected a file at nothing"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, words: tuple[str, ...], said: str):
    done = run("diagnose", *words)
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.output
    assert said in done.stderr
