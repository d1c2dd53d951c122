"""What a caller's surroundings may not change: autocast, gradients, inference mode, the default device.

A user's script may run under `torch.autocast`, under `torch.inference_mode`, or with a default device other than that of the
data. Every public function computes as it does in a fresh process and leaves these as they were. The default dtype needs no
care here: no number is made without a type. In a fresh process nothing is entered but `torch.no_grad`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_CPU = torch.device("cpu")
_AUTOCASTS = ("cpu", "cuda")


def undisturbed(function: Callable[P, R]) -> Callable[P, R]:
    """`function` without gradients, autocast, inference mode and with the CPU as default device, whatever surrounds it."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.no_grad():
            if not _disturbed():
                return function(*args, **kwargs)
            with ExitStack() as stack:
                _settle(stack)
                return function(*args, **kwargs)

    return inside


def settled(function: Callable[P, R]) -> Callable[P, R]:
    """`function` as `undisturbed`, but gradients go through it."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _disturbed():
            return function(*args, **kwargs)
        with ExitStack() as stack:
            _settle(stack)
            return function(*args, **kwargs)

    return inside


def exact_products(function: Callable[P, R]) -> Callable[P, R]:
    """`function` without autocast; gradients go through it."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):  # no call more: every product asks
            return function(*args, **kwargs)
        with ExitStack() as stack:
            _without_autocast(stack)
            return function(*args, **kwargs)

    return inside


def _disturbed() -> bool:
    autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    return autocast or torch.is_inference_mode_enabled() or torch.get_default_device() != _CPU


def _settle(stack: ExitStack) -> None:
    _without_autocast(stack)
    if torch.is_inference_mode_enabled():
        # what is made in inference mode may not be written to outside, and a problem keeps what it computed
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
    if torch.get_default_device() != _CPU:
        stack.enter_context(_CPU)


def _without_autocast(stack: ExitStack) -> None:
    for kind in _AUTOCASTS:
        if torch.is_autocast_enabled(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))
