"""Layer problems: ours beside every peer, in the same run, before the same judge.

    python benchmarks/layers.py [--quick] [--gpl] [--only lasso] [--batch N] [--device cuda] [--out benchmarks/results]

What is measured and how to read it: benchmarks/README.md. A full run takes about half an hour.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from contest import FULL, QUICK, Effort, Ours, Row, our_curve, our_solvers, run_ours, run_peer_safely
from layer_cases import Case, cases
from measuring import circumstances, gemm_rate
from peers import LEFT_OUT, PEERS, AbstractPeer, missing
from peers.base import kinds_of
from rich.console import Console
from runs import begin, load_after, write
from tables import Table, case_table, ratio_table
from tqdm import tqdm


def jobs_of(case: Case, peers: list[type[AbstractPeer]], device: str, effort: Effort):
    """(name, call that returns a row) for everything that runs on a case."""
    for dtype in case.dtypes:
        for solver, polish in our_solvers(case, effort):
            if dtype == "float64" or polish or solver == "auto":
                called = Ours(solver, dtype, device, polish, effort.max_iter)
                yield solver, lambda x=called: our_row(case, x, effort)
    kinds = kinds_of(case.make(torch.arange(1)))
    for peer in peers:
        if kinds & set(peer.kinds):
            yield peer.name, lambda x=peer: run_peer_safely(case, x, effort)


def our_row(case: Case, ours: Ours, effort: Effort) -> Row:
    row = run_ours(case, ours, effort)
    drawn = ours.dtype == "float64" and ours.polish and ours.device == "cpu"
    return replace(row, curve=our_curve(case, ours, effort)) if drawn else row


def measure(case: Case, peers: list[type[AbstractPeer]], device: str, effort: Effort) -> list[Row]:
    """The rows of one case."""
    rows = []
    with tqdm(list(jobs_of(case, peers, device, effort)), desc=case.label, leave=False, disable=None) as bar:
        for name, job in bar:
            bar.set_postfix_str(name)
            rows.append(job())
    return rows


def draw(rows: list[Row], folder: Path, stem: str) -> list[Path]:
    try:
        from pictures import draw_all

        return draw_all(rows, folder, stem)
    except ModuleNotFoundError as absent:
        print(f"no pictures: {absent.name} is not installed")
        return []


def markdown(record: dict, tables: list[Table]) -> str:
    """The tables under what they were measured on."""
    at = record["circumstances"]
    load = "an idle machine" if record["idle"] else "a machine with other work on it: ratios only, and those roughly"
    head = [
        "# Layer problems",
        "",
        f"{at['processor']}, {at['threads']} thread; commit {at['commit']}; {at['date']}; load {at['load'][0]:.1f} to "
        f"{record['load_after'][0]:.1f} on {at['cores']} cores: {load}. GEMM: "
        + ", ".join(f"{k} {v / 1e9:.0f} GFLOP/s" for k, v in record["gemm"].items())
        + ". How to read this: [README](../README.md).",
        "",
    ]
    absent = [f"- {name}: {why}" for name, why in record["not_run"].items()]
    return "\n".join([*head, *(t.markdown() for t in tables), "Not run:", "", *absent])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute: to try it out")
    parser.add_argument("--gpl", action="store_true", help="run SPAMS and ECOS too, which are under the GPL")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--peers", default=None, help="comma-separated names, instead of all")
    parser.add_argument("--batch", type=int, default=None, help="signals per case, instead of its own number")
    parser.add_argument("--budget", type=float, default=None, help="seconds per row; slower ones run on fewer signals")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of our methods; peers run on the CPU")
    parser.add_argument("--out", type=Path, default=None, help="folder for JSON, markdown and pictures")
    return parser.parse_args()


def run(found: list[Case], peers: list[type[AbstractPeer]], record: dict, arguments: argparse.Namespace, console: Console):
    """Measure case by case; what is done is written each time, so that a run that is broken off leaves what it has."""
    rows, written, stem = [], [], "layers_quick" if arguments.quick else f"layers_{arguments.device}"
    started, rates, effort = time.perf_counter(), record["gemm"], QUICK if arguments.quick else FULL
    effort = effort if arguments.budget is None else replace(effort, budget=arguments.budget)
    for number, case in enumerate(found, 1):
        console.print(f"case {number} of {len(found)}, after {(time.perf_counter() - started) / 60:.1f} minutes")
        rows += measure(case, peers, arguments.device, effort)
        tables = [case_table(c.label, [r for r in rows if r.case == c.label], rates) for c in found[:number]]
        tables.append(ratio_table(rows, arguments.device, rates, promised=not arguments.quick))
        console.print(tables[-2].rich())
        record |= load_after(record)
        record |= {"minutes": (time.perf_counter() - started) / 60, "rows": [asdict(r) for r in rows]}
        if arguments.out is not None:
            written = write(arguments.out, stem, record, markdown(record, tables))
    if rows:
        console.print(tables[-1].rich())
        written += draw(rows, arguments.out, stem) if arguments.out is not None else []
    for path in written:
        console.print(f"written: {path}")


def main() -> None:
    """Measure, print, write."""
    arguments, console = parse(), Console(width=200)
    if not begin(arguments.device):
        return
    absent = {p.name: why for p in PEERS if (why := missing(p, arguments.gpl))}
    wanted = arguments.peers.split(",") if arguments.peers is not None else [p.name for p in PEERS]
    record = {
        "circumstances": circumstances(arguments.device), "quick": arguments.quick, "device": arguments.device,
        "gemm": {t: gemm_rate(getattr(torch, t), arguments.device) for t in ("float64", "float32")},
        "not_run": absent | LEFT_OUT,
    }  # fmt: skip
    found = [c for c in cases(arguments.quick, arguments.batch) if arguments.only.lower() in c.label.lower()]
    run(found, [p for p in PEERS if p.name in wanted and p.name not in absent], record, arguments, console)
    for name, why in record["not_run"].items():
        console.print(f"not run: {name}: {why}")


if __name__ == "__main__":
    main()
