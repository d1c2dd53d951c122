"""Tables and picture of what `problems/training/ada_lista.py` measured, beside what the source's pictures say.

    python problems/sparse/ada_lista.py                # trains what is missing, into ada_lista/: hours, with resume
    python problems/sparse/ada_lista.py --quick        # networks that have hardly begun
    python problems/sparse/ada_lista.py DIR [DIR ...]  # folders of that script; writes problems/sparse/results/ada_lista.*
    python problems/sparse/ada_lista.py DIR --update   # what DIR does not have stays as it stands in the results

Published numbers were decoded from the vector pictures in the authors' repository (`sparse` note 1.8).
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

from cvxinv.files import write_whole

HERE = Path(__file__).resolve().parent
WORDS = (
    ("--scenario", "permuted", "--unfoldings", "0,1,2,3,4,6"),
    ("--scenario", "noisy"),
    ("--scenario", "noisy", "--network", "lista"),
    ("--scenario", "fixed", "--network", "lista"),
    ("--scenario", "random", "--draws", "20"),
)
EPOCHS = 200  # as published
SHOWN = ("ista, unit steps", "fista, backtracking, restarted", "fista", "ista")


def training() -> ModuleType:
    """The training script, of the same name as this one."""
    sys.path.insert(0, str(HERE.parent / "training"))
    return importlib.import_module("ada_lista")


def collect(folders: list[Path]) -> dict[str, dict]:
    """What stands in the records, by scenario, network and epochs, without what happened on the way."""
    found = {}
    for path in sorted(path for folder in folders for path in folder.glob("*-*.json")):
        record = json.loads(path.read_text())
        recipe = record["recipe"]
        errors = {T: one["errors"][-1] for T, one in record["networks"].items()}
        seconds = {T: one["seconds"] for T, one in record["networks"].items()}
        epochs = "" if recipe["epochs"] == EPOCHS else f", {recipe['epochs']} epochs"
        found[f"{recipe['scenario']} {recipe['network']}{epochs}"] = {
            "recipe": recipe, "errors": errors, "seconds": seconds, "baselines": record["baselines"],
        } | ({"draws": record["draws"]} if "draws" in record else {})  # fmt: skip
    if not found:
        raise SystemExit(f"expected records of the training script in {folders}, got none; train first")
    return found


def table(found: dict[str, dict], told: dict) -> str:
    """A line for each scenario and T: learned, published, their ratio, and what is not learned."""
    heads = ("scenario", "network", "epochs", "T", "learned", "published", "ratio", *SHOWN)
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for one in found.values():
        recipe = one["recipe"]
        said = told.get((recipe["scenario"], recipe["network"]), {})
        for T, error in one["errors"].items():
            other = said.get(int(T))
            pair = (f"{other:.1e}", f"{error / other:.2f}") if other else ("", "")
            rest = [f"{one['baselines'][name][int(T)]:.1e}" for name in SHOWN]
            words = (recipe["scenario"], recipe["network"], str(recipe["epochs"]), T, f"{error:.1e}", *pair, *rest)
            lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines) + "".join(_draws(one, told) for one in found.values() if "draws" in one)


def _draws(one: dict, told: dict) -> str:
    """What other draws of tests make of the same networks: a line for each T."""
    recipe, draws = one["recipe"], one["draws"]
    said = told.get((recipe["scenario"], recipe["network"]), {})
    count = len(next(iter(draws["learned"].values())))
    heads = ("T", "learned, mean", "mean / published", "of one draw", "first draw", "unit steps, mean", "of one draw")
    name = f"{recipe['scenario']} {recipe['network']}, {recipe['epochs']} epochs"
    lines = [
        f"\n\n{name}, {count} draws of {recipe['tests']} tests:\n",
        "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|",
    ]  # fmt: skip
    for T, errors in draws["learned"].items():
        unit = draws["ista, unit steps"][T]
        mean, other, published = sum(errors) / count, sum(unit) / count, said.get(int(T))
        ratio = f"{mean / published:.2f}" if published else ""
        ends = [f"{min(x):.1e} to {max(x):.1e}" for x in (errors, unit)]
        words = (T, f"{mean:.1e}", ratio, ends[0], f"{errors[0]:.1e}", f"{other:.1e}", ends[1])
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def drawn(found: dict[str, dict], told: dict, path: Path) -> None:
    """Error against T, a panel for each scenario of an adaptive network."""
    from matplotlib.figure import Figure

    longest = sorted(found.values(), key=lambda one: one["recipe"]["epochs"])
    panels = {one["recipe"]["scenario"]: one for one in longest if one["recipe"]["network"] == "ada-lista"}
    panels = dict(sorted(panels.items()))
    figure = Figure(figsize=(3.3 * len(panels), 3.8), layout="constrained")
    looks = {
        "ista": ("#999999", "-", ""), "fista": ("#000000", "--", ""), "ista, unit steps": ("#D55E00", "-.", "s"),
        "fista, backtracking, restarted": ("#CC79A7", ":", "d"),
    }  # fmt: skip
    for axes, one in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.values(), strict=True):
        recipe = one["recipe"]
        for name, (colour, dashes, mark) in looks.items():
            axes.semilogy(one["baselines"][name], color=colour, ls=dashes, marker=mark, ms=4, label=name)
        axes.semilogy(
            [int(T) for T in one["errors"]], list(one["errors"].values()), color="#0072B2", marker="o", label="Ada-LISTA"
        )
        said = told[recipe["scenario"], recipe["network"]]
        shown = [T for T in said if T < len(one["baselines"]["ista"])]
        axes.semilogy(
            shown, [said[T] for T in shown], color="#0072B2", ls="", marker="x", ms=8, label="Ada-LISTA, published"
        )
        axes.set_title(f"{recipe['scenario']}, {recipe['epochs']} epochs", fontsize=9)
        axes.set_xlabel("T (steps less one)")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("mean |x - label|$^2$, 1000 tests")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=3, loc="outside lower center")
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, nargs="*", help="folders that the training script wrote")
    parser.add_argument("--quick", action="store_true", help="networks that have hardly begun")
    parser.add_argument("--update", action="store_true", help="keep from the results what the folders do not have")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args(arguments)
    script, folders = training(), asked.trained
    if not folders:
        folders = [Path("ada_lista-quick" if asked.quick else "ada_lista")]
        for words in WORDS:
            script.main([*words, *["--quick"] * asked.quick, "--out", str(folders[0])])
    found, told = collect(folders), script.PUBLISHED
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.update:
        found = dict(sorted((json.loads((asked.out / "ada_lista.json").read_text()) | found).items()))
    write_whole(asked.out / "ada_lista.json", (json.dumps(found, indent=1) + "\n").encode())
    write_whole(asked.out / "ada_lista.md", f"# Ada-LISTA: mean squared errors\n\n{table(found, told)}\n".encode())
    drawn(found, told, asked.out / "ada_lista.png")
    print(table(found, told))


if __name__ == "__main__":
    main()
