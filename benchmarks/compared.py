"""Every method of inversion on three trained generators: which to take where, and where the default is not the one.

    python benchmarks/compared.py [--only NAME] [--out benchmarks/results] [--runs compared-runs]
    python benchmarks/compared.py --only 20_ --again "clean,45 % hidden" --runs again-runs  # these tables, after a change
    python benchmarks/compared.py --quick        # the shipped digits, two settings, four signals: to see that it runs

Generators of the folder CVXINV_DATA: two dense ones, 8 signals each, and a convolutional one, 4 signals, their own samples.
Settings: clean; 45 % of the entries hidden; seen through a Gaussian matrix of n0 + 2, n0 + 5, 2 n0 and d / 10 rows, n0
latents and d entries; gaussian noise of 1 and 10 % of the signals' root mean square, its level stated. Every method of
`cvxinv.METHODS` runs (`cvxinv.compare`): 10 random starts at most, and for each signal at most the seconds of `LIMITS`. A
method that had more time might do better: what is compared is what comes within that time on one thread of this machine.
Seconds, of limits too, are processor seconds of this process, so that what else runs here takes nothing from anybody.

So few signals that the whole takes half an hour and can be run anew on one commit: what two methods differ by on one or two
of them may be chance, and the recommendations say so.

A stopped run goes on where it stopped, in the folder --runs, on the commit it began on: tables of several commits compare
nothing. Results: compared_cpu.json, .md, .png in --out, written anew after each comparison; of tables that are compared
again, compared_again_cpu.json, .md.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from measuring import circumstances
from runs import begin, load_after, write
from tables import Table
from tqdm import tqdm

import cvxinv as ci
from cvxinv.inversion import progress
from cvxinv.inversion.comparing import bench
from cvxinv.inversion.comparing.recommending import time_words, where_not_best
from cvxinv.inversion.runs import watch, work

GENERATORS = {
    "csinva_vae_20_400_784": 8,
    "lei_vae_relu_20_60_784_nobias": 8,
    "aman_fashion_dcgan_28x28": 4,
}
LIMITS = {"csinva_vae_20_400_784": 0.5, "lei_vae_relu_20_60_784_nobias": 0.5, "aman_fashion_dcgan_28x28": 3.0}
HIDDEN, RESTARTS, DEFAULT = 0.45, 10, "hybrid"
WHY = (
    "Why, where only time tells: where a layered start is predicted to cost more than one of Levenberg-Marquardt, hybrid "
    "begins as that does, and both take about as long; of 8 signals one that this start does not meet goes on to the layers "
    "alone, which costs as much as all the others. Where layers are predicted to be cheaper they come first, and few "
    "signals pay calls more than multiplications. In noise, and where a Jacobian is dear, hybrid begins with what it learns "
    "from the generator's own samples, once for each generator: of so few signals each pays much of that. Where m is near "
    "n0, these starts find more z than any other method does."
)
_KNOWN = ("recommendation", "method", "knows_the_truth")  # in the page, or by a row's name: a file is no longer than 200 kB
_MARKS = "osv^D*PXdp<>hH8"


@dataclass(frozen=True)
class Setting:
    """How signals are seen: a name, and what `compare` is told of it."""

    name: str
    told: dict[str, Any]


def settings(G: ci.Generator, N: int) -> list[Setting]:
    n0, d = G.latent_dim, G.signal_dim
    mask = torch.rand(N, d, generator=torch.Generator().manual_seed(1)) > HIDDEN
    level = float(G(G.sample_latent(200, torch.Generator().manual_seed(2))).double().square().mean().sqrt())
    return [
        Setting("clean", {}),
        Setting("45 % hidden", {"measurement": mask}),
        *(Setting(f"m = {words} = {m}", {"measurements": m}) for words, m in rows_of(n0, d).items()),
        *(Setting(f"noise {share:.0%}", {"noise": ("gaussian", share * level)}) for share in (0.01, 0.1)),
    ]


def rows_of(n0: int, d: int) -> dict[str, int]:
    return {"n0 + 2": n0 + 2, "n0 + 5": n0 + 5, "2 n0": 2 * n0, "d / 10": d // 10}


def plan(quick: bool, only: str, again: list[str]) -> list[tuple[str, int, float, Setting]]:
    """What is compared: generator, signals, seconds for each of them, setting; again: names of settings, none for all."""
    if quick:
        G = ci.load_generator("digits_8x8")
        return [("digits_8x8", 4, 0.2, setting) for setting in settings(G, 4) if setting.name in ("clean", "45 % hidden")]
    found = []
    for name, N in GENERATORS.items():
        if only in name:
            wanted = [s for s in settings(load(name), N) if not again or s.name in again]
            found += [(k, name, N, LIMITS[name], setting) for k, setting in enumerate(wanted)]
    # setting by setting, so that a stopped run has something of each generator
    return [step[1:] for step in sorted(found, key=lambda step: step[0])]


@contextmanager
def processor_seconds() -> Iterator[None]:
    """While it lasts, limits look at this process's own time, and reports count it."""
    clock = SimpleNamespace(time=time.process_time, perf_counter=time.process_time)
    with ExitStack() as stack:
        for module in (bench, progress, watch, work):
            stack.enter_context(patch.object(module, "time", clock))
        yield


def load(name: str) -> ci.Generator:
    if name == "digits_8x8":
        return ci.load_generator(name)
    return ci.load_generator(Path(os.environ["CVXINV_DATA"]) / "generators" / f"{name}.safetensors")


def same_commit(runs: Path, commit: str) -> None:
    """Raises SystemExit where the folder holds runs of another commit than this one."""
    runs.mkdir(parents=True, exist_ok=True)
    noted = runs / "commit"
    if not noted.exists():
        noted.write_text(f"{commit}\n")
    elif (before := noted.read_text().strip()) != commit:
        raise SystemExit(
            f"expected runs of commit {commit} in {runs}, got those of {before}; go on there, or name other --runs"
        )


def folder_of(name: str, setting: Setting, runs: Path) -> Path:
    return runs / name / "".join(c if c.isalnum() else "-" for c in setting.name)


def compared(name: str, N: int, limit: float, setting: Setting, runs: Path) -> ci.Comparison:
    folder = folder_of(name, setting, runs)
    with processor_seconds():
        return ci.compare(
            load(name), samples=N, restarts=RESTARTS, signal_time_limit=limit, progress=False, checkpoint=folder,
            resume=True, **setting.told,
        )  # fmt: skip


# --- what came out --------------------------------------------------------------------------------


def is_noisy(found: ci.Comparison) -> bool:
    return found.settings["noise"] is not None


def count(row: ci.ComparisonRow, noisy: bool) -> str:
    """How many true latents were found, in noise how many signals are explained; in what time."""
    if not row.ran:
        return row.outcome
    those = row.explained if noisy or row.succeeded is None else row.succeeded
    return f"{int(those.sum())} of {row.N}, {time_words(row.seconds_per_signal)}"


def overview(found: dict[tuple[str, str], ci.Comparison], name: str) -> Table:
    """A row per setting, a column per method."""
    mine = {setting: one for (generator, setting), one in found.items() if generator == name}
    methods = list(dict.fromkeys(row.name for one in mine.values() for row in one.rows))
    rows = []
    for setting, one in mine.items():
        by_name = {row.name: row for row in one.rows}
        cells = [count(by_name[m], is_noisy(one)) if m in by_name else "" for m in methods]
        cells = [f"**{cell}**" if m == one.advice.best else cell for m, cell in zip(methods, cells, strict=True)]
        rows.append((setting, *cells))
    title = f"{name}: true z found (noise: signals explained), time per signal; bold: the one to take"
    return Table(title, ("setting", *methods), rows)


def not_best(found: dict[tuple[str, str], ci.Comparison]) -> tuple[list[str], list[str]]:
    """Where the default is not the one to take: by what it finds, and by time alone."""
    by_answers, by_time = [], []
    for (name, setting), one in found.items():
        noisy = is_noisy(one)
        words = where_not_best(one.rows, DEFAULT, noisy)
        if words:
            alone = "time per signal" in words
            (by_time if alone else by_answers).append(f"{name}, {setting}: {words}")
    return by_answers, by_time


def markdown(found: dict[tuple[str, str], ci.Comparison], record: dict[str, Any]) -> str:
    names = list(dict.fromkeys(name for name, _ in found))
    c = record["circumstances"]
    limits = ", ".join(f"{name} {limit:g}" for name, limit in record["limits"].items())
    ran = next(iter(found.values())).versions
    types = list(dict.fromkeys(f"{one.versions['signals in']}" for one in found.values()))
    parts = [
        "# Methods of inversion compared", "",
        f"`{record['command']}`: {RESTARTS} random starts at most; processor seconds for each signal at most: {limits}. "
        f"{c['processor']}, one thread, {ran['device']}, commit {c['commit']}, {c['date']}, load {c['load'][0]:.1f} at the "
        f"beginning; torch {ran['torch']}, numpy {ran['numpy']}, cvxpy {ran['cvxpy']}, Python {c['python']}; signals in "
        f"{', '.join(types)}, computed in {ran['dtype']}. A method that the time limit cut is judged by what it had.", "",
    ]  # fmt: skip
    for name in names:
        parts += [overview(found, name).markdown(), ""]
    answers, time_ = not_best(found)
    parts += ["## Where hybrid is not the best of the table: where and why", ""]
    parts += [f"- {line}" for line in answers] or ["By what is found or explained: nowhere."]
    parts += [
        "",
        f"By time alone, finding as much ({len(time_)} of {len(found)} settings):",
        "",
        *(f"- {x}" for x in time_),
        "",
        WHY,
        "",
    ]
    parts += ["", "## Recommendation of each table", ""]
    for (name, setting), one in found.items():
        parts += [
            f"### {name}, {setting}",
            "",
            one.table(),
            "",
            one.recommendation,
            "",
            *(f"- {r}" for r in one.remarks()),
            "",
        ]
    return "\n".join(parts)


def draw(found: dict[tuple[str, str], ci.Comparison], path: Path) -> None:
    """One panel per generator: a line per method over the settings."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(name for name, _ in found))
    figure, panels = plt.subplots(len(names), 1, figsize=(11, 4.2 * len(names)), layout="constrained", squeeze=False)
    every = list(dict.fromkeys(row.name for one in found.values() for row in one.rows))
    for axes, name in zip(panels[:, 0], names, strict=True):
        mine = {setting: one for (generator, setting), one in found.items() if generator == name}
        methods = list(dict.fromkeys(row.name for one in mine.values() for row in one.rows if row.ran))
        for k, method in enumerate(methods):
            ys = [share(one, method) for one in mine.values()]
            x = [i + 0.5 * (k / max(1, len(methods) - 1) - 0.5) for i in range(len(ys))]
            wide = {"markersize": 9, "zorder": 3} if method == DEFAULT else {"markersize": 6}
            colour, mark = matplotlib.colormaps["tab20"](every.index(method) % 20), _MARKS[every.index(method) % len(_MARKS)]
            axes.plot(x, ys, mark, color=colour, label=method, **wide)
        axes.set_xticks(range(len(mine)), list(mine), rotation=20, ha="right", fontsize=8)
        axes.set(ylim=(-4, 104), ylabel="true z found, % of the signals\n(in noise: explained, %)", title=name)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def rounded(value: Any) -> Any:
    """Numbers in three digits, as so few signals tell no more; what holds nothing and what is `_KNOWN` left out."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items() if name not in _KNOWN and part not in (None, "", [], {})}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def share(one: ci.Comparison, method: str) -> float:
    row = next((row for row in one.rows if row.name == method and row.ran), None)
    if row is None:
        return float("nan")
    those = row.explained if is_noisy(one) or row.succeeded is None else row.succeeded
    return 100 * float(those.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the shipped digits, two settings, four signals")
    parser.add_argument("--only", default="", help="part of a generator's name")
    parser.add_argument("--again", default="", help="settings, e.g. 'clean,45 %% hidden', whose tables are compared again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--runs", type=Path, help="folder that keeps the runs; compared-runs, of --quick a temporary one")
    asked = parser.parse_args()
    begin("cpu")
    if not asked.quick and not os.environ.get("CVXINV_DATA"):
        raise SystemExit("skipped: CVXINV_DATA is not set; it names a folder with generators/")
    with tempfile.TemporaryDirectory() as folder:
        go(asked, asked.runs or (Path(folder) if asked.quick else Path("compared-runs")))


def go(asked: argparse.Namespace, runs: Path) -> None:
    stem = "compared_quick" if asked.quick else "compared_again_cpu" if asked.again else "compared_cpu"
    found: dict[tuple[str, str], ci.Comparison] = {}
    steps, started = plan(asked.quick, asked.only, asked.again.split(",") if asked.again else []), circumstances("cpu")
    command = f"python benchmarks/compared.py{' --quick' if asked.quick else ''}"
    command += f' --only {asked.only} --again "{asked.again}"' if asked.again else ""
    record: dict[str, Any] = {"command": command, "circumstances": started, "restarts": RESTARTS}
    record["limits"] = {name: limit for name, _, limit, _ in steps}
    same_commit(runs, started["commit"] + (" changed" if started["changed"] else ""))
    for name, _, _, setting in steps:  # of a run that goes on, what is known already
        if (folder_of(name, setting, runs) / "comparison.json").exists():
            found[name, setting.name] = ci.Comparison.load(folder_of(name, setting, runs))
    for name, N, limit, setting in tqdm(steps, desc="compared", unit="table", disable=None):
        found[name, setting.name] = compared(name, N, limit, setting, runs)
        answers, by_time = not_best(found)
        record["not_best"] = {"by_answers": answers, "by_time_alone": by_time}
        tables = [{"generator": n, "setting": s} | rounded(one.to_dict()) for (n, s), one in found.items()]
        write(asked.out, stem, record | load_after(record) | {"tables": tables}, markdown(found, record))
    if not asked.again:
        draw(found, asked.out / f"{stem}.png")
    for name in dict.fromkeys(name for name, _ in found):
        print(overview(found, name).markdown())
    print("\n".join(not_best(found)[0]) or "by what is found or explained hybrid is nowhere behind")


if __name__ == "__main__":
    main()
