"""`morph` and `cvxinv morph`: frames in the range, mass kept, ends, ways beside it, folders, and what is refused."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from test_barycenters import sample
from typer.testing import CliRunner

import cvxinv as ci
from cvxinv.command.cli import app
from cvxinv.files import read_array, write_own_folder
from cvxinv.pages.morphing import PICTURE
from cvxinv.shipped import shipped_file
from cvxinv.sparse_models.morphing_files import ARRAYS, WORDS


@pytest.fixture(scope="module")
def generator():
    with shipped_file("digits_8x8") as path:
        return ci.load_generator(path, dtype=torch.float64)


@pytest.fixture(scope="module")
def morphing(generator):
    return ci.morph(generator, *sample()[:2], frames=4, floor=0, eps=0.5, restarts=1, max_iter=4)


def test_frames_are_in_the_range_and_barycenters_keep_the_mass(generator, morphing):
    assert torch.allclose(morphing.frame, generator(morphing.z), atol=1e-10)
    first, last = (float(x.sum()) for x in sample()[:2])
    mass = morphing.barycenter.sum(1)
    assert torch.allclose(mass, torch.lerp(torch.tensor(first).double(), torch.tensor(last).double(), morphing.t), rtol=1e-9)
    assert float(morphing.mass_error.max()) < 1e-9 and bool((morphing.barycenter >= 0).all())
    assert torch.allclose(morphing.distance, (morphing.barycenter - morphing.frame).norm(dim=1))
    assert bool((morphing.objective > morphing.bound).all()), "no frame is better than without a prior"


def test_ways_begin_at_a_and_end_at_b(generator, morphing):
    ends = sample()[:2]
    for way in (morphing.linear, morphing.wasserstein, morphing.barycenter):
        assert torch.allclose(way[[0, -1]], ends, atol=1e-12)
    assert torch.allclose(morphing.linear[1], (2 * ends[0] + ends[1]) / 3)
    assert torch.allclose(morphing.latent[1], generator((2 * morphing.ends.z[0] + morphing.ends.z[1])[None] / 3)[0])
    assert torch.allclose(morphing.latent[[0, -1]], morphing.frame[[0, -1]], atol=1e-10)
    # the barycenter next to the range is nearer to it than pictures that know nothing of it, and both ends are A's and B's
    assert bool((morphing.distance[1:-1] < morphing.linear_distance[1:-1]).all())
    assert torch.allclose(morphing.linear_distance[[0, -1]], morphing.distance[[0, -1]], rtol=1e-2)
    assert "4 frames" in repr(morphing)


def test_a_picture_in_the_range_is_its_own_frame(generator):
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = ci.morph(generator, *generator(z), frames=2, floor=float(generator(z).min()), restarts=3)
    assert torch.allclose(found.frame, generator(z).reshape(2, -1), atol=1e-6) and float(found.distance.max()) < 1e-6
    assert found.explained.tolist() == ["explained", "explained"]


def test_a_time_limit_is_told(generator):
    found = ci.morph(generator, *sample()[:2], frames=3, floor=0, eps=0.5, restarts=0, max_iter=500, time_limit=0.2)
    assert found.stopped == "time_limit" and found.status.tolist() == ["user_limit"] * 3
    assert torch.allclose(found.frame, generator(found.z), atol=1e-10), "frames are in the range all the same"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "which may be negative"),
        ({"floor": 0.1}, "no mass below 0.*clip=True"),
        ({"floor": 0, "b": -sample()[1]}, "in picture B"),
        ({"floor": 2.0, "clip": True}, "pictures with mass.*in picture A"),
        ({"floor": 0, "a": sample()[0] / 0}, "NaN or inf in picture A.*mask"),
        ({"floor": 0, "frames": 1}, "frames must be an integer from 2"),
        ({"floor": 0, "eps": 0.0}, "eps >= 1e-6"),
        ({"floor": 0, "b": torch.ones(81, dtype=torch.float64)}, "two pictures of one size"),
        ({"floor": 0, "a": torch.ones(81).double(), "b": torch.ones(81).double()}, "pictures of 64 pixels"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(generator, change, words: str):
    given = {"a": sample()[0], "b": sample()[1], **change}
    with pytest.raises(ValueError, match=words):
        ci.morph(generator, **given)


def test_the_command_writes_a_whole_folder_and_says_what_it_found(tmp_path: Path):
    np.save(tmp_path / "digits.npy", sample()[:4].numpy())
    np.save(tmp_path / "one.npy", sample()[5].reshape(8, 8).numpy())  # one picture, and no eight signals
    words = ["morph", "digits_8x8", str(tmp_path / "digits.npy:3"), str(tmp_path / "one.npy"), "-o", str(tmp_path / "out")]
    words += ["--frames", "3", "--eps", "0.5", "--restarts", "0", "--max-iter", "1", "--floor", "0"]
    done = CliRunner().invoke(app, [*words, "--json", "-q"])
    assert done.exit_code == 0, done.output
    told, held = json.loads(done.stdout), json.loads((tmp_path / "out" / WORDS).read_text())
    assert told["frames"] == held["frames"] == 3 and sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [ARRAYS, PICTURE, WORDS]
    )
    assert (tmp_path / "out" / PICTURE).read_bytes()[:4] == b"\x89PNG"
    frames = read_array(tmp_path / "out" / ARRAYS, ("linear",))[0]
    assert torch.allclose(frames[0], sample()[3]) and torch.allclose(frames[2], sample()[5])
    for more, cure in (([], "overwrite"), (["--overwrite", "--planner", "lp"], "planner")):
        again = CliRunner().invoke(app, [*words, "-q", *more])
        assert again.exit_code == 2 and cure in again.stderr, again.output
    several = CliRunner().invoke(app, [w.replace("npy:3", "npy") for w in words[:5]] + [str(tmp_path / "new"), *words[6:]])
    assert several.exit_code == 2 and "name one of them" in several.stderr and not (tmp_path / "new").exists()


def test_a_folder_that_holds_other_files_is_never_replaced(tmp_path: Path):
    folder = write_own_folder(tmp_path / "a", {"x": b"1"})
    assert write_own_folder(folder, {"x": b"2"}, overwrite=True) == folder and (folder / "x").read_bytes() == b"2"
    (folder / "letter").write_text("mine")
    with pytest.raises(FileExistsError, match="letter"):
        write_own_folder(folder, {"x": b"3"}, overwrite=True)
    assert (folder / "x").read_bytes() == b"2" and len(list(tmp_path.iterdir())) == 1


def same(one: object, two: object, name: str) -> None:
    """Equal in every field, to the last bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one.cpu(), two) and one.dtype == two.dtype, name
    elif isinstance(one, np.ndarray):
        assert one.tolist() == two.tolist(), name
    elif is_dataclass(one):
        assert type(one) is type(two), name
        for f in fields(one):
            if f.name not in ("problem", "steps"):  # of layers, which files of inversions do not keep
                same(getattr(one, f.name), getattr(two, f.name), f"{name}.{f.name}")
    elif isinstance(one, tuple | dict):
        pairs = zip(one.values(), two.values(), strict=True) if isinstance(one, dict) else zip(one, two, strict=True)
        for k, (a, b) in enumerate(pairs):
            same(a, b, f"{name}[{k}]")
    else:
        assert one == two, name


def test_a_morphing_is_read_as_it_was_written(generator, morphing, tmp_path: Path):
    folder = ci.write_morphing(morphing, tmp_path / "out", generator)
    again = ci.Morphing.load(folder)
    same(morphing, again, "morphing")
    assert repr(again) == repr(morphing) and len(again) == 4
    ci.write_morphing(again, tmp_path / "again", generator)
    assert (tmp_path / "again" / ARRAYS).read_bytes() == (folder / ARRAYS).read_bytes()


@pytest.mark.parametrize(
    ("harm", "error", "words"),
    [
        (lambda f: (f / ARRAYS).unlink(), FileNotFoundError, "got no morph.safetensors"),
        (lambda f: (f / ARRAYS).write_bytes((f / ARRAYS).read_bytes()[:-9]), ValueError, "damaged, truncated"),
        (lambda f: (f / WORDS).write_text('{"format": "cvxinv result format"}'), ValueError, "cvxinv morphing format"),
        (lambda f: (f / WORDS).write_text("{"), ValueError, WORDS),
        (lambda f: changed(f, lambda w: w.pop("shape")), ValueError, r'"shape" in .*morph.json as an entry, got none'),
        (lambda f: changed(f, lambda w: w["status"].pop()), ValueError, r'"status" in .*morph.json as a list of 4, got'),
        (
            lambda f: changed(f, lambda w: w.update(status=None)),
            ValueError,
            r'"status" in .*morph.json as a list of 4, got null',
        ),
    ],
)
def test_a_folder_that_is_no_whole_morphing_is_refused(generator, morphing, tmp_path: Path, harm, error, words: str):
    folder = ci.write_morphing(morphing, tmp_path / "out", generator)
    harm(folder)
    with pytest.raises(error, match=words):
        ci.Morphing.load(folder)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ci.Morphing.load(tmp_path / "nowhere")


def changed(folder: Path, change) -> None:
    words = json.loads((folder / WORDS).read_text())
    change(words)
    (folder / WORDS).write_text(json.dumps(words))


def test_ends_of_an_earlier_folder_are_not_known(generator, morphing, tmp_path: Path):
    folder = ci.write_morphing(morphing, tmp_path / "out", generator)
    changed(folder, lambda words: words.pop("ends"))
    assert ci.Morphing.load(folder).ends is None


@pytest.mark.parametrize(
    ("shape", "words"),
    [((3, 8, 8), "colours are not morphed"), ((72, 72), "at most 4096 pixels, got 72 x 72"), ((192,), "grey pictures")],
)
def test_generators_of_colours_and_of_large_pictures_are_refused_with_a_cure(shape: tuple[int, ...], words: str):
    size = int(np.prod(shape))
    layer = torch.nn.Linear(2, size, dtype=torch.float64)
    G = ci.load_generator(torch.nn.Sequential(layer, torch.nn.ReLU(), torch.nn.Unflatten(1, shape)), dtype=torch.float64)
    with pytest.raises(ValueError, match=words):
        ci.morph(G, torch.ones(size).double(), torch.ones(size).double(), floor=0)
