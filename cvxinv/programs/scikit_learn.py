"""A generator as a transformer of scikit-learn: signals to latents by `invert`, latents to signals by the generator.

    transform(X) = argmin over z of the misfit |A G(z) - x| of each row x        inverse_transform(Z) = G(Z)

Its parameters are those of `invert`, so that a grid search may choose among methods, priors and levels of noise. Options of
a method are said by an object: method=Hybrid(restarts=20).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BackendNotInstalledError
from ..generator.abstract import AbstractGenerator
from ..inputs import describe
from ..inversion.invert import invert
from ..inversion.method import AbstractMethod
from ..inversion.result import Inversion
from ..measurement.given import as_measurement

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data
except ImportError as error:
    raise BackendNotInstalledError(
        "GeneratorInverter needs scikit-learn 1.6 or later, which is not installed: pip install scikit-learn"
    ) from error


class GeneratorInverter(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Signals `(N, d)` to latents `(N, n0)` and back; rows are signals, columns the generator's entries in its flat order.

    generator: from `load_generator`; it says how many columns X has: as many as the measurement gives numbers, d without
    one. method, measurement, noise, prior, seed, chunk, on_fail: of `invert`. What belongs to single signals, such as a mask
    `(N, d)`, fits those N signals alone and no folds of them. X comes as float32 or float64 and is put into the generator's
    type; z is of that type. NaN is refused: hide what was not seen by a mask.

    Attributes after `fit`: `result_`, the `Inversion` of the signals of `fit`; `n_features_in_`, columns of X, and
    `feature_names_in_` where X has names. Raises BackendNotInstalledError without scikit-learn; for what does not fit
    TypeError or ValueError, before any arithmetic.
    """

    def __init__(
        self,
        generator: AbstractGenerator,
        method: str | AbstractMethod = "hybrid",
        *,
        measurement: object = None,
        noise: object = None,
        prior: object = None,
        seed: int = 0,
        chunk: int | None = None,
        on_fail: str = "warn",
    ) -> None:
        # scikit-learn copies what it finds here by name: nothing may be changed or checked before `fit`
        self.generator = generator
        self.method = method
        self.measurement = measurement
        self.noise = noise
        self.prior = prior
        self.seed = seed
        self.chunk = chunk
        self.on_fail = on_fail

    def fit(self, X: Any, y: object = None) -> "GeneratorInverter":
        """Check parameters and signals X `(N, d)`, invert them and keep that as `result_`; y is not used.

        `fit_transform` gives the latents of the same signals without a second inversion.
        """
        signals = self._signals(X, reset=True)
        self.result_ = self._invert(signals)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Latents `(N, n0)` of signals X `(N, d)`, the same whether a signal comes alone or among others."""
        check_is_fitted(self, "result_")
        return _array(self._invert(self._signals(X)).z)

    def fit_transform(self, X: Any, y: object = None, **fit_params: Any) -> np.ndarray:
        """`fit` and the latents of the same signals, which are inverted once."""
        return _array(self.fit(X, y, **fit_params).result_.z)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Signals G(z) `(N, d)` of latents Z `(N, n0)`: whole ones, also where a measurement saw only parts."""
        check_is_fitted(self, "result_")
        G = self.generator
        Z = check_array(Z, dtype=[np.float64, np.float32], input_name="Z")
        if Z.shape[1] != G.latent_dim:
            raise ValueError(f"expected latents Z of shape (N, {G.latent_dim}), got {Z.shape}; pass what transform gave")
        return _array(G(torch.tensor(Z, dtype=G.dtype, device=G.device)))

    def score(self, X: Any, y: object = None) -> float:
        """Minus the mean of |A G(z) - x| / |x| over the signals X, z their latents: 0 is best. y is not used.

        A share of a signal that is missed, so that signals of all sizes count alike. It is of what was seen, and rewards who
        fits its noise: to choose a prior, pass `scoring=` with what is known of the truth.
        """
        check_is_fitted(self, "result_")
        missed = self._invert(self._signals(X)).verdict.relative_misfit
        return -float(torch.atleast_1d(missed).mean())

    def _signals(self, X: Any, reset: bool = False) -> Tensor:
        """X as a tensor in the generator's type, on its device."""
        X = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32])
        G = self.generator
        if not isinstance(G, AbstractGenerator):
            raise TypeError(f"expected generator as a Generator, got {describe(G)}; read it with cvxinv.load_generator(...)")
        width = as_measurement(self.measurement, G.signal_dim, len(X), G.device, G.dtype).length
        if X.shape[1] != width:
            seen = "the generator makes" if self.measurement is None else "the measurement gives"
            raise ValueError(
                f"expected X of shape (N, {width}), got {X.shape}: {seen} signals of {width} numbers; flatten pictures with "
                ".reshape(len(X), -1), or pass the generator of these signals"
            )
        return torch.tensor(X, dtype=G.dtype, device=G.device)

    def _invert(self, signals: Tensor) -> Inversion:
        return invert(
            self.generator, signals, self.method, measurement=self.measurement, noise=self.noise, prior=self.prior,
            seed=self.seed, chunk=self.chunk, on_fail=self.on_fail,
        )  # fmt: skip

    @property
    def _n_features_out(self) -> int:
        return self.generator.latent_dim

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = []  # the generator's type is the type
        return tags


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
