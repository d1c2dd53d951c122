"""Draw every picture in docs, and note what each was drawn by.

    python docs/pictures.py                   or `make pictures`: the demonstration, and the SNRs of the MNIST experiment
    python docs/pictures.py --mnist DIR       its images as well, from a folder of `python problems/inversions/mnist.py`
    python docs/pictures.py --networks DIR    the five networks as well, from a folder that training wrote
    python docs/pictures.py --looked-at       note what draws them today, where it draws the same as before

`pictures.json` holds, for each picture, a sum over the source that draws it and the numbers that it shows. A test compares
it with the source as it is: a picture that is older than what draws it fails.
"""

import argparse
import ast
import hashlib
import importlib.util
import json
import tempfile
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
NOTES = DOCS / "pictures.json"

PLOTS, DEMO = "cvxinv/pages/plots.py", "cvxinv/command/demo.py"
EXPERIMENT, NETWORKS = "problems/inversions/mnist.py", "problems/training/mnist_gan.py"
RESULTS = "problems/inversions/mnist_results.json"
STEMS = {"everything seen": "seen", "45 % hidden": "random", "upper rows hidden": "upper"}

# What draws each picture: functions of a file, with all in that file that they use, or a file of numbers.
DRAWN_BY: dict[str, tuple[str, ...]] = {
    "demo.png": (f"{PLOTS}:overview", f"{DEMO}:_picture"),
    **{f"mnist-snr-{stem}.png": (f"{EXPERIMENT}:snr_picture", RESULTS) for stem in STEMS.values()},
    **{f"mnist-images-{stem}.png": (f"{PLOTS}:image_grid", f"{EXPERIMENT}:visible") for stem in STEMS.values()},
    "exercises.png": ("docs/pictures.py:exercise_picture", "cvxinv/teaching/conditions.py", "cvxinv/teaching/drawing.py"),
    "mnist_gan.png": (f"{NETWORKS}:draw", f"{NETWORKS}:samples"),
}


def fingerprint(sources: tuple[str, ...]) -> str:
    """A sum over what draws a picture; comments, docstrings and layout of the source do not count."""
    total = hashlib.sha256()
    for source in sources:
        path, _, name = source.partition(":")
        total.update("\n".join(used(ROOT / path, name)).encode() if name else (ROOT / path).read_bytes())
    return total.hexdigest()[:16]


def used(path: Path, name: str) -> list[str]:
    """A function of a file and all definitions in that file that it uses, directly or through others, as bare source."""
    tree = ast.parse(path.read_text())
    defined: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {part.id: node for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    found, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            names = {part.id for part in ast.walk(defined[current]) if isinstance(part, ast.Name)}
            waiting += sorted(names & set(defined))
    return [bare(defined[one]) for one in sorted(found)]


def bare(node: ast.stmt) -> str:
    """Source without docstrings."""
    copy = ast.parse(ast.unparse(node))
    for part in ast.walk(copy):
        if isinstance(part, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(part) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    return ast.unparse(copy)


def explained(report: dict) -> dict[str, int]:
    """How many signals each row of the demonstration's table explains: the numbers that its picture shows."""
    found = {}
    for row in report["rows"]:
        noise = ", noise stated" if row["noise_stated"] else ""
        found[f"{row['data']}, {row['seen']}, {row['method']}{noise}"] = row["statuses"].get("explained", 0)
    return found


# --- drawing --------------------------------------------------------------------------------------


def draw_demo() -> dict:
    """The demonstration with its defaults; returns what its picture shows."""
    from cvxinv.command.demo import PICTURE, run_demo

    with tempfile.TemporaryDirectory() as folder:
        report = run_demo(folder)
        (DOCS / "demo.png").write_bytes((Path(folder) / PICTURE).read_bytes())
    return {"demo.png": {"explained": explained(report)}}


def draw_snrs() -> dict:
    """The SNRs of the committed MNIST experiment."""
    experiment, results = load(EXPERIMENT), json.loads((ROOT / RESULTS).read_text())
    for setting, stem in STEMS.items():
        experiment.snr_picture(results, setting).savefig(DOCS / f"mnist-snr-{stem}.png", dpi=110)
    return {f"mnist-snr-{stem}.png": {} for stem in STEMS.values()}


def copy_images(folder: Path) -> dict:
    """The images that the experiment drew in its folder."""
    for setting, stem in STEMS.items():
        name = f"images-{setting.replace(' ', '-').replace('%', 'percent')}.png"
        (DOCS / f"mnist-images-{stem}.png").write_bytes((folder / name).read_bytes())
    return {f"mnist-images-{stem}.png": {} for stem in STEMS.values()}


def draw_networks(folder: Path) -> dict:
    """Samples of the five networks."""
    load(NETWORKS).compare(folder, DOCS / "mnist_gan.png")
    return {"mnist_gan.png": {}}


def draw_exercises() -> dict:
    """Where the gap of three answers to the first exercise lies."""
    exercise_picture().savefig(DOCS / "exercises.png", dpi=110)
    return {"exercises.png": {}}


LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"))  # colour-blind safe, and of different shapes


def exercise_picture():
    """The terms of the gap, row by row and unknown by unknown, of the optimum and of two misreadings of exercise 1."""
    import torch
    from matplotlib.figure import Figure

    from cvxinv.layers.core.certificate import certify
    from cvxinv.layers.nonnegative_lasso import NonnegativeLasso
    from cvxinv.solvers.solve import solve
    from cvxinv.teaching.conditions import row_parts, unknown_parts
    from cvxinv.teaching.exercise import instances_of
    from cvxinv.teaching.known import EXERCISES

    problem = next(k.problem for i in instances_of(EXERCISES[0], 3)[1:] if bool(((k := i.known).h < 1e-9).any()))
    rows, lam = problem.rows, problem.number("lam")
    free = rows.derived(b=torch.where(rows.on[0], torch.zeros_like(rows.b), rows.b))
    answers = {"the optimum": problem, "half of lam": NonnegativeLasso(rows, lam / 2),
               "bias of the on rows missing": NonnegativeLasso(free, lam)}  # fmt: skip
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, width_ratios=(rows.m, problem.n))
    best = solve(problem, tol=1e-9, progress=False)
    judged = certify(problem, best.h, best.p)
    allowed, unit = float(judged.allowed_gap[0] / judged.objective[0]), float(judged.objective[0])
    for place, ((colour, marker), (name, other)) in enumerate(zip(LOOKS, answers.items(), strict=True)):
        h = solve(other, tol=1e-9, progress=False).h
        for panel, parts in zip(panels, (row_parts(problem, h, best.p), unknown_parts(problem, h, best.p)), strict=True):
            where = torch.arange(len(parts)) + 0.18 * (place - 1)
            panel.plot(where.numpy(), (parts / unit).clamp(min=1e-12).numpy(), marker, color=colour, label=name)
    for panel, what in zip(panels, ("row", "unknown"), strict=True):
        panel.axhline(allowed, color="black", linestyle="--", linewidth=1, label="what is allowed of the gap")
        panel.set(yscale="log", xlabel=f"{what}, counted from 0", xticks=range(rows.m if what == "row" else problem.n))
    panels[0].set_ylabel("term of the gap / optimum, no unit\n(less than 1e-12 stands at 1e-12)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def load(path: str) -> ModuleType:
    """A file of problems, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Draw, and write `pictures.json`."""
    parser = argparse.ArgumentParser(description="Draw the pictures in docs.")
    parser.add_argument("--mnist", type=Path, help="folder of the MNIST experiment, whose images are taken over")
    parser.add_argument("--networks", type=Path, help="folder of the five trained networks, whose samples are drawn")
    parser.add_argument("--looked-at", action="store_true", help="draw nothing; note what draws the pictures today")
    given = parser.parse_args()
    notes = json.loads(NOTES.read_text()) if NOTES.exists() else {}
    if given.looked_at:
        drawn = {name: {k: v for k, v in notes.get(name, {}).items() if k != "drawn_by"} for name in DRAWN_BY}
    else:
        drawn = draw_demo() | draw_snrs() | draw_exercises()
        drawn |= copy_images(given.mnist) if given.mnist else {}
        drawn |= draw_networks(given.networks) if given.networks else {}
    notes |= {name: {"drawn_by": fingerprint(DRAWN_BY[name]), **shows} for name, shows in drawn.items()}
    NOTES.write_text(json.dumps({name: notes[name] for name in sorted(notes)}, indent=1) + "\n")
    print(f"drawn: {', '.join(sorted(drawn))}" if not given.looked_at else f"noted in {NOTES.name}")


if __name__ == "__main__":
    main()
