"""`invert`: signals in, latents out, with everything that is needed to trust them."""

import difflib
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import ConvergenceWarning, UnsolvedError
from ..generator.chain import Generator
from ..inputs import describe, plain_number, read_amount, read_numbers
from ..layers.core.certificate import OPTIMAL, STATIONARY
from ..measurement import Matrix
from ..solvers.solve import SOLVERS, Solution, check_choice
from ..surroundings import undisturbed
from .methods.hybrid import Found, Plan, run_gradient_descent, run_hybrid, run_latent_pursuit, run_levenberg_marquardt
from .methods.latent_pursuit import IMAGE_LAYERS, LayerReport, Settings, image_form, obstacle
from .methods.layered_basis_pursuit import check_cardinalities, no_layered_basis_pursuit, run_layered_basis_pursuit
from .methods.oracle import FORMS, check_supports, run_oracle, supports_of
from .result import Inversion, snr
from .task import Task, make_task
from .verify import EXPLAINED_WORD, judge

METHODS: dict[str, Callable[[Task, Plan], Found]] = {
    "hybrid": run_hybrid,
    "latent_pursuit": run_latent_pursuit,
    "levenberg_marquardt": run_levenberg_marquardt,
    "gradient_descent": run_gradient_descent,
    "layered_basis_pursuit": run_layered_basis_pursuit,
    "oracle": run_oracle,
}
_SOLVING = ("solver", "tol", "force")
_LAYERED = ("lam", "gamma", "support_threshold", *_SOLVING, "image_layer", "layer_problems")
_OPTIONS = {
    "hybrid": (*_LAYERED, "max_iter", "restarts"),
    "latent_pursuit": (*_LAYERED, "debias", "max_iter"),
    "levenberg_marquardt": ("max_iter", "restarts"),
    "gradient_descent": ("max_iter", "restarts", "steps", "momentum", "decay"),
    "layered_basis_pursuit": ("lam", "support_threshold", *_SOLVING, "cardinalities", "debias", "max_iter"),
    "oracle": ("supports", "form", "debias", "max_iter"),
}
_ITERATIONS = {"hybrid": 100, "levenberg_marquardt": 100}
_MOST_ITERATIONS = 2000  # of the methods that take many cheap steps
_RESTARTS = {"hybrid": 10, "levenberg_marquardt": 1, "gradient_descent": 1}
_DEBIAS = {"oracle": None}
_SETTLE = 5000
_STREAM = 0x5DEECE66D1234567
# latents that a random start is the best of; one for the baselines, which are to be what the papers ran
_CANDIDATES = {"hybrid": 100}
_MEMORY = 1_000_000_000  # bytes of Jacobians and Gram matrices per chunk


@undisturbed
def invert(
    generator: Generator,
    y: Tensor | np.ndarray,
    method: str = "hybrid",
    *,
    measurement: object = None,
    noise: object = None,
    truth: Tensor | None = None,
    seed: int = 0,
    chunk: int | None = None,
    progress: bool | None = None,
    on_fail: str = "warn",
    **options: Any,
) -> Inversion:
    """Find z with G(z) = y on what was seen of y, for any number of signals.

    generator: from `load_generator`. y: `(N, d)`, `(N, *signal_shape)` or one signal; torch or numpy, float32 or
    float64; with a matrix measurement `(N, k)`. method: one of `METHODS`, "hybrid" by default. measurement: None
    (everything), a bool mask `(d,)` or `(N, d)`, True where seen, or a matrix A `(k, d)` with y = A x. noise: None (the
    signals are in G's range to their own precision), or ("l2" | "linf", bound) on y - A G(z), signal units, one bound or
    `(N,)`. truth: true latents `(N, n0)`, for SNRs only, and for the supports of the oracle. seed: of the random starts,
    which are the same for every signal. chunk: signals at a time; None takes what fits 1 GB. progress: a bar; None shows
    it on a terminal. on_fail: "warn", "raise" (UnsolvedError, which carries the result) or "ignore".

    Options of the methods: lam, gamma, support_threshold (as a fraction of max h), solver, tol, force (layered methods,
    see `latent_pursuit` and `solve`); image_layer = "preactivation", "interval" or "activated" behind tanh, sigmoid or
    PLU; layer_problems = {layer index: callable of its Rows that gives a layer problem}, index 0 the latent's (hybrid and
    latent_pursuit; the callable sees a chunk of the signals, and the image layer's y in output units behind tanh, sigmoid
    or PLU); supports = bool masks `(N, n_i)` of the hidden layers, first first, and form = "joint" or "layered" (oracle);
    cardinalities (layered_basis_pursuit); debias = "piece", "gradient" or None (the layered ones; None for the oracle
    where left out, else "piece"); max_iter (steps per start; left out, signals that are not explained go on to a local
    optimum); restarts (random starts at most: 10 for hybrid, each the best of 100 latents; 1 for the baselines); steps,
    momentum, decay (gradient descent).

    Computes in float64 and returns an `Inversion` in the generator's type; its verdict is `verify`'s. Raises TypeError
    or ValueError for input that does not fit, before any arithmetic.
    """
    check_choice(method, tuple(METHODS), "method")
    check_choice(on_fail, ("warn", "raise", "ignore"), "on_fail")
    options, seed, chunk = _plain_options(options), plain_number(seed), plain_number(chunk)  # type: ignore[assignment]
    _check_options(method, options)
    single = isinstance(y, (Tensor, np.ndarray)) and _is_single(y, generator, measurement)
    task = make_task(generator, y, measurement, noise)
    # float32 is lifted without loss: its rounding would cost the certificates of every layer
    dtype, task = task.y.dtype, task.to(torch.float64)
    _check_numbers(options, task)
    _check_layer_problems(options.get("layer_problems"), task)
    truth = _check_truth(truth, task)
    _check_reachable(task, method, _settings(options))
    started = time.perf_counter()
    plan = _plan(method, task, options, seed, _supports(method, task, options, truth))
    size = _chunk_size(task) if chunk is None else _positive(chunk, "chunk")
    found, marks = _run_chunks(task, METHODS[method], plan, size, progress, method)
    result = _result(task, dtype, method, found, truth, options | {"seed": seed, "chunk": size} | _said(task))
    result.seconds.update(marks, total=time.perf_counter() - started)
    _report(result, task, on_fail)
    return result.one() if single else result


def _plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options with numpy's numbers as Python's, and tensors without a graph."""
    out: dict[str, Any] = {name: plain_number(value) for name, value in options.items()}
    for name in ("steps", "cardinalities"):
        if isinstance(out.get(name), (tuple, list)):
            out[name] = tuple(plain_number(value) for value in out[name])
    return out


def _is_single(y: Tensor | np.ndarray, generator: object, measurement: object) -> bool:
    if not isinstance(generator, Generator) or (isinstance(y, Tensor) and y.is_nested):
        return False  # refused by `make_task`
    shape = tuple(generator.signal_shape)
    return y.ndim == 1 or (tuple(y.shape) == shape and len(shape) > 1)


def _check_options(method: str, options: dict[str, Any]) -> None:
    allowed = _OPTIONS[method]
    everywhere = {name for names in _OPTIONS.values() for name in names}
    for name in options:
        if name in allowed:
            continue
        if name in everywhere:
            owners = [m for m, names in _OPTIONS.items() if name in names]
            raise TypeError(f"method {method!r} has no option {name!r}; it belongs to {', '.join(owners)}")
        near = difflib.get_close_matches(name, [*allowed, "measurement", "noise", "truth", "seed", "chunk"], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise TypeError(f"unknown option {name!r}: {hint}{method} takes {', '.join(allowed)}")
    if "debias" in options and options["debias"] is not None:
        check_choice(options["debias"], ("piece", "gradient"), "debias")
    for name, choices in (("image_layer", IMAGE_LAYERS), ("form", FORMS)):
        if options.get(name) is not None:
            check_choice(options[name], choices, name)
    if "solver" in options:
        check_choice(options["solver"], SOLVERS, "solver")
    for name in ("max_iter", "restarts"):
        if name in options:
            _positive(options[name], name, least=0 if (name == "restarts" and method == "hybrid") else 1)


def _penalty(given: object, name: str, task: Task) -> float | Tensor:
    """A penalty as it was given, a number, or one per signal without a graph."""
    value = read_amount(given, name, task.y.device)
    if value.ndim > 1 or (value.ndim == 1 and len(value) != task.N):
        raise ValueError(f"expected {name} as one number or of shape ({task.N},), got {tuple(value.shape)}; one per signal")
    if not torch.isfinite(value).all() or (value < 0).any():
        raise ValueError(f"{name} must be >= 0 and finite, got {float(value.min())}; pass 0 to leave the term out")
    return float(value) if value.ndim == 0 else value


def _check_numbers(options: dict[str, Any], task: Task) -> None:
    bounds = {"momentum": (0, 1), "decay": (1, np.inf), "tol": (0, 1), "support_threshold": (0, 1)}
    for name, (low, high) in bounds.items():
        value = options.get(name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and low <= value < high):
            raise ValueError(f"{name} must be a number in [{low}, {high}), got {value!r}")
    for name in ("lam", "gamma"):
        value = options.get(name)
        if value is None:
            continue
        options[name] = _penalty(value, name, task)
    steps = options.get("steps", (1.0,))
    if not (isinstance(steps, (tuple, list)) and steps and all(isinstance(s, (int, float)) and s > 0 for s in steps)):
        raise ValueError(f"steps must be positive numbers, in units of 1 / sigma_max(J)^2, got {steps!r}")


def _positive(value: object, name: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return int(value)


def _check_truth(truth: Tensor | np.ndarray | None, task: Task) -> Tensor | None:
    if truth is None:
        return None
    truth = read_numbers(truth, "the true latents", task.y.device)
    n0 = task.generator.latent_dim
    truth = truth[None] if truth.ndim == 1 else truth
    if truth.shape != (task.N, n0):
        raise ValueError(f"expected the true latents of shape ({task.N}, {n0}), got {tuple(truth.shape)}")
    if not torch.isfinite(truth).all():
        raise ValueError("expected finite true latents, got NaN or inf in them; leave truth out where it is not known")
    return truth.to(torch.float64)


def _check_layer_problems(chosen: object, task: Task) -> None:
    if chosen is None:
        return
    if not isinstance(chosen, Mapping):
        raise TypeError(
            f"expected layer_problems as a mapping of layer index to a callable of its rows, got {describe(chosen)}; "
            "e.g. {1: lambda rows: cvxinv.NonnegativeLasso(rows, 0.1)}"
        )
    depth = task.generator.depth
    for index, make in chosen.items():
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < depth:
            raise ValueError(
                f"expected layer indices from 0 (the latent's) to {depth - 1} (the image's) in layer_problems, got {index!r}"
            )
        if not callable(make):
            raise TypeError(
                f"expected layer_problems[{index}] as a callable that makes a layer problem of rows, got {describe(make)}; "
                "e.g. lambda rows: cvxinv.NonnegativeLasso(rows, 0.1)"
            )


def _check_reachable(task: Task, method: str, settings: Settings) -> None:
    if method in ("hybrid", "latent_pursuit") and not isinstance(task.measurement, Matrix):
        image_form(task, settings)  # refuses an image_layer that does not apply
    reason = obstacle(task, settings) if method == "latent_pursuit" else None
    reason = no_layered_basis_pursuit(task) if method == "layered_basis_pursuit" else reason
    if reason is not None:
        raise ValueError(f"{method} cannot invert this: {reason}. Use method='hybrid' or 'levenberg_marquardt'")


def _supports(method: str, task: Task, options: dict[str, Any], truth: Tensor | None) -> tuple[Tensor, ...]:
    """The supports for the oracle: those given, else those of the true latents."""
    check_cardinalities(options.get("cardinalities"), task)
    if method != "oracle":
        return ()
    if options.get("supports") is not None:
        return check_supports(options["supports"], task)
    if truth is None:
        raise ValueError(
            "the oracle needs the supports of the hidden layers, got neither supports= nor truth=; pass bool masks "
            "(N, n_i), first hidden layer first, or the true latents, or use another method"
        )
    return supports_of(task, truth)


def _settings(options: dict[str, Any]) -> Settings:
    return Settings(**{k: v for k, v in options.items() if k in _LAYERED})


def _plan(method: str, task: Task, options: dict[str, Any], seed: int, supports: tuple[Tensor, ...] = ()) -> Plan:
    settings = _settings(options)
    # a stream of its own: latents that a user drew with the same small seed must never be among the starts
    source = torch.Generator().manual_seed(_positive(seed, "seed", least=0) ^ _STREAM)
    # one by one: torch draws small and large batches differently, and start k must not depend on how many there are
    count = options.get("restarts", _RESTARTS.get(method, 0))
    latents = [task.generator.sample_latent(1, source) for _ in range(count * _CANDIDATES.get(method, 1))]
    random = torch.cat(latents) if latents else task.y.new_zeros(0, task.generator.latent_dim)
    random = random.reshape(count, -1, task.generator.latent_dim) if latents else random[:, None]
    descent = {k: options[k] for k in ("steps", "momentum", "decay") if k in options}
    limit = options.get("max_iter", _ITERATIONS.get(method, _MOST_ITERATIONS))
    # whoever sets a limit means it; without one, a signal that is not explained goes on to a local optimum
    settle = 0 if "max_iter" in options else _SETTLE
    known = {k: options[k] for k in ("form", "cardinalities") if k in options}
    debias = options.get("debias", _DEBIAS.get(method, "piece"))
    return Plan(settings, debias, limit, settle, random, supports=supports, **descent, **known)


def _chunk_size(task: Task) -> int:
    generator = task.generator
    n0, widest = generator.latent_dim, max(layer.W.m for layer in generator.layers)
    jacobian = 8 * n0 * (task.measurement.length + 2 * widest)
    grams = 8 * sum(min(layer.W.n, 1500) ** 2 for layer in generator.layers)
    return max(1, _MEMORY // max(1, jacobian, grams))


def _run_chunks(
    task: Task, run: Callable[[Task, Plan], Found], plan: Plan, size: int, progress: bool | None, method: str
) -> tuple[Found, dict[str, float]]:
    parts, started = [], time.perf_counter()
    with tqdm(total=task.N, desc=method, unit="signal", disable=None if progress is None else not progress) as bar:
        for start in range(0, task.N, size):
            index = torch.arange(start, min(start + size, task.N), device=task.y.device)
            parts.append(run(task if size >= task.N else task.take(index), _for_chunk(plan, index)))
            bar.update(len(index))
    return _join(parts), {"solve": time.perf_counter() - started}


def _for_chunk(plan: Plan, index: Tensor) -> Plan:
    """The plan with what it holds per signal cut to the chunk's signals."""
    cut: dict[str, Any] = {}
    for name in ("lam", "gamma"):
        value = getattr(plan.settings, name)
        if isinstance(value, Tensor) and value.ndim == 1:
            cut[name] = value[index]
    counts = tuple(c[index] if isinstance(c, Tensor) and c.ndim == 1 else c for c in plan.cardinalities)
    supports = tuple(mask[index] for mask in plan.supports)
    return replace(plan, settings=replace(plan.settings, **cut), supports=supports, cardinalities=counts)


def _join(parts: list[Found]) -> Found:
    if len(parts) == 1:
        return parts[0]
    layers = [_join_reports(column) for column in zip(*(part.layers for part in parts), strict=True)]
    return Found(
        torch.cat([p.z for p in parts]), [u for p in parts for u in p.used], torch.cat([p.starts for p in parts]),
        layers, list(dict.fromkeys(n for p in parts for n in p.notes)),
    )  # fmt: skip


def _join_reports(reports: tuple[LayerReport, ...]) -> LayerReport:
    problems = [report.problem for report in reports]
    problem = None if any(p is None for p in problems) else _join_problems(problems)
    solution = replace(Solution.joined([report.solution for report in reports]), problem=problem)
    return replace(
        reports[0], problem=problem, solution=solution, penalty=torch.cat([r.penalty for r in reports]),
        threshold=torch.cat([r.threshold for r in reports]),
        remark="; ".join(dict.fromkeys(r.remark for r in reports if r.remark)),
    )  # fmt: skip


def _join_problems(problems: list) -> Any:
    """One layer problem from those of the chunks: tensors that hold one entry per signal are put together.

    None where that cannot be done: a problem that is no dataclass, or maps that differ.
    """
    first = problems[0]
    if not all(is_dataclass(p) and type(p) is type(first) for p in problems):
        return None
    rows = [p.rows for p in problems]
    if not all(r.W is rows[0].W or _same_weights(r.W, rows[0].W) for r in rows):
        return None
    return replace(first, rows=_join_fields(rows), **_joined_tensors(problems, leave=("rows",)))


def _same_weights(a: Any, b: Any) -> bool:
    return (a.m, a.n) == (b.m, b.n) and torch.equal(a.matrix(), b.matrix())


def _join_fields(parts: list) -> Any:
    return replace(parts[0], **_joined_tensors(parts))


def _joined_tensors(parts: list, leave: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The fields of dataclasses over signals that hold one entry per signal, put together."""
    out = {}
    for name in (f.name for f in fields(parts[0]) if f.init and f.name not in leave):
        values = [getattr(p, name) for p in parts]
        # a bias (m,) is shared, also by m signals
        least = 2 if name == "b" else 1
        if all(isinstance(v, Tensor) and v.ndim >= least and len(v) == p.N for v, p in zip(values, parts, strict=True)):
            out[name] = torch.cat(values)
    return out


def _result(
    task: Task, dtype: torch.dtype, method: str, found: Found, truth: Tensor | None, settings: dict[str, Any]
) -> Inversion:
    started = time.perf_counter()
    z = torch.where(task.usable[:, None], found.z, torch.nan).to(dtype)
    verdict = judge(task, z)  # on z as it is given back, rounding included
    clean = torch.nan_to_num(z).to(torch.float64)
    hidden, signal = task.generator.hidden(clean), task.generator(clean)
    blank = (~task.usable)[:, None]
    hidden = [torch.where(blank, torch.nan, h) for h in hidden]
    signal = torch.where(blank, torch.nan, signal)
    return Inversion(
        z, tuple(h.to(dtype) for h in hidden), signal.to(dtype), method, verdict, tuple(found.layers),
        tuple(found.used), found.starts,
        {} if truth is None else _snrs(task, truth, z, hidden, signal),
        {"verify": time.perf_counter() - started},
        {k: _in_words(v) for k, v in settings.items()},
        _versions(task, dtype), tuple(found.notes),
    )  # fmt: skip


def _in_words(value: Any) -> Any:
    """A setting as it is stored: numbers and names as they are, callables and masks only as what was given."""
    if isinstance(value, (int, float, str, type(None))):
        return value
    if isinstance(value, Mapping):
        return f"given for {', '.join(str(k) for k in sorted(value))}"
    if isinstance(value, (tuple, list)) and any(isinstance(v, (Tensor, np.ndarray)) for v in value):
        return f"{len(value)} given"
    return repr(value)


def _said(task: Task) -> dict[str, Any]:
    """The task in words, for the result: a stored latent means little without the noise it was judged by."""
    noise = None
    if task.noise is not None:
        low, high = float(task.noise.bound.min()), float(task.noise.bound.max())
        noise = f"{task.noise.norm}:{low:g}" if low == high else f"{task.noise.norm}, {low:g} to {high:g} per signal"
    name = str(task.generator.description.get("name", "a module"))
    return {"noise": noise, "measurement": type(task.measurement).__name__, "generator": name}


def _snrs(task: Task, truth: Tensor, z: Tensor, hidden: list[Tensor], signal: Tensor) -> dict[str, Tensor]:
    exact = task.generator.to(torch.float64)
    out = {"z": snr(truth, z.double())}
    for index, (true, found) in enumerate(zip(exact.hidden(truth), hidden, strict=True), 1):
        out[f"hidden {index}"] = snr(true, found.double())
    out["signal"] = snr(exact(truth), signal.double())
    return {name: value.cpu() for name, value in out.items()}


def _versions(task: Task, dtype: torch.dtype) -> dict[str, str]:
    found = {name: _version(name) for name in ("cvxinv", "torch", "numpy", "scipy", "cvxpy")}
    return found | {"dtype": str(dtype), "device": str(task.y.device), "signals in": str(task.born)}


@cache  # reading a package's metadata takes longer than inverting a signal
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _report(result: Inversion, task: Task, on_fail: str) -> None:
    bad = np.flatnonzero(result.status != EXPLAINED_WORD)
    left_out = (~task.usable).nonzero()[:, 0].tolist()
    if on_fail == "ignore" or len(bad) == 0:
        return
    first = ", ".join(f"{i} ({result.status[i]})" for i in bad[:5])
    words = [f"{len(bad)} of {len(result)} signals are not explained: {first}{', ...' if len(bad) > 5 else ''}"]
    # an unfinished layer matters where the signal is not explained; elsewhere z has been judged by the signal itself
    layers = int((~np.isin(result.layer_status[bad], (OPTIMAL, STATIONARY))).any(1).sum()) if result.layers else 0
    if left_out:
        words.append(
            f"signals {left_out[:5]} hold NaN or inf or numbers above 1e100, or nothing of them was seen; they were left out"
        )
    if layers:
        words.append(f"{layers} of them have a layer that is not optimal")
    message = "; ".join(words)
    if on_fail == "raise":
        raise UnsolvedError(message + "; the exception's .result carries everything", result)
    warnings.warn(message + "; see .summary() and .explain(i)", ConvergenceWarning, stacklevel=4)
