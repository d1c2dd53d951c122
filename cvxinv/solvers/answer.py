"""What a solver gives for a batch, before and after the judge has looked at it."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal
from ..layers.core.certificate import Certificate
from ..layers.core.problem import Point


@dataclass(frozen=True, eq=False)
class Answer(Batch):
    """Points of a batch and where they come from; nothing is claimed about them.

    h: `(N, n)`; p: `(N, m)`; iterations: `(N,)`; polished: whether the point solves the equations of its activity exactly,
    `(N,)`; solver: who gave it, per signal, "" where nobody; solver_status: a CVXPY solver's own words ("" for others).
    """

    h: Tensor = per_signal()
    p: Tensor = per_signal()
    iterations: Tensor = per_signal()
    polished: Tensor = per_signal()
    solver: tuple[str, ...] = per_signal()
    solver_status: tuple[str, ...] = per_signal()

    @property
    def point(self) -> Point:
        """h and p as a `Point`."""
        return Point(self.h, self.p)

    @property
    def asked(self) -> Tensor:
        """Which signals somebody gave a point for, bool `(N,)`."""
        return torch.as_tensor(list(map(bool, self.solver)))

    def __len__(self) -> int:
        return len(self.h)

    @classmethod
    def by(cls, point: Point, solver: str, iterations: int = 0, polished: bool = False) -> "Answer":
        """The points of one solver after so many iterations."""
        N = len(point.h)
        count, exact = torch.full((N,), iterations, device="cpu"), torch.full((N,), polished, device="cpu")
        return Answer(*point, count, exact, (solver,) * N, ("",) * N)

    @classmethod
    def none(cls, y: Tensor, n: int) -> "Answer":
        """h = 0 of n unknowns and p = 0, by nobody, beside the rows y `(N, m)`."""
        return cls.by(Point(y.new_zeros(len(y), n), torch.zeros_like(y)), "")


@dataclass(frozen=True, eq=False)
class Judged(Answer):
    """An answer, and what the judge says of it: a certificate in the units of the problem that was judged."""

    certificate: Certificate = per_signal()

    @classmethod
    def of(cls, answer: Answer, certificate: Certificate, **more: Any) -> Self:
        """`answer` with the certificate of its points; more: the fields of a class that has more."""
        given = {f.name: getattr(answer, f.name) for f in fields(Answer)}
        return cls(**given, certificate=certificate, **more)

    @property
    def status(self) -> np.ndarray:
        """The certificate's statuses."""
        return self.certificate.status
