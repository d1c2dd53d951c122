"""What every script here begins and ends with: one thread, a device that exists, results written whole."""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from measuring import circumstances, plain

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_IDLE = 1.5  # a load average above this means that others work on the machine


def begin(device: str) -> bool:
    """One thread for everybody; whether `device` is there, said aloud where it is not."""
    _with_one_thread()
    torch.set_num_threads(1)
    there = device != "cuda" or torch.cuda.is_available()
    if not there:
        print("skipped: --device cuda was asked for, and torch sees no CUDA device")
    return there


def begin_with_data(quick: bool) -> bool:
    """`begin` on the CPU, and whether the trained generators are there, which a quick run does without."""
    if not begin("cpu"):
        return False
    if not quick and "CVXINV_DATA" not in os.environ:
        print("skipped: CVXINV_DATA is not set, and the generators are in that folder")
        return False
    return True


def parser_of(doc: str | None, signals: int) -> argparse.ArgumentParser:
    """What scripts on trained generators are asked; signals: of a row, where it is not said."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="generators whose name holds this")
    parser.add_argument("--signals", type=int, default=signals)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    return parser


def record_before(out: Path | None, stem: str) -> dict:
    """The circumstances now, and the results that the folder `out` has, to which a run adds its own."""
    path = None if out is None else out / f"{stem}.json"
    before = json.loads(path.read_text())["results"] if path is not None and path.exists() else {}
    return {"circumstances": circumstances("cpu"), "results": before}


def write_page(out: Path, stem: str, record: dict, title: str, doc: str | None, table: str) -> None:
    """`write` of a record, with a page of what the script says of itself behind its commands and a table."""
    said = "\n\n".join((doc or "").split("\n\n")[2:])
    write(out, stem, record | load_after(record), f"# {title}\n\n{said}\n\n{table}")


def _with_one_thread() -> None:
    """Start anew with one thread for everybody: a BLAS reads these variables when it is loaded, which it is by now."""
    if any(os.environ.get(name) != "1" for name in THREADS):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | dict.fromkeys(THREADS, "1"))


def load_after(record: dict) -> dict:
    """The load average now, and whether the machine was idle before and after, for a record of circumstances."""
    load = os.getloadavg()
    return {"load_after": load, "idle": max(record["circumstances"]["load"][0], load[0]) < _IDLE}


def write(folder: Path, stem: str, record: dict, markdown: str) -> list[Path]:
    """JSON and markdown, each whole or not at all; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {".json": json.dumps(plain(record), separators=(",", ":"), allow_nan=False), ".md": markdown}
    paths = []
    for suffix, text in texts.items():
        partial = folder / f"{stem}.partial"
        partial.write_text(text + "\n")
        paths.append(partial.replace(folder / f"{stem}{suffix}"))
    return paths
