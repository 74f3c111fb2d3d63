"""Every form of a report, with each of its parameters at each value that it may have."""

import datetime
import re
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from flat import flat
from torch import nn

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    fairness_path,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.report import _card, _figures, _page


@pytest.fixture(scope="module")
def rows():
    return make_biased_classification(600, n_groups=3, disparity=0.4, random_state=0)


def fitted(rows, *, groups=True, **params):
    X, y, s = rows
    clf = FairLowRankHeadClassifier(**flat(random_state=0, **params))
    return clf.fit(X, y, sensitive_features=s if groups else None)


def report_of(estimator, rows, **more):
    X, y, s = rows
    return model_report(estimator, X, y, sensitive_features=s, **{"n_boot": 0, **more})


@pytest.fixture(scope="module")
def path(rows):
    X, y, s = rows
    clf = FairLowRankHeadClassifier(
        constraint="demographic_parity", solver="plug_in", random_state=0
    )
    return fairness_path(clf, X, y, sensitive_features=s, weights=3)


@pytest.fixture(scope="module")
def clf(rows):
    return fitted(rows)


FORMS = {
    "page": lambda report, folder: report.to_html(),
    "frame": lambda report, folder: report._repr_html_(),
    "file": lambda report, folder: report.save(folder / "report.html"),
    "markdown": lambda report, folder: report.to_markdown(license=None, citation=""),
    "card": lambda report, folder: report.to_card().render(),
    "card with figures": lambda report, folder: report.to_card(figures=folder).render(),
    "saved card": lambda report, folder: report.to_card(figures=folder).save(folder / "card.md"),
    "repr": lambda report, folder: repr(report),
    "tables": lambda report, folder: str(report.fairness) + report.fairness.to_html(),
    "tables in Markdown": lambda report, folder: report.fairness.to_markdown(),
    "caveats": lambda report, folder: "".join(each.text for each in report.caveats),
}


def written(report, folder):
    """Return the text of each form."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        once = cache(_figures.draw)  # drawing takes most of the time
        for module in (_page, _card):
            patch.setattr(module, "draw", once)
        found = {name: form(report, folder) for name, form in FORMS.items()}
    found["file"] = (folder / "report.html").read_text(encoding="utf-8")
    found["saved card"] = (folder / "card.md").read_text(encoding="utf-8")
    return found


# Besides the defaults: of the report's own arguments every kind of value, and every kind of model.
ARGUMENTS = {
    "no title": {"title": None},
    "empty title": {"title": ""},
    "title of two lines": {"title": "one\ntwo | *three*"},
    "date": {"date": "2026-01-02"},
    "date that is one": {"date": datetime.date(2026, 1, 2)},
    "empty date": {"date": ""},
    "resamples": {"n_boot": 20, "random_state": 0},
    "level": {"confidence_level": 0.9},
    "weights": {"sample_weight": np.linspace(1.0, 2.0, 600)},
}

MODELS = {
    "no groups": {"groups": False},
    "rank": {"rank": 1},
    "uniform": {"importance": "uniform", "rank": 1},
    "covariance": {"importance": "covariance", "rank": 1},
    "votes": {"constraint": "demographic_parity", "fairness_weight": 0.5, "solver": "plug_in"},
    "bound": {"constraint": "demographic_parity", "difference_bound": 0.2, "solver": "plug_in"},
    "backbone": {"feature_extractor": nn.Linear(10, 4)},
}


def some(names, *quick):
    """Return parameters of which some run always, and the others in the slow run: they draw."""
    return [
        pytest.param(name, marks=[] if name in quick else pytest.mark.slow, id=str(name))
        for name in names
    ]


class TestForms:
    @pytest.mark.parametrize("name", some(ARGUMENTS, "no title"))
    def test_arguments(self, clf, rows, tmp_path, name):
        for form, text in written(report_of(clf, rows, **ARGUMENTS[name]), tmp_path / "f").items():
            assert not re.search(r"(?<!=)None(?! were computed)", text), form

    @pytest.mark.parametrize("name", some(MODELS, "bound"))
    def test_models(self, rows, tmp_path, name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FairnessWarning)  # of a fit without groups
            clf = fitted(rows, **MODELS[name])
        report = report_of(clf, rows)
        assert all(written(report, tmp_path / "f").values())

    @pytest.mark.parametrize("peers", some([None, {}, {"theirs": (20.0, 0.1)}, "frame"], "frame"))
    @pytest.mark.parametrize("own", some([True, False], True))
    @pytest.mark.slow
    def test_paths(self, clf, rows, path, tmp_path, own, peers):
        if peers == "frame":
            peers = pd.DataFrame({"name": ["a"], "error": [20.0], "difference": [0.1]})
        model = path.classifiers[0] if own else clf
        report = report_of(model, rows, path=path, peers=peers)
        assert (report.chosen is not None) == own
        for form, text in written(report, tmp_path / "f").items():
            assert text, form
            assert "More Information Needed" not in text

    @pytest.mark.slow
    def test_told_groups(self, rows, tmp_path):
        clf = fitted(rows, **MODELS["votes"])
        report = report_of(clf, rows, known_groups=True)
        assert all(written(report, tmp_path / "f").values())

    @pytest.mark.slow
    def test_groups_and_classes_of_any_kind(self, rows, tmp_path):
        X, y, s = rows
        for i, (labels, groups) in enumerate(
            [
                (y, pd.DataFrame({"a": s, "b": y == 1})),
                (y == 1, s == 0),
                (np.arange(600) % 3, np.zeros(600)),
                (np.array(["x", "y"])[y], s.astype(object)),
            ]
        ):
            of = (X, labels, groups)
            clf = fitted((X, labels, s))
            with warnings.catch_warnings():
                # Of groups that were not in the fit, or of one alone.
                warnings.simplefilter("ignore", FairnessWarning)
                report = report_of(clf, of)
            assert all(written(report, tmp_path / str(i)).values())

    def test_without_matplotlib(self, clf, rows, tmp_path, monkeypatch):
        monkeypatch.setattr(_page, "have_matplotlib", lambda: False)
        monkeypatch.setattr(_card, "have_matplotlib", lambda: False)
        report = report_of(clf, rows, title=None)
        assert report.to_html()
        assert report._repr_html_()
        assert report.to_card().render()
        with pytest.raises(ImportError, match="leave figures=None"):
            report.to_card(figures=tmp_path)

    def test_figures_that_are_too_high(self, clf, rows, tmp_path, monkeypatch):
        monkeypatch.setattr(_figures, "_HIGHEST", 0.0)
        texts = written(report_of(clf, rows), tmp_path / "f")
        assert "![" not in texts["card with figures"]
        assert "Not drawn" in texts["page"]

    @pytest.mark.slow
    @pytest.mark.parametrize("title", some([None, ""], None))
    def test_without_a_title_it_is_called_what_it_is(self, clf, rows, title, tmp_path):
        report = report_of(clf, rows, title=title)
        default = report_of(clf, rows)
        assert report.title == title
        for form in ("page", "frame", "card"):
            assert FORMS[form](report, tmp_path) == FORMS[form](default, tmp_path)
        assert FORMS["page"](report, tmp_path) != replace(report, title="Mine").to_html()

    @pytest.mark.parametrize("value", [3, b"text", ["text"]])
    def test_what_is_no_text_is_refused(self, clf, rows, value):
        with pytest.raises(TypeError, match=r"license=.*; expected Markdown, a str, or None"):
            report_of(clf, rows).to_card(license=value)

    def test_lines_and_tabs_of_markdown_are_its_authors(self, clf, rows):
        mine = "One.\n\n* two\\*\n\n\tcode `\\x1b`"
        assert mine in report_of(clf, rows).to_markdown(ethics=mine)
