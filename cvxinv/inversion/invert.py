"""`invert`: signals in, latents out, with everything that is needed to trust them."""

import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConvergenceWarning, UnsolvedError
from ..generator.abstract import AbstractGenerator
from ..inputs import plain_number, read_numbers, read_seed
from ..layers.core.certificate import OPTIMAL, STATIONARY
from ..measurement.given import form_of
from ..solvers.solve import check_choice
from ..surroundings import undisturbed
from .implicit import Given, check_differentiable, with_derivatives
from .level import check_level, estimated, level_notes
from .method import AbstractMethod, as_method, in_words
from .methods import METHODS
from .options import positive
from .result import Inversion, task_words, versions
from .runs.engine import check_cluster
from .runs.folder import Layout, open_folder
from .runs.meant import run_words
from .runs.run import Run
from .runs.watch import Callback, Watch
from .runs.work import Chunk, told_often
from .task import Task, make_task
from .verify import EXPLAINED_WORD

_ROUNDINGS = 4  # of a half precision: what the layers of a module may leave of a signal, as a share of it


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
    checkpoint: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    time_limit: float | None = None,
    signal_time_limit: float | None = None,
    callback: Callback | None = None,
    cluster: object = None,
    differentiable: bool | nn.Module = False,
    **options: Any,
) -> Inversion:
    """Find z with G(z) = y on what was seen of y, for any number of signals.

    generator: from `load_generator`. y: `(N, d)`, `(N, *signal_shape)` or one signal; torch or numpy, float32 or float64;
    with a matrix or another measurement of k numbers `(N, k)`. method: the name of one of `METHODS`, "hybrid" by default,
    with its options as keywords here; or an object that holds them, such as `Hybrid(restarts=20)` or one of a class of your
    own (`AbstractMethod`). measurement: None (everything), a bool mask `(d,)` or `(N, d)`, True where seen, a matrix A `(k,
    d)` with y = A x, dense or sparse, or one per signal `(N, k, d)`, a LinearOperator of scipy, or an `AbstractMeasurement`
    such as `Convolution` or `Operator`. noise: None (the signals are in G's range to their own precision), ("l2" | "linf" |
    "l1", bound) on y - A G(z), l1 for a few entries that may be far off, ("gaussian", sigma), the standard deviation of
    every entry, signal units, one number or `(N,)` each; or "auto": gaussian, with sigma estimated for each signal from
    what its fit leaves over (`level`). prior: None, or what is known of z: `Gaussian`, `Box`, `Ball` or an `AbstractPrior`
    of your own; then z is a minimiser of |A G(z) - y|^2 / (2 sigma^2) + R(z) in its set. truth: true latents `(N, n0)`, for
    SNRs only, and for the supports of the oracle. seed: of the random starts, which are the same for every signal. chunk:
    signals at a time; None takes what fits 1 GB, with a checkpoint less where that would take minutes. progress: a bar;
    None shows it on a terminal. on_fail: "warn", "raise" (UnsolvedError, which carries the result) or "ignore".

    checkpoint: a folder where each chunk is kept as it is done, whole or not at all, and the result in the end, as
    `Inversion.save` writes it. resume: go on with the run that the folder holds, if it is the same one; it ends with what an
    uninterrupted run gives, bit for bit. overwrite: replace what the folder holds. time_limit: seconds of the call;
    signal_time_limit: seconds of a signal, which the signals of a chunk share; both are looked at between starts and steps,
    and what is not finished by then comes back as `user_limit`. callback: told a `RunProgress` after each chunk; what
    returns True or raises StopIteration stops the run. cluster: None, or Dask's workers that compute the chunks (extra
    `[cluster]`): "local" or a number for processes of this machine, an address "tcp://host:8786", or a `distributed.Client`;
    the same bits come out. A script that asks for local ones stands under `if __name__ == "__main__":`.

    differentiable: True, and z and signal carry a graph to whatever requires gradients of y, a matrix, sigma, the prior's
    numbers, and tensors that a `Generator` was made from; or the torch module that the generator was read from, for the
    weights. `result.differentiable` says for which signals there is a derivative (`implicit` when), the others count as
    constants and `on_fail` tells of them.

    Options of the methods are the fields of their classes, documented there: `Hybrid` (restarts, max_iter, z0 and those of
    `LayerOptions`: lam, gamma, support_threshold, solver, tol, force, image_layer, layer_problems), `LatentPursuit`
    (debias, max_iter and those of `LayerOptions`), `LevenbergMarquardt` (restarts, max_iter, z0), `GradientDescent`
    (restarts, max_iter, steps, momentum, decay, z0), `LayeredBasisPursuit` (lam, support_threshold, solver, tol, force,
    cardinalities, debias, max_iter), `LayeredLinearPrograms` (norm, eps, growth, rounds, solver, tol, force, debias,
    max_iter), `Oracle` (supports, form, debias, max_iter), `Csgm` (lam, rate, max_iter, restarts, tol, finish, z0),
    `ProjectedGradient` (eta, max_iter, inner, inner_iter, rate, lam, tol, restarts, z0), `GenerativeAdmm` (loss, rho,
    sigma, multiplier, split, step, inner, finish, max_iter, tol, restarts, z0), `IntermediateLayers` (radius, max_iter,
    rate, restarts, z0), `Plugin` (step, max_iter, tol, restarts, z0), `DeepPhaseRetrieval` (descent, rate, max_iter, tol,
    restarts, finish, z0), `GradientDescentWithNegation` (step, sign_test, max_iter, tol, restarts, z0), `MirroredDescent`
    (max_iter, restarts, z0).

    Computes in float64 and returns an `Inversion` in the generator's type; its verdict is `verify`'s. Raises TypeError
    or ValueError for input that does not fit, before any arithmetic; FileExistsError
    for a folder that holds a result or a run, OSError where it cannot be written.
    """
    check_choice(on_fail, ("warn", "raise", "ignore"), "on_fail")
    seed, chunk = plain_number(seed), plain_number(chunk)  # type: ignore[assignment]
    asked, watch = as_method(method, options, METHODS), Watch(time_limit, signal_time_limit, callback)
    single = isinstance(y, (Tensor, np.ndarray)) and _is_single(y, generator, measurement)
    if cluster is not None:
        check_cluster(cluster)
    task = make_task(generator, y, measurement, noise, prior)
    # float32 is lifted without loss: its rounding would cost the certificates of every layer
    dtype, task = task.y.dtype, task.to(torch.float64)
    truth = check_truth(truth, task)
    check_level(task)
    chosen = taken(asked, task, truth)
    if differentiable is not False:
        module = differentiable if isinstance(differentiable, nn.Module) else None
        given = Given(generator, y, measurement, noise, prior, module)
        check_differentiable(given, task, differentiable)
    started = time.perf_counter()
    whole = Chunk(task, chosen, truth, read_seed(seed), dtype)
    run, complete = _opened(whole, chunk, checkpoint, resume, overwrite)
    run.cluster = cluster
    if complete and run.folder is not None:
        result = Inversion.load(run.folder.path)
    else:
        found = run.go(watch, progress)
        settings = in_words(asked, options) | {"seed": seed, "chunk": run.layout.size}
        result = _finished(found, whole, settings, watch)
        result.seconds["total"] = time.perf_counter() - started
        result = result.one() if single else result
        run.save(result, bool(watch.stopped))
    _report(result, task, on_fail)
    if differentiable is False:
        return result
    with torch.enable_grad():
        return with_derivatives(result, task, given, on_fail)


def taken(method: AbstractMethod, task: Task, truth: Tensor | None) -> AbstractMethod:
    """The method as it takes the task: after it was told the true latents `(N, n0)`, float64, which most of them forget.

    Raises TypeError or ValueError where it refuses the task, or its prior.
    """
    chosen = method.told(task, truth)
    if task.prior is not None and not chosen.priors:
        able = ", ".join(name for name, kind in METHODS.items() if kind.priors and _takes(kind(), task))
        raise ValueError(
            f"expected prior=None with the method {chosen.name}, got {task.prior!r}, which it knows nothing of; "
            f"use one of {able}, or leave the prior out"
        )
    chosen.check(task)
    return chosen


def _takes(method: AbstractMethod, task: Task) -> bool:
    """Whether a method with its defaults takes a task."""
    try:
        method.check(task)
    except ValueError:
        return False
    return True


def _is_single(y: Tensor | np.ndarray, generator: object, measurement: object) -> bool:
    if not isinstance(generator, AbstractGenerator) or (isinstance(y, Tensor) and y.is_nested):
        return False  # refused by `make_task`
    shape = form_of(measurement, tuple(generator.signal_shape))
    return y.ndim == 1 or (tuple(y.shape) == shape and len(shape) > 1)


def check_truth(truth: Tensor | np.ndarray | None, task: Task) -> Tensor | None:
    """True latents `(N, n0)` in float64, from one or a batch of them. Raises TypeError or ValueError for what is none."""
    if truth is None:
        return None
    truth = read_numbers(truth, "the true latents", task.y.device)
    n0 = task.generator.latent_dim
    truth = truth[None] if truth.ndim == 1 else truth
    if truth.shape != (task.N, n0):
        raise ValueError(
            f"expected the true latents of shape ({task.N}, {n0}), got {tuple(truth.shape)}; pass truth=z of them"
        )
    if not torch.isfinite(truth).all():
        raise ValueError("expected finite true latents, got NaN or inf in them; leave truth out where it is not known")
    return truth.to(torch.float64)


def _opened(
    whole: Chunk, chunk: int | None, checkpoint: str | Path | None, resume: bool, overwrite: bool
) -> tuple[Run, bool]:
    """The run, with the folder that keeps it, and whether it is complete there."""
    usual = whole.task.chunk_size() if checkpoint is None else told_often(whole.task)
    layout = Layout(whole.task.N, usual if chunk is None else positive(chunk, "chunk"))
    if checkpoint is None:
        for name, wanted in (("resume", resume), ("overwrite", overwrite)):
            if wanted:
                raise ValueError(f"expected checkpoint=folder beside {name}=True, got none; name the folder of the run")
        return Run(whole, layout), False
    meant = run_words(whole)
    folder, complete = open_folder(checkpoint, meant, layout, resume=resume, overwrite=overwrite, asked=chunk is not None)
    return Run(whole, folder.layout, folder), complete


def _finished(found: Inversion, whole: Chunk, settings: dict[str, Any], watch: Watch) -> Inversion:
    """The answer with what was asked for, what ran, and what is to be said of all signals."""
    task, verdict, level, notes = whole.task, found.verdict, None, found.notes
    if estimated(task) and found.uncertainty is not None:
        level, notes = found.uncertainty.sigma, (*notes, *level_notes(verdict.explained, verdict.misfit, verdict.size))
    notes = (*notes, *_of_half_precision(task.generator, found))
    return replace(
        found,
        settings=settings | task_words(task, level),
        versions=versions(task, whole.dtype),
        notes=(*notes, *watch.notes),
    )


def _of_half_precision(generator: AbstractGenerator, found: Inversion) -> tuple[str, ...]:
    """What is to be said of signals that a module in half precision may have rounded."""
    name = generator.description.get("precision")
    if name not in ("float16", "bfloat16"):
        return ()
    share = _ROUNDINGS * torch.finfo(getattr(torch, name)).eps
    left = int((~found.verdict.explained & (found.verdict.relative_misfit <= share)).sum())
    if not left:
        return ()
    return (
        f"the generator's module computes in {name}, and here it is computed in float64: {left} signals that are not "
        f"explained may be its own, rounded; noise=('l2', {share:.2g} * y.norm(dim=1)) allows for that",
    )


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
