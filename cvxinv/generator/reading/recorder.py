"""What a module does to its latents, step by step, said in ops while it runs."""

from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from ..activations import KINDS, AbstractActivation, all_kinds
from .cells import Book, MixedError, Point
from .follow import CHANCE, LABEL, LATENT, Follower, in_place, is_torchs, name_of, tensors_in
from .steps import SAYINGS
from .steps.call import OPAQUE, Call, Refusal, RefusedError, outputs
from .steps.elementwise import SAID

_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")
_COMPOSED = {"softsign": "Softsign"}  # functions that torch computes in several operations


class Recorder(Follower):
    """Runs a module on the latents of `shape` and keeps what each tensor is a chain of."""

    def __init__(self, modules: dict[str, nn.Module], method: str, N: int, shape: ops.Shape):
        super().__init__(modules, method)
        self.book, self.shape = Book(N), shape
        self.latent = Point(shape or (1,), alike=True)
        self.muted = 0
        self.fault: Exception | None = None  # of this package, and no word of the module's

    def latents(self, z: Tensor) -> Tensor:
        """`z` (N, *shape) as what is followed."""
        self.marks.put(z, frozenset({LATENT}))
        numbers = torch.arange(1, 1 + z.numel(), dtype=torch.float64).reshape(z.shape)
        self.book.write(z, self.latent, numbers)
        return z

    def labels(self, t: Tensor) -> Tensor:
        """`t` as what depends on the label."""
        self.marks.put(t, frozenset({LABEL}))
        return t

    def read(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Do an operation and say it."""
        if self.muted or not self._followed(args, kwargs):
            return func(*args, **kwargs)
        said = (self._kept(args[0]), *args[1:]) if in_place(func) else args
        call = Call(self.book, name_of(func), func, said, kwargs, self.place(), self._followed(said, kwargs))
        out = call.out = func(*args, **kwargs)
        viewed = [self.book.look(t) is not None for t in outputs(out)]
        if viewed and (in_place(func) or not all(viewed)):
            self._say(call)
        return out

    def _followed(self, *values: Any) -> list[Tensor]:
        return [t for t in tensors_in(*values) if self.book.look(t) is not None]

    def _kept(self, t: Tensor) -> Tensor:
        """A copy of what is about to be written into."""
        found, kept = self.book.look(t), t.clone()
        if found is not None:
            self.book.write(kept, *found)
        return kept

    def _say(self, call: Call) -> None:
        drawn = self._draws(call)
        try:
            if (saying := SAYINGS.get(call.name)) is None:
                raise RefusedError("")
            saying(call)
            if drawn:
                call.refuse_what_was_said(self._drawn(call.place))
        except MixedError as error:
            cure = f"let the first axis count the latents, or {OPAQUE}"
            call.refuse(self._drawn(call.place) if drawn else Refusal(f"{call.place} {error}", cure=cure))
        except RefusedError as error:
            call.refuse(self._drawn(call.place) if drawn else error.refusal(call.place))
        except Exception as error:
            self.fault = error
            raise

    def _draws(self, call: Call) -> bool:
        drawn = torch.Tag.nondeterministic_seeded in call.func.tags and call.name != "rrelu_with_noise"  # type: ignore
        return drawn or CHANCE in self.marks.of(*tensors_in(call.args, call.kwargs))

    def _drawn(self, place: str) -> Refusal:
        if not set(self.functions).isdisjoint(_DROPOUTS):
            return Refusal(
                f"{place} with training=True",
                "dropout in eval mode",
                "pass training=self.training and call .eval()",
                ValueError,
            )
        return Refusal(
            f"{place}, a tensor of its own that is drawn anew in each call",
            "steps on the signal alone",
            "leave the noise out, or keep it in a buffer; what is called random and is not (encoder layers of torch in eval "
            "mode) is read with opaque=True and latent_dim=...",
        )

    # --- what is read whole, though torch computes it in several operations ---

    def entered(self, part: nn.Module, args: tuple, kwargs: dict) -> None:
        """An activation that bears a name of its own is read as what it says it is."""
        if self.muted or _own_activation(part) is not None:
            self.muted += 1

    def left(self, part: nn.Module, args: tuple, out: Any) -> None:
        """The activation has returned."""
        if not self.muted:
            return
        self.muted -= 1
        kind = _own_activation(part)
        if self.muted or kind is None or not isinstance(out, Tensor) or not args:
            return
        numbers = [getattr(part, name) for name in kind.parameter_names]
        self._activated(kind, numbers, args[0], out, f"{self.path[-1][0] or 'module'} ({type(part).__name__})")

    def called(self, func: Any, name: str, args: tuple, kwargs: dict) -> Any:
        """A function that torch composes is read as what it is."""
        name = name_of(func)
        if name not in _COMPOSED or self.muted or not args or not self._followed(args[:1]):
            return func(*args, **kwargs)
        self.muted += 1
        try:
            out = func(*args, **kwargs)
        finally:
            self.muted -= 1
        kind = next((kind for kind in KINDS if kind.__name__ == _COMPOSED[name]), None)
        self._activated(kind, [], args[0], out, self.place())
        return out

    def _activated(
        self, kind: type[AbstractActivation] | None, numbers: list[Any], t: Tensor, out: Tensor, place: str
    ) -> None:
        call = Call(self.book, "", None, (t,), {}, place, self._followed((t,)), out)  # type: ignore[arg-type]
        if not call.followed:
            return
        if kind is None:
            call.refuse(Refusal(call.place))
            return
        try:
            call.everywhere(t, ops.Activation(kind.of(*numbers)))
        except ValueError as error:
            said = ", ".join(f"{name} {number}" for name, number in zip(kind.parameter_names, numbers, strict=True))
            call.refuse(Refusal(f"{call.place} with {said} ({error})"))


def _own_activation(part: nn.Module) -> type[AbstractActivation] | None:
    """The activation that names the module's class, or one that its forward pass comes from; of torch's own modules one that
    no step says."""
    if isinstance(part, torch.jit.ScriptModule):
        return None
    if is_torchs(part):
        name = type(part).__name__
        return next((kind for kind in all_kinds() if name in kind.torch_modules and kind.__name__ not in SAID), None)
    same = [cls for cls in type(part).__mro__ if getattr(cls, "forward", None) is type(part).forward]
    ours = {cls.__name__ for cls in same if cls.__module__.split(".")[0] == "cvxinv"}
    names = {cls.__name__ for cls in same}
    kinds = (kind for kind in all_kinds() if not (ours if kind in KINDS else names).isdisjoint(kind.torch_modules))
    return next(kinds, None)
