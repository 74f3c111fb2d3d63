"""The solvers by name."""

from __future__ import annotations

from .base import Solver
from .closed_form import ClosedForm
from .fine_tune import FineTune
from .plug_in import PlugIn

__all__ = ["SOLVERS", "resolve_solver"]

SOLVERS: dict[str, type[Solver]] = {
    solver.name: solver for solver in (FineTune, ClosedForm, PlugIn)
}


def resolve_solver(solver: str | Solver) -> Solver:
    """Return the solver that a ``solver`` parameter stands for.

    Examples
    --------
    >>> resolve_solver("plug_in"), resolve_solver(FineTune(max_epochs=0))
    (PlugIn(), FineTune(max_epochs=0))
    """
    return SOLVERS[solver]() if isinstance(solver, str) else solver
