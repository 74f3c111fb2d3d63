"""The bias refitted to given weights: its minimum, its probabilities, and from where it comes."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from skfairft.head.bias import refit_bias
from skfairft.head.logistic import fit_logistic
from skfairft.lowrank.moments import column_moments
from skfairft.rows import mapped
from skfairft.rows.tensor_rows import TensorRows

D = 5


def make_rows(n_classes, n=400):
    """Features of several units, labels that depend on them, uneven weights."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, D))
    logits = Z @ rng.normal(size=(D, n_classes)) + rng.gumbel(size=(n, n_classes))
    tensors = Z * rng.exponential(size=D), logits.argmax(axis=1), rng.exponential(size=n)
    return tuple(map(torch.from_numpy, tensors))


class TestRefitBias:
    @staticmethod
    def mean_probability(Z, w, weight, bias):
        p = torch.softmax(Z.double() @ weight + bias, dim=1)
        return w @ p / w.sum()

    @staticmethod
    def make_head(k, seed=1):
        rng = np.random.default_rng(seed)
        return torch.from_numpy(rng.normal(size=(D, k))), torch.from_numpy(rng.normal(size=k))

    @pytest.mark.parametrize("k", [2, 3, 7])
    def test_mean_probabilities_become_the_classes_shares(self, k):
        Z, y, w = make_rows(k)
        weight, bias = self.make_head(k)
        share = torch.bincount(y, w) / w.sum()
        found = refit_bias(TensorRows(Z, y, w), weight, bias)
        torch.testing.assert_close(
            self.mean_probability(Z, w, weight, found), share, rtol=0, atol=1e-12
        )
        before = self.mean_probability(Z, w, weight, bias)
        assert (before - share).abs().max() > 1e-3  # control

    @pytest.mark.parametrize("k", [2, 3, 7])
    def test_is_the_minimum_that_a_general_solver_finds(self, k):
        Z, y, w = make_rows(k)
        weight, bias = self.make_head(k)

        def loss(bias):
            logits = (Z @ weight).numpy() + bias
            log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            return -(w.numpy() / w.sum().item()) @ log_p[np.arange(len(y)), y.numpy()]

        found = refit_bias(TensorRows(Z, y, w), weight, bias).numpy()
        reference = minimize(loss, bias.numpy(), method="BFGS", options={"gtol": 1e-8})
        assert loss(found) <= reference.fun + 1e-12
        np.testing.assert_allclose(
            found - found.mean(), reference.x - reference.x.mean(), atol=1e-5
        )

    @pytest.mark.parametrize("k", [2, 3])
    def test_keeps_the_mean_of_the_bias_and_ignores_it(self, k):
        Z, y, w = make_rows(k)
        weight, bias = self.make_head(k)
        found = refit_bias(TensorRows(Z, y, w), weight, bias)
        assert float(found.mean()) == pytest.approx(float(bias.mean()), abs=1e-14)
        torch.testing.assert_close(refit_bias(TensorRows(Z, y, w), weight, bias + 5.0), found + 5.0)
        torch.testing.assert_close(refit_bias(TensorRows(Z, y, w), weight, found), found)

    @pytest.mark.parametrize("start", [30.0, -1e3, 1e5])
    @pytest.mark.parametrize("size", [1.0, 30.0])
    def test_comes_back_from_where_all_probabilities_are_zero_or_one(self, start, size):
        # There the Hessian is zero, so that Newton's step is of any length, and the loss a kink.
        Z, y, w = make_rows(3)
        weight, bias = self.make_head(3)
        weight = size * weight
        far = bias + torch.tensor([start, 0.0, -start])
        share = torch.bincount(y, w) / w.sum()
        found = refit_bias(TensorRows(Z, y, w), weight, far)
        torch.testing.assert_close(
            self.mean_probability(Z, w, weight, found), share, rtol=0, atol=1e-10
        )

    def test_a_fitted_head_keeps_its_bias(self, tight):
        Z, y, w = make_rows(3)
        weight, bias = fit_logistic(TensorRows(Z, y, w), 3, 0.01, column_moments(Z, w))
        torch.testing.assert_close(
            refit_bias(TensorRows(Z, y, w), weight, bias), bias, rtol=0, atol=1e-8
        )
        other = refit_bias(TensorRows(Z, y, w), 0.5 * weight, bias)
        assert (other - bias).abs().max() > 0.01  # control: another weight wants another

    def test_weights_are_repeats(self):
        Z, y, _ = make_rows(3)
        weight, bias = self.make_head(3)
        w = torch.arange(len(y)).remainder(4).double()
        repeats = w.long()
        found = refit_bias(
            TensorRows(
                Z.repeat_interleave(repeats, 0),
                y.repeat_interleave(repeats),
                torch.ones(int(w.sum())).double(),
            ),
            weight,
            bias,
        )
        torch.testing.assert_close(
            refit_bias(TensorRows(Z, y, w), weight, bias), found, rtol=0, atol=1e-12
        )

    def test_blocks_change_nothing(self, monkeypatch):
        Z, y, w = make_rows(3)
        weight, bias = self.make_head(3)
        whole = refit_bias(TensorRows(Z, y, w), weight, bias)
        monkeypatch.setattr(mapped, "_BLOCK_ROWS", 7)
        torch.testing.assert_close(
            refit_bias(TensorRows(Z, y, w), weight, bias), whole, rtol=0, atol=1e-12
        )
