"""Retrain+DP and Retrain+EO of the paper's rerun are trained to the optimum of their objective."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from skfairft.datasets import make_biased_classification
from skfairft.parity import penalty

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from paper import smooth, systems, tasks

C, INTENSITY, SEEDS = 1.0, 0.9, range(6)


class Objective:
    """Cross-entropy, L2 penalty and distance of a margin ``z @ x[:-1] + x[-1]``, in float64."""

    def __init__(self, part, constraint):
        self.shift, self.scale = part.Z.mean(axis=0, dtype=float), part.Z.std(axis=0, dtype=float)
        self.Z = np.column_stack([(part.Z - self.shift) / self.scale, np.ones(len(part.Z))])
        self.y = part.y
        events = {
            "demographic_parity": [part.y >= 0],
            "equalized_odds": [part.y == 1, part.y == 0],
        }[constraint]
        # Mean over the second group minus mean over the first.
        self.difference = np.stack(
            [
                (rows & (part.s == 1)) / (rows & (part.s == 1)).sum()
                - (rows & (part.s == 0)) / (rows & (part.s == 0)).sum()
                for rows in events
            ]
        )

    def smooth_part(self, x):
        margin, n = self.Z @ x, len(self.y)
        value = np.mean(np.logaddexp(0, margin) - self.y * margin) + x[:-1] @ x[:-1] / (2 * C * n)
        return value, self.Z.T @ (expit(margin) - self.y) / n + np.append(x[:-1], 0) / (C * n)

    def differences(self, x):
        p = expit(self.Z @ x)
        return self.difference @ p, self.difference * (p * (1 - p)) @ self.Z

    def __call__(self, x):
        return self.smooth_part(x)[0] + INTENSITY * np.abs(self.differences(x)[0]).sum()

    def of(self, clf):
        """Return the objective of an estimator's head."""
        weight, bias = (
            values.detach().double().numpy() for values in (clf.head_.weight, clf.head_.bias)
        )
        w = weight[:, 1] - weight[:, 0]
        return self(np.append(w * self.scale, bias[1] - bias[0] + self.shift @ w))

    def least(self):
        """Return its minimum: each |difference| a variable t, -t <= difference <= t; SLSQP."""
        d, m = self.Z.shape[1], len(self.difference)

        def constraint(z):
            found = self.differences(z[:d])[0]
            return np.concatenate([z[d:] - found, z[d:] + found])

        def slope(z):
            found = self.differences(z[:d])[1]
            return np.block([[-found, np.eye(m)], [found, np.eye(m)]])

        done = minimize(
            lambda z: self.smooth_part(z[:d])[0] + INTENSITY * z[d:].sum(),
            np.zeros(d + m),
            jac=lambda z: np.append(self.smooth_part(z[:d])[1], [INTENSITY] * m),
            constraints={"type": "ineq", "fun": constraint, "jac": slope},
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-10},
        )
        assert done.success
        return self(done.x[:d])


def task(seed):
    X, y, s = make_biased_classification(400, 8, random_state=seed)
    part = tasks.Part(X.astype(np.float32), y, s)
    return tasks.Task("made", seed, part, part, part)


@pytest.mark.parametrize("constraint", tasks.PENALTIES.values())
@pytest.mark.some(2)
def test_retrain_is_at_the_optimum_of_its_objective(constraint, monkeypatch):
    above, plainly = [], []
    settings = systems.penalized(constraint, INTENSITY)
    plain = {key: settings[key] for key in settings if key not in smooth.narrowing()}
    for seed in SEEDS:
        made = task(seed)
        objective = Objective(made.train, constraint)
        least = objective.least()
        above.append(objective.of(systems.fitted(made, C, **settings)) - least)
        with monkeypatch.context() as patch:
            patch.setattr(penalty, "_ROUNDING", 0.0)
            plainly.append(objective.of(systems.fitted(made, C, **plain)) - least)
    assert min(above) > -1e-6  # the slow computation is at a minimum
    # What rounding costs at most, and a tenth of it for where the iterations end.
    assert max(above) < 1.1 * INTENSITY * smooth.WIDTHS[-1] * len(objective.difference)
    if constraint == "equalized_odds":  # control: at a kink of one rate L-BFGS stops
        assert max(plainly) > 1e-3


def test_the_width_falls_from_epoch_to_epoch():
    clf = systems.fitted(task(0), C, **systems.penalized("equalized_odds", INTENSITY))
    assert len(clf.history_) == len(smooth.WIDTHS)
    assert clf.net_.penalty.width == smooth.WIDTHS[-1] == min(smooth.WIDTHS)
