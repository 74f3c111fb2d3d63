"""Searches on a cluster of Dask: results of those here, each row and each backbone once."""

import importlib
import os
import pickle
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from distributed import Client
from distributed.comm.tcp import TCP
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor, distributed, fairness_path
from skfairft.datasets import make_biased_classification
from skfairft.distributed import on_cluster
from skfairft.feature_store.witness import MOST_ROWS
from skfairft.metrics import fairness_scorer

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from _scaling import search_bytes, traffic

# Starting workers takes long; the guide's page on scaling out, which is run, searches on a cluster.
pytestmark = pytest.mark.slow

N = 600
WEIGHTS = [0.0, 0.3, 0.6, 0.9]
FOLDS = 3


class Backbone(nn.Module):
    """Writes down where it is unpickled and which rows run; in a worker it is deadly if told so."""

    def __init__(self, folder):
        super().__init__()
        # In double precision: a row's features then hardly depend on the rows beside it.
        self.layer = nn.Linear(10, 16).double()
        self.folder = folder

    def __setstate__(self, state):
        super().__setstate__(state)
        self.write("unpickled", [os.getpid()])

    def write(self, name, values):
        with (self.folder / name).open("a") as file:
            file.write("".join(f"{value!r}\n" for value in values))

    def read(self, name):
        path = self.folder / name
        return Counter(map(float, path.read_text().split())) if path.exists() else Counter()

    def forward(self, x):
        if self.read("rows"):  # so in the middle of the work
            with suppress(FileNotFoundError):
                (self.folder / "deadly").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        if len(x) > MOST_ROWS:  # of fewer another look is taken
            self.write("rows", x[:, 0].tolist())
        return torch.relu(self.layer(x))


class WithCopy(LogisticRegression):
    """Says of which process and with which module it was fitted."""

    def __init__(self, module=None, C=1.0):
        super().__init__(C=C)
        self.module = module

    def fit(self, X, y):
        self.pid_ = os.getpid()
        return super().fit(X, y)


class Unpicklable:
    def __reduce__(self):
        raise TypeError("there is no pickle of this")


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(N, 10, disparity=0.4, random_state=0)


@pytest.fixture
def backbone(tmp_path):
    return Backbone(tmp_path)


def classifier(backbone, folder, **settings):
    extractor = FrozenFeatureExtractor(backbone, batch_size=64, memory=backbone.folder / folder)
    clf = FairLowRankHeadClassifier(
        extractor, constraint="demographic_parity", solver="closed_form", **settings
    )
    return clf.set_fit_request(sensitive_features=True)


def search_of(backbone, folder, *, piped=False):
    estimator, name = classifier(backbone, folder, fairness_weight=0.0), "fairness_weight"
    if piped:
        extractor = estimator.feature_extractor
        estimator.set_params(feature_extractor=None)
        estimator = make_pipeline(extractor, StandardScaler(), estimator)
        name = f"fairlowrankheadclassifier__{name}"
    scoring = {
        "error": fairness_scorer("weighted_f1_error"),
        "distance": fairness_scorer("demographic_parity_distance"),
    }
    return GridSearchCV(
        estimator,
        {name: WEIGHTS},
        scoring=scoring,
        refit="distance",
        cv=FOLDS,
        error_score="raise",
    )


def check_alike(found, expected, X):
    # Shares of rows, and so the same numbers.
    for name in ("mean_test_error", "mean_test_distance"):
        np.testing.assert_array_equal(found.cv_results_[name], expected.cv_results_[name])
    assert found.best_params_ == expected.best_params_
    # Features are the same but for the last digits of sums.
    scores = [each.best_estimator_.decision_function(X) for each in (found, expected)]
    np.testing.assert_allclose(*scores, rtol=1e-8, atol=1e-8)


def pids(client):
    return set(client.run(os.getpid).values())


def test_without_a_client_it_says_how_to_make_one():
    """Before there is a cluster for the other tests."""
    with pytest.raises(ValueError, match=r"there is none yet\. Make one first"), on_cluster():
        pass


@pytest.mark.usefixtures("routing")
class TestSearch:
    @pytest.mark.parametrize("piped", [pytest.param(False, marks=pytest.mark.slow), True])
    def test_it_is_that_of_here_and_runs_each_row_and_sends_the_backbone_once(
        self, cluster, data, backbone, piped
    ):
        X, y, s = data
        expected = search_of(backbone, "here", piped=piped).fit(X, y, sensitive_features=s)
        (backbone.folder / "rows").unlink()
        with on_cluster(backbone, X, y, s):
            found = search_of(backbone, "there", piped=piped).fit(X, y, sensitive_features=s)
        check_alike(found, expected, X)
        rows = backbone.read("rows")
        assert len(rows) == N
        assert set(rows.values()) == {1}
        assert backbone.read("unpickled") == Counter(pids(cluster))

    def test_without_it_the_backbone_goes_again_and_again(self, cluster, data, backbone):
        """The control of the test above; that rows run once is the store's doing."""
        X, y, s = data
        with joblib.parallel_config("dask"):
            search_of(backbone, "there").fit(X, y, sensitive_features=s)
        found = backbone.read("unpickled")
        # joblib puts short fits together, but begins with two pieces of one fit for each worker.
        assert sum(found[pid] for pid in pids(cluster)) >= 4
        assert set(backbone.read("rows").values()) == {1}

    @pytest.mark.parametrize(
        ("way", "least", "most"),
        [
            ("joblib", 8, 37),
            ("on_cluster", 3, 4),
            ("features first", 3, 4),
            ("features given", 0, 1),
        ],
    )
    def test_the_bytes_are_those_of_a_backbone_for_each_process(
        self, cluster, tmp_path, monkeypatch, way, least, most
    ):
        """To the scheduler, and from there to each worker; joblib so for each fit.

        There are 12 fits. One that an idle worker takes over is sent a third time.
        """
        monkeypatch.setattr(TCP, "write", TCP.write)
        monkeypatch.setattr(TCP, "written", 0, raising=False)
        traffic.count_bytes()
        cluster.run(traffic.count_bytes)
        X, y, s = make_biased_classification(N, 20, disparity=0.4, random_state=0)
        backbone = search_bytes.Backbone(2**21, tmp_path / "log")
        extractor = FrozenFeatureExtractor(backbone, memory=tmp_path / "features")
        before = traffic.total(cluster)
        search_bytes.WAYS[way](cluster, extractor, (X.astype(np.float32), y, s))
        sent = traffic.total(cluster) - before
        assert least <= sent / len(pickle.dumps(backbone)) <= most

    @pytest.mark.slow
    def test_a_killed_worker_costs_no_result(self, cluster, data, backbone):
        X, y, s = data
        expected = search_of(backbone, "here").fit(X, y, sensitive_features=s)
        before = pids(cluster)
        (backbone.folder / "deadly").touch()
        with on_cluster(backbone, X, y, s):
            found = search_of(backbone, "there").fit(X, y, sensitive_features=s)
            cluster.wait_for_workers(2, timeout=60)
            assert len(pids(cluster) - before) == 1
            # The one in its place holds what the others hold.
            assert set(pids(cluster)) <= set(backbone.read("unpickled"))
        check_alike(found, expected, X)

    def test_estimators_come_back_with_the_backbone_of_here(self, cluster, data, backbone):
        X, y, s = data
        clf = classifier(backbone, "there", fairness_weight=0.5)
        with on_cluster(clf.feature_extractor, X, y, s):
            found = cross_validate(
                clf, X, y, params={"sensitive_features": s}, cv=2, return_estimator=True
            )
            # What is pickled here, inside, too, is whole.
            joblib.dump(found["estimator"][0], backbone.folder / "clf.joblib")
        for each in found["estimator"]:
            assert each.feature_extractor.module is each.feature_extractor_.module is backbone
        loaded = joblib.load(backbone.folder / "clf.joblib")
        assert loaded.feature_extractor_.module is not backbone
        np.testing.assert_array_equal(loaded.predict(X), found["estimator"][0].predict(X))

    def test_paths_are_those_of_here(self, cluster, data, backbone):
        X, y, s = data

        def paths(folder):
            clfs = [classifier(backbone, folder, rank=k, random_state=0) for k in (1, None)]
            return joblib.Parallel()(
                joblib.delayed(fairness_path)(
                    clf, X, y, sensitive_features=s, weights=3, cv=2, n_boot=20
                )
                for clf in clfs
            )

        with on_cluster(backbone, X, y, s):
            found = paths("there")
        for one, other in zip(found, paths("here"), strict=True):
            left, right = (path.table.select_dtypes("number") for path in (one, other))
            np.testing.assert_allclose(left, right, rtol=1e-8, atol=1e-8)
            assert one.classifiers[0].feature_extractor.module is backbone


def test_work_goes_to_the_workers(cluster, data):
    X, y, _ = data
    with on_cluster(X, y):
        found = cross_validate(WithCopy(), X, y, cv=4, return_estimator=True)
    assert {each.pid_ for each in found["estimator"]} <= pids(cluster)


def test_what_has_changed_meanwhile_is_refused(cluster, data):
    X, y = data[0].copy(), data[1]
    with on_cluster(X, y):
        cross_validate(WithCopy(), X, y, cv=2)
        X[0, 0] += 1.0
        with pytest.raises(RuntimeError, match="has changed since, and the workers hold it"):
            cross_validate(WithCopy(), X, y, cv=2)


def test_what_no_fit_needs_is_named(cluster, data):
    """scikit-learn copies a module of an estimator that does not share it, as ours do."""
    X, y, _ = data
    module = nn.Linear(2, 2)
    with (
        pytest.warns(UserWarning, match=r"got Linear at place 2, but no fit needed it") as caught,
        on_cluster(X, module, y),
    ):
        cross_validate(WithCopy(module), X, y, cv=2, scoring="accuracy")
    assert caught[0].filename == __file__


def test_what_cannot_be_pickled_is_an_error_and_no_wait(cluster):
    """Also late, where a thread of Dask's meets it."""
    work = [*range(9), Unpicklable()]
    with on_cluster(), pytest.raises(TypeError, match="there is no pickle of this"):
        joblib.Parallel()(joblib.delayed(id)(each) for each in work)


def test_errors_of_workers_arrive(cluster):
    def fail(number):
        raise ValueError(f"number {number}")

    with on_cluster(), pytest.raises(ValueError, match="number 3"):
        joblib.Parallel()(joblib.delayed(fail)(each) for each in [3])


def test_more_than_dask_can_send_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(distributed, "_MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="expected less than 4 GiB"), on_cluster(bytes(1001)):
        pass


def test_a_lost_cluster_is_one_sentence():
    def lose_it():
        with (
            Client(processes=False, dashboard_address=":0", set_as_default=False) as client,
            on_cluster(client=client),
        ):
            client.close()
            joblib.Parallel()(joblib.delayed(id)(each) for each in range(3))

    with pytest.raises(ConnectionError, match=r"cluster was lost.*Start another one"):
        lose_it()


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "skfairft.distributed")
    with pytest.raises(ImportError, match=r"pip install 'skfairft\[distributed\]'"):
        importlib.import_module("skfairft.distributed")
