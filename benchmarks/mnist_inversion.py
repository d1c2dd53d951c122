"""Whole inversions of the shipped MNIST network: latent pursuit beside the recipe that was published with it.

    python benchmarks/mnist_inversion.py [--quick] [--only upper] [--signals 512] [--recipe 128] [--device cuda]
    python benchmarks/mnist_inversion.py --growth      seconds per signal and memory from 1 to 4096 signals

With --out FOLDER results are written. Signals: y = G(z), z ~ N(0, I), of `mnist_gan`, 20-128-392-784, with everything seen,
45 % of the pixels hidden at random, the upper 13 of 28 rows hidden, each without noise and with 1 % of it (l2, stated).

Ours: `cvxinv.invert(G, y, "latent_pursuit")` with nothing else said, its own verification included. The recipe, as published
and no more: the image layer by FISTA through the PLU (Algorithm 3), the two others by linearised ADMM with rho = 1e-2
(Algorithm 4), 10,000 iterations each; supports above 1e-3 of the largest entry; then 10,000 accelerated gradient steps on
the frozen supports (Algorithm 5). gamma = 0, and lam = 1e-5 or 0 in the two other layers: the first is what the paper took,
for weights of another scale, the second is the better one here without noise. It runs on `--recipe` signals; its cost per
signal hardly falls in a larger batch.

SNR: 20 log10(|x| / |x - x'|) dB of z and of G(z), median and 10 to 90 % over the signals. explained: misfit within the noise
bound (1e-8 |y| without noise). Time: process seconds on a CPU, one thread, wall seconds on a GPU; median of the runs.

Source: Aberdam, Simon, Elad (2020), section 6.2. lam, rho and 10,000 debiasing steps are as recalled, the text leaves them
blank; the iterations of the layers are read off its run times, 15 s a layer, 30 s for 10,000 steps of gradient descent.
"""

import argparse
import gc
import importlib.util
import json
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from measuring import Seconds, circumstances, clocked, median
from rich.console import Console
from runs import begin, load_after, write
from tables import Table, short
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci
from cvxinv.inversion.result import snr
from cvxinv.inversion.steps.debias import debiased
from cvxinv.inversion.task import Task, make_task
from cvxinv.solvers.first_order.linearized_admm import LinearizedADMM

ROOT = Path(__file__).parent.parent
LAMS, SUPPORT, STEPS = (1e-5, 0.0), 1e-3, 10_000
NOISE = 0.01
OURS = "ours"
GROWTH = (1, 8, 64, 512, 4096)


def _experiment():
    """problems/inversions/mnist.py, which says what is hidden; it is no package, so it is loaded by path."""
    spec = importlib.util.spec_from_file_location("mnist_experiment", ROOT / "problems" / "inversions" / "mnist.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# --- what is inverted -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Signals:
    """G, true latents `(N, n0)`, signals with hidden pixels NaN, what is seen, and the stated noise, of one case."""

    G: ci.Generator
    z: Tensor
    y: Tensor
    seen: Tensor | None
    noise: tuple[str, Tensor] | None

    def first(self, N: int) -> "Signals":
        noise = None if self.noise is None else (self.noise[0], self.noise[1][:N])
        return Signals(self.G, self.z[:N], self.y[:N], None if self.seen is None else self.seen[:N], noise)


def cases() -> list[tuple[str, str, float]]:
    """(label, setting, relative noise)."""
    settings = _experiment().SETTINGS
    return [(f"{s}, {'1 % noise' if e else 'no noise'}", s, e) for e in (0.0, NOISE) for s in settings]


def signals_of(setting: str, relative: float, N: int, device: str) -> Signals:
    experiment, G = _experiment(), ci.load_generator("mnist_gan").to(torch.float64)
    z = G.sample_latent(N, torch.Generator().manual_seed(0))
    x, seen = G(z), experiment.visible(setting, N, G.signal_dim, 0)
    noise = None
    if relative:
        e = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype) * seen
        e = relative * e * ((x * seen).norm(dim=1) / e.norm(dim=1))[:, None]
        x, noise = x + e, ("l2", e.norm(dim=1).to(device))
    y = torch.where(seen, x, torch.nan).to(device)
    mask = None if bool(seen.all()) else seen.to(device)
    return Signals(G.to(device=device), z.to(device), y, mask, noise)


# --- the two methods ------------------------------------------------------------------------------


def ours(data: Signals) -> ci.Inversion:
    said = {"measurement": data.seen, "noise": data.noise, "on_fail": "ignore", "progress": False}
    return ci.invert(data.G, data.y, "latent_pursuit", **said)


def recipe(data: Signals, lam: float, steps: int) -> tuple[Tensor, dict[str, float]]:
    """z by the published recipe, and wall seconds of its parts."""
    task = make_task(data.G, data.y, data.seen, data.noise)
    layers, h, marks = data.G.layers, task.y, {}
    masks: list[Tensor] = []
    for index in range(len(layers) - 1, -1, -1):
        started = time.perf_counter()
        if index == len(layers) - 1:
            h = image_layer(task, lam, steps)
        else:
            rows = ci.Rows(layers[index].W, layers[index].b, h, masks[0])
            h = by_admm(ci.NonnegativeLasso(rows, lam) if index else ci.GaussianLatent(rows, 0.0), steps)
        if index:
            masks.insert(0, h > SUPPORT * h.amax(1, keepdim=True))
        marks[f"layer {index}"] = time.perf_counter() - started
    started = time.perf_counter()
    z = debiased(task, h, masks, "gradient", steps)
    return z, marks | {"debiasing": time.perf_counter() - started}


def image_layer(task: Task, lam: float, steps: int) -> Tensor:
    """Algorithm 3 for min_{h >= 0} 1/2 |phi(W h + b) - y|^2 + lam 1'h on what is seen, step 1 / |W|^2."""
    layer, seen = task.generator.layers[-1], task.measurement.seen(task.N).to(task.y)
    step, phi = 1 / layer.W.norm() ** 2, layer.activation
    h = v = task.y.new_zeros(task.N, layer.W.n)
    t = 1.0
    for _ in range(steps):
        u = layer.W(v) + layer.b
        new = (v - step * (layer.W.adjoint(phi.derivative(u) * (phi(u) - task.y) * seen) + lam)).clamp(min=0)
        ahead = (1 + (1 + 4 * t * t) ** 0.5) / 2
        v, h, t = new + (t - 1) / ahead * (new - h), new, ahead
    return h


def by_admm(problem: ci.AbstractLayerProblem, steps: int) -> Tensor:
    scaled = problem.normalised()
    method = LinearizedADMM(rho=1e-2).start(scaled.problem)  # the rho that was published
    method.advance(steps)
    return method.point().h * scaled.h_unit


# --- one row --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One method on one case; SNRs in dB as (10 %, 50 %, 90 %), parts in wall seconds of the whole batch."""

    case: str
    method: str
    signals: int
    z_db: tuple[float, ...]
    signal_db: tuple[float, ...]
    explained: int
    seconds: Seconds
    parts: dict[str, float]
    device: str

    @property
    def each(self) -> float:
        """Seconds per signal: of this process on a CPU, on the wall on a GPU."""
        return (self.seconds.process if self.device == "cpu" else self.seconds.wall) / self.signals


def result_of(case: str, method: str, data: Signals, z: Tensor, seconds: Seconds, parts: dict[str, float]) -> Result:
    """What z is worth; nothing here is timed."""
    found = ci.verify(data.G, data.y, z, measurement=data.seen, noise=data.noise)
    three = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    z_db, signal_db = (
        tuple(round(float(q), 1) for q in torch.quantile(snr(true, guess).cpu(), three))
        for true, guess in ((data.z, z), (data.G(data.z), data.G(z)))
    )
    return Result(case, method, len(z), z_db, signal_db, int(found.explained.sum()), seconds, parts, str(z.device.type))


def run_ours(case: str, data: Signals, device: str, runs: int) -> Result:
    ours(data.first(2))  # imports, and what a first call sets up
    found = [clocked(lambda: ours(data), device) for _ in range(runs)]
    answer = found[-1][0]
    parts = {f"layer {r.index}": r.solution.seconds for r in answer.layers}
    parts["debiasing"] = answer.seconds["solve"] - sum(parts.values())
    parts["verifying"] = answer.seconds["verify"]
    return result_of(case, OURS, data, answer.z, median([s for _, s in found]), parts)


def run_recipe(case: str, data: Signals, device: str, lam: float, steps: int) -> Result:
    (z, parts), seconds = clocked(lambda: recipe(data, lam, steps), device)
    return result_of(case, f"recipe, lam = {lam:g}", data, z, seconds, parts)


# --- growth ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """Seconds per signal of a batch, and the most memory that its process held beyond what it began with, MB."""

    signals: int
    seconds_each: float
    memory: float
    result: float


def _size(N: int, device: str) -> Size:
    """Measured in a process of its own, because the most memory that one ever held never falls."""
    torch.set_num_threads(1)
    data = signals_of(cases()[0][1], 0.0, N, device)
    ours(data.first(1))
    gc.collect()
    before = _peak(device)
    runs = [clocked(lambda: ours(data), device) for _ in range(3 if N < 1000 else 1)]
    kept = 8 * N * sum(layer.W.m + layer.W.n for layer in data.G.layers)
    clock = median([s for _, s in runs])
    return Size(N, (clock.process if device == "cpu" else clock.wall) / N, _peak(device) - before, kept / 1e6)


def _peak(device: str) -> float:
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def growth(device: str, sizes: tuple[int, ...]) -> list[Size]:
    found = []
    for N in tqdm(sizes, desc="growth", unit="batch", disable=None):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found.append(pool.submit(_size, N, device).result())
    return found


def growth_table(found: list[Size]) -> Table:
    rows = [(str(s.signals), short(s.seconds_each), f"{s.memory:.0f} MB", f"{s.result:.1f} MB") for s in found]
    return Table("Latent pursuit, everything seen, by batch", ("signals", "per signal", "memory", "h and p alone"), rows)


def draw_growth(found: list[Size], path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    N = [s.signals for s in found]
    left.loglog(N, [1e3 * s.seconds_each for s in found], "o-", label="latent pursuit")
    left.set(xlabel="signals in the batch", ylabel="ms per signal", title="Time")
    right.loglog(N, [max(s.memory, 1.0) for s in found], "o-", label="most memory, beyond the start")
    right.loglog(N, [max(s.result, 1e-2) for s in found], "s--", label="h and p of all layers")
    right.set(xlabel="signals in the batch", ylabel="MB", title="Memory")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


# --- tables ---------------------------------------------------------------------------------------


def table(results: list[Result]) -> Table:
    header = ("case", "method", "signals", "SNR z, dB", "SNR signal, dB", "explained", "per signal", "recipe / ours")
    rows = []
    for r in results:
        mine = next((x for x in results if x.case == r.case and x.method == OURS), None)
        ratio = f"{r.each / mine.each:.0f}x" if mine is not None and r.method != OURS else ""
        cells = [f"{q[1]:.0f} ({q[0]:.0f} to {q[2]:.0f})" for q in (r.z_db, r.signal_db)]
        rows.append((r.case, r.method, str(r.signals), *cells, f"{r.explained} of {r.signals}", short(r.each), ratio))
    return Table("Latent pursuit: ours and the published recipe", header, rows)


def parts_table(results: list[Result]) -> Table:
    names = ("layer 2", "layer 1", "layer 0", "debiasing", "verifying")
    rows = [(r.case, r.method, *(short(r.parts[k] / r.signals) if k in r.parts else "-" for k in names)) for r in results]
    return Table("Wall seconds per signal of the parts", ("case", "method", *names), rows)


def markdown(record: dict, tables: list[Table]) -> str:
    at = record["circumstances"]
    idle = "an idle machine" if record["idle"] else "a machine with other work on it: ratios only, and those roughly"
    head = [
        "# Inversions of the shipped MNIST network", "",
        f"{at['processor']}, {at['threads']} thread, {at['device']}; commit {at['commit']}; {at['date']}; load "
        f"{at['load'][0]:.1f} to {record['load_after'][0]:.1f} on {at['cores']} cores: {idle}. "
        "What is measured: the docstring of [mnist_inversion.py](../mnist_inversion.py).", "",
    ]  # fmt: skip
    return "\n".join([*head, *(t.markdown() for t in tables)])


# --- the whole ------------------------------------------------------------------------------------


def earlier(folder: Path | None, stem: str, record: dict, labels: list[str]) -> list[Result]:
    """What a run of the same commit with the same arguments left in `folder` of the cases that are not measured now."""
    path = None if folder is None else folder / f"{stem}.json"
    if path is None or not path.exists():
        return []
    old = json.loads(path.read_text())

    def asked(x: dict) -> dict:
        return {"commit": x["circumstances"]["commit"]} | {k: v for k, v in x["arguments"].items() if k != "only"}

    kept = [r for r in old["results"] if asked(old) == asked(record) and r["case"] not in labels]
    for r in kept:
        r.pop("each")
    return [Result(**r | {"seconds": Seconds(**r["seconds"])}) for r in kept]


def measure(arguments: argparse.Namespace, console: Console, record: dict) -> list[Path]:
    """Case by case; what is done is written each time, so that a run that is broken off leaves what it has."""
    wanted = [c for c in cases() if arguments.only.lower() in c[0].lower()]
    stem = "mnist_inversion_quick" if arguments.quick else f"mnist_inversion_{arguments.device}"
    results = earlier(arguments.out, stem, record, [label for label, _, _ in wanted])
    written: list[Path] = []
    with tqdm(total=(1 + len(LAMS)) * len(wanted), unit="run", disable=None) as bar:
        for label, setting, relative in wanted:
            data = signals_of(setting, relative, max(arguments.signals, arguments.recipe), arguments.device)
            bar.set_postfix_str(f"{label}, ours")
            results.append(run_ours(label, data.first(arguments.signals), arguments.device, arguments.runs))
            bar.update()
            for lam in LAMS if arguments.recipe else ():
                bar.set_postfix_str(f"{label}, recipe on {arguments.recipe} signals")
                part = data.first(arguments.recipe)
                results.append(run_recipe(label, part, arguments.device, lam, arguments.steps))
                bar.update()
            if arguments.out is not None:
                record["results"] = [asdict(r) | {"each": r.each} for r in results]
                record |= load_after(record)
                written = write(arguments.out, stem, record, markdown(record, [table(results), parts_table(results)]))
    for one in (table(results), parts_table(results)):
        console.print(one.rich())
    return written


def measure_growth(arguments: argparse.Namespace, console: Console, record: dict) -> list[Path]:
    found = growth(arguments.device, GROWTH[:3] if arguments.quick else GROWTH)
    console.print(growth_table(found).rich())
    if arguments.out is None:
        return []
    stem = f"mnist_growth{'_quick' if arguments.quick else ''}_{arguments.device}"
    record |= load_after(record) | {"sizes": [asdict(s) for s in found]}
    written = write(arguments.out, stem, record, markdown(record, [growth_table(found)]))
    try:
        return [*written, draw_growth(found, arguments.out / f"{stem}.png")]
    except ModuleNotFoundError as absent:
        console.print(f"no picture: {absent.name} is not installed")
        return written


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="8 signals and 200 steps: to see that it runs, not for figures")
    parser.add_argument("--growth", action="store_true", help="seconds per signal and memory by batch, and nothing else")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--signals", type=int, default=512, help="signals for ours (default 512)")
    parser.add_argument("--recipe", type=int, default=128, help="signals for the recipe (default 128); 0 leaves it out")
    parser.add_argument("--steps", type=int, default=STEPS, help="the recipe's iterations per layer and debiasing steps")
    parser.add_argument("--runs", type=int, default=3, help="runs of ours, of which the median counts (default 3)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both")
    parser.add_argument("--out", type=Path, default=None, help="folder for JSON, markdown and the picture")
    given = parser.parse_args()
    if given.signals < 1 or given.runs < 1 or given.steps < 1 or given.recipe < 0:
        parser.error("--signals, --runs and --steps must be at least 1, --recipe at least 0")
    if given.quick:
        given.signals, given.recipe, given.steps = 8, min(given.recipe, 8), 200
    return given


def main() -> None:
    """Measure, print, write."""
    arguments, console = parse(), Console(width=160)
    if not begin(arguments.device):
        return
    given = {k: v for k, v in vars(arguments).items() if k != "out"}
    record = {"circumstances": circumstances(arguments.device), "arguments": given}
    written = (measure_growth if arguments.growth else measure)(arguments, console, record)
    for path in written:
        console.print(f"written: {path}")


if __name__ == "__main__":
    main()
