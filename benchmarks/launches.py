"""What a GPU would be asked to do: kernels, waits and a bound on the time of every solver and method, without a GPU.

    python benchmarks/launches.py                 # a table; about three minutes
    python benchmarks/launches.py --quick         # a few small calls: to see that it runs
    python benchmarks/launches.py --where "hybrid" --lines 20    # which lines of the package launch and wait

Calls run on the pretend device of `tests/pretend_device.py`. The bound is a model, and a bound from below:

    kernels x 5 us, or as long as products (30 Tflop/s in float32 and float64, 300 in 16 bits) and memory (4 TB/s) take,
    + waits x 20 us;   a second one with 10 us, as a wait costs where the device has little to finish.

Not in it: Python, several kernels per sort or factorisation, cuSOLVER's own waits. So it says what cannot be reached, and
which of two ways asks for less.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from layer_cases import cases
from measuring import circumstances
from runs import begin, write

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))
from pretend_device import WAIT, PretendDevice, Tally  # noqa: E402

import cvxinv as ci  # noqa: E402
from cvxinv.generator.chain import Generator  # noqa: E402
from cvxinv.solvers.known import TORCH_SOLVERS  # noqa: E402

LAYERS = (
    "LASSO 784x392, gaussian, B=1024", "ReLU rows 392x128, gaussian, B=1024", "latent 128x20, gaussian, B=1024",
    "pursuit l2 784x392, gaussian, B=64",
)  # fmt: skip
BY_NAME = LAYERS[0]  # the case that every solver that serves it is asked for
STEPS = 400  # iterations at most, of solvers asked by name
SHIPPED, SIGNALS = "mnist_gan", 64
_SHORT = 10e-6
Call = tuple[str, int, Callable[[], object]]  # its name, how many signals, what is run on the device


def layer_calls(quick: bool) -> list[Call]:
    """ "auto" on each case, without the polish on the first, and every solver by name on the first."""
    known = {case.label: case for case in cases(quick)}
    labels = [label for label in known if label in LAYERS] if not quick else list(known)[:2]
    calls: list[Call] = []
    for label in labels:
        problem = known[label].make().to(device="cuda")
        _ = problem.rows.W.norm()  # once per generator, on the CPU
        calls.append((f"{label}: auto", problem.N, lambda p=problem: ci.solve(p, on_fail="ignore")))
        if label == labels[0]:
            calls.append(
                (f"{label}: auto, polish=False", problem.N, lambda p=problem: ci.solve(p, polish=False, on_fail="ignore"))
            )
            served = [name for name, method in TORCH_SOLVERS.items() if method.refuses(problem) is None]
            calls += [
                (f"{label}: {name}", problem.N, lambda p=problem, s=name: ci.solve(p, s, max_iter=STEPS, on_fail="ignore"))
                for name in served
            ]  # fmt: skip
    return calls


def inversion_calls(quick: bool) -> list[Call]:
    """Every method on signals of the shipped generator, and hybrid with most of them hidden and with noise."""
    G = shipped()
    N = 2 if quick else SIGNALS
    y = G(G.sample_latent(N, torch.Generator().manual_seed(0)))
    there, y_there = G.to(device="cuda"), y.to("cuda")
    for layer in there.layers:
        _ = layer.W.norm()
    seen = (torch.rand(y.shape, generator=torch.Generator().manual_seed(1)) > 0.45).to("cuda")
    z = G.sample_latent(N, torch.Generator().manual_seed(0)).to("cuda")
    calls: list[Call] = []
    for method in ("hybrid",) if quick else tuple(ci.METHODS):
        options = {"truth": z} if method == "oracle" else {"max_iter": 100} if method == "gradient_descent" else {}
        calls.append(
            (f"{SHIPPED}: {method}", N, lambda m=method, o=options: ci.invert(there, y_there, m, on_fail="ignore", **o))
        )
    if not quick:
        hidden = lambda: ci.invert(there, y_there, measurement=seen, on_fail="ignore")  # noqa: E731
        calls.append((f"{SHIPPED}: hybrid, 45 % hidden", N, hidden))
    return calls


def shipped() -> Generator:
    return ci.load_generator(ROOT / "cvxinv" / "shipped" / f"{SHIPPED}.safetensors", dtype=torch.float64)


def measured(device: PretendDevice, call: Call) -> tuple[dict, Tally]:
    name, N, run = call
    with device.counting() as tally, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = run()
    counts = (answer.certificate if isinstance(answer, ci.Solution) else answer.verdict).counts()  # type: ignore[union-attr,attr-defined]
    row = {
        "call": name, "signals": N, "kernels": tally.kernels, "waits": tally.waits, "kernel_ms": 1e3 * tally.busy,
        "bound_ms": 1e3 * tally.seconds, "short_ms": 1e3 * (tally.seconds - (WAIT - _SHORT) * tally.waits),
        "statuses": counts,
    }  # fmt: skip
    return row, tally


HEADER = (
    "| call | kernels | waits | kernels, ms | and waits of 20 us | of 10 us | per signal | statuses |\n"
    "|---|---|---|---|---|---|---|---|"
)


def line(row: dict) -> str:
    N, words = row["signals"], ", ".join(f"{n} {status}" for status, n in row["statuses"].items())
    each = f"{row['kernels'] / N:.1f}, {row['waits'] / N:.1f}"
    times = " | ".join(f"{row[k]:.1f}" for k in ("kernel_ms", "bound_ms", "short_ms"))
    return f"| {row['call']} | {row['kernels']:,} | {row['waits']:,} | {times} | {each} | {words} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="calls whose name holds this")
    parser.add_argument("--where", default="", help="tell the lines of calls whose name holds this")
    parser.add_argument("--lines", type=int, default=12)
    parser.add_argument("--out", type=Path, default=None, help="folder for launches_cpu.json and .md")
    arguments = parser.parse_args()
    begin("cpu")
    rows, at = [], circumstances("cpu")
    with PretendDevice(watch="cvxinv") as device:
        print(HEADER)
        for make in (layer_calls, inversion_calls):
            for call in make(arguments.quick):
                if arguments.only.lower() in call[0].lower() and (not arguments.where or arguments.where in call[0]):
                    row, tally = measured(device, call)
                    rows.append(row)
                    print(line(row), flush=True)
                    if arguments.where:
                        print(tally.where(arguments.lines))
    if arguments.out is not None:
        stem = "launches_quick" if arguments.quick else "launches_cpu"
        words = __doc__.split("\n\n", 2)[2] if __doc__ else ""
        record = {"circumstances": at, "rows": rows}
        text = "\n".join(
            [
                "# Kernels, waits and bounds on a pretend device",
                "",
                words,
                f"Commit {at['commit']}.",
                "",
                HEADER,
                *map(line, rows),
            ]
        )
        print(*write(arguments.out, stem, record, text), sep="\n")


if __name__ == "__main__":
    main()
