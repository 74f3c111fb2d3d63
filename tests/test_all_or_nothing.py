"""A fit completes, or leaves the estimator as it was; and it does so in any of torch's modes."""

import numpy as np
import pytest
import torch
from flat import flat
from skorch.callbacks import Callback
from torch import nn

from skfairft import (
    FairLowRankHeadClassifier,
    FineTune,
    FrozenFeatureExtractor,
    fairness_path,
)
from skfairft.datasets import make_biased_classification

X, Y, S = make_biased_classification(200, 6, disparity=0.4, random_state=0)
NAMES = np.array(["no", "yes"])[Y]


class Stops(Callback):
    """Interrupts the training in an epoch, as Ctrl-C does."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


class Raises(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise ZeroDivisionError


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of order")


def state(estimator):
    return {name: id(value) for name, value in vars(estimator).items()}


class TestAFitThatFails:
    def failing(self):
        """Changes after which a fit fails: at the door, in the extractor, in the training."""
        at_the_door = {"constraint": "equalized_odds", "difference_bound": 0.05}
        yield {**at_the_door, "cv": 0.01}, ValueError
        yield {"feature_extractor": Fails()}, ValueError
        yield {"head": nn.Linear(9, 3)}, ValueError
        yield {"solver": FineTune(optimizer=torch.optim.SGD, lr=1e8), "rank": 2}, ValueError
        yield {"solver": FineTune(callbacks=[("stop", Raises())], max_epochs=3)}, ZeroDivisionError

    def test_leaves_the_classifier_as_it_was(self):
        clf = FairLowRankHeadClassifier(random_state=0).fit(X, NAMES, sensitive_features=S)
        params, before = clf.get_params(), clf.predict_proba(X)
        labels = np.array(["high", "low", "mid"])[(Y + np.arange(200) % 2)]
        for changes, error in self.failing():
            clf.set_params(**changes)
            kept = state(clf)
            with pytest.raises(error):
                clf.fit(X, labels, sensitive_features=S.astype(str))
            assert state(clf) == kept
            clf.set_params(**params)
            np.testing.assert_array_equal(clf.predict_proba(X), before)
            assert set(clf.predict(X)) <= {"no", "yes"}

    def test_leaves_a_new_one_unfitted(self):
        clf = FairLowRankHeadClassifier(Fails())
        with pytest.raises(ValueError, match="out of order"):
            clf.fit(X, Y, sensitive_features=S)
        assert not [name for name in vars(clf) if name.endswith("_")]

    def test_leaves_an_extractor_as_it_was(self):
        module = nn.Sequential(nn.Linear(6, 3))
        extractor = FrozenFeatureExtractor(module, memory=False).fit(X.astype(np.float32))
        kept, width = state(extractor), extractor.n_features_in_
        for fit in (extractor.fit, extractor.fit_transform):
            with pytest.raises(ValueError, match="shape"):
                fit(np.zeros((5, 4), np.float32))
            assert state(extractor) == kept
        assert extractor.n_features_in_ == width == 6


class TestInterruption:
    def test_of_a_bounds_search_leaves_the_classifier_as_it_was(self):
        clf = FairLowRankHeadClassifier(random_state=0).fit(X, NAMES, sensitive_features=S)
        before = clf.predict_proba(X)
        clf.set_params(constraint="demographic_parity", difference_bound=0.01)
        clf.set_params(cv=0.3, solver__callbacks=[Stops(1)])
        kept = state(clf)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, Y, sensitive_features=S)
        assert state(clf) == kept
        np.testing.assert_array_equal(clf.predict_proba(X), before)

    def test_of_a_training_keeps_its_epochs(self):
        clf = FairLowRankHeadClassifier(
            solver=FineTune(lr=0.01, max_epochs=9, tol=None, callbacks=[Stops(4)]), random_state=0
        )
        with pytest.warns(UserWarning, match="3 whole epochs"):
            clf.fit(X, NAMES, sensitive_features=S)
        assert clf.n_iter_ == len(clf.history_) == 3
        clf.set_params(solver__callbacks=None, solver__max_epochs=3)
        kept = clf.predict_proba(X)
        again = clf.fit(X, NAMES, sensitive_features=S)
        np.testing.assert_allclose(again.predict_proba(X), kept, atol=1e-12)


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}
SETTINGS = [
    {"rank": 1, "constraint": "equalized_odds", "fairness_weight": 0.5},
    {"solver": "plug_in", "constraint": "equalized_odds", "fairness_weight": 0.5},
    {"head": nn.Sequential(nn.Linear(6, 4), nn.ReLU()), "max_epochs": 2, "tol": None},
]


class TestModes:
    @pytest.mark.parametrize("settings", SETTINGS)
    @pytest.mark.parametrize("mode", MODES)
    def test_change_nothing(self, mode, settings):
        clf = FairLowRankHeadClassifier(**flat(random_state=0, **settings))
        expected = clf.fit(X, Y, sensitive_features=S).predict_proba(X)
        with MODES[mode]():
            tensor = torch.from_numpy(X).clone()  # of the mode
            head = clf.fit(tensor, Y, sensitive_features=S).to_torch()
            np.testing.assert_array_equal(clf.predict_proba(tensor), expected)
        np.testing.assert_array_equal(clf.predict_proba(X), expected)
        scores = head(torch.from_numpy(X)).detach().numpy()
        np.testing.assert_allclose(scores, clf.decision_function(X), atol=1e-9)
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()

    def test_of_the_caller_stay_as_they_are(self):
        with torch.inference_mode():
            FairLowRankHeadClassifier().fit(X, Y, sensitive_features=S)
            assert torch.is_inference_mode_enabled()
        torch.set_grad_enabled(False)
        try:
            FairLowRankHeadClassifier().fit(X, Y, sensitive_features=S)
            assert not torch.is_grad_enabled()
        finally:
            torch.set_grad_enabled(True)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_the_default_dtype_changes_nothing(self, dtype):
        settings = {"rank": 1, "constraint": "equalized_odds", "fairness_weight": 0.5}
        clf = FairLowRankHeadClassifier(**flat(random_state=0, **settings))
        expected = clf.fit(X, Y, sensitive_features=S).predict_proba(X)
        torch.set_default_dtype(dtype)
        try:
            found = clf.fit(X, Y, sensitive_features=S).predict_proba(X)
        finally:
            torch.set_default_dtype(torch.float32)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.slow
    def test_a_path_in_inference_mode(self):
        clf = FairLowRankHeadClassifier(constraint="equalized_odds", random_state=0)
        with torch.inference_mode():
            path = fairness_path(clf, X, Y, sensitive_features=S, weights=2, n_boot=0)
        expected = fairness_path(clf, X, Y, sensitive_features=S, weights=2, n_boot=0)
        assert path.table.equals(expected.table)
