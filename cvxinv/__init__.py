"""Inversion of trained ReLU generators, layer by layer, with certificates.

Importing the package loads torch and nothing heavy besides: CVXPY comes when a CVXPY solver is called, matplotlib when
a picture is asked for.
"""

from .activations import PLU, Identity, LeakyReLU, PLUModule, ReLU, Sigmoid, Tanh
from .certificate import Certificate, certify
from .errors import (
    BackendNotInstalledError,
    ConvergenceWarning,
    CvxinvWarning,
    ProblemTooLargeError,
    UnsolvedError,
    UnsupportedLayerError,
)
from .generator import Generator, Layer
from .inversion.invert import METHODS, invert
from .inversion.latent_pursuit import LayerReport
from .inversion.result import Inversion
from .inversion.verify import Verdict, verify
from .layer_problem import AbstractLayerProblem, Point, Statement
from .layers.gaussian_latent import GaussianLatent
from .layers.nonnegative_lasso import NonnegativeLasso
from .maps import Composition, Conv2d, ConvTranspose2d, Dense
from .measurement import Everything, Mask, Matrix
from .reading import load_generator, save_generator
from .rows import Rows, Sample
from .solvers.solve import SOLVERS, Solution, solve

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "PLU",
    "SOLVERS",
    "AbstractLayerProblem",
    "BackendNotInstalledError",
    "Certificate",
    "Composition",
    "Conv2d",
    "ConvTranspose2d",
    "ConvergenceWarning",
    "CvxinvWarning",
    "Dense",
    "Everything",
    "GaussianLatent",
    "Generator",
    "Identity",
    "Inversion",
    "Layer",
    "LayerReport",
    "LeakyReLU",
    "Mask",
    "Matrix",
    "NonnegativeLasso",
    "PLUModule",
    "Point",
    "ProblemTooLargeError",
    "ReLU",
    "Rows",
    "Sample",
    "Sigmoid",
    "Solution",
    "Statement",
    "Tanh",
    "UnsolvedError",
    "UnsupportedLayerError",
    "Verdict",
    "certify",
    "invert",
    "load_generator",
    "save_generator",
    "solve",
    "verify",
]
