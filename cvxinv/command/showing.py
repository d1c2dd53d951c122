"""What commands show: verdicts, inversions, certificates, generators and installations, as tables and for JSON."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..generator.chain import Generator
from ..guarantees.inspection import Inspection
from ..inversion.explain import explain
from ..inversion.result import Inversion
from ..inversion.verify import Verdict
from .doctor import CERTIFIED, FAILED, Checkup
from .speaking import spoken
from .terminal import console_of, counted, number, pairs, signal_count, table_of

_TOLD = 5  # signals that are not explained, of which the terminal tells why


def print_check(entry: dict[str, Any]) -> None:
    """What the checker says of a file, and the claims that it rejects."""
    lines = [f"  signal {v['signal']}, {v['claim']}: {v['words']}" for v in entry["rejected"]]
    for line in (f"{entry['file']}: {entry['words']}", *lines):
        console_of().print(line, markup=False, soft_wrap=True)


def verdict_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict for JSON."""
    return {
        "signals": len(verdict),
        "statuses": verdict.counts(),
        "relative_misfit": {"median": _median(verdict), "worst": float(verdict.relative_misfit.max())},
        "status": verdict.status,
        "not_explained": (~verdict.explained).nonzero()[:, 0],
        "misfit": verdict.misfit,
        "explained_below": verdict.explained_below,
        "determined": verdict.determined,
        "sigma_min": verdict.sigma_min,
        "sigma_max": verdict.sigma_max,
    }


def inversion_dict(
    inversion: Inversion, files: dict[str, Path], rows: list[dict] | None, notes: list[str]
) -> dict[str, Any]:
    """An inversion for JSON; files: what was written, rows: what CVXPY gave."""
    layers = [
        {
            "index": report.index,
            "kind": report.kind,
            "statuses": report.solution.certificate.counts(),
            "worst_relative_gap": report.solution.certificate.worst_relative_gap,
            "two_sided": int(report.solution.certificate.two_sided.sum()),
            "within_a_scope_only": int(torch.isfinite(report.solution.certificate.scope).sum()),
            "remark": report.remark,
        }
        for report in inversion.layers
    ]
    return {
        "method": inversion.method,
        **files,
        **verdict_dict(inversion.verdict),
        "used": inversion.used,
        "starts": inversion.starts,
        "layers": layers,
        "uncertainty": _uncertainty_dict(inversion),
        "snr": {name: value for name, value in inversion.snr.items()},
        "exact_check": rows,
        "seconds": inversion.seconds,
        "settings": inversion.settings,
        "versions": inversion.versions,
        "notes": [*notes, *inversion.notes],
    }


def _uncertainty_dict(inversion: Inversion) -> dict[str, Any] | None:
    known = inversion.uncertainty
    if known is None:
        return None
    names = ("sigma", "sigma_error", "dof", "z_std")
    return {"estimated": known.estimated} | {name: getattr(known, name) for name in names}


def _median(verdict: Verdict) -> float:
    return float(verdict.relative_misfit.nanmedian())


def add_verdict(table: Table, verdict: Verdict) -> None:
    """Rows for statuses, misfit and what is determined."""
    table.add_row("statuses", counted(verdict.counts()))
    table.add_row("misfit", f"median {_median(verdict):.1e} |y|, worst {float(verdict.relative_misfit.max()):.1e} |y|")
    table.add_row("z determined", f"{int(verdict.determined.sum())} of {len(verdict)}")


def print_inversion(inversion: Inversion, files: dict[str, Path], rows: list[dict] | None, notes: list[str]) -> None:
    """An inversion as tables; files: what was written, rows: what CVXPY gave."""
    console = console_of()
    table = pairs(f"{inversion.method}: {signal_count(len(inversion))}")
    add_verdict(table, inversion.verdict)
    add_answers(table, inversion)
    if inversion.uncertainty is not None:
        table.add_row("uncertainty", inversion.uncertainty.summary())
    table.add_row("SNR", _snr_words(inversion))
    table.add_row("seconds", ", ".join(f"{name} {value:.2f}" for name, value in inversion.seconds.items()))
    for note in (*notes, *inversion.notes):
        table.add_row("note", Text(note))
    table.add_row("written to", Text(", ".join(str(path) for path in files.values())))
    console.print(table)
    if inversion.layers:
        console.print(_layer_table(inversion))
    if rows is not None:
        console.print(_exact_table(rows) if rows else "exact check: this inversion solved no layer problems to compare")


def add_answers(table: Table, inversion: Inversion) -> None:
    """A row for what gave the answers, each with its count."""
    names = sorted({name for name in inversion.used if name}, key=lambda name: (name[:6], len(name), name))
    table.add_row("answers by", ", ".join(f"{name}: {inversion.used.count(name)}" for name in names) or "none")


def print_not_explained(inversion: Inversion, G: Generator, reported: bool) -> None:
    """A line for each of the first signals that are not explained, and where to read of the others."""
    missed = (~inversion.verdict.explained).nonzero()[:, 0].tolist()
    if not missed:
        return
    for word in explain(inversion, missed[:_TOLD], G):
        line = spoken(f"signal {word.index}, {inversion.status[word.index]}: {word.verdict}")
        console_of().print(line, markup=False, soft_wrap=True)
    left = len(missed) - _TOLD
    more = f"{left} more {'is' if left == 1 else 'are'} not explained; " if left > 0 else ""
    where = "the report" if reported else "cvxinv invert ... --report out.html"
    if more or not reported:
        console_of().print(f"{more}{where} tells for each signal why", markup=False, soft_wrap=True)


def _snr_words(inversion: Inversion) -> str:
    if not inversion.snr:
        return "none, the true latents are not known here"
    return ", ".join(f"{name} median {float(value.nanmedian()):.0f} dB" for name, value in inversion.snr.items())


def _layer_table(inversion: Inversion) -> Table:
    table = table_of("layer problems, image layer first", "layer", "kind", "certificates", "worst relative gap", "remark")
    for report in inversion.layers:
        certificate = report.solution.certificate
        gap = f"{certificate.worst_relative_gap:.1e}"
        counts = counted(certificate.counts()) + certificate.narrowed()
        table.add_row(str(report.index), report.kind, counts, gap, report.remark)
    return table


def _exact_table(rows: list[dict[str, Any]]) -> Table:
    names = ("signal", "layer", "fast", "exact", "difference", "allowed", "agree", "seconds", "note")
    table = table_of("fast against CVXPY with CLARABEL, objectives", *names)
    for row in rows:
        words: dict[bool | None, str | Text] = {True: "yes", False: Text("NO", style="red"), None: "-"}
        numbers = (number(row[name], "{:.10g}") for name in ("fast", "exact"))
        small = (number(row[name], "{:.1e}") for name in ("difference", "allowed"))
        seconds = number(row["seconds"], "{:.2f}")
        table.add_row(str(row["signal"]), str(row["layer"]), *numbers, *small, words[row["agree"]], seconds, row["note"])
    return table


def reading_of(G: Generator) -> dict[str, Any]:
    """What is to be known of how a generator was read: its label, and what the reading was compared with."""
    return {key: G.description[key] for key in ("label", "conversion_check") if key in G.description}


def print_inspection(inspection: Inspection) -> None:
    """A generator's layers, positive entries, and what to hope for."""
    console = console_of()
    console.print(f"{inspection.name or 'generator'}: {inspection.latent_dim} latents -> {inspection.signal_dim} entries")
    layers = table_of("layers", "layer", "map", "size", "activation", "sigma max", "sigma min", "condition", "rank")
    for layer in inspection.layers:
        numbers = (number(value) for value in (layer.sigma_max, layer.sigma_min, layer.condition))
        size = f"{layer.n} -> {layer.m}"
        layers.add_row(str(layer.index), layer.kind, size, layer.activation, *numbers, number(layer.rank, "{}"))
    console.print(layers)
    if any(layer.sigma_max is None for layer in inspection.layers):
        console.print("-: larger than 2000 on both sides, not decomposed")
    hidden = table_of(f"positive entries, {inspection.samples} latents", "hidden", "mean", "5 %", "95 %", "never positive")
    for h in inspection.hidden:
        mean = f"{h.mean:.1f} of {h.size}"
        hidden.add_row(str(h.index), mean, f"{h.q05:.0f}", f"{h.q95:.0f}", str(h.never_active))
    if inspection.hidden:
        console.print(hidden)
    _print_hopes(console, inspection)


def _print_hopes(console: Console, inspection: Inspection) -> None:
    table = pairs("what an inversion may hope for")
    words = {True: "yes", False: "no", None: "n/a (LeakyReLU)"}
    for condition in inspection.growth:
        share = "" if condition.share is None else f" ({condition.share:.2f} of the latents)"
        table.add_row(condition.name, words[condition.holds] + share)
    table.add_row("Jacobian", f"smallest rank {inspection.rank}, median condition {number(inspection.condition)}")
    for expectation in inspection.expectations:
        name, _, text = ("z", "", expectation) if expectation.startswith("z is") else expectation.partition(": ")
        table.add_row(name, text)
    console.print(table)
    if inspection.growth:
        console.print(
            f"s_i: nonzeros of hidden layer i; n0 = {inspection.latent_dim} latents; n = {inspection.signal_dim} entries"
        )


def print_checkup(checkup: Checkup) -> None:
    """An installation, and the self-test of its solvers."""
    console = console_of()
    tables = (("versions", checkup.versions), ("CVXPY's solvers", checkup.solvers), ("devices", checkup.devices))
    for title, rows in (*tables, ("precision, as it is set", checkup.precision)):
        table = pairs(title)
        for name, words in rows.items():
            table.add_row(name, Text(words))  # no markup: a cure may hold brackets
        console.print(table)
    for warning in checkup.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    console.print(_trial_table(checkup))
    failed = [trial.solver for trial in checkup.trials if trial.status == FAILED]
    console.print(f"failed: {', '.join(failed)}" if failed else "every installed solver gives certified answers")


def _trial_table(checkup: Checkup) -> Table:
    names = ("solver", "device", "answer", "problem", "off by", "iterations", "seconds", "")
    table = table_of("self-test, judged by certify", *names)
    styles = {CERTIFIED: "green", FAILED: "red"}
    for trial in checkup.trials:
        numbers = (number(trial.error, "{:.0e}"), number(trial.iterations, "{}"), number(trial.seconds, "{:.2f}"))
        status = Text(trial.status, style=styles.get(trial.status, ""))
        table.add_row(trial.solver, trial.device, status, trial.problem, *numbers, Text(trial.words))
    return table
