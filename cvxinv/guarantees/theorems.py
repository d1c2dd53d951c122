"""Which theorems apply to a generator at latents: those that need nothing but weights and supports."""

from torch import Tensor

from ..exact.wide import fits
from ..generator.abstract import AbstractGenerator
from ..generator.chain import Generator
from .aberdam import layered_pursuit_exactness, uniqueness_by_counting, uniqueness_by_sparsity
from .condition import Condition
from .lei import layered_programs_expansion


def conditions_of(generator: AbstractGenerator, z: Tensor, time_limit: float) -> tuple[Condition, ...]:
    """Theorem 1, Corollaries 1 and 2 and the expansion of Lei et al. at latents `(N, n0)`, on their own supports.

    time_limit: seconds of each spark and coherence. Empty where there is no hidden layer, or matrices would not fit.
    """
    if not isinstance(generator, Generator) or generator.depth < 2 or not fits(generator):
        return ()
    return (
        uniqueness_by_sparsity(generator, z, own=True, time_limit=time_limit, progress=False),
        uniqueness_by_counting(generator, z),
        layered_pursuit_exactness(generator, z, own=True, time_limit=time_limit),
        layered_programs_expansion(generator),
    )


def condition_in_words(condition: Condition) -> str:
    """One line: for how many latents it holds, what follows, and which clause fails first where it does not."""
    of, counts = len(condition), condition.counts()
    said = condition.status[0] if condition.whole else ", ".join(f"{name} for {n} of {of}" for name, n in counts.items())
    failed = next((clause.text for clause in condition.clauses if (clause.status != "holds").any()), "")
    why = f"; not met: {failed}" if failed else f"; then {condition.conclusion}"
    return f"{condition.theorem}: {said}{why}"
