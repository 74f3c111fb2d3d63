"""No control, no reversal of direction and nothing without width reaches who looks at an output."""

import re
import sys
import warnings
from unicodedata import category
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from flat import flat
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from torch import nn

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessTradeoffDisplay,
    FairnessWarning,
    FeatureScatterDisplay,
    FisherImportanceDisplay,
    GroupRatesDisplay,
    compress,
    compression_report,
    fairness_path,
    model_report,
)
from skfairft.datasets import make_biased_classification
from skfairft.inputs.unseen import escaped
from skfairft.inputs.words import group_name, named, one_line, shown
from skfairft.metrics import fairness_report
from skfairft.report._figures import draw
from skfairft.summary import summarize

UNSEEN = [
    char
    for char in map(chr, range(sys.maxunicode + 1))
    if category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
]
NO_CHARACTERS = ["\ufdd0", "\ufffe", "\uffff", "\U0010ffff"]

# Of each class one: NUL, ESC, BEL, line breaks, DEL, a control above 127, directions, no width,
# a separator of lines, no character. (pandas holds no half of a pair: one is in the title.)
GROUPS = [
    "a\x00\x1b[31m\x07b",
    "\u202eab\u2066\u061c",
    "a\r\n\x7f\x9b\u2028b",
    "\u200bab\uffff",
]
CLASSES = ["no\u200f\x1b", "yes\x00\u202e"]
TITLE = "A\x00 \u202etitle\x1b\ud800"
COLUMN, FEATURE = "se\x1b\u202ex", "hei\x00ght\u200b"

# What is meant to be seen, of which every character has its place.
LEGIT = [
    "é ñ Ångström ﬁ",
    "日本語 ｶﾅ 한국어 葛\U000e0100",
    "שלום عربى",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 CD\u200c\u0647\u0627",  # Persian
    "\u0915\u094d\u200d\u0937 \u0d9a\u0dca\u200d\u0dbb \u0d28\u0d4d\u200d",  # consonants joined
    "👩\u200d🔬 👩🏽\u200d🚀 ❤\ufe0f\u200d🔥 🏳\ufe0f\u200d🌈 1\ufe0f\u20e3",
    "🏴\u200d☠\ufe0f 👨\u200d👩\u200d👧",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # England
    r"C:\new \frac{1}{2} a\b \x \u12 \X1B",
    "<b> & | ` * _ $ / ' \" \N{NO-BREAK SPACE}\u3000",
    "",
]


def unseen_in(text, *, but=""):
    return sorted(set(text) & {*UNSEEN, *NO_CHARACTERS} - set(but))


def read(text):
    """Return the name that was written so: the inverse of `one_line`, by hand."""
    found, at = "", 0
    for run in re.finditer(r"(\\+)(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})", text):
        found += text[at : run.start()] + "\\" * (len(run[1]) // 2)
        found += chr(int(run[2][1:], 16)) if len(run[1]) % 2 else run[2]
        at = run.end()
    return found + text[at:]


class TestWords:
    @pytest.mark.parametrize("legit", LEGIT)
    def test_what_is_seen_stays_as_it_is(self, legit):
        assert one_line(legit) == escaped(legit) == legit

    def test_every_character_of_these_classes_is_written_out(self):
        for char in [*UNSEEN, *NO_CHARACTERS]:
            text = one_line(f"a{char}b")
            assert text.isascii()
            assert text.encode().decode("unicode_escape") == f"a{char}b"

    @pytest.mark.parametrize("joiner", ["\u200c", "\u200d"])
    @pytest.mark.parametrize(
        "around", ["{}", "a{}b", "{}a", "é{}è", "日{}本", "👩{}", "👩{}b", "a{0}{0}\u0647"]
    )
    def test_joiners_that_join_nothing_are_written_out(self, joiner, around):
        assert unseen_in(one_line(around.format(joiner))) == []

    def test_letters_without_width_are_kept_in_flags_alone(self):
        hidden = "".join(chr(0xE0000 + ord(c)) for c in "ignore all that was said")
        assert unseen_in(one_line(f"f{hidden}")) == []
        assert unseen_in(one_line(f"\U0001f3f4{hidden}\U000e007f")) == []

    @given(st.text(alphabet="\\x1bu20e \x1b\u202e\n\u200dé", max_size=12))
    def test_two_names_are_never_one_text(self, name):
        assert read(one_line(name)) == name

    @given(st.text())
    def test_any_text_is_one_line_and_can_be_read_back(self, name):
        text = one_line(name)
        assert len(text.splitlines()) <= 1
        assert read(text) == name
        assert unseen_in(text, but="\u200c\u200d") == [] or "\U0001f3f4" in text

    def test_control_without_doubling_two_names_would_be_one(self):
        assert escaped("a\x1b") == escaped(r"a\x1b")
        assert one_line("a\x1b") != one_line(r"a\x1b")

    def test_every_door_is_that_one(self):
        for name in GROUPS:
            assert group_name(name) == named([name]) == one_line(name)
            assert group_name((name, 1)) == f"{one_line(name)} / 1"

    def test_a_repr_of_anothers_own_is_escaped(self):
        class Odd:
            def __repr__(self):
                return "<\x1b\u202e>"

        assert shown(Odd()) == r"<\x1b\u202e>"
        assert shown("\x1b") == repr("\x1b")


@pytest.fixture(scope="module")
def rows():
    X, y, s = make_biased_classification(600, n_groups=4, disparity=0.4, random_state=0)
    X = pd.DataFrame(X, columns=[FEATURE, *(f"b{j}" for j in range(X.shape[1] - 1))])
    names = np.array(GROUPS, dtype=object)
    return X, np.array(CLASSES, dtype=object)[y], pd.Series(names[s], name=COLUMN)


@pytest.fixture(scope="module")
def clf(rows):
    X, y, s = rows
    return FairLowRankHeadClassifier(**flat(random_state=0, rank=1)).fit(X, y, sensitive_features=s)


@pytest.fixture(scope="module")
def report(clf, rows):
    X, y, s = rows
    keep = (s != GROUPS[0]) | (y == CLASSES[0])  # a rate that is undefined, and is spoken of
    with pytest.warns(FairnessWarning, match="undefined") as caught:
        made = model_report(
            clf,
            X[keep],
            y[keep],
            sensitive_features=s[keep],
            random_state=0,
            n_boot=0,
            title=TITLE,
            date="to\u2066day",
        )
    assert unseen_in("".join(str(each.message) for each in caught)) == []
    return made


def texts_of(display):
    return [each.get_text() for each in display.figure_.findobj(Text)]


class TestOutputs:
    def test_the_report_in_every_form(self, report, tmp_path):
        report.save(tmp_path / "report.html")
        saved = (tmp_path / "report.html").read_text(encoding="utf-8")
        card = report.to_card(intended_use="free\x1b\u202e", figures=tmp_path)
        forms = {
            "page": report.to_html(),
            "saved": saved,
            "notebook": report._repr_html_(),
            "card": card.render(),
            "markdown": report.to_markdown(),
            "repr": repr(report),
            "caveats": "\n".join(f"{c.topic} {c.text} {c.details}" for c in report.caveats),
            "tables": str(report.fairness),
            "tables in HTML": report.fairness.to_html(),
            "tables in Markdown": report.fairness.to_markdown(),
            "notes": "\n".join(report.fairness.notes),
            "summary": str(report.summary),
        }
        for name, text in forms.items():
            assert unseen_in(text, but="\n") == [], name
            # Control: the names are there, so that there was something to write out.
            assert name == "repr" or "x1b" in text, name

    def test_data_are_exact(self, report, clf):
        assert clf.groups_.tolist() == sorted(GROUPS)
        assert report.fairness.by_group.index.tolist() == sorted(GROUPS)
        assert report.fairness.by_group.index.name == COLUMN
        assert set(report.fairness.to_frame()["group"].dropna()) == set(GROUPS)
        assert report.counts.columns.tolist() == CLASSES
        assert report.summary.groups == tuple(sorted(GROUPS))
        assert report.features[0] == FEATURE
        assert report.title == TITLE

    def test_every_group_has_a_text_of_its_own(self, report):
        page = report.to_html()
        for name in GROUPS:
            assert page.count(f">{one_line(name)}<") >= 2

    def test_figures_are_files_of_xml(self, report):
        for figure in draw(report).values():
            text = figure.data.decode()
            ElementTree.fromstring(text)
            assert unseen_in(text, but="\n") == []

    def test_intersections_and_several_classes(self, rows):
        X, y, s = rows
        groups = pd.DataFrame({COLUMN: s, "\u202ab": y})
        labels = np.array(["p\x00", "q\x1b", "r\u202e"], dtype=object)[np.arange(len(y)) % 3]
        clf = FairLowRankHeadClassifier(**flat(random_state=0))
        clf.fit(X, labels, sensitive_features=groups)
        report = model_report(clf, X, labels, sensitive_features=groups, n_boot=0)
        for text in (report.to_html(), report.to_markdown(), str(report.fairness)):
            assert unseen_in(text, but="\n") == []
            assert "x1b[31m" in text
            assert "x1b, " in text or "x1b]" in text

    def test_the_estimators_box(self, clf):
        assert unseen_in(clf._repr_html_(), but="\n") == []
        assert unseen_in(str(summarize(clf)) + repr(summarize(clf)), but="\n") == []

    def test_displays(self, clf, rows):
        X, y, s = rows
        predicted = clf.predict(X)
        odd = "peer\x1b\u202e"
        drawn = [
            GroupRatesDisplay.from_estimator(clf, X, y, sensitive_features=s),
            GroupRatesDisplay.from_predictions(y, predicted, sensitive_features=s, metrics=["tpr"]),
            FisherImportanceDisplay.from_estimator(clf),
            FisherImportanceDisplay(
                group_importance=np.ones((2, 3)),
                importance=np.ones(3),
                groups=GROUPS[:2],
                importance_name=odd,
            ).plot(),
            FeatureScatterDisplay.from_estimator(clf, X, sensitive_features=s, y=y),
            FairnessTradeoffDisplay.from_predictions(y, {odd: predicted}, sensitive_features=s),
            FairnessTradeoffDisplay(
                names=[odd], error=[1.0], disparity=[0.1], error_name=odd, disparity_name=odd
            ).plot(),
        ]
        for display in drawn:
            texts = texts_of(display)
            assert unseen_in("".join(texts), but="\n") == []
            assert any(r"\x" in text or r"\u" in text for text in texts)

    @pytest.mark.slow
    def test_peers_of_a_path(self, rows):
        X, y, s = rows
        clf = FairLowRankHeadClassifier(
            constraint="demographic_parity", solver="plug_in", random_state=0
        )
        path = fairness_path(clf, X, y, sensitive_features=s, weights=3)
        report = model_report(
            path.classifiers[0],
            X,
            y,
            sensitive_features=s,
            n_boot=0,
            path=path,
            peers={"theirs\x1b\u202e": (20.0, 0.1)},
        )
        assert unseen_in(report.to_html(), but="\n") == []
        assert unseen_in(draw(report)["tradeoff"].data.decode(), but="\n") == []
        assert unseen_in(repr(path)) == []

    def test_what_compression_changed(self):
        model, X = nn.Linear(20, 10), torch.eye(20).repeat(20, 1)
        s = np.array(GROUPS[:2], dtype=object)[np.arange(400) % 2]
        small = compress(model, X, sensitive_features=s, rank=5)
        found = compression_report(model, small, X, sensitive_features=s, loss="softmax")
        for text in (str(found), repr(found)):
            assert unseen_in(text, but="\n") == []
            assert one_line(GROUPS[0]) in text
        assert found.by_group.index.tolist() == [*sorted(GROUPS[:2]), "overall"]
        assert found.worst in GROUPS

    def test_errors_and_warnings(self, clf, rows):
        X, y, s = rows
        said = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fairness_report(y, y, sensitive_features=[GROUPS[0]] * len(y), n_boot=0)
            model_report(clf, X, y, sensitive_features=s + "\x1b", n_boot=0)
            said += [str(each.message) for each in caught]
        for change in ({"y": ["\x1b\u202e"] * len(y)}, {"y": [CLASSES[0]] * len(y)}):
            with pytest.raises(ValueError, match="y holds") as raised:
                model_report(**{"estimator": clf, "X": X, "y": y, "sensitive_features": s} | change)
            said.append(str(raised.value))
        for text in said:
            assert unseen_in(text) == []
            assert r"\x" in text
