"""Parameters of a classifier in one flat table, for tests that run over many of them."""

import inspect

from skfairft import ClosedForm, FineTune, PlugIn

SOLVERS = {"fine_tune": FineTune, "closed_form": ClosedForm, "plug_in": PlugIn}
OF_TRAINING = set(inspect.signature(FineTune).parameters)


def trained(solver, **settings):
    """Return a solver with settings of its training, as far as it has one."""
    if not isinstance(solver, str):
        return solver.set_params(**settings)
    if solver not in SOLVERS:
        return solver  # for the estimator to refuse
    return SOLVERS[solver](**({} if solver == "closed_form" else settings))


def flat(**params):
    """Return parameters of the classifier; those of training go to the solver."""
    settings = {name: value for name, value in params.items() if name in OF_TRAINING}
    rest = {name: value for name, value in params.items() if name not in OF_TRAINING}
    if settings:
        rest["solver"] = trained(rest.get("solver", "fine_tune"), **settings)
    return rest
