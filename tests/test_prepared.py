"""What prepares the rows, and what else is needed to make a model again, is said of it."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from flat import flat
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor, model_report
from skfairft.datasets import make_biased_classification
from skfairft.preprocessing import ImageFiles, Texts
from skfairft.summary import summarize
from skfairft.summary.prepared import called


@pytest.fixture(scope="module")
def rows():
    return make_biased_classification(600, n_groups=3, disparity=0.4, random_state=0)


def fitted(rows, **params):
    X, y, s = rows
    clf = FairLowRankHeadClassifier(**flat(random_state=0, **params))
    return clf.fit(X, y, sensitive_features=s)


def report_of(estimator, rows):
    X, y, s = rows
    return model_report(estimator, X, y, sensitive_features=s, n_boot=0)


def scaled(batch, *, by=1.0):
    return torch.as_tensor(np.asarray(batch) * by, dtype=torch.float32)


class Scale:
    """A class of someone's own."""

    def __init__(self, by=2.0, folder="/home/someone/data", more=None):
        self.by, self.folder, self.more = by, folder, more
        self.calls = 0

    def __call__(self, batch):
        self.calls += 1
        return scaled(batch, by=self.by)

    def method(self, batch):
        return self(batch)


CALLED = [
    (scaled, "scaled"),
    (lambda batch: scaled(batch), "a function of the user's own (lambda)"),
    (partial(scaled, by=2.0), "partial(scaled, by=2.0)"),
    (partial(lambda batch: batch), "partial(a function of the user's own (lambda))"),
    (Scale(), "Scale()"),
    (Scale(3.0, "/home/other"), "Scale(by=3.0)"),
    (Scale(more="/srv/x"), "Scale(more=a path)"),
    (Scale(more=Scale(1)), "Scale(more=Scale(by=1))"),
    (Scale(more=[scaled, lambda b: b, object()]), None),
    (Scale(more={"a": torch.float16, 1: np.float64(0.5)}), None),
    (Scale(more=np.arange(5)), "Scale(more=ndarray())"),
    (Scale().method, "Scale.method"),
    (ImageFiles(224), "ImageFiles(size=224)"),
    (ImageFiles(224, resize=256, mean=None, std=None), None),
    (Texts(scaled, max_length=8, padding="max_length"), None),
    (StandardScaler(with_mean=False), "StandardScaler(with_mean=False)"),
    (nn.Sequential(nn.Linear(2, 2)), "Sequential()"),
    (np.asarray, "asarray"),
    (len, "len"),
]


class TestPrepared:
    @pytest.mark.parametrize(("value", "text"), CALLED, ids=range(len(CALLED)))
    def test_what_it_is_called(self, value, text):
        found = called(value)
        assert text is None or found == text
        assert not re.search(r"0x|<|/home|/srv", found)
        assert len(found) <= 200
        assert "\n" not in found

    def test_settings_are_told(self):
        found = called(ImageFiles(224, resize=256, mean=None, std=None))
        assert found == "ImageFiles(size=224, resize=256, mean=None, std=None)"
        found = called(Texts(scaled, max_length=8, padding="max_length"))
        assert found == "Texts(tokenizer=scaled, max_length=8, kwargs={'padding': 'max_length'})"
        found = called(Scale(more=[scaled, lambda b: b]))
        assert found == "Scale(more=[scaled, a function of the user's own (lambda)])"

    def test_it_is_bounded_whatever_it_holds(self):
        endless = Scale()
        endless.more = [endless] * 1000
        assert len(called(endless)) <= 200
        assert len(called(Scale(more=dict.fromkeys(range(100_000))))) <= 200
        assert len(called(Scale(more="long" * 1000))) <= 200

    def test_its_own_repr_is_not_asked(self):
        class Loud(Scale):
            def __repr__(self):
                raise AssertionError

        assert called(Loud()) == "Loud()"

    @pytest.mark.parametrize(
        ("preprocess", "said"),
        [
            (partial(scaled, by=2.0), "partial(scaled, by=2.0)"),
            (Scale(3.0), "Scale(by=3.0)"),
            (lambda batch: scaled(batch), "a function of the user's own (lambda)"),
        ],
    )
    def test_report_card_and_box_say_what_prepares_the_rows(self, rows, preprocess, said):
        extractor = FrozenFeatureExtractor(
            nn.Linear(10, 4), preprocess=preprocess, dtype=torch.bfloat16, memory=False
        )
        clf = fitted(rows, feature_extractor=extractor)
        report = report_of(clf, rows)
        assert report.summary.prepared_by == (said,)
        assert report.summary.dtype == "bfloat16"
        shown = said.replace("'", "&#x27;")
        for text in (report.to_html(), report.to_markdown(), str(report.summary)):
            assert f"through {said}"[:30] in text
            assert "dtype 'bfloat16'" in text
            assert not re.search(r"0x[0-9a-f]{6}", text)
        assert shown in clf._repr_html_()
        # Another setting is another text; the control is that without one there is none.
        other = fitted(rows, feature_extractor=nn.Linear(10, 4))
        assert report_of(other, rows).summary.prepared_by == ()
        assert "through " not in str(summarize(other))

    def test_steps_before_the_classifier_are_told_in_their_order(self, rows):
        X, y, s = rows
        extractor = FrozenFeatureExtractor(nn.Linear(10, 4), preprocess=scaled, memory=False)
        estimator = make_pipeline(
            StandardScaler(with_std=False),
            "passthrough",
            None,
            FunctionTransformer(np.negative),
            FairLowRankHeadClassifier(extractor, **flat(random_state=0)),
        )
        estimator.fit(X, y, fairlowrankheadclassifier__sensitive_features=s)
        told = ("StandardScaler(with_std=False)", "FunctionTransformer(func=negative)", "scaled")
        assert summarize(estimator).prepared_by == told
        assert ", then ".join(told) in report_of(estimator, rows).to_html()
        assert summarize(estimator[-1]).prepared_by == told[2:]

    def test_the_same_report_is_the_same_text_each_time(self, rows):
        def made():
            preprocess = lambda batch: scaled(batch)  # noqa: E731
            extractor = FrozenFeatureExtractor(nn.Identity(), preprocess=preprocess, memory=False)
            report = report_of(fitted(rows, feature_extractor=extractor), rows)
            return report.to_html(), report.to_markdown()

        assert made() == made()

    def test_c_is_told_as_it_was_found(self, rows):
        clf = fitted(rows, constraint="demographic_parity", fairness_weight=0.5, solver="plug_in")
        text, changed = report_of(clf, rows).parameters["C"]
        assert (text, changed) == (f"None ({clf.C_:.6g} in use)", False)

    def test_versions_of_what_the_backbone_comes_from(self, rows):
        from transformers import __version__
        from transformers.activations import GELUActivation

        backbone = nn.Sequential(nn.Linear(10, 4), GELUActivation())
        report = report_of(fitted(rows, feature_extractor=backbone), rows)
        assert report.versions["transformers"] == __version__
        assert f"| transformers | {__version__} |" in report.to_markdown()
        assert "transformers" not in report_of(fitted(rows), rows).versions
        assert list(report.versions)[:2] == ["skfairft", "Python"]
