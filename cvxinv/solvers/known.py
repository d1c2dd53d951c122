"""The solvers that `solve` knows by name: a torch solver has its line here, all else follows from its class."""

from inspect import getdoc

from .active_set.pivoting import BlockPivoting as BlockPivoting
from .active_set.sparse_active_set import SparseActiveSet as SparseActiveSet
from .first_order.fista import FISTA as FISTA
from .first_order.graph_admm import GraphADMM as GraphADMM
from .first_order.linearized_admm import LinearizedADMM as LinearizedADMM
from .first_order.pdhg import PDHG as PDHG
from .newton.elastic import ElasticInteriorPoint as ElasticInteriorPoint
from .newton.interior_point import InteriorPoint as InteriorPoint
from .newton.root_finding import RootFinding as RootFinding
from .reference import CVXPY_SOLVERS
from .shared.shared_admm import SharedADMM as SharedADMM
from .shared.shared_layered import SharedLayered as SharedLayered
from .shared.shared_pursuit import SharedPursuit as SharedPursuit
from .solver import AbstractSolver

_LISTED = [kind for kind in tuple(vars().values()) if isinstance(kind, type) and issubclass(kind, AbstractSolver)]
TORCH_SOLVERS = {kind.name: kind for kind in _LISTED if kind is not AbstractSolver}
SOLVERS = ("auto", *TORCH_SOLVERS, *CVXPY_SOLVERS)


def torch_solver(solver: str | AbstractSolver) -> AbstractSolver | None:
    """The torch solver that is meant, by its name or by itself; None for "auto" and CVXPY solvers."""
    if isinstance(solver, AbstractSolver):
        return solver
    return TORCH_SOLVERS[solver]() if solver in TORCH_SOLVERS else None


_FORMS = {
    "quadratic": "squared misfits",
    "layered": "squared misfits beside lengths",
    "ball": "l2 bounds",
    "interval": "linear programs",
    "excess": "fits in the l_inf or l_1 norm",
    "curved": "behind an activation",
}


def described(indent: int) -> str:
    """The torch solvers with the first line of their documentation, by the forms of problems that they serve."""
    lines, pad = [], " " * indent
    for forms in dict.fromkeys(kind.forms for kind in TORCH_SOLVERS.values()):
        lines.append(f"{pad}{', '.join(_FORMS.get(form, form) for form in forms)}:")
        those = [kind for kind in TORCH_SOLVERS.values() if kind.forms == forms]
        lines += [f'{pad}  "{kind.name}"  {(getdoc(kind) or "").splitlines()[0]}' for kind in those]
    return "\n".join(lines) + "\n"
