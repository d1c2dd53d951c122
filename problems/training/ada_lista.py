"""Train Ada-LISTA on dictionaries that change with every signal, beside LISTA and proximal gradient steps.

The synthetic experiments of Aberdam, Golts, Elad, "Ada-LISTA: Learned Solvers Adaptive to Varying Models" (2020), as their
published code has them: n = 50, m = 70, 4 non-zeros, lam = 1, signal SNR 30 dB; a network for each T, SGD with momentum 0.9,
the sum of squared errors, rate 5e-5 divided by 10 every 50 of 200 epochs (here every quarter, whatever their number),
batches of 512, 20,000 signals, 1,000 for tests. Labels: theirs are 100 iterations of FISTA; here each is certified to a gap
of 1e-10 |y|^2 / 2 (`--labels published` takes theirs). Reported: the mean of |x - label|^2 over the tests. It is the mean of
a few large numbers; `--draws 20` says what it is on 20 draws of as many tests, of which the first is that of the record.

    python problems/training/ada_lista.py --scenario permuted --unfoldings 0,2,4          # minutes on one core
    python problems/training/ada_lista.py --scenario noisy --network lista                # LISTA, which looks at y alone
    python problems/training/ada_lista.py --quick                                         # 1,000 signals, 10 epochs

Scenarios: `permuted` columns D P_i, `noisy` D + N_i at 20 dB, `random` D_i drawn afresh, `fixed` D alone (for the oracle:
LISTA trained and tested on it). As AdaLISTA at D P is P' of AdaLISTA at D, permuted signals are trained in the order of D;
they are tested with each its own D P_i. After each epoch the state is written to OUT, and a run that was broken off, or is
asked for more, goes on from there; a state of other settings is refused.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import torch
from resume import keep, put, taken_up
from torch import Tensor
from tqdm import tqdm

from cvxinv.files import write_whole
from cvxinv.sparse_models.ada_lista import LISTA, AbstractUnfolding, AdaLFISTA, AdaLISTA, SingleWeightAdaLISTA
from cvxinv.sparse_models.varying_dictionaries import Dictionaries, ProximalGradient, certified_codes

SCENARIOS = ("permuted", "noisy", "random", "fixed")
NETWORKS = {"ada-lista": AdaLISTA, "ada-lfista": AdaLFISTA, "single-weight": SingleWeightAdaLISTA, "lista": LISTA}
N, M, NONZEROS, LAM = 50, 70, 4, 1.0
# decoded from the vector pictures in the authors' repository: mean squared error at T
PUBLISHED = {
    ("permuted", "ada-lista"): {0: 1.0e-2, 1: 1.1e-3, 2: 1.2e-4, 3: 2.4e-5, 4: 1.3e-5, 6: 2.8e-6, 10: 8.6e-8},
    ("fixed", "lista"): {0: 9.3e-3, 1: 1.2e-3, 2: 1.2e-4, 3: 1.2e-5, 4: 4.3e-6, 6: 8.8e-7, 10: 1.5e-8},
    ("noisy", "ada-lista"): {0: 1.2e-2, 1: 1.6e-3, 2: 1.4e-4, 3: 2.1e-5, 4: 7.5e-6, 6: 1.1e-6, 10: 6.4e-8},
    ("noisy", "lista"): {0: 1.2e-2, 1: 2.5e-3, 2: 9.3e-4, 3: 7.7e-4, 4: 7.7e-4, 6: 7.6e-4, 10: 7.5e-4},
    ("random", "ada-lista"): {0: 2.2e-2, 1: 1.7e-3, 2: 1.6e-4, 3: 2.1e-5, 4: 7.0e-6, 6: 1.4e-6, 10: 4.8e-7},
    ("permuted", "fista"): {0: 0.338, 1: 0.186, 2: 0.0847, 3: 0.0302, 4: 7.5e-3, 6: 3.6e-4, 10: 1.8e-4},
    ("noisy", "fista"): {0: 0.366, 1: 0.210, 2: 0.101, 3: 0.0393, 4: 0.011, 6: 3.6e-4, 10: 3.3e-4},
    ("random", "fista"): {0: 0.323, 1: 0.186, 2: 0.0908, 3: 0.0357, 4: 0.0103, 6: 3.5e-4, 10: 3.1e-4},
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What one training does; signals, tests: how many; snr: of signals, dB; seed: of data, weights and batches."""

    scenario: str = "permuted"
    network: str = "ada-lista"
    unfoldings: int = 2
    signals: int = 20_000
    tests: int = 1_000
    epochs: int = 200
    batch: int = 512
    rate: float = 5e-5
    drop: int = 50
    snr: float = 30.0
    labels: str = "certified"
    seed: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Signals:
    """y `(N, n)`, dictionaries `(n, m)` or `(N, n, m)`, labels x `(N, m)`; step: 1 / L of the base, for rivals."""

    y: Tensor
    D: Tensor
    x: Tensor
    step: float

    def part(self, index: Tensor) -> tuple[Tensor, Dictionaries, Tensor]:
        return self.y[index], Dictionaries(self.D if self.D.ndim == 2 else self.D[index]), self.x[index]


def unit_columns(D: Tensor) -> Tensor:
    """D with columns of length 1."""
    return D / D.norm(dim=-2, keepdim=True)


def draw(recipe: Recipe, tests: bool, out: pathlib.Path | None = None, number: int = 0) -> Signals:
    """The signals of a recipe, for training or for tests; out: where labels are kept; number: which draw of tests."""
    g = torch.Generator().manual_seed(recipe.seed)
    base = unit_columns(torch.randn(N, M, generator=g))
    g.manual_seed(1000 * recipe.seed + 1 + tests + number)
    count = recipe.tests if tests else recipe.signals
    largest = float(torch.linalg.matrix_norm(base, 2)) ** 2
    D, labelled = base, 1 / largest
    if recipe.scenario == "noisy":
        spread = float(base.var()) ** 0.5 * 10 ** (-20 / 20)
        D = base + spread * torch.randn(count, N, M, generator=g)
    elif recipe.scenario == "random":
        D, labelled = unit_columns(torch.randn(count, N, M, generator=g)), 1 / (5 * largest)
    places = torch.rand(count, M, generator=g).argsort(1)[:, :NONZEROS]
    x0 = torch.zeros(count, M).scatter(1, places, torch.randn(count, NONZEROS, generator=g))
    y = Dictionaries(D)(x0)
    y = y + y.std(1, keepdim=True) * 10 ** (-recipe.snr / 20) * torch.randn(count, N, generator=g)
    kept = None if out is None else out / f"labels-{recipe.scenario}-{recipe.labels}-{tests}.pt"
    x = _labels(recipe, y, D, labelled, kept)
    if tests and recipe.scenario == "permuted":
        order = torch.rand(count, M, generator=g).argsort(1)
        D = base[:, order].permute(1, 0, 2).contiguous()  # (N, n, m)
        x = x.gather(1, order)
    return Signals(y, D, x, 1 / largest)


def _labels(recipe: Recipe, y: Tensor, D: Tensor, step: float, kept: pathlib.Path | None) -> Tensor:
    """Labels, from `kept` where they are of the same recipe."""
    key = {name: value for name, value in dataclasses.asdict(recipe).items() if name in ("signals", "tests", "snr", "seed")}
    if kept is not None and kept.exists() and (found := torch.load(kept, weights_only=True))["key"] == key:
        return found["x"]
    parts, rule = [], ProximalGradient(step=step, momentum=True)
    chunks, name = torch.arange(len(y)).split(1000), f"labels, {recipe.scenario}"
    for index in tqdm(chunks, name, unit="kilosignal", leave=False, disable=len(chunks) == 1):
        dictionary = D if D.ndim == 2 else D[index]
        if recipe.labels == "published":
            parts.append(rule.iterates(y[index], dictionary, LAM, 100)[-1])
            continue
        codes = certified_codes(y[index].double(), dictionary.double(), LAM)
        if not bool(codes.certified.all()):
            raise SystemExit(f"expected certified labels, got {codes!r}; ask for more iterations")
        parts.append(codes.x.float())
    x = torch.cat(parts)
    if kept is not None:
        put(kept, {"key": key, "x": x})
    return x


def made(recipe: Recipe) -> AbstractUnfolding:
    """The network at its start."""
    if recipe.network == "lista":
        base = unit_columns(torch.randn(N, M, generator=torch.Generator().manual_seed(recipe.seed)))
        return LISTA(base, recipe.unfoldings)
    return NETWORKS[recipe.network](N, recipe.unfoldings)


def predicted(network: AbstractUnfolding, y: Tensor, D: Dictionaries) -> Tensor:
    """Codes `(N, m)`, as a network of either kind gives them."""
    return network.codes(y) if isinstance(network, LISTA) else network.codes(y, D, y.new_full((1, 1), LAM))


@torch.no_grad()
def error(network: AbstractUnfolding, signals: Signals) -> float:
    """The mean of |x - label|^2."""
    return float((predicted(network, signals.y, Dictionaries(signals.D)) - signals.x).square().sum(1).mean())


def named(recipe: Recipe) -> str:
    """The name of a network's file."""
    return f"{recipe.scenario}-{recipe.network}-{recipe.unfoldings}"


def train(recipe: Recipe, out: pathlib.Path) -> dict:
    """Train one network, on from where `out` has it; returns its test errors after each epoch, and its seconds."""
    torch.manual_seed(recipe.seed)
    network, name = made(recipe), named(recipe)
    optimiser = torch.optim.SGD(network.parameters(), recipe.rate, 0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, recipe.drop, 0.1)
    kept, parts = out / f"{name}.pt", {"network": network, "optimiser": optimiser, "schedule": schedule}
    state = taken_up(kept, {"recipe": dataclasses.asdict(recipe), "errors": [], "seconds": 0.0}, **parts)
    first = len(state["errors"])
    if first == recipe.epochs:
        return state
    signals, tests = draw(recipe, False, out), draw(recipe, True, out)
    with tqdm(total=recipe.epochs, initial=first, desc=name, unit="epoch", mininterval=1) as bar:
        for epoch in range(first, recipe.epochs):
            started = time.process_time()
            g = torch.Generator().manual_seed(1000 * recipe.seed + epoch)
            for index in torch.randperm(len(signals.y), generator=g).split(recipe.batch):
                optimiser.zero_grad()
                y, D, x = signals.part(index)
                (predicted(network, y, D) - x).square().sum().backward()
                optimiser.step()
            schedule.step()
            state["errors"].append(error(network, tests))
            state["seconds"] += time.process_time() - started
            if not state["errors"][-1] < float("inf"):
                raise SystemExit(f"{name} left the finite numbers in epoch {epoch + 1}; pass another --seed")
            bar.update()
            bar.set_postfix_str(f"test {state['errors'][-1]:.2e}")
            keep(kept, state, **parts)
    return state


BASELINES = {
    "ista": ProximalGradient,
    "fista": lambda step: ProximalGradient(step=step, momentum=True),
    "ista, unit steps": lambda _: ProximalGradient(step=1.0),
    "fista, restarted": lambda _: ProximalGradient(momentum=True, restart=True),
    "ista, backtracking": lambda _: ProximalGradient(backtracking=True),
    "fista, backtracking, restarted": lambda _: ProximalGradient(momentum=True, restart=True, backtracking=True),
}


def baselines(recipe: Recipe, most: int, out: pathlib.Path | None = None) -> dict[str, list[float]]:
    """Errors after T + 1 = 1, ..., most + 1 iterations of what is not learned."""
    tests = draw(recipe, True, out)
    errors = {}
    for name, rule in BASELINES.items():
        x = rule(tests.step).iterates(tests.y, tests.D, LAM, most + 1)
        errors[name] = (x - tests.x).square().sum(2).mean(1).tolist()
    return errors


@torch.no_grad()
def scattered(recipe: Recipe, depths: list[int], count: int, out: pathlib.Path) -> dict[str, dict[int, list[float]]]:
    """Errors on `count` draws of tests, by T, of the networks in `out` and of unit steps, which nothing was learned for."""
    networks = {T: made(dataclasses.replace(recipe, unfoldings=T)) for T in depths}
    for T, network in networks.items():
        kept = out / f"{named(dataclasses.replace(recipe, unfoldings=T))}.pt"
        network.load_state_dict(torch.load(kept, weights_only=True)["network"])
    found: dict[str, dict[int, list[float]]] = {name: {T: [] for T in depths} for name in ("learned", "ista, unit steps")}
    for number in tqdm(range(count), "draws of tests", unit="draw", leave=False):
        tests = draw(recipe, True, number=number)
        x = ProximalGradient(step=1.0).iterates(tests.y, tests.D, LAM, max(depths) + 1)
        for T, network in networks.items():
            found["learned"][T].append(error(network, tests))
            found["ista, unit steps"][T].append(float((x[T] - tests.x).square().sum(1).mean()))
    return found


def table(results: dict, recipe: Recipe) -> str:
    """What was measured, as markdown: a line for each T and solver of the scenario."""
    lines = [
        f"{recipe.scenario}: {recipe.signals} signals, {recipe.epochs} epochs, labels {recipe.labels}, seed {recipe.seed}; "
        f"mean squared error on {recipe.tests} tests",
        "",
        "| T | " + " | ".join((recipe.network, "published", "after 1 / 4 of the epochs", *results["baselines"])) + " |",
        "|---" * (4 + len(results["baselines"])) + "|",
    ]
    published = PUBLISHED.get((recipe.scenario, recipe.network), {})
    for T, found in results["networks"].items():
        others = [f"{errors[int(T)]:.1e}" for errors in results["baselines"].values()]
        said = f"{published[int(T)]:.1e}" if int(T) in published else ""
        early = found["errors"][max(0, recipe.epochs // 4 - 1)]
        lines.append("| " + " | ".join((str(T), f"{found['errors'][-1]:.1e}", said, f"{early:.1e}", *others)) + " |")
    for name, by_depth in results.get("draws", {}).items():
        lines.append("")
        for T, errors in by_depth.items():
            mean, ends = sum(errors) / len(errors), f"{min(errors):.1e} to {max(errors):.1e}"
            lines.append(f"T = {T}, {name}: {mean:.2e} in the mean of {len(errors)} draws of tests, {ends} in one")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=SCENARIOS, default="permuted")
    parser.add_argument("--network", choices=tuple(NETWORKS), default="ada-lista")
    parser.add_argument("--unfoldings", default="0,2,4", help="T, with commas between")
    parser.add_argument("--labels", choices=("certified", "published"), default="certified")
    parser.add_argument("--quick", action="store_true", help="1,000 signals, 10 epochs")
    parser.add_argument("--signals", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=0, help="of tests, on which trained networks are looked at besides")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("ada_lista"))
    asked = parser.parse_args(arguments)
    if not all(word.isdigit() for word in asked.unfoldings.split(",")):
        parser.error(f"expected --unfoldings as whole numbers with commas between, got {asked.unfoldings!r}")
    given = {name: getattr(asked, name) for name in ("signals", "epochs") if getattr(asked, name) is not None}
    small = {"signals": 1000, "tests": 200, "epochs": 10} if asked.quick else {}
    recipe = Recipe(asked.scenario, asked.network, labels=asked.labels, seed=asked.seed, **(small | given))
    recipe = dataclasses.replace(recipe, drop=max(1, recipe.epochs // 4))
    depths = sorted({int(word) for word in asked.unfoldings.split(",")})
    asked.out.mkdir(parents=True, exist_ok=True)
    networks = {T: train(dataclasses.replace(recipe, unfoldings=T), asked.out) for T in depths}
    results = {"networks": networks, "baselines": baselines(recipe, max(depths), asked.out)}
    if asked.draws > 0:
        results["draws"] = scattered(recipe, depths, asked.draws, asked.out)
    record = {"recipe": dataclasses.asdict(recipe), "torch": torch.__version__, **results}
    write_whole(asked.out / f"{recipe.scenario}-{recipe.network}.json", (json.dumps(record, indent=1) + "\n").encode())
    print(table(results, recipe))


if __name__ == "__main__":
    main()
