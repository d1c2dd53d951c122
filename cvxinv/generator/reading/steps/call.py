"""One operation of torch on what depends on the latent, and the words that say it; the sayings stand beside this file."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ....errors import UnsupportedLayerError
from ... import ops
from ..cells import Book, Lay, MixedError, Point, Signal, constant

CHAIN = "a chain in which every step takes the step before"
STEP = "a step that can be read"
OPAQUE = "pass opaque=True with latent_dim=..., or the part of the model without it"


@dataclass(frozen=True)
class Refusal:
    """Why a step cannot be read. Without a cure of its own it is what any module can be loaded with."""

    got: str
    expected: str = STEP
    cure: str = OPAQUE
    kind: type[Exception] = UnsupportedLayerError

    def error(self) -> Exception:
        """The error that says so."""
        return self.kind(f"expected {self.expected}, got {self.got}; {self.cure}")


class RefusedError(Exception):
    """A saying cannot say the call; `got` continues the sentence behind its place."""

    def __init__(self, got: str, **others: Any):
        super().__init__(got)
        self.others = others

    def refusal(self, place: str) -> Refusal:
        """Why the step at `place` is refused."""
        if self.others.get("expected") == CHAIN:
            return Refusal(f"a branch or skip connection at {place}", CHAIN)
        return Refusal(f"{place} {self}".strip(), **self.others)


@dataclass(eq=False)
class Call:
    """A call of operation `name` in `place`; `followed` are the arguments that depend on the latent, `out` its result."""

    book: Book
    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: str
    followed: list[Tensor]
    out: Any = field(default=None)

    def get(self, index: int, name: str, default: Any = None) -> Any:
        """An argument by its place or name."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[index] if len(self.args) > index else default

    def signal_in(self, index: int = 0, name: str = "self") -> Tensor:
        """The argument that is to depend on the latent, alone. Raises: RefusedError."""
        t = self.get(index, name)
        if [id(one) for one in self.followed] != [id(t)]:
            raise RefusedError("", expected=CHAIN)
        return t

    def fixed(self, *values: Any) -> None:
        """Raises RefusedError if one of `values` depends on the latent."""
        if any(isinstance(value, Tensor) and self.book.look(value) is not None for value in values):
            raise RefusedError("with weights that depend on the latent")

    def read(self, t: Tensor, plain: bool = False) -> Signal:
        """`t` as one signal per latent; `plain`: its first axis must count them. Raises: MixedError, RefusedError."""
        signal = self.book.signal(t)
        if plain and not signal.lay.plain:
            raise MixedError(
                f"on a tensor of shape {tuple(t.shape)}, whose first axis is to count the {self.book.N} latents"
            )
        return signal

    def everywhere(self, t: Tensor, op: ops.AbstractOp) -> None:
        """The result is `op`, which does the same to every number, of `t`: it may as well come before numbers are moved."""
        found = self.book.look(t)
        assert found is not None
        point, numbers = found
        after = Point(point.shape, point, ((self.place, op),), alike=point.alike)
        self._write(lambda: self.book.write(self.out, after, numbers.expand(self.out.shape)))

    def finish(
        self, signal: Signal, steps: Iterable[ops.AbstractOp], out: Tensor | None = None, lay: Lay | None = None
    ) -> None:
        """The result is `steps` of `signal`, laid out as `lay`; as the signal is, where left out."""
        out, lay = self.out if out is None else out, lay or signal.lay
        shape = tuple(lay(out).shape[1:]) or (1,)
        said = tuple((self.place, step) for step in (*signal.steps(), *steps))
        after = Point(shape, signal.point, said)
        self._write(lambda: self.book.start(out, after, lay))

    def moved(self, point: Point, numbers: Tensor) -> None:
        """The result is numbers of `point`, moved."""
        self._write(lambda: self.book.write(self.out, point, numbers))

    def constant(self, values: Tensor | float, lay: Lay) -> Tensor:
        """One signal's part of numbers beside the result. Raises: MixedError."""
        values = torch.as_tensor(values, dtype=torch.float64).expand(self.out.shape)
        return constant(values, lay)

    def refuse(self, refusal: Refusal) -> None:
        """What comes of it is refused, should the output depend on it."""
        before = self.book.look(self.followed[0])
        assert before is not None
        for out in outputs(self.out):
            alike = before[0].alike and out.numel() == self.followed[0].numel()
            point = Point((max(1, out.numel()),), before[0], refused=refusal, alike=alike)
            self.book.write(out, point, torch.arange(1, 1 + out.numel(), dtype=torch.float64).reshape(out.shape))

    def refuse_what_was_said(self, refusal: Refusal) -> None:
        """The result is what was said, and refused."""
        found = self.book.look(self.out)
        assert found is not None
        point = Point(found[0].shape, found[0], refused=refusal, alike=found[0].alike)
        self._write(lambda: self.book.write(self.out, point, found[1].clone()))

    def _write(self, write: Callable[[], bool]) -> None:
        if not write():
            raise RefusedError("", expected=CHAIN)


def outputs(out: Any) -> list[Tensor]:
    """The tensors of a result."""
    values = out if isinstance(out, tuple | list) else [out]
    return [value for value in values if isinstance(value, Tensor)]


SAYINGS: dict[str, Callable[[Call], None]] = {}


def saying(*names: str) -> Callable[[Callable[[Call], None]], Callable[[Call], None]]:
    """A function that says what these operations of torch do, by their names without an underscore for "in place"."""

    def join(function: Callable[[Call], None]) -> Callable[[Call], None]:
        SAYINGS.update(dict.fromkeys(names, function))
        return function

    return join
