"""Fitted and unfitted estimators survive pickle and joblib, also in another process."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from flat import flat
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

import skfairft
from skfairft import FairLowRankHeadClassifier, FairnessWarning, FrozenFeatureExtractor
from skfairft.datasets import make_biased_classification

# All modules are torch's own: another process must be able to import their classes.
CONFIGURATIONS = {
    "features": lambda: {"rank": 1},
    "full rank": lambda: {},
    "extractor": lambda: {"feature_extractor": nn.Linear(8, 6), "rank": 1},
    "explicit extractor": lambda: {
        "feature_extractor": FrozenFeatureExtractor(
            nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout()), batch_size=7
        ),
        "head": nn.Linear(6, 4),
        "rank": 2,
    },
    "minibatches": lambda: {
        "head": nn.Sequential(nn.Linear(8, 6), nn.ReLU()),
        "rank": 2,
        "optimizer": torch.optim.SGD,
        "batch_size": 32,
        "max_epochs": 3,
        "tol": None,
        "early_stopping": True,
        "random_state": 0,
    },
}


def by_pickle(clf, folder):
    return pickle.loads(pickle.dumps(clf))


def by_joblib(clf, folder):
    joblib.dump(clf, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def by_copy(clf, folder):
    return copy.deepcopy(clf)


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(200, 8, disparity=0.4, random_state=0)


def fit(name, data):
    X, y, s = data
    clf = FairLowRankHeadClassifier(**flat(**CONFIGURATIONS[name]()))
    return clf.fit(X, y, sensitive_features=np.array(["f", "m"])[s])


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("carry", [by_pickle, by_joblib, by_copy])
@pytest.mark.some(3)
def test_round_trip(data, name, carry, tmp_path):
    X, y, s = data
    clf = fit(name, data)
    again = carry(clf, tmp_path)
    for method in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(clf, method)(X))
    assert again.groups_.tolist() == ["f", "m"]
    assert repr(again) == repr(clf)
    assert again.history_[:, "train_loss"] == clf.history_[:, "train_loss"]
    with torch.no_grad():
        rows = torch.from_numpy(X).float()
        torch.testing.assert_close(again.to_torch()(rows), clf.to_torch()(rows), rtol=0, atol=0)
    # What came back can go on, and does as the original does.
    for model in (clf, again):
        model.set_params(
            warm_start=True, solver__max_epochs=2, solver__tol=None, solver__early_stopping=False
        )
        model.fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(again.decision_function(X), clf.decision_function(X))


def test_in_a_fresh_process(data, tmp_path):
    """Written by pickle and joblib here, read there."""
    X, _, _ = data
    np.save(tmp_path / "X.npy", X)
    for name in CONFIGURATIONS:
        clf = fit(name, data)
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(clf))
        joblib.dump(clf, tmp_path / f"{name}.joblib")
        np.save(tmp_path / f"{name}.npy", clf.predict_proba(X))
    script = tmp_path / "read.py"
    script.write_text(
        "import pickle, joblib, numpy, pathlib\n"
        "folder = pathlib.Path(__file__).parent\n"
        "X = numpy.load(folder / 'X.npy')\n"
        "for path in folder.glob('*.pickle'):\n"
        "    expected = numpy.load(path.with_suffix('.npy'))\n"
        "    first = pickle.loads(path.read_bytes())\n"
        "    second = joblib.load(path.with_suffix('.joblib'))\n"
        "    for clf in (first, second):\n"
        "        numpy.testing.assert_array_equal(clf.predict_proba(X), expected)\n"
        "    print(path.stem)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        env={"PYTHONPATH": str(Path(skfairft.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(CONFIGURATIONS)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_data_stay_behind(name):
    """The size of a pickle does not grow with the rows, nor does it hold one of them."""
    sizes = []
    for n in (200, 2000):
        X, y, s = make_biased_classification(n, 8, disparity=0.4, random_state=0)
        settings = {**CONFIGURATIONS[name](), "max_epochs": 2, "tol": None}
        clf = FairLowRankHeadClassifier(**flat(**settings)).fit(X, y, sensitive_features=s)
        # The history has a row for each batch.
        clf.net_.history_.clear()
        content = pickle.dumps(clf)
        sizes.append(len(content))
        assert X[3].tobytes() not in content
        assert X[3].astype(np.float32).tobytes() not in content
    assert abs(sizes[1] - sizes[0]) < 500


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_unfitted(data, name):
    X, y, s = data
    clf = FairLowRankHeadClassifier(**flat(**CONFIGURATIONS[name]()))
    again = pickle.loads(pickle.dumps(clf))
    assert repr(again) == repr(clf)
    with pytest.raises(NotFittedError):
        again.predict(X)
    for model in (clf, again):
        model.fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    extractor = pickle.loads(pickle.dumps(FrozenFeatureExtractor(nn.Linear(8, 2))))
    assert clone(extractor).transform(X).shape == (200, 2)


@pytest.mark.usefixtures("routing")
def test_requests_are_kept(data):
    X, y, _ = data
    clf = FairLowRankHeadClassifier(rank=1).set_fit_request(sensitive_features=True)
    again = pickle.loads(pickle.dumps(clf))
    assert again.get_metadata_routing().fit.requests == clf.get_metadata_routing().fit.requests
    assert clf.get_metadata_routing().fit.requests["sensitive_features"] is True
    with pytest.warns(FairnessWarning):
        again.fit(X, y)


def test_the_optimizer_s_memory_stays_behind():
    """L-BFGS keeps a hundred pairs of vectors as long as the parameters."""
    rng = np.random.default_rng(0)
    X, y, s = rng.normal(size=(300, 64)), rng.integers(10, size=300), rng.integers(2, size=300)
    clf = FairLowRankHeadClassifier().fit(X, y, sensitive_features=s)
    parameters = sum(8 * parameter.numel() for parameter in clf.head_.parameters())
    # The head, the net's copy of it in standardized features, and its importance; and 50 kB.
    assert len(pickle.dumps(clf)) < 4 * parameters + 50_000
