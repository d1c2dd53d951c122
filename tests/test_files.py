"""Result folders: equal after a round trip, whole or not at all. Arrays: read as they are, or refused in words."""

import copy
import hashlib
import json
import os
import pickle
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import cvxinv as ci
from cvxinv.files import (
    file_at,
    read_mask,
    read_matrix,
    read_signals,
    write_own_folder,
    write_together,
    write_whole,
)
from cvxinv.inversion.storage import check_writable, read_latents

VERDICT = ("misfit", "size", "determined", "sigma_min", "sigma_max", "explained_below")
CERTIFICATE = ("objective", "bound", "violation", "scale", "gap", "allowed_gap")


@pytest.fixture(scope="module")
def generator() -> ci.Generator:
    torch.manual_seed(0)
    return ci.load_generator(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 20)))


@pytest.fixture(scope="module")
def inversion(generator: ci.Generator) -> ci.Inversion:
    """Six signals; the last holds NaN, the one before it is out of range, so that every status is there."""
    z = generator.sample_latent(6, torch.Generator().manual_seed(1))
    y = generator(z)
    y[4] += 1.0
    y[5, 0] = torch.nan
    return ci.invert(generator, y, truth=z, restarts=1, on_fail="ignore")


def same(a: object, b: object) -> bool:
    """Equality of all parts, NaN equal to NaN."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and bool(torch.equal(torch.isnan(a), torch.isnan(b))) and bool(
            torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        )  # fmt: skip
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.tolist() == b.tolist()
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return a == b


def assert_equal(a: ci.Inversion, b: ci.Inversion) -> None:
    for name in ("z", "hidden", "signal", "method", "used", "starts", "snr", "seconds", "settings", "versions", "notes"):
        assert same(getattr(a, name), getattr(b, name)), name
    for name in (*VERDICT, "status"):
        assert same(getattr(a.verdict, name), getattr(b.verdict, name)), name
    assert len(a.layers) == len(b.layers)
    for one, other in zip(a.layers, b.layers, strict=True):
        for name in ("index", "kind", "remark", "penalty", "threshold"):
            assert same(getattr(one, name), getattr(other, name)), name
        for name in ("h", "p", "iterations", "polished", "solver", "solver_status", "seconds", "status"):
            assert same(getattr(one.solution, name), getattr(other.solution, name)), name
        for name in (*CERTIFICATE, "status", "remark", "tol"):
            assert same(getattr(one.solution.certificate, name), getattr(other.solution.certificate, name)), name


# --- results --------------------------------------------------------------------------------------


def test_a_round_trip_gives_an_equal_inversion(inversion: ci.Inversion, tmp_path: Path):
    assert {"explained", "numerical_error"} < set(inversion.status) and len(inversion.layers) == 2
    assert inversion.save(tmp_path / "deep" / "er") == tmp_path / "deep" / "er"
    loaded = ci.Inversion.load(tmp_path / "deep" / "er")
    assert_equal(inversion, loaded)
    assert [report.problem for report in loaded.layers] == [None, None]


def test_what_was_loaded_can_be_cut_shown_and_saved_again(inversion: ci.Inversion, tmp_path: Path):
    loaded = ci.Inversion.load(inversion.save(tmp_path))
    assert loaded.summary() == inversion.summary()
    assert_equal(loaded[1:3], inversion[1:3])
    assert_equal(loaded, ci.Inversion.load(loaded.save(tmp_path)))


@pytest.mark.parametrize("method", ["levenberg_marquardt", "latent_pursuit"])
def test_a_single_signal_stays_single(generator: ci.Generator, tmp_path: Path, method: str):
    single = ci.invert(generator, generator(torch.ones(3).double()), method)
    loaded = ci.Inversion.load(single.save(tmp_path))
    assert loaded.z.shape == (3,) and loaded.signal.shape == (20,)
    assert_equal(single, loaded)


def test_a_float32_inversion_stays_float32(generator: ci.Generator, tmp_path: Path):
    G = generator.to(torch.float32)
    inversion = ci.invert(G, G(torch.ones(2, 3)), on_fail="ignore")
    loaded = ci.Inversion.load(inversion.save(tmp_path))
    assert loaded.z.dtype == loaded.signal.dtype == torch.float32
    assert loaded.layers[0].solution.h.dtype == torch.float64  # what the layers were solved in
    assert_equal(inversion, loaded)


def test_the_folder_holds_two_files_that_name_each_other(inversion: ci.Inversion, tmp_path: Path):
    inversion.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result.json", "result.safetensors"]
    spec = json.loads((tmp_path / "result.json").read_text())
    assert (spec["format"], spec["version"]) == ("cvxinv result format", 1)
    assert spec["sha256"] == hashlib.sha256((tmp_path / "result.safetensors").read_bytes()).hexdigest()
    tensors = load_file(tmp_path / "result.safetensors")
    assert {"z", "hidden.1", "signal", "misfit", "starts", "layer.0.h", "layer.1.p", "snr.z"} <= set(tensors)


def test_the_notes_on_the_format_name_every_entry(inversion: ci.Inversion, tmp_path: Path):
    notes = (Path(__file__).resolve().parents[1] / "docs" / "results.md").read_text()
    inversion.save(tmp_path)
    spec = json.loads((tmp_path / "result.json").read_text())
    names = {*spec, *spec["layers"][0]}
    for name in load_file(tmp_path / "result.safetensors"):
        first, _, rest = name.partition(".")
        names.add(
            {"layer": f"layer.<index>.{rest.partition('.')[2]}", "hidden": "hidden.<k>", "snr": "snr.<name>"}.get(
                first, name
            )
        )
    missing = {name for name in names if f"`{name}`" not in notes}
    assert not missing, f"docs/results.md does not name {sorted(missing)}"


def test_a_write_that_fails_leaves_the_old_result(inversion: ci.Inversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = inversion[:2]
    old.save(tmp_path)
    real = os.replace

    def fails_on_json(source: Path, target: Path) -> None:
        if Path(target).name == "result.json":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", fails_on_json)
    with pytest.raises(OSError, match="No space left"):
        inversion.save(tmp_path)
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result.json", "result.safetensors"]
    assert_equal(ci.Inversion.load(tmp_path), old)


@pytest.mark.parametrize("name", ["result.safetensors", "result.json"])
def test_a_first_write_that_fails_leaves_nothing(
    inversion: ci.Inversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    real = Path.write_bytes

    def interrupted(path: Path, content: bytes) -> int:
        if name in path.name:
            real(path, content[:10])
            raise KeyboardInterrupt
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inversion.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_stays(inversion: ci.Inversion, tmp_path: Path):
    """Of the file itself, of a file of a pair, and of a folder; what it led to has the new content and its old mode."""
    for name in ("page.html", "gone.html"):
        (tmp_path / f"to-{name}").symlink_to(Path("far") / name)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "page.html").write_text("before")
    (tmp_path / "far" / "page.html").chmod(0o640)
    for name in ("page.html", "gone.html"):
        write_whole(tmp_path / f"to-{name}", b"after")
        assert (tmp_path / f"to-{name}").is_symlink() and (tmp_path / "far" / name).read_text() == "after"
    assert (tmp_path / "far" / "page.html").stat().st_mode & 0o777 == 0o640
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "result.json").symlink_to(tmp_path / "far" / "words.json")
    (tmp_path / "again").symlink_to("result")
    inversion.save(tmp_path / "again")
    assert (tmp_path / "again").is_symlink() and (tmp_path / "result" / "result.json").is_symlink()
    assert_equal(ci.Inversion.load(tmp_path / "result"), inversion)
    assert sorted(p.name for p in (tmp_path / "far").iterdir()) == ["gone.html", "page.html", "words.json"]


def test_a_folder_of_its_own_is_written_where_a_link_leads(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for content in (b"1", b"2"):
        write_own_folder(tmp_path / "link", {"a": content}, overwrite=True)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "a").read_bytes() == content
    (tmp_path / "real" / "b").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="which holds b"):
        write_own_folder(tmp_path / "link", {"a": b"3", "b": b"3"}, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


def test_a_device_or_a_pipe_is_written_to_and_stays(tmp_path: Path):
    (tmp_path / "null").symlink_to(os.devnull)
    write_whole(Path(os.devnull), b"gone")
    write_whole(tmp_path / "null", b"gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode) and (tmp_path / "null").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    found = list[bytes]()
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_whole(tmp_path / "pipe", b"through")
    reader.join()
    assert found == [b"through"] and stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["null", "pipe"]


def test_what_no_file_can_be_written_to_is_refused_in_words(tmp_path: Path):
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "lost").symlink_to(Path("none") / "r.html")
    (tmp_path / "file").write_text("mine")
    for name, error, words in (
        (".", IsADirectoryError, "expected a file for a page, got the folder"),
        ("round", OSError, "round: Too many levels of symbolic links; pass another"),
        ("lost", FileNotFoundError, "expected a folder for a page at .*none, found none; make it first"),
        ("file/below/r.html", NotADirectoryError, "got the file .*/file; pass another"),
        ("no/r.html", FileNotFoundError, "expected a folder for a page at .*no, found none"),
    ):
        with pytest.raises(error, match=words):
            file_at(tmp_path / name, "a page")
        with pytest.raises(error):
            write_whole(tmp_path / name, b"")
    with pytest.raises(NotADirectoryError, match=r"got the link, which leads to none, .*lost"):
        check_writable(tmp_path / "lost")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "lost", "round"]


@pytest.mark.parametrize("failing", ["a", "b", "c"])
def test_files_that_are_written_together_are_all_new_or_all_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
):
    for name in "ac":
        (tmp_path / name).write_text("old")
    real = os.replace

    def fails(source: Path, target: Path) -> None:
        if Path(target).name == failing and "old" not in Path(source).name:
            raise OSError(28, "No space left on device")
        real(source, target)

    contents = {tmp_path / name: b"new" for name in "abc"}
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="No space left"):
            write_together(contents)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old", "c": "old"}
    write_together(contents)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys("abc", "new")


def test_a_file_in_place_of_the_folder_is_refused_first(inversion: ci.Inversion, tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    for folder in (blocked, blocked / "below"):
        with pytest.raises(NotADirectoryError, match="expected a folder for the result, got the file"):
            inversion.save(folder)
    assert blocked.read_text() == "mine"


def test_a_folder_in_place_of_a_file_is_refused_first(inversion: ci.Inversion, tmp_path: Path):
    (tmp_path / "result.json").mkdir()
    with pytest.raises(IsADirectoryError, match=r"result\.json, got a folder"):
        inversion.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_the_trial_of_a_folder_leaves_nothing(tmp_path: Path):
    check_writable(tmp_path / "not" / "there")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(inversion: ci.Inversion, tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot write into"):
        inversion.save(tmp_path)


def change(key: str, value: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        spec = json.loads((folder / "result.json").read_text())
        spec[key] = value
        (folder / "result.json").write_text(json.dumps({k: v for k, v in spec.items() if v is not None}))

    return apply


def truncate(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def swap_tensors(folder: Path) -> None:
    """A whole tensor file that lacks z, under its own right sha256."""
    tensors = load_file(folder / "result.safetensors")
    del tensors["z"]
    save_file(tensors, folder / "result.safetensors")
    change("sha256", hashlib.sha256((folder / "result.safetensors").read_bytes()).hexdigest())(folder)


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda f: (f / "result.json").unlink(), FileNotFoundError, "got no result.json"),
        (lambda f: (f / "result.safetensors").unlink(), FileNotFoundError, "got no result.safetensors"),
        (truncate("result.json"), ValueError, "expected JSON in"),
        (truncate("result.safetensors"), ValueError, "with the sha256 that result.json names"),
        (lambda f: (f / "result.json").write_text("[1, 2]"), ValueError, "got another file"),
        (lambda f: (f / "result.json").write_bytes(b"\xff\x00"), ValueError, "expected JSON in"),
        (change("format", "cvxinv generator format"), ValueError, 'expected "format": "cvxinv result format"'),
        (change("version", 2), ValueError, "expected version 1 in .*, got 2"),
        (change("sha256", None), ValueError, 'expected a "sha256"'),
        (change("status", None), ValueError, r'"status" in .*result.json as a list of 6, .*, got none;'),
        (change("layers", 3), ValueError, r'"layers" in .*result.json as a list of objects, got 3;'),
        (change("hidden", 9), ValueError, r"expected \"hidden\.2\" in .*result\.safetensors as floats of shape \(6, any\)"),
        (swap_tensors, ValueError, r'expected "z" in .*result\.safetensors as floats of shape \(6, any\), got none'),
    ],
)
def test_a_damaged_result_is_refused(
    inversion: ci.Inversion, tmp_path: Path, damage: Callable[[Path], None], error: type[Exception], words: str
):
    inversion.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(error, match=words):
        ci.Inversion.load(tmp_path)


def test_a_missing_result_names_what_lies_near(inversion: ci.Inversion, tmp_path: Path):
    inversion.save(tmp_path / "digits")
    with pytest.raises(FileNotFoundError, match=r"digit, which is none; near it: digits"):
        ci.Inversion.load(tmp_path / "digit")


# --- results of earlier versions ------------------------------------------------------------------

WRITTEN = sorted(p for p in (Path(__file__).parent / "written_by_0.1.0").iterdir() if p.is_dir())


@pytest.mark.parametrize("folder", WRITTEN, ids=lambda folder: folder.name)
def test_results_written_by_0_1_0_load_to_the_same_numbers(folder: Path, tmp_path: Path):
    """Every tensor and every word of the files is found again, and written again as it was."""
    R = ci.Inversion.load(folder)
    spec, tensors = json.loads((folder / "result.json").read_text()), load_file(folder / "result.safetensors")
    N = spec["signals"]
    assert len(R) == N and R.status.tolist() == spec["status"] and R.verdict.counts() == spec["counts"]
    assert (R.method, R.settings, R.versions, R.seconds) == tuple(
        spec[k] for k in ("method", "settings", "versions", "seconds")
    )
    assert R.versions["cvxinv"] == "0.1.0" and list(R.used) == spec["used"] and list(R.notes) == spec["notes"]
    assert [r.kind for r in R.layers] == [layer["kind"] for layer in spec["layers"]]
    assert [r.solution.status.tolist() for r in R.layers] == [layer["status"] for layer in spec["layers"]]
    R.save(tmp_path)
    again = load_file(tmp_path / "result.safetensors")
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert same(again[name], tensor), name
    assert same(R.z, tensors["z"]) and all(same(r.solution.h, tensors[f"layer.{r.index}.h"]) for r in R.layers)
    rewritten = json.loads((tmp_path / "result.json").read_text())
    assert {k: v for k, v in rewritten.items() if k != "sha256"} == {k: v for k, v in spec.items() if k != "sha256"}
    assert R.summary() and R.explain(0)
    if R.z.ndim == 2:
        assert len(R[1:2]) == 1 and len(R[1:2].layers) == len(R.layers)


def test_results_written_by_0_1_0_have_and_have_not_layers():
    methods = {folder.name: len(ci.Inversion.load(folder).layers) for folder in WRITTEN}
    assert methods == {
        "hybrid": 3, "latent_pursuit": 3, "layered_basis_pursuit": 3, "levenberg_marquardt": 0, "one": 3, "oracle": 0,
    }  # fmt: skip


# --- arrays ---------------------------------------------------------------------------------------

NUMBERS = np.arange(12.0).reshape(3, 4)


def stored(folder: Path, suffix: str, **arrays: np.ndarray) -> Path:
    path = folder / f"array{suffix}"
    if suffix == ".npy":
        np.save(path, next(iter(arrays.values())))
    elif suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_signals_come_as_they_are(tmp_path: Path, suffix: str, dtype: type):
    read = read_signals(stored(tmp_path, suffix, whatever=NUMBERS.astype(dtype)))
    assert read.numpy().dtype == dtype and (read.numpy() == NUMBERS).all()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("name", ["signals", "images", "y"])
def test_of_several_arrays_the_named_one_is_read(tmp_path: Path, suffix: str, name: str):
    path = stored(tmp_path, suffix, labels=np.arange(3), **{name: NUMBERS})
    assert torch.equal(read_signals(path), torch.from_numpy(NUMBERS))


@pytest.mark.parametrize("array", [NUMBERS.astype(">f8"), np.asfortranarray(NUMBERS), NUMBERS[::-1, ::-1]])
def test_byte_and_memory_order_do_not_matter(tmp_path: Path, array: np.ndarray):
    assert read_signals(stored(tmp_path, ".npy", a=array)).tolist() == array.tolist()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("names", [("a", "b"), ("signals", "y"), ()])
def test_an_open_choice_is_refused_with_the_names(tmp_path: Path, suffix: str, names: tuple[str, ...]):
    path = stored(tmp_path, suffix, **dict.fromkeys(names, NUMBERS))
    with pytest.raises(ValueError, match="expected one array, or one named signals or images or y") as caught:
        read_signals(path)
    assert all(name in str(caught.value) for name in names) and f"got {len(names)}" in str(caught.value)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (NUMBERS.astype(np.uint8), r"convert to the generator's output range, e.g. images.astype\('float64'\) / 255"),
        (NUMBERS.astype(np.int64), "convert to the generator's output range"),
        (NUMBERS > 3, "convert to the generator's output range"),
        (NUMBERS.astype(np.float16), "got torch.float16; store them as float32 or float64"),
        (NUMBERS.astype(np.longdouble), "expected real numbers in .*, got dtype float128|longdouble"),
        (NUMBERS + 1j, "expected real numbers in .*, got dtype complex128"),
        (np.array(["a", "b"]), "expected real numbers in .*, got dtype <U1"),
        (np.zeros(2, dtype=[("a", float), ("b", float)]), "expected real numbers"),
        (np.array([{}, None], dtype=object), "got Python objects, which are never read"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_other_kinds_of_signals_are_refused(tmp_path: Path, array: np.ndarray, words: str, suffix: str):
    with pytest.raises(TypeError, match=words):
        read_signals(stored(tmp_path, suffix, a=array))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.complex64])
def test_other_kinds_of_tensors_are_refused(tmp_path: Path, dtype: torch.dtype):
    save_file({"a": torch.ones(2, 2).to(dtype)}, tmp_path / "a.safetensors")
    with pytest.raises(TypeError, match=f"got {dtype}"):
        read_signals(tmp_path / "a.safetensors")


class Bomb:
    def __reduce__(self):
        return (os._exit, (7,))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_a_pickle_is_not_run(tmp_path: Path, suffix: str):
    path = tmp_path / f"evil{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises((TypeError, ValueError), match="evil"):
        read_signals(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 3, 70, -20])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: int):
    path = stored(tmp_path, suffix, a=NUMBERS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged"):
        read_signals(path)


def test_a_damaged_compressed_file_is_refused(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).normal(size=500))
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_signals(path)


def test_a_header_that_claims_too_much_is_refused(tmp_path: Path):
    path = stored(tmp_path, ".npy", a=NUMBERS)
    path.write_bytes(path.read_bytes().replace(b"(3, 4), }           ", b"(9999999999, 99999)}"))
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_signals(path)


def test_a_missing_file_names_those_near_it(tmp_path: Path):
    for name in ("sginals.npy", "other.npz", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"signals.npy, found none; near it: sginals.npy, other.npz$"):
        read_signals(tmp_path / "signals.npy")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_signals(tmp_path / "nowhere" / "signals.npy")


def test_another_suffix_is_refused(tmp_path: Path):
    (tmp_path / "y.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"expected a file .npy, .npz, .safetensors, got .*y.csv"):
        read_signals(tmp_path / "y.csv")


def test_masks_are_bool(tmp_path: Path):
    assert read_mask(stored(tmp_path, ".npz", other=NUMBERS, visible=NUMBERS > 3)).tolist() == (NUMBERS > 3).tolist()
    with pytest.raises(TypeError, match=r"expected a mask of bool in .*, got torch.uint8; store mask.astype\(bool\)"):
        read_mask(stored(tmp_path, ".npy", a=(NUMBERS > 3).astype(np.uint8)))


def test_matrices_are_floats(tmp_path: Path):
    assert read_matrix(stored(tmp_path, ".safetensors", A=NUMBERS, y=NUMBERS)).tolist() == NUMBERS.tolist()
    with pytest.raises(TypeError, match=r"expected a matrix in float32 or float64 in .*, got torch.int64; store them as"):
        read_matrix(stored(tmp_path, ".npy", a=NUMBERS.astype(np.int64)))


def test_latents_come_from_arrays_and_results(inversion: ci.Inversion, tmp_path: Path):
    inversion.save(tmp_path)
    for source in (tmp_path, tmp_path / "result.safetensors"):
        assert same(read_latents(source), inversion.z)
    assert read_latents(stored(tmp_path, ".npz", z=NUMBERS, y=NUMBERS)).tolist() == NUMBERS.tolist()


def test_a_generator_without_a_name_bears_that_of_its_files(tmp_path: Path):
    G = ci.load_generator(nn.Sequential(nn.Linear(3, 20)))
    ci.save_generator(G, tmp_path / "my-net")
    again = ci.load_generator(tmp_path / "my-net")
    assert again.named == "my-net" and "my-net" in repr(again)
    result = ci.invert(again, again(torch.ones(2, 3, dtype=torch.float64)))
    assert "Inversion of my-net" in ci.write_report(result, tmp_path / "page.html").read_text()


# --- entries of files that were changed -------------------------------------------------------------

WRONG = (None, 3, -1, 1.5, float("nan"), 10**400, "x", "", [], [1], {}, {"a": 1}, True)


def entries(value: object, at: tuple = ()) -> Iterator[tuple]:
    """Where every entry of a JSON file stands, of lists the first."""
    yield at
    named = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in named:
        yield from entries(inner, (*at, key))


def with_entry(spec: object, at: tuple, value: object, gone: bool = False) -> object:
    """The same with another entry, or without it."""
    if not at:
        return value
    changed = copy.deepcopy(spec)
    holder = changed
    for key in at[:-1]:
        holder = holder[key]
    if gone:
        del holder[at[-1]]
    else:
        holder[at[-1]] = value
    return changed


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with layers, with uncertainty and with proofs, a proof, a comparison and a streamed result."""
    folder = tmp_path_factory.mktemp("entries")
    torch.manual_seed(0)
    G = ci.load_generator(nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 9)))
    y = G(G.sample_latent(3, torch.Generator().manual_seed(1)))
    y += 0.01 * torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    for name, noise in (("result", None), ("uncertain", ("gaussian", 0.01))):
        found = ci.invert(G, y, noise=noise, restarts=1, on_fail="ignore")
        proof = ci.prove(G, y, found, noise=noise, time_limit=5)
        found.with_proof(proof).save(folder / name)
        proof.save(folder / "proof")
    ci.compare(G, y, ["hybrid", "oracle"], restarts=1, progress=False).save(folder / "comparison")
    np.save(folder / "y.npy", y.numpy())
    ci.invert_stream(G, folder / "y.npy", folder / "stream", restarts=1, progress=False)
    return folder


def told(folder: Path) -> str:
    """What a folder holds, in words."""
    if folder.name == "stream":
        found = ci.StreamedInversion.load(folder)
        return f"{found!r}{found.status[:]}{found.used[:]}"
    kind = {"proof": ci.Proof, "comparison": ci.Comparison}.get(folder.name, ci.Inversion)
    return kind.load(folder).summary()


def words_of(folder: Path) -> Path:
    """The file of its words."""
    return folder / f"{folder.name if folder.name in ('proof', 'comparison') else 'result'}.json"


@pytest.mark.parametrize("name", ["result", "uncertain", "proof", "comparison", "stream"])
def test_an_entry_that_was_changed_is_named_or_harmless(folders: Path, name: str):
    """Whatever stands in place of an entry: what it says is told, or a ValueError names the file."""
    folder, file = folders / name, words_of(folders / name)
    content = file.read_text()
    spec = json.loads(content)
    assert told(folder)
    refused = 0
    try:
        for at in entries(spec):
            if at[:1] == ("run",) or at == ("settings",):
                continue
            for changed in [
                *(with_entry(spec, at, value) for value in WRONG),
                *([with_entry(spec, at, 0, True)] if at else []),
            ]:
                file.write_text(json.dumps(changed))
                try:
                    assert told(folder)
                except ValueError as error:
                    refused += 1
                    assert any(there in str(error) for there in (file.stem, "z.npy")), (at, error)
    finally:
        file.write_text(content)
    assert refused > 300


@pytest.mark.parametrize(
    ("name", "at", "value", "words"),
    [
        ("result", ("status", 0), "explaned", r'"status\[0\]" in .* as one of explained, .*, got "explaned"'),
        ("result", ("layers", 0, "tol"), -1, r'"layers\[0\].tol" in .*result.json as a finite number > 0, got -1'),
        ("result", ("signals",), 4, r'"proof.signals" in .*result.json as 4, as of the result, got 3'),
        ("result", ("counts",), {"explained": 9}, '"counts" in .*, as other entries say'),
        ("result", ("settings", "noise"), "l9:0.1", '"settings.noise" in .*result.json as a text such as "l2:0.1"'),
        ("result", ("proof", "signals"), 2, r'"proof.signals" in .*result.json as 3, as of the result'),
        ("proof", ("sha256",), None, '"sha256" in .*proof.json as a text, got null'),
        ("proof", ("settings", "gap"), None, '"settings.gap" in .*proof.json as a finite number >= 0'),
        ("proof", ("verdict",), ["explained"], '"verdict" in .*proof.json as a list of 3'),
        ("comparison", ("sha256",), None, '"sha256" in .*comparison.json as a text'),
        ("comparison", ("rows", 0, "outcome"), "won", r'"rows\[0\].outcome" in .* as one of ran, refused, failed'),
        ("comparison", ("settings", "signals"), 5, r'"rows\[0\].status" in .*comparison.json as a list of 5'),
        ("stream", ("store",), "hdf", '"store" in .*result.json as one of npy, zarr'),
        ("stream", ("arrays", "z", "shape"), [3, 9], r'"arrays.z.shape" in .* as \[3, 2\], the array'),
        ("stream", ("used",), [], "expected codes of 0 words in .*result.json"),
    ],
)
def test_the_file_and_the_entry_are_named(folders: Path, name: str, at: tuple, value: object, words: str):
    file = words_of(folders / name)
    content = file.read_text()
    file.write_text(json.dumps(with_entry(json.loads(content), at, value)))
    try:
        with pytest.raises(ValueError, match=words):
            told(folders / name)
    finally:
        file.write_text(content)


def test_tensors_of_another_shape_or_type_are_named(folders: Path, tmp_path: Path):
    out = shutil.copytree(folders / "uncertain", tmp_path / "out")
    tensors = load_file(out / "result.safetensors")
    for name, tensor, words in (
        (
            "misfit",
            torch.zeros(2),
            r'"misfit" in .*result.safetensors as floats of shape \(3\), got float32 of shape \(2,\)',
        ),
        ("determined", torch.zeros(3), r'"determined" in .* as bools of shape \(3\), got float32'),
        ("hidden.1", torch.zeros(3), r'"hidden.1" in .* as floats of shape \(3, any\)'),
        ("uncertainty.z_cov", torch.zeros(3, 2, 3), r'"uncertainty.z_cov" in .* of shape \(3, 2, 2\)'),
        ("proof.box.low", torch.zeros(1), r'"proof.box.low" in .* of shape \(2\)'),
    ):
        save_file(tensors | {name: tensor}, tmp_path / "out" / "result.safetensors")
        change("sha256", hashlib.sha256((tmp_path / "out" / "result.safetensors").read_bytes()).hexdigest())(
            tmp_path / "out"
        )
        with pytest.raises(ValueError, match=words):
            ci.Inversion.load(out)


def test_a_result_with_a_proof_keeps_the_verdict_that_it_had(folders: Path, tmp_path: Path):
    found = ci.Inversion.load(folders / "result")
    assert list(found.status) != list(found.verdict.status) and sum(found.verdict.counts().values()) == 3
    change("verdict", None)(shutil.copytree(folders / "result", tmp_path / "out"))
    assert_equal(ci.Inversion.load(tmp_path / "out"), found)
