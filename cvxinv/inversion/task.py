"""A task: a generator, what was seen of some signals, and how noisy that is; checked once, before any arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, per_signal, shared
from ..generator.abstract import AbstractGenerator, check_generator
from ..generator.maps import AbstractMap
from ..inputs import conversion, read_amount, read_numbers
from ..lengths import lengths
from ..measurement.abstract import ANY, AbstractMeasurement
from ..measurement.given import as_measurement, form_of, stands_apart
from ..memory import room
from .mistakes import axes_cure, refuse_beyond, refuse_far, refuse_float_mask, type_cure
from .priors import AbstractPrior, as_prior
from .progress import Progress

# Relative misfit up to which a signal without stated noise counts as explained: what the signals' own precision gives.
EXPLAINED = {torch.float64: 1e-8, torch.float32: 1e-6}


# what the Jacobians of one block may take: what a processor's caches hold of it is pushed on, a GPU wants it large
_BLOCK_BYTES = {"cpu": 12_500_000, "cuda": 500_000_000}
_STRETCH = 1.25  # times that much, where it saves a block
_MEMORY = 1_000_000_000  # bytes of Jacobians and Gram matrices per chunk
_LARGEST = 1e100  # of a number in a signal: its square, and products with weights, must not overflow
NORMS = ("l2", "linf", "l1", "gaussian")
_OWN = ("linf", "l1")  # whose bound is on another length than the l2 misfit
AUTO = "auto"  # gaussian noise of a level that is estimated
_SURE = 0.999  # share of the noise's draws whose length counts as what the noise explains


@dataclass(frozen=True, eq=False)
class Noise(Batch):
    """What y - A G(z) may be: a bound on its l2, linf or l1 norm, or gaussian with that standard deviation in every entry.

    bound: the bound, or the standard deviation, `(N,)`, signal units. estimated: it is not stated but estimated from what a
    fit leaves over (`level`); NaN until it is.
    """

    norm: str
    bound: Tensor = per_signal()
    estimated: bool = shared(default=False)

    def length(self, seen: Tensor) -> Tensor:
        """The l2 length that it has, or may have, in `seen` entries, `(N,)` each; no l2 length exceeds that in l1."""
        return self.bound if self.norm in ("l2", "l1") else self.bound * seen.to(self.bound).sqrt()

    def per_entry(self, seen: Tensor) -> Tensor:
        """Its root mean square in one of `seen` entries, of linf noise the bound, `(N,)` each."""
        return self.bound / seen.to(self.bound).clamp(min=1).sqrt() if self.norm in ("l2", "l1") else self.bound

    def limit(self, seen: Tensor) -> Tensor:
        """The misfit, in l2 or in the norm of linf or l1 noise, up to which it explains; seen: entries, `(N,)` each.

        Of gaussian noise sigma q^(1/2), q the 99.9 % quantile of chi-squared with as many degrees of freedom.
        """
        if self.norm != "gaussian":
            return self.bound
        counts, which = torch.unique(seen, return_inverse=True)
        quantiles = torch.tensor([_quantile(int(k)) for k in counts.tolist()], dtype=torch.float64, device=self.bound.device)
        return self.bound * quantiles.sqrt()[which.to(self.bound.device)].to(self.bound)


@cache
def _quantile(k: int) -> float:
    from scipy.special import gammaincinv  # late: importing the package loads torch and little else

    return float(2 * gammaincinv(k / 2, _SURE))


@dataclass(frozen=True, eq=False)
class Task(Batch):
    """What to invert: `y` `(N, k)` with hidden entries 0, in the generator's type and on its device.

    usable: `(N,)`, False for signals that hold NaN, inf or numbers above 1e100, or of which nothing was seen. born: the
    type y came in. prior: what is known of z, fitted to the generator.
    cut: None, or bool `(N, k)`: entries where only what exceeds 0 counts (see `one_sided`). slack: None, or what an entry
    may be off without counting, `(N,)`, signal units (see `minimax`). progress: the bar. place: which
    of the chunk's signals each is, `(N,)`, where iterations are counted. far: whether what z leaves over is no noise.
    """

    generator: AbstractGenerator
    y: Tensor = per_signal()
    measurement: AbstractMeasurement = per_signal()
    noise: Noise | None = per_signal()
    usable: Tensor = per_signal()
    born: torch.dtype = torch.float64
    prior: AbstractPrior | None = None
    cut: Tensor | None = per_signal(default=None)
    slack: Tensor | None = per_signal(default=None)
    progress: Progress = Progress()  # noqa: RUF009 - it holds nothing without a bar
    place: Tensor | None = per_signal(default=None)
    far: bool = False

    @cached_property
    def N(self) -> int:
        """Number of signals."""
        return len(self.y)

    @cached_property
    def size(self) -> Tensor:
        """|y| of what was seen, `(N,)`."""
        return lengths(self.y)

    @cached_property
    def seen(self) -> Tensor:
        """How many entries of each signal were seen, `(N,)`."""
        return self.measurement.seen(self.N).sum(1).to(self.y.device)

    @cached_property
    def limit(self) -> Tensor:
        """The misfit up to which a signal is explained, `(N,)`, signal units: l2, or linf or l1 where the noise is."""
        if self.noise is None:
            return EXPLAINED[self.born] * self.size
        return self.noise.limit(self.seen) if self.stated else self.noise.bound

    @cached_property
    def image(self) -> tuple[AbstractMap, Tensor] | None:
        """Map and bias of the image layer as it is seen, before its activation; None where that is no one map."""
        if not self.generator.layers:
            return None
        last = self.generator.layers[-1]
        return self.measurement.through(last.W, last.b)

    def residual(self, x: Tensor) -> Tensor:
        """A x - y on what was seen, `(N, k)`."""
        if self.cut is None and self.slack is None:
            return self.measurement.observe(x) - self.y
        r = self._off(self.measurement.observe(x))
        return r if self.slack is None else r - r.clamp(-self.slack[:, None], self.slack[:, None])

    def _off(self, seen: Tensor) -> Tensor:
        """`residual` of what was observed, whatever slack there is."""
        return (seen if self.cut is None else torch.where(self.cut, seen.clamp(min=0), seen)) - self.y

    def misfit(self, z: Tensor) -> Tensor:
        """|A G(z) - y| in the l2 norm, `(N,)`."""
        return lengths(self.residual(self.generator(z)))

    @cached_property
    def stated(self) -> bool:
        """Whether there is an objective whose optimum is asked for: gaussian noise was stated."""
        return self.noise is not None and self.noise.norm == "gaussian"

    @cached_property
    def absolute(self) -> bool:
        """Whether the sum of absolute misfits is what is lowered, not their squares: noise is stated in the l1 norm."""
        return self.noise is not None and self.noise.norm == "l1"

    @cached_property
    def own_length(self) -> bool:
        """Whether noise is stated in a norm in which the misfit is another than in l2: linf or l1."""
        return self.noise is not None and self.noise.norm in _OWN

    def merit(self, z: Tensor, misfit: Tensor | None = None) -> Tensor:
        """(|A G(z) - y|^2 + 2 sigma^2 R(z))^(1/2), `(N,)`, signal units: the misfit where no R is stated. A descent lowers
        it.

        misfit: that of z, `(N,)`, where it is known.
        """
        misfit = self.misfit(z) if misfit is None else misfit
        if self.prior is None or self.noise is None or not self.prior.weighed:
            return misfit
        return torch.hypot(misfit, self.noise.bound * (2 * self.prior.value(z)).sqrt())

    @property
    def weighed(self) -> bool:
        """Whether a prior is weighed against the misfit, so that it has a part in gradients and curvatures."""
        return self.prior is not None and self.noise is not None and self.prior.weighed

    def prior_gradient(self, z: Tensor) -> Tensor:
        """sigma^2 R'(z), what the prior adds to J'r, `(N, n0)`; 0 where none is weighed."""
        if self.prior is None or self.noise is None or not self.prior.weighed:
            return torch.zeros_like(z)
        return self.noise.bound[:, None] ** 2 * self.prior.gradient(z)

    def prior_curvature(self, z: Tensor) -> Tensor:
        """sigma^2 R''(z), what the prior adds to J'J, `(N, n0, n0)` or what adds to that; 0 where none is weighed."""
        if self.prior is None or self.noise is None or not self.prior.weighed:
            return torch.zeros_like(z[:, :, None])
        return self.noise.bound[:, None, None] ** 2 * self.prior.curvature(z)

    def explained(self, z: Tensor, misfit: Tensor | None = None) -> Tensor:
        """Whether each z explains its signal: misfit within the noise, or within what the signals' precision gives.

        misfit: that of z, l2, `(N,)`, where it is known: then G need not be asked again unless the noise is linf or l1.
        """
        if misfit is None or self.own_length:
            return self.met(self.residual(self.generator(z)))
        return self._within(misfit)

    def met(self, r: Tensor) -> Tensor:
        """`explained`, from the residual `(N, k)`."""
        return self._within(self.stated_length(r) if self.own_length else lengths(r))

    def stated_length(self, r: Tensor) -> Tensor:
        """|r| `(N,)` in the norm that the noise is stated in; l2 where none is, and for gaussian noise."""
        norm = "l2" if self.noise is None else self.noise.norm
        return r.abs().amax(1) if norm == "linf" else r.abs().sum(1) if norm == "l1" else lengths(r)

    def _within(self, found: Tensor) -> Tensor:
        if self.noise is None:
            return found <= self.limit
        # the bound may be exactly the misfit of the true latent: allow its own rounding
        return found <= self.limit * (1 + 1e-9) + 1e-12 * self.size

    def step(self, times: Tensor | None = None) -> None:
        """Count one iteration of each signal, or `times`, bool or whole numbers `(N,)`: what a result says it took."""
        if self.place is not None and self.progress.iterations is not None:
            count = torch.ones_like(self.place) if times is None else times.to(self.place)
            self.progress.iterations.index_add_(0, self.place, count)  # a signal may be here from several starts

    def linearize(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Residual `(N, k)` and its Jacobian `(N, k, n0)` on the affine piece of z."""
        x, J = self.generator.linearize(z)
        seeing = self.measurement if self.measurement.linear else self.measurement.at(x)
        J = seeing.push(J)
        if self.cut is None and self.slack is None:
            return self.residual(x), J
        return self.residual(x), J * ~self.still(x)[..., None]  # type: ignore[index]

    def pull(self, x: Tensor) -> Tensor:
        """The gradient of |A x - y|^2 / 2 with respect to signals `x`, `(N, d)`; without what is cut."""
        return self.measurement.at(x).adjoint(self.residual(x))

    def still(self, x: Tensor) -> Tensor | None:
        """Entries that do not move with the signals `x`, bool `(N, k)`: cut and not above 0, or off by no more than the
        slack; None where there is neither."""
        if self.cut is None and self.slack is None:
            return None
        seen = self.measurement.observe(x)
        still = torch.zeros_like(seen, dtype=torch.bool) if self.cut is None else self.cut & (seen <= 0)
        return still if self.slack is None else still | (self._off(seen).abs() <= self.slack[:, None])

    def blocks(self) -> tuple[Tensor, ...]:
        """Positions of all signals, in blocks of one size or nearly whose Jacobians fit the work space, or nearly."""
        if self.N == 1:
            return (torch.zeros(1, dtype=torch.long, device=self.y.device),)
        # the Jacobian before and behind the measurement, and its Gram matrix; pictures on their way have a room of their own
        n0, wide = self.generator.latent_dim, self.measurement.length + self.generator.signal_dim
        bytes_each = self.y.element_size() * n0 * (n0 + wide)
        space = _STRETCH * _BLOCK_BYTES.get(self.y.device.type, _BLOCK_BYTES["cpu"])
        size = max(1, int(space // bytes_each))
        # the time of a block of a few is nearly that of a whole one
        return torch.arange(self.N, device=self.y.device).tensor_split(-(-self.N // size))

    def chunk_size(self) -> int:
        """Signals at a time whose Jacobians and Gram matrices fit the work space of a chunk."""
        n0 = self.generator.latent_dim
        # of the normal equations H, its damped copy and its factor
        jacobian = 8 * n0 * (self.measurement.length + 2 * self.generator.widest + 3 * n0)
        grams = 8 * sum([min(layer.W.n, 1500) ** 2 for layer in self.generator.layers])
        return max(1, room(self.y.device, _MEMORY) // max(1, jacobian, grams))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Task":
        """The same task in another floating type, on another device."""
        if dtype in (None, self.y.dtype) and device is None:
            return self
        return replace(super().to(dtype, device), generator=self.generator.to(dtype, device))

    @cached_property
    def single(self) -> "Task":
        """The same task in float32; the generator keeps what it was rounded to."""
        if self.y.dtype == torch.float32:
            return self
        return replace(super().to(torch.float32), generator=self.generator.single)


def make_task(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    measurement: object = None,
    noise: object = None,
    prior: object = None,
) -> Task:
    """Check everything and put it together; y of shape `(N, k)`, `(k,)` or `(N, *signal_shape)`.

    Raises TypeError or ValueError that say what was expected, what came, and the cure.
    """
    task = read_task(generator, y, measurement, noise, prior)
    if not task.usable.any():
        _refuse_all_unusable(_flat(_signals(y, generator), generator, measurement), task.measurement)
    return task


def read_task(
    generator: AbstractGenerator,
    y: Tensor | np.ndarray,
    measurement: object = None,
    noise: object = None,
    prior: object = None,
) -> Task:
    """`make_task` of some of many signals, where none of these may be usable."""
    if not isinstance(generator, AbstractGenerator):
        raise TypeError(
            f"expected a Generator, got {type(generator).__name__}; read it with cvxinv.load_generator(...) first"
        )
    if not generator.layers:
        check_generator(generator)
    _refuse_constant(generator)
    y = _signals(y, generator)
    d = generator.signal_dim
    refuse_float_mask(measurement, y, d)
    y = _flat(y, generator, measurement)
    seeing = as_measurement(measurement, d, len(y), generator.device, generator.dtype)
    if y.shape[1] != seeing.length:
        raise ValueError(
            f"expected y of shape (N, {seeing.length}), got {tuple(y.shape)}; "
            f"the generator makes signals of {d} numbers in shape {generator.signal_shape}"
        )
    seeing = seeing.to(generator.dtype, generator.device)
    born, y = y.dtype, y.to(generator.dtype)
    seen = seeing.seen(len(y)).to(y.device)
    usable = (_fits(y) | ~seen).all(1) & seen.any(1)
    y = torch.where(seen & usable[:, None], y, torch.zeros_like(y))
    known, stated = as_prior(prior, generator.latent_dim, y.dtype, y.device), as_noise(noise, y)
    _refuse_weightless(known, stated)
    if stated is None and seeing.range != ANY:
        refuse_beyond(y, usable, seeing.range, seeing.name)
    if seeing.pixelwise and bool(usable.any()):
        its = None if stated is None else stated.per_entry(seen.sum(1))[usable]
        refuse_far(y[usable], seen[usable], its, generator)
    return Task(generator, y, seeing, stated, usable, born, known)


def _refuse_weightless(prior: AbstractPrior | None, noise: Noise | None) -> None:
    if prior is None or not prior.weighed or (noise is not None and noise.norm == "gaussian"):
        return
    got = "no noise" if noise is None else f"an {noise.norm} bound"
    raise ValueError(
        f"expected noise=('gaussian', sigma) beside the prior {prior!r}, got {got}: without a standard deviation nothing "
        "says how much the prior weighs against the misfit; state the noise's, or use Box or Ball, which take any noise"
    )


def as_noise(noise: object, y: Tensor) -> Noise | None:
    """The stated noise: None, ("l2" | "linf" | "l1", bound) with bound >= 0, ("gaussian", sigma) with sigma > 0, or "auto".

    bound, sigma: one number or `(N,)`, signal units. "auto" is gaussian noise whose level is NaN until it is estimated.
    """
    if noise is None:
        return None
    if isinstance(noise, str) and noise == AUTO:
        return Noise("gaussian", torch.full((len(y),), torch.nan, dtype=y.dtype, device=y.device), estimated=True)
    shape = 'None, "auto", ("l2" | "linf" | "l1", bound) or ("gaussian", sigma), e.g. ("l2", 0.1)'
    if not (isinstance(noise, Sequence) and not isinstance(noise, str) and len(noise) == 2):
        raise TypeError(f"expected noise as {shape}, got {noise!r}")
    norm, bound = noise
    if norm not in NORMS:
        raise ValueError(f"expected the noise's norm as 'l2', 'linf', 'l1' or 'gaussian', got {norm!r}")
    value = read_amount(bound, "the noise bound", y.device).to(y.dtype)
    if value.ndim > 1 or (value.ndim == 1 and len(value) != len(y)):
        raise ValueError(
            f"expected one noise bound or one per signal ({len(y)},), got shape {tuple(value.shape)}; where entries have a "
            "standard deviation s each, divide by it: y / s, measurement=scipy.sparse.diags(1 / s), noise=('gaussian', 1.0)"
        )
    if not torch.isfinite(value).all() or (value < 0).any():
        raise ValueError(f"the noise bound must be >= 0 and finite, got {float(value.min())}; pass noise=None for none")
    if norm == "gaussian" and not (value > 0).all():
        raise ValueError(
            f"the standard deviation of gaussian noise must be > 0, got {float(value.min())}; pass noise=None for 0"
        )
    return Noise(norm, value.expand(len(y)))


def _signals(given: Tensor | np.ndarray, generator: AbstractGenerator) -> Tensor:
    cure = "convert it to numbers first, a spectrum by FourierRows.real_form"
    y = read_numbers(given, "signals", generator.device, "fib", cure)
    if y.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"expected signals in float32 or float64, got {y.dtype}; {type_cure(given, generator)}")
    if y.dtype == torch.float64 and generator.dtype == torch.float32:
        raise ValueError(
            "expected float32 signals for a float32 generator, got torch.float64; "
            f"use generator.to(torch.float64), or y{conversion(given, 'float32')}"
        )
    if y.numel() == 0:
        raise ValueError(f"expected at least one signal, got an empty batch of shape {tuple(y.shape)}")
    return y


def _flat(y: Tensor, generator: AbstractGenerator, measurement: object) -> Tensor:
    """`(N, k)` from one signal or a batch, flat or in the shape of the picture that was seen."""
    shape = form_of(measurement, tuple(generator.signal_shape))
    d = prod(shape) if shape else (y.shape or (0,))[-1]
    if y.ndim == 1 and y.shape[0] == d:
        return y[None]
    if y.ndim == 2 and y.shape[1] == d:
        return y
    if tuple(y.shape) == shape:
        return y.reshape(1, d)
    if y.ndim >= 2 and prod(y.shape[1:]) == d and tuple(y.shape[1:]) in (shape, shape[1:]):
        return y.reshape(-1, d)
    if stands_apart(measurement, generator.signal_dim):
        if y.ndim in (1, 2):
            return y.reshape(-1, y.shape[-1])  # of another length than it should have, which is said next
        raise ValueError(f"expected y = A x of shape (N, k), got {tuple(y.shape)}; pass flat measurements")
    allowed = f"(N, {d}) or ({d},)" if len(shape) < 2 else f"(N, {d}), ({d},) or (N, {', '.join(map(str, shape))})"
    raise ValueError(
        f"expected y of shape {allowed}, got {tuple(y.shape)}; "
        f"{axes_cure(y, shape) or 'reshape it, or pass measurement=A if it is not the whole signal'}"
    )


def _refuse_constant(generator: AbstractGenerator) -> None:
    for index, layer in enumerate(generator.layers):
        if layer.W.norm() == 0.0:
            raise ValueError(
                f"the generator is constant: layers[{index}] has all weights 0, so every latent gives one signal; "
                "check that the weights were loaded"
            )


def _fits(y: Tensor) -> Tensor:
    """Entries that are finite, and small enough for their squares to be."""
    return torch.isfinite(y) & (y.abs() <= min(_LARGEST, torch.finfo(y.dtype).max))


def _refuse_all_unusable(y: Tensor, seeing: AbstractMeasurement) -> None:
    seen = seeing.seen(len(y)).to(y.device)
    if not seen.any(1).any():
        raise ValueError("the mask hides everything: no entry of any signal was seen; True marks what was seen")
    i, k = (int(v) for v in (~_fits(y) & seen).nonzero()[0])
    if torch.isfinite(y[i, k]):
        raise ValueError(
            f"expected signals of numbers up to {_LARGEST:g}, got {float(y[i, k])} in entry {k} of signal {i}; "
            "give the signals, and the generator's last layer, another unit"
        )
    raise ValueError(f"expected finite signals, got {float(y[i, k])} in entry {k} of signal {i}; mask it or clean it")
