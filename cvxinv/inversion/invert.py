"""`invert`: signals in, latents out, with everything that is needed to trust them."""

import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConvergenceWarning, UnsolvedError
from ..generator.abstract import AbstractGenerator
from ..inputs import describe, plain_number, read_numbers
from ..layers.core.certificate import OPTIMAL, STATIONARY
from ..measurement.given import form_of
from ..solvers.solve import check_choice
from ..surroundings import undisturbed
from .answer import Latents
from .level import at_level, check_level, estimated, find, level_notes
from .method import AbstractMethod, as_method, in_words
from .methods import METHODS
from .options import positive
from .progress import Progress, bar
from .result import Inversion, snrs, task_words, versions
from .steps.starts import Starts
from .task import Task, make_task
from .uncertainty import measure_uncertainty
from .verify import EXPLAINED_WORD, judge


@undisturbed
def invert(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    method: str | AbstractMethod = "hybrid",
    *,
    measurement: object = None,
    noise: object = None,
    prior: object = None,
    truth: Tensor | None = None,
    seed: int = 0,
    chunk: int | None = None,
    progress: bool | None = None,
    on_fail: str = "warn",
    **options: Any,
) -> Inversion:
    """Find z with G(z) = y on what was seen of y, for any number of signals.

    generator: from `load_generator`. y: `(N, d)`, `(N, *signal_shape)` or one signal; torch or numpy, float32 or float64;
    with a matrix or another measurement of k numbers `(N, k)`. method: the name of one of `METHODS`, "hybrid" by default,
    with its options as keywords here; or an object that holds them, such as `Hybrid(restarts=20)` or one of a class of your
    own (`AbstractMethod`). measurement: None (everything), a bool mask `(d,)` or `(N, d)`, True where seen, a matrix A `(k,
    d)` with y = A x, dense or sparse, or one per signal `(N, k, d)`, a LinearOperator of scipy, or an `AbstractMeasurement`
    such as `Convolution` or `Operator`. noise: None (the signals are in G's range to their own precision), ("l2" |
    "linf", bound) on y - A G(z), ("gaussian", sigma), the standard deviation of every entry, signal units, one number or
    `(N,)` each; or "auto": gaussian, with sigma estimated for each signal from what its fit leaves over (`level`). prior:
    None, or what is known of z: `Gaussian`, `Box`, `Ball` or an `AbstractPrior` of your own; then z is a minimiser of |A
    G(z) - y|^2 / (2 sigma^2) + R(z) in its set. truth: true latents `(N, n0)`, for SNRs only, and for the supports of the
    oracle. seed: of the random starts, which are the same for every signal. chunk: signals at a time; None takes what fits 1
    GB. progress: a bar; None shows it on a terminal. on_fail: "warn", "raise" (UnsolvedError, which carries the result) or
    "ignore".

    Options of the methods are the fields of their classes, documented there: `Hybrid` (restarts, max_iter, z0 and those of
    `LayerOptions`: lam, gamma, support_threshold, solver, tol, force, image_layer, layer_problems), `LatentPursuit`
    (debias, max_iter and those of `LayerOptions`), `LevenbergMarquardt` (restarts, max_iter, z0), `GradientDescent`
    (restarts, max_iter, steps, momentum, decay, z0), `LayeredBasisPursuit` (lam, support_threshold, solver, tol, force,
    cardinalities, debias, max_iter), `Oracle` (supports, form, debias, max_iter).

    Computes in float64 and returns an `Inversion` in the generator's type; its verdict is `verify`'s. Raises TypeError
    or ValueError for input that does not fit, before any arithmetic.
    """
    check_choice(on_fail, ("warn", "raise", "ignore"), "on_fail")
    seed, chunk = plain_number(seed), plain_number(chunk)  # type: ignore[assignment]
    asked = as_method(method, options, METHODS)
    single = isinstance(y, (Tensor, np.ndarray)) and _is_single(y, generator, measurement)
    task = make_task(generator, y, measurement, noise, prior)
    # float32 is lifted without loss: its rounding would cost the certificates of every layer
    dtype, task = task.y.dtype, task.to(torch.float64)
    truth = _check_truth(truth, task)
    chosen = asked.told(task, truth)
    _refuse_prior(chosen, task)
    check_level(task)
    chosen.check(task)
    started = time.perf_counter()
    starts = Starts(task.generator, positive(seed, "seed", least=0))
    size = task.chunk_size() if chunk is None else positive(chunk, "chunk")
    found = _run_chunks(task, chosen, starts, size, progress)
    solved = time.perf_counter()
    settings = in_words(asked, options) | {"seed": seed, "chunk": size}
    result = _result(task, dtype, chosen.name, found, truth, settings)
    result.seconds.update(solve=solved - started, total=time.perf_counter() - started)
    _report(result, task, on_fail)
    return result.one() if single else result


def _refuse_prior(method: AbstractMethod, task: Task) -> None:
    if task.prior is not None and not method.priors:
        able = ", ".join(name for name, kind in METHODS.items() if kind.priors)
        raise ValueError(
            f"expected prior=None with the method {method.name}, got {task.prior!r}, which it knows nothing of; "
            f"use one of {able}, or leave the prior out"
        )


def _is_single(y: Tensor | np.ndarray, generator: object, measurement: object) -> bool:
    if not isinstance(generator, AbstractGenerator) or (isinstance(y, Tensor) and y.is_nested):
        return False  # refused by `make_task`
    shape = form_of(measurement, tuple(generator.signal_shape))
    return y.ndim == 1 or (tuple(y.shape) == shape and len(shape) > 1)


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


def _run_chunks(task: Task, method: AbstractMethod, starts: Starts, size: int, progress: bool | None) -> Latents:
    parts = []
    with bar(task.N, method.name, progress) as shown:
        for start in range(0, task.N, size):
            count = min(size, task.N - start)
            part, its = replace(task, progress=Progress(shown, start, count)), method
            if count < task.N:
                index = torch.arange(start, start + count, device=task.y.device)
                part, its = part.take(index), method.take(index)
            parts.append(_run(part, its, starts))
            part.progress.reach(1.0)
    return Latents.joined(parts)


def _run(task: Task, method: AbstractMethod, starts: Starts) -> Latents:
    """What a method gives; where the noise's level is to be estimated, what it gives for the levels that are tried."""

    def search(part: Task, index: Tensor | None) -> Latents:
        its = method if index is None else method.take(index)
        return _checked(its.run(part, starts), part, method)

    return find(task, search, method.refine) if estimated(task) else search(task, None)


def _checked(found: object, task: Task, method: AbstractMethod) -> Latents:
    """What a method gave, if it is latents of the task's signals; with what it left out."""
    who = f"from {type(method).__name__}.run"
    if not isinstance(found, Latents):
        raise TypeError(f"expected Latents {who}, got {describe(found)}; return cvxinv.Latents(z)")
    shape, z = (task.N, task.generator.latent_dim), found.z
    if not isinstance(z, Tensor) or z.shape != shape or z.dtype != task.y.dtype or z.device != task.y.device:
        raise ValueError(
            f"expected latents z {who} of shape {shape}, {task.y.dtype} on {task.y.device}, got {describe(z)}; "
            "make them like task.y"
        )
    used = (method.name,) * task.N if found.used is None else found.used
    starts = torch.zeros(task.N, dtype=torch.long) if found.starts is None else found.starts
    for name, value in (("used", used), ("starts", starts)):
        if len(value) != task.N:
            raise ValueError(f"expected {name} {who} for {task.N} signals, got {len(value)}; one entry per signal")
    return replace(found, used=used, starts=starts)


def _result(
    task: Task, dtype: torch.dtype, method: str, found: Latents, truth: Tensor | None, settings: dict[str, Any]
) -> Inversion:
    started = time.perf_counter()
    z = torch.where(task.usable[:, None], found.z, torch.nan).to(dtype)
    task = at_level(task, z)
    verdict = judge(task, z)  # on z as it is given back, rounding included
    notes = level_notes(task, verdict.explained, verdict.misfit)
    clean = torch.nan_to_num(z).to(torch.float64)
    blank = (~task.usable)[:, None]
    *hidden, signal = [torch.where(blank, torch.nan, h) for h in task.generator.passed(clean)]
    return Inversion(
        z, tuple(h.to(dtype) for h in hidden), signal.to(dtype), method, verdict, found.layers,
        found.used or (), found.starts if found.starts is not None else torch.zeros(task.N, dtype=torch.long),
        {} if truth is None else snrs(task, truth, z, hidden, signal),
        {"verify": time.perf_counter() - started},
        settings | task_words(task), versions(task, dtype), (*found.notes, *notes),
        measure_uncertainty(task, clean),
    )  # fmt: skip


def _report(result: Inversion, task: Task, on_fail: str) -> None:
    bad = np.flatnonzero(result.status != EXPLAINED_WORD)
    left_out = (~task.usable).nonzero()[:, 0].tolist()
    if on_fail == "ignore" or len(bad) == 0:
        return
    first = ", ".join(f"{i} ({result.status[i]})" for i in bad[:5])
    share = result.verdict.relative_misfit[torch.as_tensor(bad)]
    words = [f"{len(bad)} of {len(result)} signals are not explained: {first}{', ...' if len(bad) > 5 else ''}"]
    # an unfinished layer matters where the signal is not explained; elsewhere z has been judged by the signal itself
    layers = int((~np.isin(result.layer_status[bad], (OPTIMAL, STATIONARY))).any(1).sum()) if result.layers else 0
    if bool(share.isfinite().any()):
        words.append(f"misfit of these: median {float(share[share.isfinite()].median()):.2g} |y|")
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
