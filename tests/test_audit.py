"""Audits of predictions: bounds, files, what changed since, and the command line."""

import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from skfairft import FairLowRankHeadClassifier, load, model_report
from skfairft.cli import main
from skfairft.datasets import make_biased_classification
from skfairft.metrics import FairnessReport, fairness_report, load_report


def rows(n=3000, *, seed=0, yes=0.6, shares=(0.5, 0.3, 0.2), base=(0.3, 0.4, 0.5), classes=2):
    """Labels, decisions and groups; ``yes`` is how sure a positive is to be found."""
    rng = np.random.default_rng(seed)
    s = rng.choice(len(shares), n, p=shares)
    y = (rng.random(n) < np.take(base, s)) * rng.integers(1, classes, n)
    pred = np.where(rng.random(n) < yes, y, rng.integers(0, classes, n))
    return y, pred, np.array(["a", "b", "c"])[s]


def report_of(n=3000, *, columns=None, **given):
    settings = {name: given.pop(name) for name in ("constraint", "difference_bound", "ratio_bound",
                "groups", "n_boot", "random_state", "weights") if name in given}  # fmt: skip
    y, pred, s = rows(n, **given)
    if columns == "two":
        s = pd.DataFrame({"race": s, "sex": np.random.default_rng(n).choice(["f", "m"], n)})
    w = settings.pop("weights", None)
    w = None if w is None else np.random.default_rng(1).exponential(size=n)
    return fairness_report(
        y, pred, sensitive_features=s, sample_weight=w, **{"n_boot": 0, **settings}
    )


class TestBounds:
    @pytest.mark.parametrize(("bound", "holds"), [(0.0, "no"), (0.99, "yes"), ("value", "unclear")])
    @pytest.mark.parametrize("form", ["difference_bound", "ratio_bound"])
    def test_say_whether_the_interval_is_within(self, form, bound, holds):
        metric = f"demographic_parity_{'ratio' if form == 'ratio_bound' else 'distance'}"
        value = report_of(ratio_bound=0.5, constraint="demographic_parity").headline["value"]
        asked = value[metric] if bound == "value" else bound
        if form == "ratio_bound" and bound != "value":
            asked = 1.0 if bound == 0.0 else 1e-3
        report = report_of(constraint="demographic_parity", **{form: float(asked)})
        (row,) = report.bounds.to_dict("records")
        assert row["holds"] == holds
        np.testing.assert_array_equal(
            [row[each] for each in ("value", "low", "high")], report.headline.loc[metric]
        )

    def test_of_several_constraints_each_has_its_own(self):
        report = report_of(
            constraint=["demographic_parity", "worst_group"],
            difference_bound=[None, 0.9],
            ratio_bound=[0.1, None],
        )
        assert report.bounds[["constraint", "form", "bound", "holds"]].to_numpy().tolist() == [
            ["demographic_parity", "ratio", 0.1, "yes"],
            ["worst_group", "largest rate", 0.9, "yes"],
        ]
        assert "demographic_parity_ratio >= 0.1" in str(report)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"difference_bound": 0.1}, "constraint is None; say what"),
            ({"constraint": "demographic_parity", "ratio_bound": 80}, r"expected a number in \(0"),
            ({"constraint": "worst_group", "ratio_bound": 0.8}, "set difference_bound"),
            ({"constraint": ["demographic_parity"] * 2, "difference_bound": [0.1]}, "a list of 2"),
        ],
    )
    def test_that_mean_nothing_are_refused(self, given, words):
        with pytest.raises(ValueError, match=words):
            report_of(**given)

    def test_of_a_model_are_those_of_its_report(self):
        X, y, s = make_biased_classification(n_samples=1500, disparity=0.4, random_state=0)
        clf = FairLowRankHeadClassifier(
            constraint="demographic_parity", difference_bound=0.1, solver="plug_in", random_state=0
        ).fit(X[:1000], y[:1000], sensitive_features=s[:1000])
        report = model_report(clf, X[1000:], y[1000:], sensitive_features=s[1000:], n_boot=0)
        asked = report.fairness.bounds
        assert asked[["constraint", "form", "bound"]].to_numpy().tolist() == [
            ["demographic_parity", "difference", 0.1]
        ]
        change = report.compare(report)
        assert change.moved.empty
        assert change.bounds["holds_then"].tolist() == asked["holds"].tolist()


class TestFiles:
    @pytest.mark.parametrize(
        "given",
        [
            {"n_boot": 50, "random_state": 0},
            {"columns": "two", "groups": "columns", "constraint": "error_rate_parity",
             "difference_bound": Fraction(1, 5)},
            {"columns": "two", "weights": True},
            {"classes": 3, "constraint": "demographic_parity", "ratio_bound": 0.8},
        ],
        ids=["resamples", "columns", "weights", "classes"],
    )  # fmt: skip
    def test_bring_every_number_back(self, tmp_path, given):
        report = report_of(**given)
        report.save(tmp_path / "report.json")
        again = load_report(tmp_path / "report.json")
        assert type(again) is FairnessReport
        pd.testing.assert_frame_equal(again.to_frame(), report.to_frame(), check_exact=True)
        pd.testing.assert_frame_equal(again.by_group, report.by_group)
        assert again.to_html() == report.to_html()
        assert again.to_json() == report.to_json()
        assert again.compare(report).table["change"].eq(0.0).all()

    def test_hold_labels_and_groups_as_they_are(self, tmp_path):
        y, pred, s = rows(300)
        labels = np.array([pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-02")], dtype=object)
        groups = {"a": pd.Timedelta("3D").to_pytimedelta(), "b": (2**60) + 1, "c": "c|\n<b>"}
        s = np.array([groups[each] for each in s], dtype=object)
        report = fairness_report(labels[y], labels[pred], sensitive_features=s, n_boot=0)
        report.save(tmp_path / "x.json")
        again = load_report(tmp_path / "x.json")
        assert again.by_group.index.tolist() == report.by_group.index.tolist()
        assert again.positive == labels[1]

    def test_are_json_for_any_reader(self):
        def refuse(constant):
            raise AssertionError(constant)

        report = report_of()
        written = json.loads(report.to_json(), parse_constant=refuse)
        found = {(each["scope"], each["metric"]): each["value"] for each in written["numbers"]
                 if each["group"] is None}  # fmt: skip
        assert (
            found["headline", "demographic_parity_distance"]
            == (report.headline.loc["demographic_parity_distance", "value"])
        )
        assert found["overall", "count"] == 3000

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "no JSON"),
            ("[1, 2]", "no JSON that says its format"),
            ('{"format": ["other", 1]}', "its format is 'other'"),
            ('{"format": ["skfairft fairness report", 2]}', "version 2"),
            ('{"format": ["skfairft fairness report", 1]}', "does not fit together"),
            ("[" * 100_000, "no JSON"),
        ],
    )
    def test_of_something_else_are_refused(self, tmp_path, content, words):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ValueError, match=words):
            load_report(tmp_path / "x.json")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("rows", [[1]]),
            ("mass", None),
            ("groups", ["a"]),
            ("between", "both"),
            ("f1", {}),
            ("positives", [7, 9]),
            ("n_boot", float("inf")),
        ],
    )
    def test_whose_parts_do_not_fit_are_refused(self, tmp_path, name, value):
        written = json.loads(report_of().to_json()) | {name: value}
        (tmp_path / "x.json").write_text(json.dumps(written))
        with pytest.raises(ValueError, match="does not fit together"):
            load_report(tmp_path / "x.json")

    def test_are_of_the_kind_that_their_name_says(self, tmp_path):
        report = report_of()
        for ending, begins in ((".html", "<!DOCTYPE html>"), (".md", "# A & B"), (".json", "{")):
            report.save(tmp_path / f"x{ending}", title="A & B")
            assert (tmp_path / f"x{ending}").read_text().startswith(begins.replace("&", "&amp;"))
        with pytest.raises(ValueError, match=r"expected a name that ends in .html, .md or .json"):
            report.save(tmp_path / "x.pdf")


class TestCompare:
    def test_where_nothing_changed_hardly_anything_is_said_to_have_moved(self):
        moved = [
            len(report_of(seed=2 * i).compare(report_of(2000, seed=2 * i + 1)).moved) > 0
            for i in range(10)
        ]
        assert np.mean(moved) <= 0.05 + 3 * (0.05 * 0.95 / 10) ** 0.5

    @pytest.mark.slow
    def test_intervals_hold_the_true_change(self):
        # Rates of such rows: found positives have tpr = yes + (1 - yes) / 2.
        missed = 0
        for i in range(20):
            then, now = report_of(seed=2 * i, yes=0.6), report_of(seed=2 * i + 1, yes=0.5)
            table = now.compare(then).table.set_index(["scope", "group", "metric"]).sort_index()
            for name, true in (("tpr", -0.05), ("fpr", 0.05), ("error", 0.05), ("share", 0.0)):
                own = table.loc[("group", slice(None), name), :]
                missed += int(((own["low"] > true) | (own["high"] < true)).any())
        assert missed <= 0.05 * 20 + 3 * (0.05 * 0.95 * 20) ** 0.5  # of four, that hold together

    @pytest.mark.parametrize(
        ("given", "group", "metric"),
        [
            ({"yes": 0.3}, "a", "tpr"),
            ({"shares": (0.3, 0.5, 0.2)}, "b", "share"),
            ({"base": (0.3, 0.4, 0.8)}, "c", "base_rate"),
        ],
    )
    def test_what_changed_moved(self, given, group, metric):
        change = report_of(seed=1, **given).compare(report_of())
        moved = change.moved[change.moved["group"] == group]
        row = moved[moved["metric"] == metric].iloc[0]
        assert row["change"] == pytest.approx(row["now"] - row["then"])
        assert row["low"] <= row["change"] <= row["high"]

    def test_limits_are_newcombes(self):
        from scipy.stats import norm

        then, now = report_of(), report_of(1000, seed=1, yes=0.4)
        change = now.compare(then)
        row = change.table[(change.table["metric"] == "error") & (change.table["group"] == "b")]
        z = norm.ppf(1 - 0.025 / len(change.table))
        ends = []
        for report in (then, now):
            n, p = report.by_group.loc["b", ["count", "error"]]
            ends.append([p, *np.sort(np.roots([1 + z**2 / n, -(2 * p + z**2 / n), p**2]).real)])
        (a, a_low, a_high), (b, b_low, b_high) = ends
        low = b - a - ((b - b_low) ** 2 + (a_high - a) ** 2) ** 0.5
        high = b - a + ((b_high - b) ** 2 + (a - a_low) ** 2) ** 0.5
        np.testing.assert_allclose(row[["low", "high"]].to_numpy()[0], [low, high], rtol=1e-9)

    def test_weights_make_the_intervals_wider(self):
        plain, weighted = (
            report_of(weights=w).compare(report_of(seed=1, weights=w)).table for w in (None, True)
        )
        assert ((weighted["high"] - weighted["low"]) > (plain["high"] - plain["low"])).mean() > 0.8

    def test_groups_that_came_and_went_are_named(self):
        y, pred, s = rows()
        then = fairness_report(y, pred, sensitive_features=s, n_boot=0)
        now = fairness_report(y, pred, sensitive_features=np.where(s == "c", "d", s), n_boot=0)
        change = now.compare(then)
        assert (change.new_groups, change.gone_groups) == (("d",), ("c",))
        assert set(change.table["group"].dropna()) == {"a", "b"}
        for text in (str(change), change.to_markdown(), change.to_html()):
            assert "gone groups: c" in text

    def test_bounds_of_the_earlier_report_are_asked_again(self):
        then = report_of(constraint="demographic_parity", difference_bound=0.3)
        change = report_of(seed=1, base=(0.1, 0.5, 0.9)).compare(then)
        assert change.bounds[["holds_then", "holds_now"]].to_numpy().tolist() == [["yes", "no"]]
        assert "demographic_parity_distance <= 0.3" in str(change)

    def test_other_columns_classes_or_distances_are_refused(self):
        report = report_of()
        y, pred, s = rows()
        others = {
            "sensitive columns": report_of(columns="two"),
            "the positive class": fairness_report(
                y, pred, sensitive_features=s, n_boot=0, pos_label=0
            ),
            "distances between": report_of(groups="columns"),
        }
        for words, other in others.items():
            with pytest.raises(ValueError, match=words):
                report.compare(other)
        with pytest.raises(TypeError, match="expected a FairnessReport"):
            report.compare("january.json")

    def test_is_saved_as_page_and_text(self, tmp_path):
        change = report_of(seed=1, yes=0.3).compare(report_of())
        change.save(tmp_path / "x.html")
        change.save(tmp_path / "x.md", title="Then")
        assert "what moved" in (tmp_path / "x.html").read_text()
        assert (tmp_path / "x.md").read_text().startswith("# Then\n")
        with pytest.raises(ValueError, match=r"expected a name that ends in .html or .md"):
            change.save(tmp_path / "x.json")

    def test_groups_of_another_type_are_refused(self):
        y, pred, s = rows(300)
        codes = np.where(s == "a", 1, 2)
        then = fairness_report(y, pred, sensitive_features=codes, n_boot=0)
        now = fairness_report(y, pred, sensitive_features=codes.astype(str), n_boot=0)
        with pytest.raises(ValueError, match=r"the group 1 \(int\), this one '1' \(str\)"):
            now.compare(then)

    def test_a_bound_that_is_asked_for_twice_stays_two(self):
        asked = {"constraint": ["demographic_parity"] * 2, "difference_bound": [0.1, 0.1]}
        report = report_of(**asked)
        pd.testing.assert_frame_equal(
            report.compare(report).bounds[["constraint", "bound"]],
            report.bounds[["constraint", "bound"]],
        )


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        y, pred, s = rows(1000)
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(
            {"y": np.where(y, "yes", "no"), "p": np.where(pred, "yes", "no"), "race": s,
             "sex, at birth": rng.choice(["f", "m"], 1000), "w": rng.exponential(size=1000),
             "score": pred * 0.5 + rng.random(1000) / 2}
        )  # fmt: skip
        frame.to_csv("rows.csv", index=False)
        frame.to_csv("rows.tsv", index=False, sep="\t")
        frame.to_csv("rows.csv.gz", index=False)
        frame.to_parquet("rows.parquet")
        frame.to_feather("rows.feather")
        frame.to_json("rows.jsonl", orient="records", lines=True)
        return frame

    ALL = ("audit", "rows.csv", "--label", "y", "--prediction", "p", "--groups", "race")

    @pytest.mark.parametrize(
        "file",
        ["rows.csv", "rows.tsv", "rows.csv.gz", "rows.parquet", "rows.feather", "rows.jsonl"],
    )
    def test_prints_the_report_of_the_function(self, files, capsys, file):
        assert main([*self.ALL[:1], file, *self.ALL[2:]]) == 0
        expected = fairness_report(
            files["y"], files["p"], sensitive_features=files["race"], random_state=0
        )
        assert capsys.readouterr().out == f"{expected}\n"

    def test_every_option_reaches_it(self, files, capsys):
        options = [
            *("--groups", "sex, at birth", "--weight", "w", "--positive", "no"),
            *("--constraint", "error_rate_parity", "--difference-bound", "0.5"),
            *("--ratio-bound", "0.1", "--between", "columns", "--confidence-level", "0.9"),
            *("--resamples", "30", "--seed", "5"),
        ]
        assert main([*self.ALL, *options]) == 0
        expected = fairness_report(
            files["y"],
            files["p"],
            sensitive_features=files[["race", "sex, at birth"]],
            sample_weight=files["w"],
            pos_label="no",
            constraint="error_rate_parity",
            difference_bound=0.5,
            ratio_bound=0.1,
            groups="columns",
            confidence_level=0.9,
            n_boot=30,
            random_state=5,
        )
        assert capsys.readouterr().out == f"{expected}\n"

    def test_a_threshold_decides_scores(self, files, capsys):
        asked = [*self.ALL, "--threshold", "0.4", "--resamples", "0"]
        asked[asked.index("p")] = "score"
        assert main(asked) == 0
        decided = np.where(files["score"] >= 0.4, "yes", "no")
        expected = fairness_report(files["y"], decided, sensitive_features=files["race"], n_boot=0)
        assert capsys.readouterr().out == f"{expected}\n"

    def test_a_bound_that_does_not_hold_is_its_exit_status(self, files):
        bound = [*self.ALL, "--constraint", "demographic_parity", "--difference-bound"]
        assert main([*bound, "0.9"]) == 0
        assert main([*bound, "0.0"]) == 1
        # And so is that of an earlier report.
        assert main([*bound, "0.0", "--output", "then.json"]) == 1
        assert main([*self.ALL, "--compare", "then.json"]) == 1

    def test_writes_and_compares(self, files, capsys):
        main([*self.ALL, "--output", "then.json", "--output", "then.html", "--title", "My model"])
        with open("then.html") as page:
            assert "<h1>My model</h1>" in page.read()
        capsys.readouterr()
        assert main([*self.ALL, "--compare", "then.json"]) == 0
        assert "None of 26 numbers moved: 1,000 rows, and 1,000 earlier" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                ("race", "rase"),
                "there is no column 'rase'. Did you mean 'race'? The columns are: y",
            ),
            (("rows.csv", "no.csv"), "no.csv"),
            (("rows.csv", "rows.pdf"), "ends in none of .csv, .tsv"),
            (("p", "score"), "the positive label: --threshold 0.5"),
            (("p", "race"), "No prediction is one of the true labels: y_true holds ['no', 'yes']"),
        ],
    )
    def test_what_cannot_be_run_is_one_line(self, files, capsys, change, words):
        assert main([change[1] if each == change[0] else each for each in self.ALL]) == 2
        said = capsys.readouterr()
        assert words in said.err
        assert said.err.startswith("skfairft audit: error: ")
        assert said.err.count("\n") == 1
        assert said.out == ""

    def test_compares_with_a_file_before_it_is_written_over(self, files, capsys):
        main([*self.ALL, "--output", "audit.json"])
        files.assign(p="yes").to_csv("rows.csv", index=False)
        capsys.readouterr()
        assert main([*self.ALL, "--compare", "audit.json", "--output", "audit.json"]) == 0
        assert "None of" not in capsys.readouterr().out
        assert load_report("audit.json").overall["selection_rate"] == 1.0

    def test_a_positive_label_that_is_none_is_refused(self, files, capsys):
        asked = [*self.ALL, "--threshold", "0.4", "--positive", "maybe"]
        asked[asked.index("p")] = "score"
        assert main(asked) == 2
        assert "--positive=maybe is none of the labels ['no', 'yes']" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("audit --prediction p --output no/audit.html", "make 'no'"),
            ("audit --prediction p --output audit.pdf", "ends in none of .html, .md, .json"),
            ("path --output no/p.csv", "make 'no'"),
            ("path --output p.xlsx", "ends in none of .csv"),
            ("path --plot p.bmp", "ends in none of .png, .svg, .pdf"),
            ("path --plot p.png", "Plots need matplotlib"),
            ("path --save model", "give --difference-bound, too"),
        ],
    )
    def test_what_cannot_be_written_is_refused_first(
        self, files, capsys, monkeypatch, given, words
    ):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
        command, *others = given.split()
        # Of a file that is not there.
        assert main([command, "no.csv", "--label", "y", "--groups", "race", *others]) == 2
        assert words in capsys.readouterr().err

    def test_bounds_that_ask_for_nothing_are_refused(self, files, capsys):
        bound = [*self.ALL, "--constraint", "demographic_parity", "--difference-bound"]
        for given, words in (("5", "asks for nothing"), ("-0.1", "expected a number, 0 or more")):
            assert main([*bound, given]) == 2
            assert words in capsys.readouterr().err

    def test_a_bound_that_cannot_be_measured_is_not_kept(self, files):
        files.assign(y="no").to_csv("rows.csv", index=False)
        bound = ["--constraint", "true_positive_rate_parity", "--difference-bound", "0.5"]
        assert main([*self.ALL, *bound, "--positive", "yes"]) == 1

    def test_writes_what_moved(self, files):
        main([*self.ALL, "--output", "then.json"])
        assert main([*self.ALL, "--compare", "then.json", "--changes", "moved.html"]) == 0
        with open("moved.html") as page:
            assert "None of 26 numbers moved" in page.read()
        assert main([*self.ALL, "--changes", "moved.html"]) == 2

    @pytest.mark.parametrize(
        "labels", [pd.CategoricalDtype(["yes", "no"], ordered=True), {"no": -1, "yes": 0}, "uint64"]
    )
    def test_a_threshold_decides_for_the_label_that_the_report_takes(self, files, labels, capsys):
        """By the order of categories the last one, and else the larger one."""
        y, asked = files["y"], [*self.ALL, "--threshold", "0.5", "--output", "r.json"]
        if isinstance(labels, dict):
            y = y.map(labels)
        elif labels == "uint64":
            y = y.map({"no": 3, "yes": 2**63 + 5}).astype("uint64")
        else:
            y = y.astype(labels)
        last = y.cat.categories[-1] if isinstance(y.dtype, pd.CategoricalDtype) else y.max()
        files.assign(y=y, score=(y == last) * 0.8 + 0.1).to_parquet("rows.parquet")
        asked[asked.index("p")], asked[1] = "score", "rows.parquet"
        assert main(asked) == 0
        report = load_report("r.json")
        assert report.overall["error"] == 0.0
        assert report.positive == last

    def test_a_positive_label_is_known_by_its_number_or_word(self, files):
        for y, text in (
            (files["y"] == "yes", "true"),
            (files["y"] == "yes", "1"),
            ((files["y"] == "yes").astype(float), "1"),
        ):
            files.assign(y=y, p=y).to_parquet("rows.parquet")
            asked = ["audit", "rows.parquet", *self.ALL[2:], "--positive", text]
            assert main([*asked, "--output", "r.json"]) == 0
            assert load_report("r.json").positive == 1

    @pytest.mark.parametrize(
        ("no", "yes", "threshold"), [("no", "yes", False), (0, 1, False), (False, True, True)]
    )
    def test_rows_without_a_positive_label_compare_with_those_that_have_some(
        self, files, capsys, no, yes, threshold
    ):
        """A month in which all is "no" is none in which "no" is what is wanted."""
        asked = ["audit", "rows.parquet", *self.ALL[2:], "--positive", str(yes)]
        if threshold:
            asked[asked.index("p")] = "score"
            asked += ["--threshold", "2"]
        for y in (np.where(files["y"] == "yes", yes, no), np.array([no] * len(files))):
            files.assign(y=y, p=y).to_parquet("rows.parquet")
            capsys.readouterr()
            more = ["--output", "r.json"] if yes in y.tolist() else ["--compare", "r.json"]
            assert main([*asked, *more]) == 0
        out, error = capsys.readouterr()
        assert "all rows  base_rate" in out
        assert f"No row has the label pos_label={yes!r}" in error

    @pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
    def test_groups_are_the_texts_of_the_file(self, files, ending):
        files = files.assign(race=np.where(files["race"] == "a", "01", "1"))
        if ending == "jsonl":
            files.to_json("codes.jsonl", orient="records", lines=True)
        else:
            files.to_csv(f"codes.{ending}", index=False, sep="," if ending == "csv" else "\t")
        assert main(["audit", f"codes.{ending}", *self.ALL[2:], "--output", "r.json"]) == 0
        assert load_report("r.json").by_group.index.tolist() == ["01", "1"]

    def test_rows_that_are_longer_than_the_header_shift_no_column(self, files):
        text = files[["y", "p", "race"]].to_csv(index=False).replace("\n", ",\n")
        with open("rows.csv", "w") as file:
            file.write(text.replace(",\n", "\n", 1))
        assert main([*self.ALL, "--output", "r.json"]) == 0
        assert load_report("r.json").by_group.index.tolist() == sorted(files["race"].unique())

    def test_fields_beyond_the_header_are_refused(self, files, capsys):
        text = files[["y", "p", "race"]].to_csv(index=False).replace("\n", ",x\n")
        with open("rows.csv", "w") as file:
            file.write(text.replace(",x\n", "\n", 1))
        assert main(self.ALL) == 2
        assert "'rows.csv' cannot be read: Length of header" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["audit --prediction p --threshold 0.5", "path"])
    def test_files_without_rows_and_broken_ones_are_refused(self, files, capsys, command):
        files[:0].to_csv("rows.csv", index=False)
        with open("rows.csv.gz", "rb") as file:
            content = file.read()
        with open("rows.csv.gz", "wb") as file:
            file.write(content[: len(content) // 2])
        for name, words in (("rows.csv", "has 0 rows"), ("rows.csv.gz", "cannot be read")):
            first, *others = command.split()
            assert main([first, name, "--label", "y", "--groups", "race", *others]) == 2
            assert words in capsys.readouterr().err

    def test_a_threshold_that_decides_all_alike_is_told(self, files, capsys):
        asked = [*self.ALL, "--threshold", "50"]
        asked[asked.index("p")] = "score"
        assert main(asked) == 0
        assert "decides all rows alike: the scores are from 0." in capsys.readouterr().err

    def test_columns_parted_by_something_else_are_told(self, files, capsys):
        files[["y", "p", "race"]].to_csv("rows.csv", index=False, sep=";")
        assert main(self.ALL) == 2
        assert "Its columns are parted by ';'; expected commas." in capsys.readouterr().err

    def test_a_feature_of_texts_is_named(self, files, capsys):
        assert main(["path", "rows.csv", "--label", "y", "--groups", "race"]) == 2
        assert "column 'p' holds '" in capsys.readouterr().err

    def test_a_reader_that_has_read_enough_is_no_error(self, files):
        start = f"{sys.executable} -m skfairft {' '.join(self.ALL)} --resamples 0"
        done = subprocess.run(
            f"{start} | head -c 1; exit ${{PIPESTATUS[0]}}",
            shell=True, executable="/bin/bash", capture_output=True, text=True,
        )  # fmt: skip
        assert done.stderr == ""
        assert done.returncode == 0

    def test_missing_groups_are_an_error(self, files, capsys):
        files.loc[3, "race"] = None
        files.to_csv("rows.csv", index=False)
        assert main(self.ALL) == 2
        assert "missing" in capsys.readouterr().err

    def test_traces_a_path_and_saves_what_is_chosen(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        X, y, s = make_biased_classification(n_samples=600, disparity=0.4, random_state=0)
        frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
        frame.assign(y=y, s=s).to_csv("rows.csv", index=False)
        asked = "path rows.csv --label y --groups s --weights 5 --difference-bound 0.1"
        written = ["--output", "p.csv", "--plot", "p.png", "--save", "model"]
        assert main([*asked.split(), *written]) == 0
        assert "chosen: fairness_weight" in capsys.readouterr().out
        table = pd.read_csv("p.csv")
        assert (tmp_path / "p.png").stat().st_size > 10_000
        clf = load("model")
        at = table[(table["fairness_weight"] == clf.fairness_weight_)]
        assert (at["difference"] <= 0.1).any()
        # What is not within the bound is not written, nor is what was there written over.
        before = (tmp_path / "rows.csv").read_bytes()
        strict = [*asked.split()[:-1], "1e-9", "--confidence", "0.99", "--save", "strict"]
        assert main(strict) == 1
        assert "nearest: fairness_weight" in capsys.readouterr().out
        assert not (tmp_path / "strict").exists()
        assert main([*asked.split(), "--output", "./rows.csv"]) == 2
        assert (tmp_path / "rows.csv").read_bytes() == before

    def test_is_installed_as_a_program(self):
        done = subprocess.run(
            [sys.executable, "-m", "skfairft", "--version"], capture_output=True, text=True
        )
        assert done.returncode == 0
        assert done.stdout.startswith("skfairft ")
