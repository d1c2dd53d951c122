"""Errors and warnings of the package.

Bad input raises before any arithmetic, as a `ValueError` or `TypeError` whose message says what was expected, what
came, and the cure. A hard problem is not an error: it comes back with a status, and one warning per call.
"""


class CvxinvWarning(UserWarning):
    """Base of every warning that the package gives."""


class ConvergenceWarning(CvxinvWarning):
    """Some signals of a call did not reach `optimal` or `explained`; the result says which."""


class NotDifferentiableWarning(CvxinvWarning):
    """Some answers of a differentiable call have a kink or are one of several: their gradients are 0; it says which."""


class UnsupportedLayerError(TypeError):
    """A part of a generator that cannot be read; the message names the module path and what to do."""


class BackendNotInstalledError(ImportError):
    """What a solver or a file format needs is not installed; the message gives the install command."""


class ProblemTooLargeError(ValueError):
    """A CVXPY call that would take very long; the message gives the predicted time and how to force it."""


class UnsolvedError(RuntimeError):
    """Raised with `on_fail="raise"`; `result` carries everything that was computed."""

    def __init__(self, message: str, result: object):
        super().__init__(message)
        self.result = result
