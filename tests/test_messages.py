"""Plain mistakes of a user's first hour: each is refused before any work, and the cure that is named works."""

import configparser
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import cvxinv as ci
from cvxinv.command.terminal import _in_lines
from cvxinv.files import read_signals

torch.manual_seed(0)
NET = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 48), nn.Sigmoid()).eval()
G = ci.load_generator(NET)
PICTURES = ci.Generator(G.layers, (3, 4, 4), {})
Y = G(G.sample_latent(4, torch.Generator().manual_seed(0)))
MASK = torch.arange(48) % 3 > 0


@pytest.mark.parametrize("device", ["cuda", "cuda:7", 0, torch.device("cuda")])
def test_a_device_that_is_not_here_is_refused(device: object):
    if torch.cuda.is_available():
        device = "cuda:99"
    for call in (lambda: ci.load_generator(NET, device=device), lambda: G.to(device=device)):
        with pytest.raises(ValueError, match=r"expected .*device.*got .*; pass device='cpu'"):
            call()


@pytest.mark.parametrize("device", ["gpu", "meta", "mps"])
def test_what_is_no_device_for_float64_is_refused(device: str):
    with pytest.raises(ValueError, match=r"expected a device.*; pass device='cpu'"):
        ci.load_generator(NET, device=device)
    with pytest.raises((TypeError, ValueError), match="device="):
        G.to(device)


@pytest.mark.parametrize("given", [MASK.to(torch.uint8), MASK.long(), MASK.float(), MASK.double().expand(4, -1)])
@pytest.mark.parametrize("array", [False, True])
def test_a_mask_in_numbers_is_told_how_it_becomes_bools(given: torch.Tensor, array: bool):
    mask = given.numpy() if array else given
    cure = r"use mask\.astype\('bool'\)$" if array else r"use mask\.bool\(\)$"
    with pytest.raises(TypeError, match=f"expected a mask of bools, True where seen, got .*; {cure}"):
        ci.invert(G, Y, measurement=mask)
    cured = mask.astype("bool") if array else mask.bool()
    assert ci.invert(G, Y, measurement=cured).verdict.explained.all()


@pytest.mark.parametrize("output", [nn.Sigmoid(), nn.Tanh()])
def test_bytes_in_floats_are_told_the_unit(output: nn.Module):
    H = G.with_output("tanh") if isinstance(output, nn.Tanh) else G
    y = 127.5 * (H(torch.zeros(4, 5).double()) + 1) if isinstance(output, nn.Tanh) else 255 * Y
    cure = "y / 127.5 - 1" if isinstance(output, nn.Tanh) else "y / 255"
    with pytest.raises(ValueError, match=f"expected signals near the generator's range .*become it by {cure}$"):
        ci.invert(H, y)
    with pytest.raises(ValueError, match="near the generator's range"):
        ci.invert(H, y.numpy(), noise=("gaussian", 0.1))


def test_noise_and_single_signals_out_of_range_are_no_mistake():
    noisy = Y + torch.randn(Y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = ci.invert(G, noisy, "levenberg_marquardt", noise=("gaussian", 1.0), restarts=1, max_iter=3, on_fail="ignore")
    assert len(found) == 4
    one = torch.cat([Y[:3], 255 * Y[3:]])
    found = ci.invert(G, one, "levenberg_marquardt", restarts=1, max_iter=3, on_fail="ignore")
    assert found.status[3] != "explained"


def test_pictures_with_channels_last_are_told_the_permutation():
    y = Y.reshape(4, 3, 4, 4).permute(0, 2, 3, 1)
    turned = ci.Generator(G.layers, (3, 2, 8), {})
    with pytest.raises(ValueError, match=r"use y\.permute\(0, 3, 1, 2\), of an array y\.transpose\(0, 3, 1, 2\)$"):
        ci.invert(turned, Y.reshape(4, 3, 2, 8).permute(0, 2, 3, 1))
    with pytest.raises(ValueError, match=r"use y\.permute\(2, 0, 1\)"):
        ci.invert(PICTURES, y[0])
    assert ci.invert(PICTURES, y.permute(0, 3, 1, 2)).verdict.explained.all()


def test_lists_and_frames_are_told_how_they_become_numbers():
    with pytest.raises(TypeError, match=r"got list; use torch\.as_tensor\(\.\.\., dtype=torch\.float64\)"):
        ci.invert(G, Y.tolist())
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    with pytest.raises(TypeError, match=r"got DataFrame; use \.to_numpy\(dtype='float64'\)"):
        ci.invert(G, pandas.DataFrame(Y.numpy()))


def test_arrays_of_another_type_are_told_numpys_words():
    with pytest.raises(ValueError, match=r"expected z in torch.float64.*use z\.astype\('float64'\)$"):
        G(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match=r"use generator.to\(torch.float64\), or y\.astype\('float32'\)"):
        ci.invert(G.to(torch.float32), Y.numpy())
    with pytest.raises(TypeError, match=r"y\.astype\('float64'\) / 255 for an output in \[0, 1\]"):
        ci.invert(G, (255 * Y).numpy().astype("uint8"))


def test_every_install_command_names_a_package_that_the_extras_name():
    """The package is on no index: a message names what is to be installed itself."""
    root = Path(__file__).parents[1]
    options = configparser.ConfigParser()
    options.read(root / "setup.cfg")
    required = options["options"]["install_requires"] + "\n".join(options["options.extras_require"].values())
    known = {"deepinv", *re.findall(r"^[\w.-]+", required, re.M)}  # which is taken where it is, and no extra of ours
    named = [
        (path.name, package)
        for path in (root / "cvxinv").rglob("*.py")
        for package in re.findall(r"pip install [\"']?([\w.-]+)", path.read_text())
    ]
    assert named
    wrong = [one for one in named if one[1].strip(".") not in known]
    assert not wrong, f"these commands name no package of setup.cfg: {wrong}"


def test_every_command_that_a_message_names_exists():
    import typer

    from cvxinv.command.cli import app

    commands = set(typer.main.get_command(app).commands)
    for path in (Path(__file__).parents[1] / "cvxinv").rglob("*.py"):
        for name in re.findall(r"`cvxinv ([a-z]+)|cvxinv ([a-z]+) \.\.\.", path.read_text()):
            assert "".join(name) in commands, f"{path.name} names cvxinv {''.join(name)}"


def test_json_has_a_line_for_each_row():
    value = {"a": [1.0, 2.5, None], "rows": [[1, 2], [3, 4]], "none": {}, "text": 'x"y', "list": []}
    text = _in_lines(value)
    assert json.loads(text) == value
    assert '"a": [1.0, 2.5, null]' in text and text.count("\n") == 9


def test_lossy_pictures_are_told_why_and_how(tmp_path: Path):
    with pytest.raises(ValueError, match=r"rounds pixels.*convert it: PIL\.Image\.open\('a\.jpg'\)\.save\('a\.png'\)"):
        read_signals(tmp_path / "a.jpg")


def test_hidden_pixels_are_striped_where_y_says_nan(tmp_path: Path):
    y = torch.where(MASK, Y, torch.nan)
    flat = ci.Generator(G.layers, (1, 6, 8), {})
    found = ci.invert(flat, y, measurement=MASK)
    pages = [tmp_path / "nan.html", tmp_path / "mask.html"]
    ci.write_report(found, pages[0], y=y, generator=flat)
    ci.write_report(found, pages[1], y=y, generator=flat, measurement=MASK)
    pictures = [re.findall(r"data:image/png;base64,[^\"]+", page.read_text()) for page in pages]
    assert pictures[0] == pictures[1] and pictures[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_generator_gives_an_array_of_an_array(dtype: str):
    generator = G.to(getattr(torch, dtype))
    z = G.sample_latent(3, torch.Generator().manual_seed(1)).numpy().astype(dtype)
    for given in (z, z[0], np.asfortranarray(z), z[::-1]):
        found = generator(given)
        assert isinstance(found, np.ndarray) and found.dtype == dtype
        assert np.array_equal(found, generator(torch.from_numpy(given.copy())).numpy())
