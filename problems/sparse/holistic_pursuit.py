"""Zeros in the middle layer: errors of the pursuits and of the oracle as there are more of them, as published.

    python problems/sparse/holistic_pursuit.py           # minutes; goes on where it was stopped
    python problems/sparse/holistic_pursuit.py --quick   # some seconds: 20 draws, l_1 = 1, 5, 10, nothing kept

50 - 100 - 50, D_1 and D_2 Gaussian with variances 1/50, noise of sigma = 0.1 on signals of length 10^(snr/10) 50^(1/2)
sigma, snr = 25 and 15 "dB" (that is 50 and 30 dB as ratios of energies), eps = 50^(1/2) sigma.

A. g_2 of 11 entries, l_1 = 1 to 10 zeros in g_1: mean of |g_2 found - g_2|^2 / |g_2|^2 for holistic and projection pursuit,
   layered pursuit (which is told the true |g_1 found - g_1| as its second bound), both with least squares on the support and
   zeros that they found behind them, and the oracle with its formula. One pair of dictionaries, as published.
B. l_1 + 1 entries, at 25 dB: the error after each of the zeros.
C. Projection pursuit on the setting of A with l_1 = 5, for six pairs of dictionaries: how far levels are those of one pair.
D. Who is ahead at 15 dB with 1 to 6 zeros, on the same six pairs: more draws than A has, and not one pair's alone.

Source of setting, method and published numbers: Aberdam, Sulam, Elad, "Multi-layer sparse coding: the holistic way" (2018),
as in `sparse` note 3.4; the numbers were read off their figure.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import cvxinv as ci
from cvxinv.files import write_whole

HERE = Path(__file__).resolve().parent
SIZES, SIGMA, SPARSITY = (50, 100, 50), 0.1, 11
SNRS, ZEROS, DEEP = (25, 15), tuple(range(1, 11)), tuple(range(1, 21))
PAIRS = 6
CLOSE = (15, range(1, 7))  # where 200 draws of one pair cannot tell who is ahead
_LAYERED = 20  # draws of layered pursuit, which errs by about all there is
EPS = SIZES[0] ** 0.5 * SIGMA
PUBLISHED = {  # read off a figure, l_1 = 1, ..., 10
    25: [2.367e-5, 2.228e-5, 2.112e-5, 1.978e-5, 1.843e-5, 1.714e-5, 1.603e-5, 1.488e-5, 1.386e-5, 1.281e-5],
    15: [2.313e-3, 2.293e-3, 2.274e-3, 2.254e-3, 2.215e-3, 2.176e-3, 2.120e-3, 2.050e-3, 1.990e-3, 1.921e-3],
}
PUBLISHED_PROJECTION = {25: 2.50e-5, 15: 2.34e-3}


def dictionaries(seed: int = 0) -> ci.MultiLayerModel:
    """The pair of the experiment."""
    source = torch.Generator().manual_seed(seed)
    n, m1, m2 = SIZES
    first = torch.randn(n, m1, generator=source, dtype=torch.float64) / n**0.5
    second = torch.randn(m1, m2, generator=source, dtype=torch.float64) / m2**0.5
    return ci.MultiLayerModel((ci.Dense(first), ci.Dense(second)))


def drawn(
    model: ci.MultiLayerModel, N: int, s: int, zeros: int, snr: float, seed: int
) -> tuple[ci.MultiLayerSignals, Tensor]:
    """Signals and what was observed of them."""
    source = torch.Generator().manual_seed(seed)
    signals = model.draw(N, s, zeros, source=source, size=10 ** (snr / 10) * EPS)
    return signals, signals.x + SIGMA * torch.randn(signals.x.shape, generator=source, dtype=torch.float64)


def one_point(model: ci.MultiLayerModel, N: int, snr: float, zeros: int) -> dict:
    """Everything of part A for one noise and number of zeros; errors are means over draws with their standard errors."""
    signals, y = drawn(model, N, SPARSITY, zeros, snr, seed=1000 * snr + zeros)
    began = time.process_time()
    holistic = ci.holistic_pursuit(model, y, zeros, EPS, on_fail="ignore", progress=False)
    seconds = time.process_time() - began
    projection = ci.projection_pursuit(model, y, EPS, on_fail="ignore")
    oracle = ci.holistic_oracle(model, y, signals.support, signals.cosupport, sigma=SIGMA)
    alone = ci.holistic_oracle(model, y, signals.support, torch.zeros_like(signals.cosupport), sigma=SIGMA)
    few = slice(0, _LAYERED)
    layered = ci.layered_pursuit(model, y[few], _layered_bounds(model, signals.take(few), y[few]), on_fail="ignore")
    square = signals.h.square().sum(1)
    found = {
        "holistic": holistic.h, "projection": projection.h,
        "holistic, refitted": refitted(model, y, holistic), "projection, refitted": refitted(model, y, projection),
        "oracle": oracle.h, "oracle of the support": alone.h,
    }  # fmt: skip
    errors = {name: (h - signals.h).square().sum(1) / square for name, h in found.items()}
    errors["layered"] = (layered.h - signals.h[few]).square().sum(1) / square[few]
    gain = errors["projection"] - errors["holistic"]
    statuses = {"holistic": holistic, "projection": projection, "layered": layered}
    return {
        "snr": snr, "zeros": zeros, "draws": N, "seconds": seconds,
        "errors": {name: mean_of(e) for name, e in errors.items()},
        "formula": mean_of(oracle.mean_square / square), "formula of the support": mean_of(alone.mean_square / square),
        "gain": mean_of(gain), "hits": float((holistic.cosupport & signals.cosupport).sum() / signals.cosupport.sum()),
        "support": {n: support_score(c.support(), signals.support) for n, c in list(statuses.items())[:2]},
        "optimal": {name: int(codes.holds.sum()) for name, codes in statuses.items()},
    }  # fmt: skip


def _layered_bounds(model: ci.MultiLayerModel, signals: ci.MultiLayerSignals, y: Tensor) -> tuple[float, Tensor]:
    """The noise, and what the first layer's pursuit errs by, which nobody but an oracle knows."""
    D = model.dictionaries[0]
    on = torch.ones_like(y, dtype=torch.bool)
    first = ci.solve(
        ci.BasisPursuitL2(ci.Rows(D, torch.zeros_like(y[0]), y, on, ~on), EPS), on_fail="ignore", progress=False
    )
    return EPS, (first.h - signals.representations[0]).norm(dim=1) * (1 + 1e-6)


def refitted(model: ci.MultiLayerModel, y: Tensor, codes: ci.MultiLayerCodes) -> Tensor:
    """Least squares on what was found; where that leaves h = 0 alone, what was found."""
    S, Z, h = codes.support(), codes.cosupport, codes.h.clone()
    there = (model.subspaces(S, Z).dimension > 0) & codes.holds
    if bool(there.any()):
        h[there] = ci.holistic_oracle(model, y[there], S[there], Z[there]).h
    return h


def support_score(found: Tensor, true: Tensor) -> float:
    """Mean of |found and true| / max(|found|, |true|), the source's measure."""
    return float(((found & true).sum(1) / torch.maximum(found.sum(1), true.sum(1))).mean())


def mean_of(values: Tensor) -> list[float]:
    """Mean and its standard error."""
    return [float(values.mean()), float(values.std() / len(values) ** 0.5)]


def courses(model: ci.MultiLayerModel, N: int, zeros: int) -> dict:
    """Part B for one l_1: the mean error after 0, 1, ..., l_1 zeros."""
    signals, y = drawn(model, N, zeros + 1, zeros, 25, seed=7000 + zeros)
    codes = ci.holistic_pursuit(model, y, zeros, EPS, on_fail="ignore", progress=False)
    square = signals.h.square().sum(1)
    errors = (codes.course - signals.h[:, None]).square().sum(2) / square[:, None]
    # of those that came to the end: a mean over others at each step would compare different signals
    return {"zeros": zeros, "draws": N, "errors": errors[codes.holds].mean(0).tolist(), "optimal": int(codes.holds.sum())}


def pairs(N: int, snr: float, count: int) -> list[float]:
    """Part C for one noise: mean errors of projection pursuit, of each pair of dictionaries."""
    found = []
    for seed in range(count):
        model = dictionaries(seed)
        signals, y = drawn(model, N, SPARSITY, 5, snr, seed=1000 * snr + 5)
        error = (ci.projection_pursuit(model, y, EPS, on_fail="ignore").h - signals.h).square().sum(1)
        found.append(float((error / signals.h.square().sum(1)).mean()))
    return found


def leads(N: int, snr: float, zeros: int, count: int) -> dict:
    """Part D for one number of zeros: how far holistic pursuit is ahead on each pair of dictionaries, paired differences."""
    gains, errors, optimal = [], [], 0
    for seed in range(count):
        model = dictionaries(seed)
        signals, y = drawn(model, N, SPARSITY, zeros, snr, seed=1000 * snr + zeros)
        square = signals.h.square().sum(1)
        both = [ci.holistic_pursuit(model, y, k, EPS, on_fail="ignore", progress=False) for k in (zeros, 0)]
        mine, other = ((codes.h - signals.h).square().sum(1) / square for codes in both)
        gains.append(mean_of(other - mine))
        errors.append(float(other.mean()))
        optimal += int(both[0].holds.sum())
    return {"gains": gains, "projection": errors, "draws": N, "optimal": optimal}


# --- the run --------------------------------------------------------------------------------------


def measure(draws: int, points: list[tuple[float, int]], deep: list[int], kept: Path | None, count: int = PAIRS) -> dict:
    """All points, and part C on `count` pairs; with `kept` each is written when it is done, and not measured again."""
    circumstances = {"draws": draws, "sizes": list(SIZES), "torch": torch.__version__, "threads": torch.get_num_threads()}
    record = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
    if record.get("circumstances") != circumstances:
        record = {"circumstances": circumstances, "points": {}, "courses": {}}
    model = dictionaries()
    with tqdm(total=len(points) + len(deep), unit="point") as bar:
        for snr, zeros in points:
            if f"{snr}, {zeros}" not in record["points"]:
                record["points"][f"{snr}, {zeros}"] = one_point(model, draws, snr, zeros)
                _keep(record, kept)
            bar.update()
        for zeros in deep:
            if str(zeros) not in record["courses"]:
                record["courses"][str(zeros)] = courses(model, max(10, draws // 10), zeros)
                _keep(record, kept)
            bar.update()
    for snr in SNRS:
        if str(snr) not in record.setdefault("pairs", {}):
            record["pairs"][str(snr)] = pairs(draws, snr, count)
            _keep(record, kept)
    for zeros in sorted({zeros for snr, zeros in points if snr == CLOSE[0]} & set(CLOSE[1])):
        if str(zeros) not in record.setdefault("leads", {}):
            record["leads"][str(zeros)] = leads(draws, CLOSE[0], zeros, count)
            _keep(record, kept)
    return record


def _keep(record: dict, kept: Path | None) -> None:
    if kept is not None:
        write_whole(kept, (json.dumps(record) + "\n").encode())


def curve(record: dict, snr: float, name: str) -> tuple[list[int], list[float], list[float]]:
    """l_1, means and standard errors of one method."""
    mine = sorted((p for p in record["points"].values() if p["snr"] == snr), key=lambda p: p["zeros"])
    values = [p[name] if name in p else p["errors"][name] for p in mine]
    return [p["zeros"] for p in mine], [v[0] for v in values], [v[1] for v in values]


STYLES = {
    "projection": ("#d55e00", "--", "s"), "holistic": ("#0072b2", "-", "o"), "projection, refitted": ("#e69f00", ":", "P"),
    "holistic, refitted": ("#56b4e9", "-.", "^"), "oracle of the support": ("#cc79a7", "--", "d"),
    "oracle": ("#009e73", "-", "v"), "formula": ("#000000", ":", None),
}  # fmt: skip


def draw(record: dict, path: Path) -> None:
    """Errors against l_1 at both noises, and the errors after each zero."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)
    axes = figure.subplots(1, 3)
    for ax, snr in zip(axes, SNRS, strict=False):
        for name, (colour, line, marker) in STYLES.items():
            zeros, mean, error = curve(record, snr, name)
            label = "oracle, formula" if name == "formula" else name
            ax.errorbar(zeros, mean, error, color=colour, ls=line, marker=marker, ms=4, lw=1.5, label=label)
        ax.plot(ZEROS, PUBLISHED[snr], color="#000000", ls="none", marker="+", ms=9, label="holistic, as published")
        ax.set_yscale("log")
        ax.set_title(f'"{snr} dB", g_2 of {SPARSITY} entries')
        ax.set_xlabel("zeros of g_1")
        ax.set_ylabel("mean of |found - g_2|² / |g_2|² (no unit)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8.5, ncols=8, loc="outside lower center")
    _draw_courses(record, figure, axes[2])
    figure.savefig(path, dpi=90)


def _draw_courses(record: dict, figure, ax) -> None:
    rows = sorted(record["courses"].values(), key=lambda c: c["zeros"])
    size = rows[-1]["zeros"] + 1
    image = torch.full((len(rows), size), torch.nan)
    for i, row in enumerate(rows):
        errors = torch.tensor(row["errors"])
        image[i, : len(errors)] = errors / errors[0]
    extent = (-0.5, size - 0.5, -0.5, len(rows) - 0.5)
    shown = ax.imshow(image.numpy(), origin="lower", aspect="auto", cmap="cividis", extent=extent)
    ax.set_yticks(range(len(rows)), [str(row["zeros"]) for row in rows], fontsize=7)
    ax.set_xlabel("zeros set so far")
    ax.set_ylabel("zeros of g_1; g_2 has one entry more")
    ax.set_title('"25 dB", holistic, after each zero')
    figure.colorbar(shown, ax=ax, label="mean error over that without zeros (no unit)")


def table(record: dict) -> str:
    """Part A as markdown."""
    names = ["layered", *STYLES]
    head = ["snr", "zeros", *names, "published holistic", "projection - holistic", "cosupport found", "optimal"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for p in sorted(record["points"].values(), key=lambda p: (-p["snr"], p["zeros"])):
        values = [f"{(p[n] if n in p else p['errors'][n])[0]:.3g}" for n in names]
        gain = f"{p['gain'][0]:.2g} ± {p['gain'][1]:.1g}"
        said = [f"{PUBLISHED[p['snr']][p['zeros'] - 1]:.3g}", gain, f"{p['hits']:.2f}", _counted(p)]
        lines.append("| " + " | ".join([f"{p['snr']}", f"{p['zeros']}", *values, *said]) + " |")
    return "\n".join(lines)


def together(lead: dict) -> tuple[float, float, float]:
    """Part D over all pairs: how far holistic pursuit is ahead, its standard error, and projection pursuit's error."""
    gains, count = lead["gains"], len(lead["gains"])
    error = sum(gain[1] ** 2 for gain in gains) ** 0.5 / count
    return sum(gain[0] for gain in gains) / count, error, sum(lead["projection"]) / count


def leads_table(record: dict) -> str:
    """Part D as markdown, empty where it was not measured."""
    if not record.get("leads"):
        return ""
    lines = ["| zeros | projection | projection - holistic | % | pairs on which it is ahead |", "|---|---|---|---|---|"]
    for zeros, lead in sorted(record["leads"].items(), key=lambda kept: int(kept[0])):
        gain, error, projection = together(lead)
        ahead = sum(one[0] > 0 for one in lead["gains"])
        lines.append(
            f"| {zeros} | {projection:.3g} | {gain:.2g} ± {error:.1g} | {100 * gain / projection:.1f} | {ahead} of "
            f"{len(lead['gains'])} |"
        )
    draws = next(iter(record["leads"].values()))["draws"]
    return f"\n{CLOSE[0]} dB, {draws} draws on each pair of dictionaries:\n\n" + "\n".join(lines) + "\n"


def _counted(point: dict) -> str:
    return ", ".join(f"{name} {count}" for name, count in point["optimal"].items() if name != "layered")


def written(record: dict) -> str:
    """The page of results."""
    kept = record["circumstances"]
    steps = sum((p["zeros"] + 1) * p["draws"] for p in record["points"].values())
    seconds = sum(p["seconds"] for p in record["points"].values())
    return (
        "# Holistic pursuit\n\nMean of |found - g_2|² / |g_2|², no unit, over "
        f"{kept['draws']} draws (`python problems/sparse/holistic_pursuit.py`; torch {kept['torch']}, {kept['threads']} "
        f"thread). A synthesis step of holistic pursuit took {1e3 * seconds / steps:.2g} ms of process time a signal. ± is "
        "a standard error; optimal: signals of which every step was certified; layered pursuit ran on the first "
        f"{_LAYERED} draws.\n\n" + table(record) + "\n" + leads_table(record)
    )


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 draws, l_1 = 1, 5, 10")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    name = "holistic_pursuit_quick" if asked.quick else "holistic_pursuit"
    if asked.quick:
        record = measure(20, [(snr, zeros) for snr in SNRS for zeros in (1, 5, 10)], [1, 2, 4], None, 1)
    else:
        every = [(snr, zeros) for snr in SNRS for zeros in ZEROS]
        record = measure(asked.draws, every, list(DEEP), asked.out / f"{name}.json")
    write_whole(asked.out / f"{name}.md", written(record).encode())
    draw(record, asked.out / f"{name}.png")
    print(written(record))


if __name__ == "__main__":
    main()
