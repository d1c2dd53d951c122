"""Tables of pages that are read from committed results, or tried out, when the site is built; Markdown each."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "problems" / "inversions" / "results"
RESULTS = ROOT / "benchmarks" / "results"
COMPARED = ("compared_cpu", "compared_again_cpu")  # what was measured again counts
_MANY = 5  # methods that are named in a cell


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def experiments() -> str:
    """Every published experiment that was run: its page, its source, how many claims hold, and which do not."""
    rows = []
    for path in sorted(EXPERIMENTS.glob("*.json")):
        record = json.loads(path.read_text())
        held = [claim["held"] for claim in record["claims"]]
        failed = [f"{claim['text']}: {claim['measured']}" for claim in record["claims"] if claim["held"] is False]
        link = f"[{record['title']}](../problems/inversions/results/{path.stem}.md)"
        count = f"{held.count(True)} of {len(held)}"
        rows.append((link, record["source"], count, "; ".join(failed) or "none"))
    return table(("experiment", "source", "claims that hold", "that do not"), rows)


def compared() -> str:
    """Of each generator and setting which method to take, and how many signals it and the next find."""
    parts, shown = list[str](), dict[tuple[str, str], dict[str, Any]]()
    for record in COMPARED:
        tables = json.loads((RESULTS / f"{record}.json").read_text())["tables"]
        shown |= {(one["generator"], one["setting"]): one for one in tables}
    for name in dict.fromkeys(generator for generator, _ in shown):
        rows = [_compared_row(one) for (generator, _), one in shown.items() if generator == name]
        parts += [f"**{name}**\n", table(("setting", "take", "it finds", "hybrid finds", "next after these"), rows)]
    return "\n".join(parts)


def _compared_row(one: dict[str, Any]) -> tuple[str, ...]:
    noisy = "noise" in one["settings"]
    ran = [row for row in one["methods"] if row["outcome"] == "ran" and row["name"] != "oracle"]
    counts = {row["name"]: row["explained" if noisy or "found" not in row else "found"] for row in ran}
    times = {row["name"]: row["seconds_per_signal"] for row in ran}
    its = {name: f"{counts[name]} of {one['settings']['signals']}, {_seconds(times[name])}" for name in counts}
    others = sorted(
        (name for name in counts if name not in (one["best"], "hybrid") and counts[name]), key=lambda n: -counts[n]
    )
    more = ", ".join(f"{name} {counts[name]}" for name in others[:_MANY])
    return one["setting"], one["best"], its[one["best"]], its["hybrid"], more or "none finds any"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def limits(name: str, **chosen: object) -> str:
    """Of an experiment's rows with these values the share of latents found, a row per method, a column per m."""
    shown = json.loads((EXPERIMENTS / f"{name}.json").read_text())["rows"]
    shown = [row for row in shown if chosen.items() <= row.items()]
    found = {(row["method"], row["m"]): row.get("recovered", row.get("found")) for row in shown}
    columns = sorted({m for _, m in found})
    rows = [
        (method, *(f"{found[method, m]:.0%}" if (method, m) in found else "" for m in columns))
        for method in dict.fromkeys(method for method, _ in found)
    ]
    return table(("method", *(f"m = {m}" for m in columns)), rows)


def taken() -> str:
    """What each method takes, tried on the shipped digits: "yes", or "no" where it refuses by name."""
    import torch

    import cvxinv as ci

    G = ci.load_generator("digits_8x8")
    draw = torch.Generator().manual_seed(0)
    A = torch.randn(40, G.signal_dim, generator=draw, dtype=torch.float64) / 40**0.5
    tasks: dict[str, dict[str, Any]] = {
        "a mask": {"measurement": torch.rand(G.signal_dim, generator=draw) > 0.3},
        "a matrix": {"measurement": A},
        "magnitudes": {"measurement": ci.Magnitudes(A)},
        "l2 noise": {"noise": ("l2", 0.1)},
        "linf noise": {"noise": ("linf", 0.02)},
        "l1 noise": {"noise": ("l1", 0.5)},
        "gaussian noise": {"noise": ("gaussian", 0.02)},
        "a gaussian prior": {"noise": ("gaussian", 0.02), "prior": ci.Gaussian(1.0)},
        "a box for z": {"prior": ci.Box(-5.0, 5.0)},
    }
    brief = {"samples": 2, "restarts": 1, "time_limit": 0.02, "progress": False}
    plain = [row.name for row in ci.compare(G, **brief).rows if row.outcome != "refused"]
    outcomes = {}
    for words, task in tasks.items():
        found = list(ci.compare(G, methods=list(ci.METHODS) if "measurement" in task else plain, **task, **brief).rows)
        if "measurement" not in task:  # those that take magnitudes alone
            others = [name for name in ci.METHODS if name not in plain]
            found += ci.compare(G, methods=others, measurement=ci.Magnitudes(A), **task, **brief).rows
        outcomes |= {(row.name, words): "no" if row.outcome == "refused" else "yes" for row in found}
    return table(("method", *tasks), [(f"`{name}`", *(outcomes[name, words] for words in tasks)) for name in ci.METHODS])
