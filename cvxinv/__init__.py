"""Inversion of trained ReLU generators, layer by layer, with certificates.

Importing the package loads torch and nothing heavy besides: CVXPY comes when a CVXPY solver is called, matplotlib when
a picture is asked for.
"""

from .command import stopping as _stopping  # noqa: F401 - first: a SIGINT while the rest is loaded prints no traceback

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING

from .errors import (
    BackendNotInstalledError,
    ConvergenceWarning,
    CvxinvWarning,
    NotDifferentiableWarning,
    ProblemTooLargeError,
    UnsolvedError,
    UnsupportedLayerError,
)
from .exact.prove import prove
from .generator.abstract import AbstractGenerator
from .generator.activations import (
    CELU,
    ELU,
    GELU,
    PLU,
    SELU,
    AbstractActivation,
    Clamp,
    Exp,
    Hardsigmoid,
    Hardswish,
    Identity,
    LeakyReLU,
    Mish,
    PLUModule,
    ReLU,
    Rescaled,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from .generator.chain import Generator, Layer
from .generator.maps import (
    AbstractMap,
    Composition,
    Conv2d,
    Conv3d,
    ConvTranspose2d,
    ConvTranspose3d,
    Dense,
    Resampling2d,
    Sparse,
)
from .generator.opaque import OpaqueGenerator
from .generator.reading.load import load_generator
from .generator.reading.pair import save_generator
from .guarantees.aberdam import (
    layered_pursuit_errors,
    layered_pursuit_exactness,
    oracle_errors,
    uniqueness_by_counting,
    uniqueness_by_sparsity,
)
from .guarantees.adaptive import adaptive_rate, adaptive_recovery
from .guarantees.bora import recovery_by_eigenvalue, sensing_errors
from .guarantees.bounds import Bounds, Witness
from .guarantees.coherence import coherence, sub_coherence
from .guarantees.condition import Clause, Condition
from .guarantees.diagnosis import Diagnosis, SignalDiagnosis, diagnose
from .guarantees.holistic import HolisticUniqueness, holistic_stability, holistic_uniqueness, holistic_uniqueness_at
from .guarantees.injectivity import Injectivity, LayerInjectivity, injectivity
from .guarantees.joshi import plugin_rate
from .guarantees.lei import layered_programs_errors, layered_programs_expansion
from .guarantees.local import LocalGeometry, local_geometry
from .guarantees.out_of_range import OutOfRange, out_of_range
from .guarantees.phases import NoisePhases
from .guarantees.preimages import PreimageSet, preimage_set
from .guarantees.spark import spark, sub_rank, sub_spark
from .guarantees.uniqueness import Uniqueness, uniqueness
from .guarantees.weight_distribution import expected_gradient, expected_gram, rho_d, weight_distribution
from .inversion.answer import Latents, LayerReport
from .inversion.comparing.compare import compare
from .inversion.comparing.comparison import Comparison
from .inversion.comparing.row import ComparisonRow
from .inversion.invert import METHODS, invert
from .inversion.method import AbstractMethod
from .inversion.methods import (
    Csgm,
    DeepPhaseRetrieval,
    GenerativeAdmm,
    GradientDescent,
    GradientDescentWithNegation,
    Hybrid,
    IntermediateLayers,
    LatentPursuit,
    LayeredBasisPursuit,
    LayeredLinearPrograms,
    LevenbergMarquardt,
    MirroredDescent,
    Oracle,
    Plugin,
    ProjectedGradient,
)
from .inversion.priors import AbstractPrior, Ball, Box, Gaussian
from .inversion.proof import Proof
from .inversion.result import Inversion
from .inversion.runs.stream import StreamedInversion, invert_stream
from .inversion.runs.watch import RunProgress
from .inversion.steps.pursuit import LayerOptions
from .inversion.steps.starts import Starts
from .inversion.task import Task
from .inversion.uncertainty import Uncertainty
from .inversion.verify import Verdict, verify
from .layers.activated_lasso import ActivatedLasso
from .layers.basis_pursuit_l2 import BasisPursuitL2, NonnegativeBasisPursuitL2
from .layers.core.certificate import Certificate, certify
from .layers.core.misfits import (
    AbstractMisfit,
    Intervals,
    LargestExcess,
    MisfitBall,
    Squares,
    SumOfExcesses,
    SumOfRooms,
    Tubes,
)
from .layers.core.penalties import Penalty
from .layers.core.problem import AbstractLayerProblem, Bound, Point, Statement
from .layers.core.rows import Rows, Sample
from .layers.core.squares_and_lengths import SquaresAndLengths
from .layers.gaussian_latent import GaussianLatent
from .layers.interval_basis_pursuit import BasisPursuitLinf, IntervalBasisPursuit, NonnegativeBasisPursuitLinf
from .layers.l1_fit import L1Fit, NonnegativeL1Fit
from .layers.lasso import Lasso
from .layers.linf_fit import LinfFit, NonnegativeLinfFit
from .layers.nonnegative_lasso import NonnegativeLasso
from .layers.normalised_basis_pursuit import NormalisedBasisPursuit
from .layers.normalised_lasso import NormalisedLasso
from .layers.relaxed_fit import NonnegativeRelaxedFit, RelaxedFit
from .measurement.abstract import AbstractMeasurement
from .measurement.composed import Composed
from .measurement.entries import Everything, Mask
from .measurement.filters import Convolution, Downsampling
from .measurement.functions import Operator, ScipyOperator
from .measurement.magnitudes import Magnitudes
from .measurement.matrix import Matrix
from .measurement.radon import Radon
from .measurement.sparse import SparseMatrix
from .measurement.transforms import CosineRows, FourierRows
from .pages.comparison import write_comparison
from .pages.diagnosis import write_diagnosis
from .pages.morphing import write_morphing
from .pages.report import write_report
from .solvers.first_order.fista import FISTA
from .solvers.first_order.graph_admm import GraphADMM
from .solvers.first_order.linearized_admm import LinearizedADMM
from .solvers.known import SOLVERS
from .solvers.screening import provably_zero
from .solvers.solve import Solution, solve
from .solvers.solver import AbstractSolver
from .sparse_models.ada_lista import (
    LISTA,
    AdaLFISTA,
    AdaLISTA,
    LearnedStart,
    NonnegativeReverseAdaLFISTA,
    ReverseAdaLFISTA,
    ReverseAdaLISTA,
    SingleWeightAdaLISTA,
)
from .sparse_models.barycenters import (
    BarycenterCertificate,
    Barycenters,
    certify_barycenter,
    entropic_barycenters,
    exact_barycenter,
)
from .sparse_models.cascade import Cascade
from .sparse_models.constrained_barycenters import ConstrainedBarycenters, constrained_barycenters
from .sparse_models.holistic_model import MultiLayerModel, MultiLayerSignals
from .sparse_models.holistic_oracle import HolisticOracle, holistic_oracle
from .sparse_models.holistic_pursuit import MultiLayerCodes, holistic_pursuit, layered_pursuit, projection_pursuit
from .sparse_models.mass_priors import AbstractMassPrior, GeneratorRange, SparsePrior
from .sparse_models.morphing import Morphing, morph
from .sparse_models.multi_layer_ista import FixedPoint, ml_ista
from .sparse_models.multi_layer_networks import (
    MULTI_LAYER_NETWORKS,
    AbstractMultiLayerNetwork,
    FreeNetwork,
    LayeredNetwork,
    MLFISTANetwork,
    MLISTANetwork,
    MLLISTANetwork,
    PlainNetwork,
)
from .sparse_models.multi_layer_pursuit import MultiLayerPursuit, NonnegativeMultiLayerPursuit, multi_layer_pursuit
from .sparse_models.recovery import SparseRecovery, sparse_recovery
from .sparse_models.transport import Masses, as_masses, displaced, transport_plan
from .sparse_models.varying_dictionaries import Codes, ProximalGradient, certified_codes, code_gap

if TYPE_CHECKING:
    from .programs.deepinv_reconstructor import GeneratorReconstructor as GeneratorReconstructor
    from .programs.scikit_learn import GeneratorInverter as GeneratorInverter

__version__ = "0.1.0"

# adapters to programs that may not be installed: made when they are asked for, and no part of `import *`
_ADAPTERS = {"GeneratorInverter": "scikit_learn", "GeneratorReconstructor": "deepinv_reconstructor"}

__all__ = [
    "CELU",
    "ELU",
    "FISTA",
    "GELU",
    "LISTA",
    "METHODS",
    "MULTI_LAYER_NETWORKS",
    "PLU",
    "SELU",
    "SOLVERS",
    "AbstractActivation",
    "AbstractGenerator",
    "AbstractLayerProblem",
    "AbstractMap",
    "AbstractMassPrior",
    "AbstractMeasurement",
    "AbstractMethod",
    "AbstractMisfit",
    "AbstractMultiLayerNetwork",
    "AbstractPrior",
    "AbstractSolver",
    "ActivatedLasso",
    "AdaLFISTA",
    "AdaLISTA",
    "BackendNotInstalledError",
    "Ball",
    "BarycenterCertificate",
    "Barycenters",
    "BasisPursuitL2",
    "BasisPursuitLinf",
    "Bound",
    "Bounds",
    "Box",
    "Cascade",
    "Certificate",
    "Clamp",
    "Clause",
    "Codes",
    "Comparison",
    "ComparisonRow",
    "Composed",
    "Composition",
    "Condition",
    "ConstrainedBarycenters",
    "Conv2d",
    "Conv3d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "ConvergenceWarning",
    "Convolution",
    "CosineRows",
    "Csgm",
    "CvxinvWarning",
    "DeepPhaseRetrieval",
    "Dense",
    "Diagnosis",
    "Downsampling",
    "Everything",
    "Exp",
    "FixedPoint",
    "FourierRows",
    "FreeNetwork",
    "Gaussian",
    "GaussianLatent",
    "GenerativeAdmm",
    "Generator",
    "GeneratorRange",
    "GradientDescent",
    "GradientDescentWithNegation",
    "GraphADMM",
    "Hardsigmoid",
    "Hardswish",
    "HolisticOracle",
    "HolisticUniqueness",
    "Hybrid",
    "Identity",
    "Injectivity",
    "IntermediateLayers",
    "IntervalBasisPursuit",
    "Intervals",
    "Inversion",
    "L1Fit",
    "LargestExcess",
    "Lasso",
    "LatentPursuit",
    "Latents",
    "Layer",
    "LayerInjectivity",
    "LayerOptions",
    "LayerReport",
    "LayeredBasisPursuit",
    "LayeredLinearPrograms",
    "LayeredNetwork",
    "LeakyReLU",
    "LearnedStart",
    "LevenbergMarquardt",
    "LinearizedADMM",
    "LinfFit",
    "LocalGeometry",
    "MLFISTANetwork",
    "MLISTANetwork",
    "MLLISTANetwork",
    "Magnitudes",
    "Mask",
    "Masses",
    "Matrix",
    "MirroredDescent",
    "MisfitBall",
    "Mish",
    "Morphing",
    "MultiLayerCodes",
    "MultiLayerModel",
    "MultiLayerPursuit",
    "MultiLayerSignals",
    "NoisePhases",
    "NonnegativeBasisPursuitL2",
    "NonnegativeBasisPursuitLinf",
    "NonnegativeL1Fit",
    "NonnegativeLasso",
    "NonnegativeLinfFit",
    "NonnegativeMultiLayerPursuit",
    "NonnegativeRelaxedFit",
    "NonnegativeReverseAdaLFISTA",
    "NormalisedBasisPursuit",
    "NormalisedLasso",
    "NotDifferentiableWarning",
    "OpaqueGenerator",
    "Operator",
    "Oracle",
    "OutOfRange",
    "PLUModule",
    "Penalty",
    "PlainNetwork",
    "Plugin",
    "Point",
    "PreimageSet",
    "ProblemTooLargeError",
    "ProjectedGradient",
    "Proof",
    "ProximalGradient",
    "Radon",
    "ReLU",
    "RelaxedFit",
    "Resampling2d",
    "Rescaled",
    "ReverseAdaLFISTA",
    "ReverseAdaLISTA",
    "Rows",
    "RunProgress",
    "Sample",
    "ScipyOperator",
    "SiLU",
    "Sigmoid",
    "SignalDiagnosis",
    "SingleWeightAdaLISTA",
    "Softmax",
    "Softplus",
    "Softsign",
    "Solution",
    "Sparse",
    "SparseMatrix",
    "SparsePrior",
    "SparseRecovery",
    "Squares",
    "SquaresAndLengths",
    "Starts",
    "Statement",
    "StreamedInversion",
    "SumOfExcesses",
    "SumOfRooms",
    "Tanh",
    "Task",
    "Tubes",
    "Uncertainty",
    "Uniqueness",
    "UnsolvedError",
    "UnsupportedLayerError",
    "Verdict",
    "Witness",
    "adaptive_rate",
    "adaptive_recovery",
    "as_masses",
    "certified_codes",
    "certify",
    "certify_barycenter",
    "code_gap",
    "coherence",
    "compare",
    "constrained_barycenters",
    "diagnose",
    "displaced",
    "entropic_barycenters",
    "exact_barycenter",
    "expected_gradient",
    "expected_gram",
    "holistic_oracle",
    "holistic_pursuit",
    "holistic_stability",
    "holistic_uniqueness",
    "holistic_uniqueness_at",
    "injectivity",
    "invert",
    "invert_stream",
    "layered_programs_errors",
    "layered_programs_expansion",
    "layered_pursuit",
    "layered_pursuit_errors",
    "layered_pursuit_exactness",
    "load_generator",
    "local_geometry",
    "ml_ista",
    "morph",
    "multi_layer_pursuit",
    "oracle_errors",
    "out_of_range",
    "plugin_rate",
    "preimage_set",
    "projection_pursuit",
    "provably_zero",
    "prove",
    "recovery_by_eigenvalue",
    "rho_d",
    "save_generator",
    "sensing_errors",
    "solve",
    "spark",
    "sparse_recovery",
    "sub_coherence",
    "sub_rank",
    "sub_spark",
    "transport_plan",
    "uniqueness",
    "uniqueness_by_counting",
    "uniqueness_by_sparsity",
    "verify",
    "weight_distribution",
    "write_comparison",
    "write_diagnosis",
    "write_morphing",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name not in _ADAPTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.programs.{_ADAPTERS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ADAPTERS])
