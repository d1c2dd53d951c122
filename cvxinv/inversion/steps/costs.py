"""Whether a Jacobian takes so long that starts of many are not worth it."""

from ...generator.abstract import AbstractGenerator

_DEAR = 1e8  # multiplications of a Jacobian from which on it is: what helps a small network takes longer than an inversion


def dear(generator: AbstractGenerator) -> bool:
    """Whether a Jacobian takes so long that starts of many are not worth it."""
    return generator.latent_dim * generator.work >= _DEAR
