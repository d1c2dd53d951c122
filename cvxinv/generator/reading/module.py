"""Reading a torch module, or a function over modules: it is run on a few latents, followed, said in ops, and folded.

What does not depend on the latent is computed once, in float64, and enters as numbers: weights however they are made,
constants, conditions, a label's embedding. What does depend on it must be a chain of steps. Everything happens on a float64
copy on the CPU: the user's module, its mode and torch's global state stay as they are. What was read is compared with the
copy on random latents, in two numbers of them, before it is given out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UnsupportedLayerError
from .. import ops
from ..chain import Generator
from ..folding import fold
from .agreement import check_agreement
from .cells import MixedError, Signal
from .follow import LABEL, LATENT, Follower, ValueDependentError
from .labels import fixed_label, no_label
from .latents import UNLIKELY, Shapes
from .recorder import Recorder
from .roles import Roles, fixed_inputs, possible, too_many
from .steps.call import OPAQUE
from .twin import Twin, key_of_signal, twin_of

_PROBES = 3
_CHECKS = (16, 5)
_RTOL = 1e-10  # float64 roundings of a deep chain stay below 1e-12; a misread step does not


def read_module(
    source: nn.Module | Callable[..., Tensor],
    latent_dim: int | tuple[int, ...] | None = None,
    label: int | None = None,
    inputs: Mapping[str, Any] | None = None,
    method: str | None = None,
) -> Generator:
    """The generator that a module computes, or its `method`, or a function; in float64 on the CPU.

    Of a conditional one that of `label`: what the forward pass makes of the label alone (an embedding, one-hot numbers,
    maps of these) is computed once. `inputs` fixes others by their names.

    Raises: ValueError for a module in training mode, without running statistics, with non-finite weights,
    without a recognisable latent size, with a missing or wrong label, or that computes something else than what was
    read; UnsupportedLayerError, with the module path, for what no chain of maps and activations can hold.
    """
    twin = twin_of(source, method)
    fixed = fixed_inputs(inputs, twin.parameters)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        trial = _run(twin, fixed, latent_dim, label)
        signal = trial.signal(_decoder_of(source))
        described = {} if trial.number is None else {"label": trial.number}
        generator = _folded(trial, signal, described)
        _compare(generator, twin, trial, signal)
    return generator


@dataclass(frozen=True, eq=False)
class _Trial:
    """One run of a module: who read it, what it gave, what its inputs were."""

    recorder: Recorder
    out: Any
    roles: Roles
    spread: bool
    number: int | None

    def signal(self, decoder: str = "") -> Signal:
        """The output as one signal per latent. Raises: UnsupportedLayerError for what is none.

        decoder: a part or a method of the module that is likely what is meant, as a cure.
        """
        found = [t for t in _tensors(self.out) if self.recorder.book.look(t) is not None]
        if len(found) != 1:
            got = f"{len(_tensors(self.out))} tensors" if found else "what does not depend on it"
            raise UnsupportedLayerError(
                f"expected a forward pass that returns one tensor that depends on the latent, got {got}; pass {decoder}a "
                f"function that picks the signal, such as load_generator(lambda z: net(z)[{key_of_signal(self.out)}])"
            )
        point = self.recorder.book.look(found[0])
        assert point is not None
        refused = next((p.refused for p in point[0].chain() if p.refused is not None), None)
        if refused is not None:
            raise _sized(refused.error(), self.recorder.shape)
        try:
            return self.recorder.book.signal(found[0])
        except MixedError as error:
            raise UnsupportedLayerError(
                f"expected an output whose first axis counts the latents, got a step {error}; "
                "reshape with view(z.size(0), ...) or nn.Flatten"
            ) from error

    def arguments(self, z: Tensor) -> tuple[list[Any], dict[str, Any]]:
        """What the forward pass is called with for latents `z`."""
        labels = None if self.number is None else torch.full((len(z),), self.number, dtype=torch.int64)
        return self.roles.arguments(z, labels, self.spread)


def _sized(error: Exception, shape: ops.Shape) -> Exception:
    """The error with the latent's size in its cure: its numbers, or its shape where these alone do not say it."""
    size = prod(shape) if sum(n > 1 for n in shape) <= 1 else tuple(shape)
    return type(error)(str(error).replace("latent_dim=...", f"latent_dim={size}"))


def _decoder_of(source: object) -> str:
    """What of a whole autoencoder makes signals of latents, in words that go before another cure; "" where none is known."""
    if not isinstance(source, nn.Module):
        return ""
    method = next((name for name in ("decode", "generate") if callable(getattr(source, name, None))), None)
    if method is not None:
        return f"method={method!r}, or "
    part = next((name for name, _ in source.named_children() if name in ("decoder", "generator", "netG", "dec")), None)
    return "" if part is None else f"its part net.{part}, or "


def _tensors(out: Any) -> list[Tensor]:
    values = out.values() if isinstance(out, Mapping) else out if isinstance(out, tuple | list) else [out]
    return [value for value in values if isinstance(value, Tensor)]


# --- the run --------------------------------------------------------------------------------------


def _run(twin: Twin, fixed: Mapping[str, Any], latent_dim: int | tuple[int, ...] | None, label: int | None) -> _Trial:
    """The first run that goes through, with the label that is asked for."""
    failures: list[Exception] = []
    for roles in possible(twin.parameters, label, fixed):
        for spread in (True, False) if fixed else (True,):
            try:
                trial = _tried(twin, roles, spread, 0 if roles.label else None, latent_dim)
            except (ValueError, UnsupportedLayerError) as error:
                failures.append(error)
                continue
            if (chosen := _labelled(twin, trial, label)) is not None:
                return chosen
    if sum(p.required for p in twin.parameters if p.name not in fixed) == 2 and label is None:
        raise too_many([p for p in twin.parameters if p.name not in fixed])
    raise failures[0]


def _labelled(twin: Twin, trial: _Trial, label: int | None) -> _Trial | None:
    """The run with the label that is asked for; None where the input that should be one is none."""
    if trial.roles.label is None:
        no_label(label)
        return trial
    classes = min(trial.recorder.classes, default=None)
    used = any(LABEL in trial.recorder.marks.of(t) for t in _tensors(trial.out))
    if not used or (classes is None and label is None):
        return None
    number = fixed_label(label, classes)
    if number == 0:
        return trial
    recorder, out = _once(twin, trial.roles, trial.spread, number, trial.recorder.shape)
    return _Trial(recorder, out, trial.roles, trial.spread, number)


def _tried(twin: Twin, roles: Roles, spread: bool, number: int | None, latent_dim: int | tuple[int, ...] | None) -> _Trial:
    """The run on the first shape of latents that goes through. Raises: ValueError where none does."""
    shapes, reasons = Shapes(twin.modules.values(), latent_dim), list[str]()
    for shape in shapes:
        recorder = _recorder(twin, shape)
        try:
            out = _call(twin, recorder, roles, spread, number)
        except ValueDependentError as error:
            raise UnsupportedLayerError(
                f"expected a forward pass of the same steps for all latents, got control flow that depends on values, "
                f"{error.name} at {recorder.place_of_failure()}; remove it, or {OPAQUE}"
            ) from error
        except Exception as error:
            if recorder.fault is not None:
                raise
            shapes.learn(recorder)
            reasons += [] if shape == (UNLIKELY,) else [_first_line(error)]
            continue
        if shape != (UNLIKELY,) or latent_dim == UNLIKELY:
            return _Trial(recorder, out, roles, spread, number)
    reason = reasons[0] if reasons else "no layer says how many latent coordinates there are"
    called = "" if roles.label is None else f", with a label of shape ({_PROBES},) as {roles.label.name}"
    raise ValueError(
        f"expected a module that runs on latents of a shape it implies, got none among {shapes.words}{called} ({reason}); "
        "pass latent_dim=..., with opaque=True where the module runs on such latents and only reading it fails, or mend the "
        "module if the shapes of its layers do not meet"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _recorder(twin: Twin, shape: ops.Shape) -> Recorder:
    return Recorder(twin.modules, twin.method, _PROBES, shape)


def _once(twin: Twin, roles: Roles, spread: bool, number: int | None, shape: ops.Shape) -> tuple[Recorder, Any]:
    recorder = _recorder(twin, shape)
    return recorder, _call(twin, recorder, roles, spread, number)


def _call(twin: Twin, recorder: Recorder, roles: Roles, spread: bool, number: int | None) -> Any:
    z = recorder.latents(_latents(_PROBES, recorder.shape))
    labels = None if number is None else recorder.labels(torch.full((_PROBES,), number, dtype=torch.int64))
    args, kwargs = roles.arguments(z, labels, spread)
    return recorder.run(lambda: twin.call(*args, **kwargs))


def _latents(N: int, shape: ops.Shape) -> Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# --- what was read --------------------------------------------------------------------------------


def _folded(trial: _Trial, signal: Signal, described: dict[str, Any]) -> Generator:
    shape = trial.recorder.shape
    cure = str(_sized(Exception(OPAQUE), shape))
    said = [step for point in signal.point.chain() for step in point.steps]
    said += [("the output", step) for step in signal.steps()]
    try:
        return fold([(ops.Place(words, cure), op) for words, op in said], shape, description=described)
    except UnsupportedLayerError as error:
        raise error if "opaque=True" in str(error) else UnsupportedLayerError(f"{error}; or {cure}") from error


def _compare(generator: Generator, twin: Twin, trial: _Trial, signal: Signal) -> None:
    """Raises: ValueError where the module computes something else than what was read, for any number of latents."""
    for N in _CHECKS:
        z = _latents(N, trial.recorder.shape)
        follower = Follower({}, twin.method)
        follower.marks.put(z, frozenset({LATENT}))
        args, kwargs = trial.arguments(z)
        try:
            out = follower.run(lambda: twin.call(*args, **kwargs))  # noqa: B023
        except Exception as error:
            raise UnsupportedLayerError(
                f"expected a forward pass for any number of latents, got {_first_line(error)} for {N} after {_PROBES} "
                "went through; use z.size(0) for their number, and let the first axis count them"
            ) from error
        found = [t for t in _tensors(out) if LATENT in follower.marks.of(t)]
        expected = signal.lay.with_count(N)(found[0]).reshape(N, -1).double()
        source, cure = "the module to compute what was read from it", "remove forward hooks, in-place changes and randomness"
        cure = f"{cure}, or have it run as it is with opaque=True"
        check_agreement(expected, generator(_latents(N, trial.recorder.shape).flatten(1)), _RTOL, source=source, cure=cure)
