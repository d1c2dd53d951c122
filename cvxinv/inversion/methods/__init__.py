"""Methods of whole inversions, one file each. A line here makes one known by its name."""

from ..method import AbstractMethod
from .csgm import Csgm as Csgm
from .deep_phase_retrieval import DeepPhaseRetrieval as DeepPhaseRetrieval
from .generative_admm import GenerativeAdmm as GenerativeAdmm
from .gradient_descent import GradientDescent as GradientDescent
from .gradient_descent_with_negation import GradientDescentWithNegation as GradientDescentWithNegation
from .hybrid import Hybrid as Hybrid
from .intermediate_layers import IntermediateLayers as IntermediateLayers
from .latent_pursuit import LatentPursuit as LatentPursuit
from .layered_basis_pursuit import LayeredBasisPursuit as LayeredBasisPursuit
from .layered_linear_programs import LayeredLinearPrograms as LayeredLinearPrograms
from .levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from .mirrored_descent import MirroredDescent as MirroredDescent
from .oracle import Oracle as Oracle
from .plugin import Plugin as Plugin
from .projected_gradient import ProjectedGradient as ProjectedGradient

# every method above by its name, the default first
METHODS: dict[str, type[AbstractMethod]] = {Hybrid.name: Hybrid} | {
    kind.name: kind for kind in AbstractMethod.__subclasses__() if kind.__module__.startswith(f"{__name__}.")
}
