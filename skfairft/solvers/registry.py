"""The solvers by name."""

from __future__ import annotations

from ..inputs.words import did_you_mean
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

    Raises
    ------
    ValueError
        For what is neither a name nor a solver.

    Examples
    --------
    >>> resolve_solver("plug_in"), resolve_solver(FineTune(max_epochs=0))
    (PlugIn(), FineTune(max_epochs=0))
    """
    if isinstance(solver, str) and solver in SOLVERS:
        return SOLVERS[solver]()
    if isinstance(solver, Solver):
        return solver
    names = {kind.__name__: f"{kind.__name__}()" for kind in SOLVERS.values()}
    shown = solver.__name__ if isinstance(solver, type) else solver
    raise ValueError(
        f"solver={shown!r}; expected one of {sorted(SOLVERS)}, or an object with parameters of its "
        f"own, such as {', '.join(names.values())}.{did_you_mean(shown, [*SOLVERS, *names])}"
    )
