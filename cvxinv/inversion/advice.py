"""What to do about a signal: cures that the method that ran has, or another method and its own."""

from .facts import Facts
from .method import options_of
from .methods import METHODS
from .progress import STOPPED

_LEAD_ON = ("hybrid", "levenberg_marquardt")  # methods whose own limit of steps is no limit


def has(f: Facts, option: str) -> bool:
    """Whether the method that ran has the option; of one from outside the package that is not known."""
    kind = METHODS.get(f.inversion.method)
    return kind is not None and option in options_of(kind)


def accept(f: Facts) -> list[str]:
    """To state what is left over, or to look at what z does not explain."""
    if f.share > 0.5:
        share = f"the misfit is {percent(f.share)} of |y|" if f.size > 0 else "y is 0"
        return [f"z explains nothing of it, {share}: look at its units, offset and order of entries beside samples of G"]
    if f.gaussian and f.prior and f.seen:
        level = f"noise=('gaussian', {f.number('misfit') / f.seen**0.5:.2g})"
        return [f"if all of it is noise, state that: {level} is what is left over, and noise='auto' estimates it"]
    words = [f"if a misfit of this size is acceptable, state it: noise=('l2', {1.05 * f.number('misfit'):.2g})"]
    if not f.gaussian:
        words.append("if it is noise, noise='auto' estimates its level and says how far z may be off")
    return words


def percent(share: float) -> str:
    """A share in per cent, as short as it may be."""
    number = 100 * share
    return f"{number:.2g} %" if not 9.95 <= number < 1e6 else f"{number:.0f} %"


def keep_near(f: Facts) -> list[str]:
    """A prior, where the noise leaves z open and none was stated."""
    if f.prior:
        return []
    who = METHODS.get(f.inversion.method)
    where = "" if who is not None and who.priors else "method='hybrid', "
    noise = "" if f.gaussian else ", which takes noise=('gaussian', sigma) or noise='auto'"
    return [f"where latents are known to be N(0, I): {where}prior=cvxinv.Gaussian(1.0){noise}"]


def less_noise(f: Facts) -> str:
    """What narrows z."""
    return "less noise, or more entries seen" if f.gaussian else "a smaller noise bound, if it is justified"


def try_on(f: Facts) -> list[str]:
    """More starts."""
    words = f"if the signal is in the generator's range: {more_starts(f)}"
    return [f"{words}; or z0=, latents of an encoder" if has(f, "z0") else words]


def more_starts(f: Facts) -> str:
    """More starting points of the method that ran, or another that has some."""
    if f.inversion.method != "hybrid":
        return "method='hybrid', which repairs and restarts"
    return f"restarts={max(20, 2 * int(f.inversion.starts[f.index]))}"


def more_iterations(f: Facts) -> list[str]:
    """A larger limit where there is one that counts, or a method that goes on."""
    if any(note.startswith(STOPPED) for note in f.inversion.notes):
        return ["a larger time_limit"]
    limit, method = f.setting("max_iter"), f.inversion.method
    # where there are layers or supports the option is of the papers' debiasing, and of nothing else
    counts = has(f, "max_iter") and (not has(f, "debias") or f.setting("debias") == "gradient")
    if not counts:
        return ["method='hybrid', which goes on to a local optimum"]
    if limit is None and has(f, "z0"):
        words = "z0=result, which goes on from there"
    else:
        # where none was set a search is led on to a local optimum
        leave = ", or leave it out" if limit is not None and method in _LEAD_ON else ""
        words = f"max_iter above {limit}{leave}" if limit is not None else "a larger max_iter"
    return [words if method == "hybrid" else f"{words}, or method='hybrid'"]


def other_solver(f: Facts) -> list[str]:
    """Another solver of the layers, or no layers."""
    solver = f.setting("solver") or "auto"
    other = "solver='auto'" if solver != "auto" else "solver='CLARABEL'"
    first = f"{other} instead of {solver!r} for the layers, or " if has(f, "solver") else ""
    return [
        f"{first}{'restarts=20' if f.inversion.method == 'hybrid' else 'method=' + repr('hybrid') + ' with restarts=20'}"
    ]


def finite(f: Facts) -> list[str]:
    """For a latent that is no number."""
    usual = "signals and a generator of usual units, about 1"
    return [usual if f.inversion.method == "hybrid" else f"{usual}, or method='hybrid'"]
