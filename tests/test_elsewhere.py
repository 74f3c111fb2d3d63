"""Models that are brought elsewhere: to another folder, process, program or library."""

import copy
import importlib
import os
import pickle
import shutil
import sys
import textwrap
import time

import cloudpickle
import joblib
import numpy as np
import pytest
import skops.io
import torch
from processes import start
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfairft import FairLowRankHeadClassifier, FineTune, FrozenFeatureExtractor
from skfairft.datasets import make_biased_classification
from skfairft.feature_store import DiskStore, FeatureStoreWarning, MemoryStore


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(200, 8, disparity=0.4, random_state=0)


@pytest.fixture
def backbone():
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU())


class TestFolderOfFeatures:
    """A model does not take its memory along: features are personal data."""

    @pytest.mark.parametrize("memory", ["features", DiskStore], ids=["relative", "store"])
    def test_is_not_made_elsewhere(self, data, backbone, tmp_path, monkeypatch, memory):
        X, y, s = data
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        there.mkdir()
        monkeypatch.chdir(here)
        memory = memory if isinstance(memory, str) else memory("features")
        clf = FairLowRankHeadClassifier(FrozenFeatureExtractor(backbone, memory=memory))
        clf.fit(X, y, sensitive_features=s)
        assert [path.name for path in here.iterdir()] == ["features"]
        content = pickle.dumps(clf)
        expected = clf.predict_proba(X)
        # A change of the working directory does not move it.
        monkeypatch.chdir(there)
        assert clf.feature_extractor_.store.folder == here / "features"
        if isinstance(memory, str):
            with pytest.warns(FeatureStoreWarning, match=r"There is no folder .*there/features"):
                clf.feature_extractor.store.clear()
        np.testing.assert_array_equal(pickle.loads(content).predict_proba(X), expected)
        assert not list(there.iterdir())
        # Nor does anything make it again, once it is gone.
        shutil.rmtree(here)
        found = pickle.loads(content)
        with pytest.warns(FeatureStoreWarning, match="in which features were kept at fit"):
            np.testing.assert_array_equal(found.predict_proba(X), expected)
        found.predict_proba(X)  # it is said once
        assert isinstance(found.feature_extractor_.store, MemoryStore)
        assert not here.exists()
        assert not list(there.iterdir())
        # Unless it is asked for.
        found.fit(X, y, sensitive_features=s)
        assert (here if isinstance(memory, DiskStore) else there).joinpath("features").is_dir()

    def test_is_another_after_set_params(self, data, backbone, tmp_path):
        extractor = FrozenFeatureExtractor(backbone, memory=tmp_path / "a").fit(data[0])
        extractor.set_params(memory=tmp_path / "b")
        extractor.transform(data[0])
        assert (tmp_path / "b").is_dir()


class TestSkops:
    """Plain objects for libraries that write objects without running code."""

    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"rank": 1, "head": nn.Linear(8, 2)},
            {
                "head": nn.Sequential(nn.Linear(8, 6), nn.LeakyReLU(0.2)),
                "rank": 2,
                "solver": FineTune(max_epochs=2, tol=None),
            },
            {"solver": FineTune(optimizer=torch.optim.SGD, max_epochs=2, tol=None, batch_size=20)},
            {"solver": "closed_form", "constraint": "equalized_odds", "fairness_weight": 0.5},
            {"solver": "plug_in", "constraint": "demographic_parity", "fairness_weight": 1.0},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("kind", ["features", "module", "extractor"])
    @pytest.mark.some(3)
    def test_round_trip(self, data, backbone, params, kind):
        X, y, s = data
        extractor = {"features": None, "module": backbone}.get(
            kind, FrozenFeatureExtractor(backbone, batch_size=7)
        )
        if kind != "features" and "head" in params:
            pytest.skip("the head is for eight features")
        clf = FairLowRankHeadClassifier(extractor, random_state=0, **params)
        clf.fit(X, y, sensitive_features=np.array(["f", "m"])[s])
        content = skops.io.dumps(clf)
        kinds = skops.io.get_untrusted_types(data=content)
        found = skops.io.loads(content, trusted=kinds)
        np.testing.assert_array_equal(found.predict_proba(X), clf.predict_proba(X))
        assert repr(found) == repr(clf)
        assert found.groups_.tolist() == ["f", "m"]
        assert [*found.history_] == [*clf.history_]
        # It asks for names of classes of torch, skorch and this package, and runs no code.
        assert {name.partition(".")[0] for name in kinds} <= {
            "torch",
            "skorch",
            "skfairft",
            "numpy",
        }
        if kind == "extractor":  # one module, as it was
            assert found.feature_extractor_.module is found.feature_extractor.module
        found.fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(
            found.decision_function(X), clf.fit(X, y, sensitive_features=s).decision_function(X)
        )

    @pytest.mark.usefixtures("routing")
    def test_a_pipeline_and_its_requests(self, data, backbone):
        X, y, s = data
        clf = FairLowRankHeadClassifier(backbone).set_fit_request(sensitive_features=True)
        pipeline = make_pipeline(StandardScaler(), clf).fit(X, y, sensitive_features=s)
        content = skops.io.dumps(pipeline)
        found = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
        np.testing.assert_array_equal(found.predict_proba(X), pipeline.predict_proba(X))
        assert found[-1].get_metadata_routing().fit.requests["sensitive_features"] is True
        found.fit(X, y, sensitive_features=s)

    def test_an_extractor_and_what_is_not_fitted(self, data, backbone):
        for estimator in (
            FrozenFeatureExtractor(backbone, layer="1").fit(data[0]),
            FairLowRankHeadClassifier(backbone, rank=1),
        ):
            content = skops.io.dumps(estimator)
            found = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
            assert repr(found) == repr(estimator)
        with torch.no_grad():
            rows = torch.from_numpy(data[0]).float()
            torch.testing.assert_close(
                found.feature_extractor.eval()(rows), backbone.eval()(rows), rtol=0, atol=0
            )

    def test_numbers_of_any_kind_and_weights_that_are_one(self, data):
        network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).bfloat16()
        network[1].weight = network[0].weight
        network[0].bias.requires_grad_(False)
        network.register_buffer("steps", torch.tensor(3), persistent=False)
        content = skops.io.dumps(FrozenFeatureExtractor(network))
        found = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content)).module
        assert found[1].weight is found[0].weight
        assert torch.equal(found[0].weight, network[0].weight)
        assert found[0].weight.requires_grad
        assert not found[0].bias.requires_grad
        assert found.steps == 3
        assert "steps" not in found.state_dict()

    def test_a_tensor_among_the_attributes(self, data):
        network = nn.Linear(8, 3)
        network.scale = torch.tensor([2.0])
        content = skops.io.dumps(FrozenFeatureExtractor(network))
        found = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content)).module
        assert torch.equal(found.scale, network.scale)

    @pytest.mark.filterwarnings("ignore:.*torch.jit")  # torch 2.13 and later say that it will go
    def test_modules_of_torch_s_runtime_are_refused(self, data, backbone):
        scripted = torch.jit.script(backbone.eval())
        with pytest.raises(TypeError, match="lives in torch's own runtime"):
            skops.io.dumps(FrozenFeatureExtractor(scripted))
        pickle.loads(pickle.dumps(FairLowRankHeadClassifier(backbone)))

    def test_pickles_and_copies_hold_all(self, data, backbone):
        clf = FairLowRankHeadClassifier(backbone).fit(*data[:2], sensitive_features=data[2])
        found = pickle.loads(pickle.dumps(clf))
        assert found.net_ is not clf.net_
        assert found.feature_extractor_.module is found.feature_extractor
        assert isinstance(found.head_.A, nn.Parameter)


class TestMissingClass:
    """A pickle holds classes by name: what is missing is said, and what to do."""

    CODE = """
        import numpy as np, torch
        from torch import nn
        class Net(nn.Linear):
            pass
        def prepared(rows):
            return torch.as_tensor(np.asarray(rows), dtype=torch.float32)
    """

    @pytest.fixture
    def made(self, monkeypatch, tmp_path):
        (tmp_path / "backbones_of_mine.py").write_text(textwrap.dedent(self.CODE))
        monkeypatch.syspath_prepend(tmp_path)
        made = importlib.import_module("backbones_of_mine")
        yield made
        sys.modules.pop("backbones_of_mine", None)

    @pytest.mark.parametrize("what", ["Net", "prepared"])
    @pytest.mark.parametrize("by", [pickle, joblib])
    def test_is_named_before_the_error(self, data, made, tmp_path, monkeypatch, what, by):
        backbone = made.Net(8, 2)
        if what == "prepared":
            backbone = FrozenFeatureExtractor(nn.Linear(8, 2), preprocess=made.prepared)
        clf = FairLowRankHeadClassifier(backbone).fit(*data[:2], sensitive_features=data[2])
        with open(tmp_path / "model", "wb") as file:
            by.dump(clf, file)
        with open(tmp_path / "model", "rb") as file:
            by.load(file)  # without a word
        delattr(made, what)
        with (
            open(tmp_path / "model", "rb") as file,
            pytest.warns(UserWarning, match=f"not there: {what} of backbones_of_mine. Define or"),
            pytest.raises(AttributeError, match=what),
        ):
            by.load(file)
        monkeypatch.undo()
        del sys.modules["backbones_of_mine"]
        with (
            open(tmp_path / "model", "rb") as file,
            pytest.warns(UserWarning, match="its method save, whose files hold no classes"),
            pytest.raises(ModuleNotFoundError),
        ):
            by.load(file)

    def test_is_not_missed_where_classes_are_written_or_kept(self, data, made):
        """By cloudpickle, of what it writes itself, and by copies."""
        made.Net.__module__ = "__main__"
        clf = FairLowRankHeadClassifier(made.Net(8, 2)).fit(*data[:2], sensitive_features=data[2])
        found = pickle.loads(cloudpickle.dumps(clf))
        np.testing.assert_array_equal(found.predict(data[0]), clf.predict(data[0]))
        np.testing.assert_array_equal(copy.deepcopy(clf).predict(data[0]), clf.predict(data[0]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestFork:
    """As of a server that loads its model, looks whether it works, and then starts workers."""

    @pytest.fixture
    def used(self):
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        rng = np.random.default_rng(0)
        X = rng.normal(size=(20_000, 64)).astype(np.float32)
        y, s = (X[:, 0] > 0).astype(int), (X[:, 1] > 0).astype(int)
        network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 32))
        clf = FairLowRankHeadClassifier(network, solver="closed_form")
        clf.fit(X, y, sensitive_features=s).predict(X)
        with torch.no_grad():  # by threads of torch's own, if that was not
            network(torch.from_numpy(X))
        yield clf, X, y, s
        torch.set_num_threads(before)

    @pytest.mark.parametrize("what", ["predict", "fit", "module"])
    def test_a_worker_goes_on(self, used, what):
        clf, X, y, s = used
        expected, module = clf.predict_proba(X), clf.to_torch()

        def work():
            if what == "predict":
                found = clf.predict_proba(X + np.float32(1e-6))
                np.testing.assert_allclose(found, expected, atol=1e-3)
            elif what == "fit":
                clf.fit(X + np.float32(1e-6), y, sensitive_features=s)
            else:
                with torch.no_grad():
                    module(torch.from_numpy(X))

        pid = start(work)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                assert status == 0
                assert torch.get_num_threads() == 2
                return
            time.sleep(0.02)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        pytest.fail("the child hangs")
