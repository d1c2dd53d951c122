"""The MNIST experiment: six ways to invert a generator of digits, with everything seen, with pixels hidden, half an image.

    python problems/inversions/mnist.py                 512 signals, all methods (a stopped run goes on where it stopped)
    python problems/inversions/mnist.py --quick         8 signals, a short gradient descent: a minute

Generator: 20-128-392-784, batch norm and ReLU twice, a piecewise linear unit last, trained as a GAN with spectral
normalisation: `mnist_gan`, which ships with the package (the paper's own weights are not public). Signals are its own
samples y = G(z), z ~ N(0, I). Three settings: everything seen; 45 % of the pixels of each image hidden at random; the upper
13 of 28 rows hidden.

Methods: the oracle, which knows every support; latent pursuit and layered basis pursuit, with their debiasing; gradient
descent, 10,000 steps with momentum 0.9; Levenberg-Marquardt from one random start; hybrid. Measured per layer, after a
forward pass from the z that was found: SNR = 20 log10(|x| / |x - x'|) dB per signal, median and the 10, 25, 75 and 90 %
quantiles. Nothing of the true z reaches a method but the oracle.

What the source says must happen: (1) with everything seen, latent pursuit is on par with the oracle; (2) it is far better
than gradient descent, which often fails even on the image; (3) with pixels hidden at random it stays above gradient descent,
slightly below the oracle; (4) the same with the upper rows hidden. The source prints no SNR, so "on par" is taken as a
median within 3 dB of the oracle's.

Source: Aberdam, Simon, Elad, "When and How Can Deep Generative Models be Inverted?" (2020), section 6.2 and figures 5 to
13. That 45 % are hidden, 10,000 steps and 512 signals are as recalled; 13 of 28 rows stand in the text.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci

SETTINGS = ("everything seen", "45 % hidden", "upper rows hidden")
METHODS = ("oracle", "latent_pursuit", "layered_basis_pursuit", "gradient_descent", "levenberg_marquardt", "hybrid")
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
ON_PAR = 3.0  # dB
SHOWN = 10  # signals in a picture
# of each method in a picture: colours that stay apart for colour-blind readers (Okabe and Ito), and markers
LOOKS = (("#111111", "o"), ("#0072b2", "s"), ("#56b4e9", "D"), ("#e69f00", "v"), ("#d55e00", "^"), ("#009e73", "P"))


@dataclass(frozen=True)
class Plan:
    """What is run: signals and seeds, gradient steps, chunk size, and where the results go."""

    out: Path
    signals: int = 512
    steps: int = 10_000
    chunk: int = 64
    seed: int = 0
    generator: str = "mnist_gan"

    def options(self, method: str) -> dict[str, Any]:
        """Keywords of `cvxinv.invert` for one method."""
        if method == "gradient_descent":
            return {"max_iter": self.steps, "momentum": 0.9}
        return {}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run, or go on with, the experiment; print the tables; write pictures and `results.json`. Returns the results."""
    plan = _read(arguments)
    plan.out.mkdir(parents=True, exist_ok=True)
    _refuse_other_plan(plan)
    G = ci.load_generator(plan.generator).to(torch.float64)
    z = G.sample_latent(plan.signals, torch.Generator().manual_seed(plan.seed))
    x = G(z)
    found: dict[str, dict[str, dict[str, Tensor]]] = {setting: {} for setting in SETTINGS}
    pictures: dict[str, dict[str, ci.Inversion]] = {setting: {} for setting in SETTINGS}
    chunks = -(-plan.signals // plan.chunk)
    with tqdm(total=len(SETTINGS) * len(METHODS) * chunks, unit="chunk", desc="section 6.2", disable=None) as bar:
        for setting in SETTINGS:
            seen = visible(setting, plan.signals, G.signal_dim, plan.seed)
            for method in METHODS:
                bar.set_postfix_str(f"{setting}, {method}")
                found[setting][method] = _all_chunks(plan, G, x, z, seen, setting, method, bar.update)
                pictures[setting][method] = ci.Inversion.load(_folder(plan, setting, method) / "shown")
    results = _results(plan, found)
    _write_json(plan.out / "results.json", results)
    print(report(results))
    _draw(plan, results, pictures, x, {s: visible(s, plan.signals, G.signal_dim, plan.seed) for s in SETTINGS})
    return results


def visible(setting: str, signals: int, d: int, seed: int) -> Tensor:
    """Bool mask `(signals, d)`, True where seen."""
    if setting == "everything seen":
        return torch.ones(signals, d, dtype=torch.bool)
    if setting == "45 % hidden":
        return torch.rand(signals, d, generator=torch.Generator().manual_seed(seed + 1)) >= 0.45
    mask = torch.ones(28, 28, dtype=torch.bool)
    mask[:13] = False
    return mask.reshape(1, d).expand(signals, d).clone()


# --- running --------------------------------------------------------------------------------------


def _all_chunks(
    plan: Plan, G: ci.Generator, x: Tensor, z: Tensor, seen: Tensor, setting: str, method: str, tick: Callable[[], object]
) -> dict[str, Tensor]:
    """SNRs per quantity, what is explained, and seconds of one method in one setting, from files where they are."""
    folder, parts = _folder(plan, setting, method), []
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, plan.signals, plan.chunk)):
        path = folder / f"chunk-{number:03d}.safetensors"
        if not path.exists():
            _run_chunk(plan, G, x, z, seen, slice(start, start + plan.chunk), method, path)
        parts.append(load_file(path))
        tick()
    names = sorted(parts[0], key=lambda name: (name != "snr z", not name.startswith("snr hidden"), name))
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def _run_chunk(
    plan: Plan, G: ci.Generator, x: Tensor, z: Tensor, seen: Tensor, part: slice, method: str, path: Path
) -> None:
    started = time.perf_counter()
    # hidden pixels hold NaN: whoever read them would show it
    y = torch.where(seen[part], x[part], torch.nan)
    result = ci.invert(
        G, y, method, measurement=seen[part], truth=z[part], seed=plan.seed, on_fail="ignore", progress=False,
        **plan.options(method),
    )  # fmt: skip
    seconds = torch.full((len(result),), (time.perf_counter() - started) / len(result), dtype=torch.float64)
    if part.start == 0:
        result[: min(SHOWN, len(result))].save(path.parent / "shown")
    tensors = {f"snr {name}": value.double() for name, value in result.snr.items()}
    tensors |= {"explained": result.verdict.explained.double(), "determined": result.determined.double(), "seconds": seconds}
    half = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in tensors.items()}, half)
    os.replace(half, path)


def _folder(plan: Plan, setting: str, method: str) -> Path:
    return plan.out / setting.replace(" ", "-").replace("%", "percent") / method


def _refuse_other_plan(plan: Plan) -> None:
    """A folder holds one plan: going on with another one would mix their numbers."""
    note = {
        "signals": plan.signals,
        "steps": plan.steps,
        "chunk": plan.chunk,
        "seed": plan.seed,
        "generator": plan.generator,
    }
    path = plan.out / "plan.json"
    if path.exists() and json.loads(path.read_text()) != note:
        raise SystemExit(
            f"expected the plan {path.read_text().strip()} that {plan.out} was begun with, got {note}; use --out"
        )
    _write_json(path, note)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    half = path.with_suffix(".part")
    half.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(half, path)


# --- what came out --------------------------------------------------------------------------------


def _results(plan: Plan, found: dict[str, dict[str, dict[str, Tensor]]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for setting, methods in found.items():
        table[setting] = {}
        for method, tensors in methods.items():
            quantiles = torch.tensor(QUANTILES, dtype=torch.float64)
            rows = {
                name.removeprefix("snr "): [round(float(q), 2) for q in torch.quantile(value, quantiles)]
                for name, value in tensors.items()
                if name.startswith("snr ")
            }
            table[setting][method] = {
                "snr_db": rows,
                "explained": int(tensors["explained"].sum()),
                "determined": int(tensors["determined"].sum()),
                "seconds_per_signal": round(float(tensors["seconds"].mean()), 5),
            }
    return {
        "generator": plan.generator, "signals": plan.signals, "gradient_steps": plan.steps, "seed": plan.seed,
        "quantiles": list(QUANTILES), "settings": table, "claims": claims(table),
        "versions": {"cvxinv": ci.__version__, "torch": torch.__version__}, "dtype": "float64",
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def claims(table: dict[str, Any]) -> list[dict[str, Any]]:
    """What the source says must happen, and whether it did; medians of the SNR of z in dB."""
    found = []
    for setting, methods in table.items():
        mid = {method: entry["snr_db"]["z"][QUANTILES.index(0.5)] for method, entry in methods.items()}
        oracle, pursuit, descent = mid["oracle"], mid["latent_pursuit"], mid["gradient_descent"]
        found.append(
            {
                "setting": setting,
                "claim": f"latent pursuit within {ON_PAR:g} dB of the oracle",
                "numbers": f"{pursuit:.0f} dB against {oracle:.0f} dB",
                "held": pursuit >= oracle - ON_PAR,
            }
        )
        found.append(
            {
                "setting": setting,
                "claim": "latent pursuit above gradient descent",
                "numbers": f"{pursuit:.0f} dB against {descent:.0f} dB",
                "held": pursuit > descent,
            }
        )
    image = table[SETTINGS[0]]["gradient_descent"]
    found.append(
        {
            "setting": SETTINGS[0],
            "claim": "gradient descent often fails even on the image",
            "numbers": f"a quarter below {image['snr_db']['signal'][1]:.0f} dB; {image['explained']} explained",
            "held": image["snr_db"]["signal"][1] < 20,
        }
    )
    return found


def report(results: dict[str, Any]) -> str:
    """The tables and the claims as markdown."""
    lines = [f"{results['signals']} signals of {results['generator']}; SNR in dB: median (10 % to 90 %)", ""]
    for setting, methods in results["settings"].items():
        names = list(next(iter(methods.values()))["snr_db"])
        lines += [f"### {setting}", "", "| method | " + " | ".join(names) + " | explained | s per signal |"]
        lines += ["|---" * (len(names) + 3) + "|"]
        for method, entry in methods.items():
            cells = [f"{q[2]:.0f} ({q[0]:.0f} to {q[4]:.0f})" for q in entry["snr_db"].values()]
            lines.append(f"| {method} | {' | '.join(cells)} | {entry['explained']} | {entry['seconds_per_signal']:.3f} |")
        lines.append("")
    lines += ["| setting | the source says | measured | held |", "|---|---|---|---|"]
    lines += [
        f"| {c['setting']} | {c['claim']} | {c['numbers']} | {'yes' if c['held'] else 'no'} |" for c in results["claims"]
    ]
    return "\n".join(lines)


def _draw(
    plan: Plan,
    results: dict[str, Any],
    pictures: dict[str, dict[str, ci.Inversion]],
    x: Tensor,
    seen: dict[str, Tensor],
) -> None:
    """The SNRs per layer and a grid of images for each setting."""
    from cvxinv.pages.plots import image_grid

    for setting in SETTINGS:
        stem = setting.replace(" ", "-").replace("%", "percent")
        snr_picture(results, setting).savefig(plan.out / f"snr-{stem}.png", dpi=110)
        shown = min(SHOWN, plan.signals, plan.chunk)
        mask = None if setting == "everything seen" else seen[setting][:shown]
        grid = image_grid(
            pictures[setting],
            x[:shown],
            visible=mask,
            shape=(28, 28),
            limits=(-1.0, 1.0),
            title=f"{setting}: SNR of z in dB",
        )
        grid.savefig(plan.out / f"images-{stem}.png", dpi=110)
    print(f"pictures and results.json in {plan.out}")


def snr_picture(results: dict[str, Any], setting: str) -> Any:
    """One panel per layer, one row per method: the median, and the ranges of half and of 80 % of the signals."""
    from matplotlib.figure import Figure

    methods = results["settings"][setting]
    names = list(next(iter(methods.values()))["snr_db"])
    figure = Figure(figsize=(2.9 * len(names) + 1.2, 3.2), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, sharex=True)
    rows = range(len(methods))
    for panel, name in zip(panels, names, strict=True):
        for row, (colour, marker), entry in zip(rows, LOOKS, methods.values(), strict=True):
            low, quarter, middle, three, high = entry["snr_db"][name]
            panel.plot([low, high], [row, row], color=colour, linewidth=1.2)
            panel.plot([quarter, three], [row, row], color=colour, linewidth=5, alpha=0.5, solid_capstyle="butt")
            panel.plot([middle], [row], marker, color=colour, markersize=7, markeredgecolor="white")
        panel.set_title(name)
        panel.set_xlabel("SNR, dB")
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_xlim(-25, 345)
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    panels[0].set_yticks(list(rows), [f"{name}\n{e['explained']} explained" for name, e in methods.items()], fontsize=8)
    figure.suptitle(f"{setting}, {results['signals']} signals: median, half (thick) and 80 % (thin) of them", fontsize=11)
    return figure


def _read(arguments: list[str] | None) -> Plan:
    parser = argparse.ArgumentParser(description="The MNIST experiment of Aberdam, Simon, Elad (2020), section 6.2.")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results (mnist-6.2, or mnist-6.2-quick)")
    parser.add_argument("--signals", type=int, default=512, help="signals (default 512)")
    parser.add_argument("--steps", type=int, default=10_000, help="steps of gradient descent (default 10,000)")
    parser.add_argument("--chunk", type=int, default=64, help="signals at a time (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed of latents and masks (default 0)")
    parser.add_argument("--generator", default="mnist_gan", help="another generator of 28x28 images")
    parser.add_argument("--quick", action="store_true", help="8 signals and 200 gradient steps")
    given = parser.parse_args(arguments)
    out = given.out or Path("mnist-6.2-quick" if given.quick else "mnist-6.2")
    if given.quick:
        return Plan(out, 8, 200, 8, given.seed, given.generator)
    if given.signals < 1 or given.steps < 1 or given.chunk < 1:
        parser.error("--signals, --steps and --chunk must be at least 1")
    return Plan(out, given.signals, given.steps, given.chunk, given.seed, given.generator)


if __name__ == "__main__":
    main()
