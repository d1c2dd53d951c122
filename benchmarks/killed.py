"""A run over real digits that is killed five times at random, beside one that runs through: equal, bit for bit.

    python benchmarks/killed.py --out benchmarks/results             # 1,000 digits: some minutes
    python benchmarks/killed.py --quick                              # the shipped digits: to see that it runs

Data: the first 1,000 digits of MNIST's test set, of the folder CVXINV_DATA, 30 % of each hidden, and its generator
lei_vae_relu_20_60_784_nobias. Both runs are processes that call `invert` with Levenberg-Marquardt, ten steps each from two
random starts. One is sent SIGKILL, SIGTERM or SIGINT when a
random number of further chunks is done, and a random part of a second later, five times, and goes on with resume=True.

Equal: `result.safetensors` in all its bytes, and `result.json` but for the seconds. lost: chunks that were done when the
signal came, and had to be computed again.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measuring import circumstances
from runs import begin, load_after, write
from tables import Table

import cvxinv as ci
from cvxinv.shipped import shipped_file

ABOUT = "".join(__doc__.partition("Data:")[1:]).strip()
KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL)
HIDDEN = 0.3
SEED = 0


def data(quick: bool, folder: Path) -> tuple[str, int]:
    """Signals and a mask into a folder; the generator's name, and how many chunks there are."""
    if quick:
        size = 4
        with shipped_file("digits_8x8") as path:
            G = ci.load_generator(path)
        generator = str(folder / "digits")
        ci.save_generator(G, generator)
        y = G(G.sample_latent(80, torch.Generator().manual_seed(SEED))).numpy()
    else:
        home, size = Path(os.environ["CVXINV_DATA"]), 20
        generator = str(home / "generators" / "lei_vae_relu_20_60_784_nobias")
        y = np.load(home / "datasets" / "mnist_test.npz")["images"][:1000].reshape(1000, -1) / 255.0
    seen = torch.rand(y.shape, generator=torch.Generator().manual_seed(SEED)) > HIDDEN
    np.save(folder / "y.npy", y)
    np.save(folder / "mask.npy", seen.numpy())
    return generator, size


def start(folder: Path, generator: str, size: int, out: str) -> subprocess.Popen:
    command = [sys.executable, str(Path(__file__).resolve()), "--child", generator, str(size), out]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def child(generator: str, size: int, out: str) -> None:
    """One of the runs, in its own process."""
    y, seen = np.load("y.npy"), np.load("mask.npy")
    ci.invert(
        ci.load_generator(generator), y, "levenberg_marquardt", measurement=seen, max_iter=10, restarts=2, chunk=size,
        checkpoint=out, resume=True, on_fail="ignore",
    )  # fmt: skip


def done(folder: Path) -> set[str]:
    return {path.name for path in (folder / "killed" / "chunks").glob("*.json")}


def killed(folder: Path, generator: str, size: int, chunks: int, draw: random.Random) -> list[dict]:
    """Kill the run five times; what each signal met."""
    told = []
    for number in KILLS:
        before = done(folder)
        process = start(folder, generator, size, "killed")
        until = min(len(before) + draw.randint(1, chunks // 6), chunks - 2)
        while process.poll() is None and len(done(folder)) < until:
            time.sleep(0.01)
        time.sleep(draw.random())
        there = done(folder)
        process.send_signal(number)
        process.communicate()
        after = done(folder)
        told.append(
            {
                "signal": number.name,
                "exit": process.returncode,
                "done": len(there),
                "lost": len(there - after),
            }
        )
        print(told[-1])
    return told


def words_of(path: Path) -> dict:
    """A result's JSON file but for the time that it took."""
    spec = json.loads(path.read_text())
    return {key: value for key, value in spec.items() if key != "seconds"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    begin("cpu")
    if args.child:
        child(args.child[0], int(args.child[1]), args.child[2])
        return
    record = {"circumstances": circumstances("cpu"), "kills": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generator, size = data(args.quick, folder)
        signals = len(np.load(folder / "y.npy", mmap_mode="r"))
        began = time.perf_counter()
        reference = start(folder, generator, size, "through")
        assert reference.wait() == 0, reference.communicate()[1]
        record["seconds"] = time.perf_counter() - began
        record["kills"] = killed(folder, generator, size, signals // size, random.Random(SEED))
        last = start(folder, generator, size, "killed")
        assert last.wait() == 0, last.communicate()[1]
        through, stopped = folder / "through", folder / "killed"
        same = (through / "result.safetensors").read_bytes() == (stopped / "result.safetensors").read_bytes()
        record |= {"signals": signals, "chunk": size, "same bits": same}
        record["same words"] = words_of(through / "result.json") == words_of(stopped / "result.json")
        record["counts"] = words_of(through / "result.json")["counts"]
    record |= load_after(record)
    verdict = "equal bit for bit" if record["same bits"] and record["same words"] else "DIFFERENT"
    text = f"{signals} signals in chunks of {size}: the run that was killed and the one that ran through are {verdict}"
    rows = [tuple(str(value) for value in kill.values()) for kill in record["kills"]]
    table = Table(text, ("signal", "exit code", "chunks done", "chunks lost"), rows)
    print(text)
    if args.out is not None:
        write(args.out, "killed_cpu", record, f"# A run that was killed\n\n{ABOUT}\n\n{table.markdown()}")
    sys.exit(0 if record["same bits"] and record["same words"] else 1)


if __name__ == "__main__":
    main()
