"""Reports, explanations and pictures: what is on the page, what it says, and that the numbers are the inversion's."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.command.demo import load_shipped
from cvxinv.inversion.explain import NEAREST, NO, SIGNAL_ONLY, TRUSTS, YES, explain
from cvxinv.pages import png, svg

VOID = {"meta", "link", "img", "br", "hr", "input", "path", "circle", "rect", "image"}


class Page(HTMLParser):
    """A page as a browser reads it: every tag closed in order; texts, tags and attributes."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag in VOID and tag not in ("path", "circle", "rect"):
            self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def attributes(self, tag: str, name: str) -> list[str | None]:
        return [attributes.get(name) for t, attributes in self.tags if t == tag]


def generator(*, seed: int = 0, d: int = 36, output: nn.Module | None = None) -> ci.Generator:
    """3 latents, 12 hidden units, d entries."""
    torch.manual_seed(seed)
    layers = [nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, d), *([output] if output else [])]
    return ci.load_generator(nn.Sequential(*layers))


def latents(G: ci.Generator, count: int) -> Tensor:
    return G.sample_latent(count, torch.Generator().manual_seed(1))


def write(tmp_path: Path, inversion: ci.Inversion, **options: object) -> str:
    return ci.write_report(inversion, tmp_path / "r.html", **options).read_text()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def digits() -> tuple[ci.Generator, Tensor, Tensor, ci.Inversion]:
    """Three samples of the shipped generator and three real digits, 30 % of the pixels hidden."""
    G, images, _ = load_shipped()
    y = torch.cat([G(latents(G, 3)), images[:3]])
    mask = torch.rand(6, 64, generator=torch.Generator().manual_seed(2)) > 0.3
    return G, y, mask, ci.invert(G, y, measurement=mask, on_fail="ignore", restarts=1)


# --- the page -------------------------------------------------------------------------------------


def test_the_page_needs_nothing_else(tmp_path: Path, digits):
    G, y, mask, inversion = digits
    text = write(tmp_path, inversion, y=y, generator=G, measurement=mask)
    for word in ("http", "<script", "javascript:", "@import", "<link", "url("):
        assert word not in text, word
    page = Page(text)
    sources = page.attributes("img", "src") + page.attributes("image", "href")
    assert sources and all(source and source.startswith("data:image/png;base64,") for source in sources)
    assert all(link and link.startswith("#") for link in page.attributes("a", "href"))


def test_links_lead_to_a_place_on_the_page(tmp_path: Path, digits):
    G, y, mask, inversion = digits
    page = Page(write(tmp_path, inversion, y=y, generator=G, measurement=mask))
    places = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {(link or "")[1:] for link in page.attributes("a", "href")} <= places
    assert len(places) == sum("id" in attributes for _, attributes in page.tags), "an id stands twice"


def test_pictures_have_words_and_tables_have_heads(tmp_path: Path, digits):
    G, y, mask, inversion = digits
    page = Page(write(tmp_path, inversion, y=y, generator=G, measurement=mask))
    assert all(page.attributes("img", "alt"))
    charts = [a for t, a in page.tags if t == "svg" and a.get("role") == "img"]
    assert charts and all(a.get("aria-label") for a in charts)
    tables = [t for t, _ in page.tags if t in ("table", "caption", "thead")]
    assert tables.count("table") == tables.count("caption") == tables.count("thead") > 0
    assert all(scope in ("col", "row") for scope in page.attributes("th", "scope"))
    assert page.attributes("html", "lang") == ["en"]


def test_every_signal_is_explained_on_the_page(tmp_path: Path, digits):
    G, y, mask, inversion = digits
    text = Page(write(tmp_path, inversion, y=y, generator=G, measurement=mask)).text
    for i in range(len(inversion)):
        assert inversion.explain(i, generator=G) in text


def test_the_snrs_on_the_page_are_the_inversions(tmp_path: Path):
    G = generator()
    z = latents(G, 9)
    x = G(z) + 0.01 * torch.randn(9, 36, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    inversion = ci.invert(G, x, truth=z, noise=("l2", 0.2), on_fail="ignore")
    text = write(tmp_path, inversion, y=x, generator=G, truth=z)
    table = text[text.index("<caption>SNR in dB") :].partition("</table>")[0]
    rows = dict(re.findall(r'<th scope="row">(z|hidden 1|signal)</th>((?:<td>[^<]*</td>)+)</tr>', table))
    assert set(inversion.snr) == {"z", "hidden 1", "signal"}
    for name, value in inversion.snr.items():
        expected = np.quantile(value.numpy(), [0.1, 0.25, 0.5, 0.75, 0.9])
        assert re.findall(r"<td>([^<]*)</td>", rows[name]) == [f"{v:.1f}" for v in expected], name
    assert [f"SNR of z {float(v):.1f} dB" in text for v in inversion.snr["z"]] == [True] * 9


def test_a_truth_given_to_the_report_alone_gives_the_same_snrs(tmp_path: Path):
    G = generator()
    z = latents(G, 4)
    known, unknown = (ci.invert(G, G(z), truth=t) for t in (z, None))
    with_truth, without = (write(tmp_path, r, y=G(z), generator=G, truth=z) for r in (known, unknown))
    snr = re.compile(r"SNR of z [\d.]+ dB")
    assert snr.findall(with_truth) == snr.findall(without) != []
    assert "SNR" not in write(tmp_path, unknown, y=G(z), generator=G)


def test_the_counts_at_the_head_are_the_inversions(tmp_path: Path, digits):
    G, y, mask, inversion = digits
    words = explain(inversion, list(range(6)), G)
    text = Page(write(tmp_path, inversion, y=y, generator=G, measurement=mask)).text
    for trust in TRUSTS:
        assert f"{sum(w.trust == trust for w in words)} of 6" in text
    assert [w.trust for w in words] == [YES] * 3 + [NEAREST] * 3


def test_names_that_would_be_markup_are_escaped(tmp_path: Path, digits):
    G, y, mask, inversion = digits
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
    bad = replace(inversion, settings=inversion.settings | {"generator": evil, evil: evil}, notes=(evil,))
    bad = replace(bad, used=(evil,) * 6, versions={"torch": evil})
    bad = replace(bad, layers=tuple(replace(r, kind=evil, remark=evil) for r in bad.layers))
    named = replace(G, description=G.description | {"name": evil})
    text = write(tmp_path, bad, y=y, generator=named, measurement=mask)
    assert "<script" not in text and "<img src=x" not in text
    page = Page(text)
    assert "onerror" not in {name for _, attributes in page.tags for name in attributes}
    assert page.text.count(evil) >= 5 and html.escape(evil) not in page.text


def test_pictures_on_the_page_show_the_pixels(tmp_path: Path):
    G = ci.load_generator(nn.Sequential(nn.Linear(2, 16), nn.Sigmoid()))
    z = latents(G, 1)
    inversion = ci.invert(G, G(z))
    text = write(tmp_path, inversion, generator=G)
    (address,) = Page(text).attributes("img", "src")
    pixels = decode(address)
    factor = pixels.shape[0] // 4
    assert pixels.shape == (4 * factor, 4 * factor)
    shown = pixels[factor // 2 :: factor, factor // 2 :: factor] / 255  # high values are dark
    assert np.allclose(1 - shown, inversion.signal.reshape(4, 4).numpy(), atol=1 / 255)


def test_the_caption_says_which_end_is_dark(tmp_path: Path, digits):
    G, y, mask, inversion = digits
    words = " ".join(Page(write(tmp_path, inversion, y=y, generator=G, measurement=mask)).text.split())
    said = r"Drawn dark on light, which inverts what a PNG file holds\. Values from \S+ \(white\) to \S+ \(black\)"
    assert re.search(said, words)


def test_hidden_pixels_are_striped_and_seen_ones_are_not(tmp_path: Path, digits):
    G, y, mask, inversion = digits
    page = Page(write(tmp_path, inversion, y=y, generator=G, measurement=mask))
    observed = [a["src"] for t, a in page.tags if t == "img" and str(a["alt"]).startswith("observed signal 0")]
    pixels = decode(str(observed[0]))
    factor = pixels.shape[0] // 8
    coloured = (pixels != pixels[..., :1]).any(-1)  # grey pictures: only stripes have a colour
    blocks = coloured.reshape(8, factor, 8, factor).transpose(0, 2, 1, 3).reshape(64, -1)
    assert (blocks.all(1) == ~mask[0].numpy()).all() and (blocks.any(1) == ~mask[0].numpy()).all()


def decode(address: str | None) -> np.ndarray:
    import base64
    from io import BytesIO

    assert address is not None
    return np.asarray(Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_a_long_batch_shows_what_cannot_be_trusted_first(tmp_path: Path):
    G = generator()
    y = G(latents(G, 30))
    y[[7, 28]] += 3.0
    inversion = ci.invert(G, y, on_fail="ignore", restarts=1)
    page = Page(write(tmp_path, inversion, y=y, generator=G, most=5))
    shown = sorted(int(str(a["id"])[5:]) for _, a in page.tags if re.match(r"word-\d", str(a.get("id", ""))))
    assert shown == [0, 1, 2, 7, 28]
    assert "25 of 30 signals are left out" in page.text


def test_flat_signals_that_are_no_square_are_curves(tmp_path: Path):
    G = generator(d=30)
    y = G(latents(G, 2))
    mask = torch.arange(30) < 25
    page = Page(write(tmp_path, ci.invert(G, y, measurement=mask), y=y, generator=G, measurement=mask, truth=latents(G, 2)))
    assert page.attributes("img", "src") == []
    assert {"recovered", "true", "observed"} <= set(page.words)


def test_measurements_by_a_matrix_are_drawn_beside_the_picture(tmp_path: Path):
    G = generator()
    A = torch.randn(20, 36, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = G(latents(G, 2))
    page = Page(write(tmp_path, ci.invert(G, x @ A.T, measurement=A), y=x @ A.T, generator=G, measurement=A))
    assert [str(alt).split()[0] for alt in page.attributes("img", "alt")] == ["recovered", "recovered"]
    assert page.words.count("A G(z)") == 2


def test_colour_pictures_keep_their_channels(tmp_path: Path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 48), nn.Unflatten(1, (3, 4, 4)), nn.Sigmoid())
    G = ci.load_generator(net)
    inversion = ci.invert(G, G(latents(G, 1)))
    (address,) = Page(write(tmp_path, inversion, generator=G)).attributes("img", "src")
    pixels = decode(address)
    step = pixels.shape[0] // 4
    assert np.allclose(pixels[::step, ::step] / 255, inversion.signal.reshape(3, 4, 4).movedim(0, -1).numpy(), atol=1 / 255)


@pytest.mark.parametrize("method", ["levenberg_marquardt", "latent_pursuit"])
def test_a_single_signal_and_a_loaded_result_can_be_reported(tmp_path: Path, method: str):
    G = generator()
    y = G(latents(G, 1))[0]
    inversion = ci.invert(G, y, method)
    loaded = ci.Inversion.load(inversion.save(tmp_path / "out"))
    for result in (inversion, loaded):
        text = Page(write(tmp_path, result, y=y, generator=G)).text
        assert "1 of 1" in text and result.explain(0, generator=G) in text
    assert "1 of 1" in Page(write(tmp_path, loaded)).text


def test_a_signal_that_could_not_be_used_stays_on_the_page(tmp_path: Path):
    G = generator()
    y = G(latents(G, 3))
    y[1, 4] = torch.nan
    inversion = ci.invert(G, y, truth=latents(G, 3), on_fail="ignore")
    text = Page(write(tmp_path, inversion, y=y, generator=G)).text
    assert "without 1 unusable" in text and "it holds NaN or inf where it was seen" in text


def test_a_report_is_there_whole_or_not_at_all(tmp_path: Path, digits, monkeypatch: pytest.MonkeyPatch):
    G, y, mask, inversion = digits
    path = tmp_path / "r.html"
    path.write_text("before")

    def broken(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", broken)
        with pytest.raises(OSError, match="disk full"):
            ci.write_report(inversion, path, y=y, generator=G, measurement=mask)
    assert path.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_what_does_not_fit_the_inversion_is_refused(tmp_path: Path, digits):
    G, y, _, inversion = digits
    path = tmp_path / "r.html"
    with pytest.raises(ValueError, match=r"expected y of 6 signals with 64 entries, got shape \(5, 64\)"):
        ci.write_report(inversion, path, y=y[:5])
    with pytest.raises(ValueError, match="expected generator= with truth="):
        ci.write_report(inversion, path, truth=inversion.z)
    with pytest.raises(ValueError, match=r"true latents of shape \(6, 8\), got \(2, 8\)"):
        ci.write_report(inversion, path, generator=G, truth=inversion.z[:2])
    with pytest.raises(ValueError, match=r"\(n0, d\) = \(8, 64\), got one of \(3, 36\)"):
        ci.write_report(inversion, path, generator=generator())
    for other, words in ((y.flip(0), r"got signal \d of length"), (2 * y, "of length"), (-y, "of misfit")):
        with pytest.raises(ValueError, match=f"expected the signals that were inverted, {words}|{words}"):
            ci.write_report(inversion, path, y=other, generator=G, measurement=digits[2])
    shifted = replace(G, layers=(replace(G.layers[0], b=G.layers[0].b + 0.5), *G.layers[1:]))
    with pytest.raises(ValueError, match=r"expected the generator that was inverted, got one whose signal .* away"):
        ci.write_report(inversion, path, y=y, generator=shifted, measurement=digits[2])
    with pytest.raises(ValueError, match="expected the generator that was inverted"):
        inversion.explain(0, generator=shifted)
    with pytest.raises(ValueError, match="expected the generator that was inverted"):
        inversion.export(tmp_path / "claims", shifted, y, digits[2])
    assert not (tmp_path / "claims").exists()
    with pytest.raises(TypeError, match="expected an Inversion, got dict"):
        ci.write_report({}, path)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="expected a folder for the page"):
        ci.write_report(inversion, tmp_path / "none" / "r.html")
    with pytest.raises(ValueError, match="most must be an integer >= 1, got 0"):
        ci.write_report(inversion, path, most=0)
    assert not path.exists()


def test_a_signal_of_zeros_has_no_relative_misfit(tmp_path: Path):
    G = generator()
    inversion = ci.invert(G, torch.zeros(1, 36, dtype=torch.float64), on_fail="ignore", restarts=1)
    text = write(tmp_path, inversion, y=torch.zeros(1, 36), generator=G)
    assert f"misfit {float(inversion.verdict.misfit[0]):.1e}, y is 0" in text and "e+2" not in Page(text).text


def test_no_number_on_the_page_is_nan(tmp_path: Path):
    G = generator()
    y = G(latents(G, 3))
    y[1, 4] = torch.nan
    text = Page(write(tmp_path, ci.invert(G, y, truth=latents(G, 3), on_fail="ignore"), y=y, generator=G)).text
    assert not re.search(r"\b(nan|inf)\b", text.replace("NaN or inf", ""))


# --- drawings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "value", "share"),
    [
        (svg.Axis("", 0, 4), 1, 0.25),
        (svg.Axis("", 1e-4, 1, log=True), 1e-3, 0.25),
        (svg.Axis("", 1e-4, 1, log=True), 0, 0.0),
        (svg.Axis("", 0, 4), 9, 1.0),
    ],
)
def test_axes_put_values_where_they_belong(axis: svg.Axis, value: float, share: float):
    assert axis.at(value) == pytest.approx(share)


def test_ticks_are_round_and_within_the_axis():
    assert [label for _, label in svg.Axis("", 0, 11.5).ticks()] == ["0", "2", "4", "6", "8", "10"]
    assert [round(share, 3) for share, _ in svg.Axis("", 1e-6, 1, log=True).ticks()] == [
        0,
        0.167,
        0.333,
        0.5,
        0.667,
        0.833,
        1,
    ]


def test_a_log_axis_takes_zeros_and_nothing():
    assert svg.log_axis("", [0.0, 1e-3], 1e-9).low <= 1e-9
    assert svg.log_axis("", []).low < svg.log_axis("", []).high


def test_words_in_charts_are_escaped():
    plane = svg.Plane(svg.index_axis("<b>", 3), svg.linear_axis("&", [1.0]))
    text = svg.chart(plane, [plane.point(svg.Mark("circle", "red"), 0, 1, "<i>")], "<u>", "<s>", ["<p>"])
    assert not re.search(r"<(b|i|u|s|p)>", text) and "&lt;u&gt;" in text


# --- explanations ---------------------------------------------------------------------------------


def test_a_recovered_signal_is_trusted_and_says_how_exactly():
    G = generator()
    z = latents(G, 2)
    inversion = ci.invert(G, G(z), truth=z)
    (word,) = explain(inversion, [1], G)
    assert (word.trust, word.cause, word.advice) == (YES, "", ())
    said = float(re.search(r"to first order z is right to ([\d.e+-]+)", str(word))[1])
    true = float((inversion.z[1] - z[1]).norm())
    assert true <= max(10 * said, 1e-13), "the said error is far too small"
    assert "not proved" in str(word)


def test_a_signal_out_of_range_is_the_signals_fault_and_proved():
    # G(z) has equal entries 0 and 1, whatever the weights in between: (1, -1) is at least sqrt(2) away from it
    head = nn.Linear(2, 4)
    net = nn.Sequential(head, nn.ReLU(), nn.Linear(4, 6))
    with torch.no_grad():
        net[2].weight[0] = net[2].weight[1]
        net[2].bias[0] = net[2].bias[1]
    G = ci.load_generator(net)
    y = G(latents(G, 1))
    y[0, :2] = torch.tensor([1.0, -1.0])
    inversion = ci.invert(G, y, on_fail="ignore")
    (word,) = explain(inversion, [0], G)
    assert (word.trust, word.cause) == (NO, "signal") and "proved, no latent at all explains it" in word.verdict
    said = float(re.search(r"no latent has a misfit below ([\d.e+-]+)", str(word))[1])
    assert 2**0.5 * (1 - 1e-3) <= said <= float(inversion.verdict.misfit[0]) * (1 + 1e-3)
    # without the generator nothing is proved, and it is said so
    assert "or the search missed it" in inversion.explain(0) and "it is the signal" not in inversion.explain(0)


def test_the_proved_misfit_is_below_that_of_every_latent(digits):
    G, y, mask, inversion = digits
    everywhere = torch.cat([latents(G, 200), 3 * latents(G, 200), inversion.z])
    for i in range(3, 6):
        found = re.search(r"no latent has a misfit below ([\d.e+-]+)", inversion.explain(i, generator=G))
        misfits = ((G(everywhere) - y[i]) * mask[i]).norm(dim=1)
        assert found and float(found[1]) <= float(misfits.min()) * (1 + 1e-3)


@pytest.mark.parametrize("masked", [False, True])
def test_a_bound_per_entry_is_proved_out_of_reach_too(masked: bool):
    # as above, (1, -1) where equal entries belong; b sqrt(k) is the largest l2 misfit that noise of b per entry leaves
    torch.manual_seed(0)
    head = nn.Linear(2, 4)
    net = nn.Sequential(head, nn.ReLU(), nn.Linear(4, 6))
    with torch.no_grad():
        net[2].weight[0] = net[2].weight[1]
        net[2].bias[0] = net[2].bias[1]
    G = ci.load_generator(net)
    y = G(latents(G, 1))
    y[0, :2] = torch.tensor([1.0, -1.0])
    mask = torch.arange(6) < 4
    k = 4 if masked else 6
    for b, proved in ((0.9 * (2 / k) ** 0.5, True), (1.1 * (2 / k) ** 0.5, False)):
        inversion = ci.invert(G, y, noise=("linf", b), on_fail="ignore", restarts=1, measurement=mask if masked else None)
        (word,) = explain(inversion, [0], G)
        assert inversion.status[0] != "explained", "the largest entry of the misfit is at least 1"
        assert ("proved, no latent at all explains it" in word.verdict) == proved
        said = re.search(r"allows at most ([\d.e+-]+) over the (\d) entries seen", str(word))
        assert float(said[1]) == pytest.approx(b * k**0.5, rel=1e-2) and int(said[2]) == k


def test_the_penalty_that_noise_brings_proves_nothing(digits):
    # lam 1'h belongs to the layer's objective and to no misfit: with and without it the same is proved
    G, y, _, _ = digits
    said = []
    for noise in (None, ("l2", 0.1)):
        inversion = ci.invert(G, y[3:4], noise=noise, on_fail="ignore", restarts=1)
        assert bool((inversion.layers[0].penalty > 0).all()) == (noise is not None)
        said.append(float(re.search(r"no latent has a misfit below ([\d.e+-]+)", inversion.explain(0, generator=G))[1]))
    assert said[1] == pytest.approx(said[0], rel=0.01)


def test_a_rank_deficient_generator_is_the_generators_fault_with_the_number_of_directions():
    # the first layer sees z_1 + z_2 and z_3 alone: 1 of 3 directions of z changes nothing
    head = nn.Linear(3, 12)
    torch.manual_seed(0)
    with torch.no_grad():
        weight = torch.randn(12, 3)
        weight[:, 1] = weight[:, 0]
        head.weight.copy_(weight)
    G = ci.load_generator(nn.Sequential(head, nn.ReLU(), nn.Linear(12, 30)))
    inversion = ci.invert(G, G(latents(G, 2)), on_fail="ignore")
    (word,) = explain(inversion, [0], G)
    assert (word.trust, word.cause) == (SIGNAL_ONLY, "generator") and "1 of 3 directions of z" in word.verdict
    assert "some of 3" not in inversion.explain(0) and "directions of z" in inversion.explain(0)


def test_too_few_active_units_show_without_the_generator():
    # ReLU(z_1), ReLU(-z_1), and units that are never active: 1 active unit for 2 latents
    head = nn.Linear(2, 4)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0], [-1, 0], [0, 0], [0, 0]]))
        head.bias.copy_(torch.tensor([0.0, 0, -1, -1]))
    G = ci.load_generator(nn.Sequential(head, nn.ReLU(), nn.Linear(4, 9)))
    inversion = ci.invert(G, G(torch.tensor([[1.0, 2.0]], dtype=torch.float64)), on_fail="ignore")
    (word,) = explain(inversion, [0])
    assert (word.trust, word.cause) == (SIGNAL_ONLY, "generator")
    assert "at least 1 of 2 directions" in word.verdict and "only 1 unit of a hidden layer is active" in word.verdict


def test_too_little_seen_is_not_the_generators_fault():
    G = generator()
    mask = torch.arange(36) < 2  # two numbers for three latents
    inversion = ci.invert(G, G(latents(G, 1)), measurement=mask, on_fail="ignore")
    (word,) = explain(inversion, [0], G)
    assert (word.trust, word.cause) == (SIGNAL_ONLY, "signal") and "too little of the signal was seen" in word.verdict


def test_a_truncated_search_is_the_solvers_fault_and_says_what_to_raise():
    G = generator()
    inversion = ci.invert(G, G(latents(G, 1)), "gradient_descent", max_iter=2, on_fail="ignore")
    (word,) = explain(inversion, [0], G)
    assert (word.trust, word.cause) == (NO, "solver") and "max_iter above 2" in str(word)


def test_an_unfinished_layer_is_the_solvers_fault_with_its_gap(digits):
    inversion = digits[3]
    report = inversion.layers[0]
    certificate = report.solution.certificate
    status = certificate.status.copy()
    status[3] = "user_limit"  # as a method leaves it that is stopped early
    worse = replace(certificate, status=status, bound=certificate.bound - 1.0)
    layer = replace(report, solution=replace(report.solution, certificate=worse))
    cut = replace(inversion, layers=(layer, *inversion.layers[1:]))
    (word,) = explain(cut, [3])
    assert (word.trust, word.cause) == (NO, "solver") and f"layer {report.index} was left unfinished" in word.verdict
    gap, worth, allowed = (float(x[3]) for x in (worse.gap, worse.worth, worse.allowed_gap))
    assert f"gap {gap:.1e} and excess worth {worth:.1e} where {allowed:.1e} is allowed" in str(word)


def test_stated_noise_that_leaves_z_open_is_said(digits):
    G, y, _, _ = digits
    inversion = ci.invert(G, y[:1], noise=("l2", 2.0), on_fail="ignore")
    (word,) = explain(inversion, [0], G)
    assert (word.trust, word.cause) == (SIGNAL_ONLY, "signal") and "the stated noise leaves z open" in word.verdict


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_noise_as_large_as_the_signal_is_not_trusted(digits, norm: str):
    G, y, _, _ = digits
    bound = float(y[0].norm()) if norm == "l2" else float(y[0].abs().max())
    inversion = ci.invert(G, y[:1], noise=(norm, 1.01 * bound), on_fail="ignore")
    (word,) = explain(inversion, [0], G)
    assert inversion.status[0] == "explained" and (word.trust, word.cause) == (NO, "signal")
    assert "as large as the signal" in word.verdict and "can be trusted" not in str(word)


def test_a_misfit_of_most_of_the_signal_is_not_called_noise(digits):
    G, y, _, _ = digits
    for scale, advised in ((-5.0, False), (1.0, True)):
        inversion = ci.invert(G, scale * y[3:4], on_fail="ignore", restarts=1)
        share = float(inversion.verdict.relative_misfit[0])
        assert (share <= 0.5) == advised, "the case is not the one that is meant"
        words = inversion.explain(0, generator=G)
        assert ("state it: noise=" in words) == advised and ("z explains nothing of it" in words) != advised


def test_one_random_start_is_one(digits):
    text = digits[3].explain(3)
    assert "; 1 random start was tried" in text


def test_signals_once_rounded_to_float32_are_told_from_others():
    G = generator()
    inversion = ci.invert(G, G(latents(G, 1)).float().double(), on_fail="ignore")
    assert "rounding to float32" in inversion.explain(0, generator=G)


def test_an_unusable_signal_is_the_signals_fault():
    G = generator()
    y = G(latents(G, 2))
    y[0, 3] = torch.inf
    inversion = ci.invert(G, y, on_fail="ignore")
    first, second = explain(inversion, [0, 1], G)
    assert (first.trust, first.cause, second.trust) == (NO, "signal", YES)


def test_explain_counts_from_the_end_and_refuses_what_is_not_there(digits):
    inversion = digits[3]
    assert inversion.explain(-1) == inversion.explain(5)
    for i in (6, -7):
        with pytest.raises(IndexError, match="expected a signal from 0 to 5"):
            inversion.explain(i)
    assert inversion.explain(np.int64(5)) == inversion.explain(5)
    for wrong in ([0, 1], slice(2), 1.0, "0"):
        with pytest.raises(TypeError, match="expected one position, an integer, got"):
            inversion.explain(wrong)


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_encoded_pictures_are_read_back_by_another_library(tmp_path: Path, shape: tuple[int, ...]):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(png.encode(pixels))
    assert (np.asarray(Image.open(tmp_path / "a.png")) == pixels).all()


def test_only_bytes_are_encoded():
    for pixels in (np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8), np.zeros(3, np.uint8)):
        with pytest.raises(ValueError, match="expected uint8 pixels"):
            png.encode(pixels)


def save(path: Path, pixels: object, mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, dtype=np.uint8)).convert(mode).save(path)
    return path


GREY = [[0, 51, 102, 255], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0]]


@pytest.mark.parametrize(("output", "low", "high"), [(nn.Tanh(), -1, 1), (nn.Sigmoid(), 0, 1), (None, 0, 1)])
def test_pictures_are_read_into_the_output_range(tmp_path: Path, output: nn.Module | None, low: float, high: float):
    G = generator(d=16, output=output)
    y, names, notes = png.read_pictures(save(tmp_path / "in" / "b.png", GREY).parent, G)
    expected = low + (high - low) * np.array(GREY).reshape(1, 16) / 255
    assert y.dtype == torch.float64 and np.allclose(y.numpy(), expected, atol=1e-15) and names == ["b.png"]
    assert ("is assumed" in notes[0]) == (output is None)
    suggested = float(re.search(r"--noise linf:([\d.e-]+)", notes[1])[1])
    assert (high - low) / 510 <= suggested <= 1.1 * (high - low) / 510


@pytest.mark.parametrize("value", [2 / 510, 1 / 510, 8 / 510, 0.001, 0.0010001, 255 / 510, 12.01])
def test_a_suggested_bound_is_never_below_what_it_bounds(value: float):
    assert value <= float(png._rounded_up(value)) <= 1.1 * value


@pytest.mark.parametrize(
    ("output", "ends", "share"),
    [(None, "0 or 255", "100.0%"), (nn.LeakyReLU(0.1), "0 or 255", "100.0%"), (nn.ReLU(), "255", "25.0%")],
)
def test_pixels_that_may_be_clipped_are_counted(tmp_path: Path, output: nn.Module | None, ends: str, share: str):
    # 4 of 16 pixels are white, 12 black; a ReLU gives 0 itself, and nothing below
    picture = save(tmp_path / "a.png", np.where(np.array(GREY) == 255, 255, 0))
    notes = png.read_pictures(picture, generator(d=16, output=output))[2]
    assert f"{share} of the pixels are at {ends} and may be clipped" in notes[-1]


@pytest.mark.parametrize("output", [nn.Tanh(), nn.Sigmoid()])
def test_a_bounded_output_is_not_said_to_be_clipped(tmp_path: Path, output: nn.Module):
    notes = png.read_pictures(save(tmp_path / "a.png", GREY), generator(d=16, output=output))[2]
    assert not any("clipped" in note for note in notes)


def test_a_described_range_goes_before_the_activations(tmp_path: Path):
    G = replace(generator(d=16), description={"output": {"range": [-2, 6]}})
    y, _, _ = png.read_pictures(save(tmp_path / "a.png", GREY), G)
    assert y[0, :4].tolist() == pytest.approx([-2, -0.4, 1.2, 6])


def test_pictures_of_a_folder_come_sorted_by_name(tmp_path: Path):
    for k, name in enumerate(("b.png", "c.PNG", "a.png", ".hidden.png")):
        save(tmp_path / name, np.full((4, 4), 10 * k))
    (tmp_path / "notes.txt").write_text("no picture")
    y, names, _ = png.read_pictures(tmp_path, generator(d=16))
    assert names == ["a.png", "b.png", "c.PNG"] and (255 * y[:, 0]).round().tolist() == [20, 0, 10]


def test_every_kind_of_grey_png_gives_the_same_values(tmp_path: Path):
    G = generator(d=16)
    for mode in ("L", "RGB", "RGBA", "P", "LA"):
        assert (png.read_pictures(save(tmp_path / f"{mode}.png", GREY, mode), G)[0] * 255).round().tolist()[0][:4] == GREY[0]
    deep = Image.fromarray((257 * np.array(GREY)).astype(np.uint16))
    deep.save(tmp_path / "deep.png")
    assert torch.allclose(png.read_pictures(tmp_path / "deep.png", G)[0] * 255, torch.tensor(GREY).double().reshape(1, 16))


def test_colour_pictures_become_channels_first(tmp_path: Path):
    torch.manual_seed(0)
    G = ci.load_generator(nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (3, 2, 2)), nn.Sigmoid()))
    pixels = np.arange(12).reshape(2, 2, 3) * 20
    y, _, _ = png.read_pictures(save(tmp_path / "a.png", pixels, "RGB"), G)
    assert np.allclose(y.numpy().reshape(3, 2, 2), pixels.transpose(2, 0, 1) / 255)


def test_bad_pictures_are_named_with_what_was_expected(tmp_path: Path):
    G = generator(d=16)
    wrong = save(tmp_path / "size" / "wide.png", np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"expected pictures of 4 x 4 pixels \(width x height\), got 5 x 4 in .*wide\.png"):
        png.read_pictures(wrong.parent, G)
    colour = save(tmp_path / "colour.png", np.eye(4)[..., None] * [200, 0, 0], "RGB")
    with pytest.raises(ValueError, match=r"expected a grey picture .* colours in .*colour\.png"):
        png.read_pictures(colour, G)
    Image.new("LA", (4, 4), (9, 100)).save(tmp_path / "glass.png")
    with pytest.raises(ValueError, match=r"expected an opaque picture, got transparent pixels in .*glass\.png"):
        png.read_pictures(tmp_path / "glass.png", G)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"expected a PNG picture, got .* in .*text\.png"):
        png.read_pictures(tmp_path / "text.png", G)
    with pytest.raises(ValueError, match=r"expected a generator of pictures to read .* \(30,\)"):
        png.read_pictures(colour, generator(d=30))
    with pytest.raises(FileNotFoundError, match="expected a PNG file or a folder of them"):
        png.read_pictures(tmp_path / "none.png", G)


def test_a_truncated_picture_is_an_error_in_words(tmp_path: Path):
    whole = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (4, 4))).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) - 25])
    with pytest.raises(ValueError, match=r"expected a PNG picture, got .* in .*a\.png"):
        png.read_pictures(tmp_path / "a.png", generator(d=16))


def test_masks_are_white_where_seen_and_nothing_between(tmp_path: Path):
    G = generator(d=16)
    black_and_white = np.where(np.array(GREY) > 60, 255, 0)
    mask = png.read_mask_pictures(save(tmp_path / "m" / "a.png", black_and_white), G)
    assert mask.dtype == torch.bool and mask.tolist() == (black_and_white.reshape(-1) == 255).tolist()
    assert png.read_mask_pictures(tmp_path / "m", G).shape == (1, 16)
    with pytest.raises(ValueError, match=r"black and white pixels in .*grey\.png"):
        png.read_mask_pictures(save(tmp_path / "grey.png", GREY), G)


def test_without_pillow_the_install_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path / "a.png", GREY)
    monkeypatch.setattr(png.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ci.BackendNotInstalledError, match="pip install pillow"):
        png.read_pictures(tmp_path / "a.png", generator(d=16))


def test_written_pictures_give_the_signals_back_to_half_a_step(tmp_path: Path):
    G = generator(d=16, output=nn.Tanh())
    x = G(latents(G, 3))
    folder = png.write_pictures(x, G, tmp_path / "out", ["a.png", "b.png", "c.png"])
    back, names, _ = png.read_pictures(folder, G)
    assert names == ["a.png", "b.png", "c.png"] and float((back - x).abs().max()) <= 1 / 255 * (1 + 1e-9)
    assert sorted(p.name for p in folder.iterdir()) == names


# --- noise, priors, uncertainty -------------------------------------------------------------------


@pytest.mark.parametrize("d", [36, 30])
@pytest.mark.parametrize("noise", ["auto", ("gaussian", 0.05)])
def test_level_intervals_and_deviations_are_on_the_page(tmp_path: Path, d: int, noise: object):
    G = generator(d=d)
    z = latents(G, 5)
    y = G(z) + 0.05 * torch.randn(5, d, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    R = ci.invert(G, y, noise=noise, prior=ci.Gaussian(1.0), on_fail="ignore")
    text = write(tmp_path, R, y=y, generator=G, truth=z)
    page = Page(text)
    assert R.uncertainty.summary() in page.text and "Prior on z: Gaussian(precision=1, mean=0)" in page.text
    charts = [str(a["aria-label"]) for t, a in page.tags if t == "svg" and a.get("role") == "img"]
    assert [f"z of signal {i} with 95% intervals" in charts for i in range(5)] == [True] * 5
    (low, high), _ = R.uncertainty.intervals()
    for i in range(5):  # the numbers that a pointer shows are the intervals
        assert f"coordinate 1: {float(R.z[i, 1]):.3g}, {float(low[i, 1]):.3g} to {float(high[i, 1]):.3g}" in page.text
    assert ("estimated from what each fit leaves over" in page.text) is (noise == "auto")
    assert {"z found", "true z"} <= set(page.words)
    alts = [str(alt) for alt in page.attributes("img", "alt")]
    assert sum(alt.startswith("standard deviation of signal") for alt in alts) == (5 if d == 36 else 0)
    assert ("recovered +- 2 standard deviations" in page.text) is (d == 30)
    assert not re.search(r"\b(nan|inf)\b", page.text)


def test_without_a_level_there_is_no_section_of_it(tmp_path: Path, digits):
    G, y, mask, inversion = digits
    page = Page(write(tmp_path, inversion, y=y, generator=G, measurement=mask))
    assert "Noise and uncertainty" not in page.text and "standard deviation" not in page.text


def test_open_directions_are_drawn_as_open(tmp_path: Path):
    G = generator()
    z = latents(G, 2)
    mask = torch.arange(36) < 2  # two numbers for three latents
    R = ci.invert(G, G(z), noise=("gaussian", 0.01), measurement=mask, on_fail="ignore")
    for result in (R, ci.Inversion.load(R.save(tmp_path / "out")), ci.invert(G, G(z)[0], noise=("gaussian", 0.01))):
        page = Page(write(tmp_path, result, generator=G))
        assert ("open: nothing limits it" in page.text) is (len(result) == 2)
        assert not re.search(r"\b(nan|inf)\b", page.text)
