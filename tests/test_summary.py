import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import sklearn
import torch
from fairlearn.postprocessing import ThresholdOptimizer
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfairft import (
    FairLowRankHeadClassifier,
    FairnessWarning,
    FineTune,
    FrozenFeatureExtractor,
    fairness_path,
)
from skfairft.datasets import make_biased_classification
from skfairft.lowrank.importance import IMPORTANCES
from skfairft.summary import features_input, final_classifier, summarize
from skfairft.summary.weighting import WEIGHTINGS

HIDDEN = {"head": nn.Sequential(nn.Linear(64, 64), nn.ReLU())}
VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
HAS_TABLES = VERSION >= (1, 9)  # of parameters and fitted attributes; before there was text


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(n_samples=240, disparity=0.3, random_state=0)


@pytest.fixture(scope="module")
def wide():
    """240 rows of 64 features, as wide as the layers of README's table."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 64))
    return X, (X[:, 0] > 0).astype(int), rng.integers(0, 2, 240)


def fitted(data, *args, **params):
    X, y, s = data
    params = {"solver": FineTune(max_epochs=0), "random_state": 0} | params
    return FairLowRankHeadClassifier(*args, **params).fit(X, y, sensitive_features=s)


def backbone():
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 6))


def requesting(*args, **params):
    clf = FairLowRankHeadClassifier(*args, solver=FineTune(max_epochs=0), random_state=0, **params)
    return clf.set_fit_request(sensitive_features=True)


# Parameters.


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({}, 130),
        ({"rank": 1}, 68),
        ({"rank": 3, "solver": "plug_in"}, 208),
        (HIDDEN, 4290),
        (HIDDEN | {"rank": 2}, 450),
    ],
)
def test_parameters_are_those_of_readmes_table(wide, params, count):
    summary = summarize(fitted(wide, **params))
    assert summary.head_parameters == count
    assert f"{count:,} parameters" in summary.describe_head()


@pytest.mark.parametrize("params", [{}, {"solver": "plug_in"}, HIDDEN], ids=str)
@pytest.mark.parametrize("rank", [1, 2, 64])
@pytest.mark.filterwarnings("ignore:rank=64 is above")
def test_a_full_head_has_the_parameters_of_the_fit_without_a_rank(wide, params, rank):
    clf, full = fitted(wide, rank=rank, **params), fitted(wide, **params)
    summary, of_full = summarize(clf), summarize(full)
    counts = [sum(p.numel() for p in each.head_.parameters()) for each in (clf, full)]
    assert [summary.head_parameters, summary.full_head_parameters] == counts
    assert of_full.head_parameters == of_full.full_head_parameters == counts[1]
    assert summary.share_saved == pytest.approx(1 - counts[0] / counts[1])
    assert of_full.share_saved == 0.0
    assert summary.rank == clf.rank_ <= summary.full_rank == full.rank_
    d, k = summary.widths[:2]
    assert counts[1] - counts[0] == d * k - (d + k) * clf.rank_


def test_a_small_head_saves_little_and_can_cost(data):
    saves, costs = (summarize(fitted(data, rank=rank)) for rank in (1, 2))
    assert saves.share_saved == pytest.approx(8 / 22)  # 14 in place of 10 x 2 and two biases
    assert "14 parameters, 36.4 % fewer than 22 at full rank" in str(saves)
    assert costs.share_saved == pytest.approx(-4 / 22)
    assert "26 parameters, 18.2 % more than 22 at full rank" in str(costs)


def test_votes_of_cells_are_told_from_layers(wide):
    linear = summarize(fitted(wide, solver="plug_in", rank=2))
    hidden = summarize(fitted(wide, solver="plug_in", rank=2, **HIDDEN))
    assert (linear.widths, linear.cells) == ((64, 4), 4)
    assert (hidden.widths, hidden.cells) == ((64, 64, 4), 4)
    head = linear.describe_head()
    assert "64 -> 4 (cells of class and group, which vote), rank 2 of 4:" in head
    assert summarize(fitted(wide)).cells is None


def test_backbone_is_counted_whole_once_and_beside_the_head(data):
    module = backbone()
    summary = summarize(fitted(data, module, rank=1))
    count = sum(p.numel() for p in module.parameters())
    assert (summary.backbone, summary.backbone_parameters) == ("Sequential", count)
    assert summary.frozen
    assert summary.network_parameters == count + summary.head_parameters
    assert (summary.n_features_in, summary.n_features) == (10, 6)


def test_weights_that_layers_share_count_once():
    layer = nn.Linear(10, 10)
    summary = summarize(FairLowRankHeadClassifier(nn.Sequential(layer, nn.ReLU(), layer)))
    assert summary.backbone_parameters == 110


def test_what_is_taken_from_a_module_is_said(data):
    extractor = FrozenFeatureExtractor(backbone(), layer="0")
    summary = summarize(fitted(data, extractor, rank=1))
    assert (summary.layer, summary.pool, summary.n_features) == ("0", None, 32)
    assert "Sequential, layer '0', 550 parameters, frozen" in str(summary)


def test_without_a_backbone_there_is_nothing_to_freeze(data):
    summary = summarize(fitted(data, rank=1))
    assert (summary.backbone, summary.backbone_parameters, summary.frozen) == (None, 0, False)
    assert summary.network_parameters == summary.head_parameters == 14
    assert "none (X holds the features)" in str(summary)


def test_parameters_that_cannot_be_counted_are_not_called_zero():
    lazy = nn.Sequential(nn.LazyLinear(4))
    clf = FairLowRankHeadClassifier(lazy, rank=1)
    assert summarize(clf).backbone_parameters is None
    assert "parameters not known" in str(summarize(clf))
    assert "Sequential(...)" in repr(clf)
    lazy(torch.zeros(1, 10))
    assert summarize(clf).backbone_parameters == 44


def test_an_onnx_files_weights_are_not_called_zero():
    onnx = pytest.importorskip("onnx")
    from skfairft.onnx import OnnxModule

    graph = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[N, 10] x) => (float[N, 1] y) <float[10, 1] w = {1,1,1,1,1,1,1,1,1,1}>
        {y = MatMul(x, w)}
    """)
    module = nn.Sequential(OnnxModule(graph.SerializeToString()), nn.Linear(1, 3))
    summary = summarize(FairLowRankHeadClassifier(module))
    assert summary.backbone_parameters is None
    assert summary.network_parameters is None
    assert "parameters not known" in FairLowRankHeadClassifier(module)._repr_html_()


# The other facts.


def test_before_fit_only_the_parameters_are_known():
    clf = FairLowRankHeadClassifier(
        backbone(), rank=0.9, constraint="equalized_odds", fairness_weight=0.3, importance="uniform"
    )
    summary = summarize(make_pipeline(StandardScaler(), clf))
    assert not summary.fitted
    assert (summary.rank_asked, summary.fairness_weight) == (0.9, 0.3)
    assert (summary.rank, summary.classes, summary.groups, summary.widths) == (None,) * 4
    assert summary.share_saved is summary.network_parameters is None
    names = [name for name, _ in summary.lines()]
    assert names == ["inputs", "backbone", "head", "importance", "constraint", "solver"]
    assert "equalized_odds, weight 0.3" in str(summary)


BOUND = {"constraint": "demographic_parity", "difference_bound": 0.2, "solver": "plug_in"}


@pytest.mark.parametrize("cv", [0.4, 5])
def test_a_bound_is_told_with_what_was_reached(data, cv):
    clf = fitted(data, cv=cv, **BOUND)
    summary = summarize(clf)
    assert summary.bounds == clf.bounds_
    assert summary.fairness_weight == clf.fairness_weight_
    low, high = clf.difference_interval_
    assert (
        f"at most 0.2: {clf.difference_:.3f} on the judged rows (95 % interval {low:.3f} to "
        f"{high:.3f}), at weight {clf.fairness_weight_:.3g}" in summary.describe_constraint()
    )
    assert summary.met
    before = summarize(clone(clf))
    assert before.bounds == ()
    assert before.describe_constraint() == "demographic_parity, difference of at most 0.2"


def test_a_confidence_is_told_with_its_limit(data):
    clf = fitted(data, confidence=0.9, **BOUND | {"difference_bound": 0.4})
    summary = summarize(clf)
    assert (summary.confidence, summary.bounds[0].limit) == (0.9, clf.difference_limit_)
    assert summary.met
    words = summary.describe_constraint()
    assert "difference of at most 0.4 with confidence 0.9: " in words
    assert f", within {clf.difference_limit_:.3f} with it), at weight" in words
    before = summarize(clone(clf)).describe_constraint()
    assert before == "demographic_parity, difference of at most 0.4 with confidence 0.9"
    with pytest.warns(FairnessWarning, match="cannot be certified"):
        missed = fitted(data, confidence=0.9, **BOUND | {"difference_bound": 0.1})
    assert missed.difference_ < 0.1  # that of the rows is not enough
    assert not summarize(missed).met


def test_classes_and_groups_are_python_values_and_listed(data):
    X, y, s = data
    y = np.array(["no", "yes"])[y]
    s = np.column_stack([s, np.arange(len(s)) % 2])
    summary = summarize(fitted((X, y, s), rank=1))
    assert summary.classes == ("no", "yes")
    assert summary.groups == ((0, 0), (0, 1), (1, 0), (1, 1))
    assert summary.groups_given
    assert "groups      4: 0 / 0, 0 / 1, 1 / 0, 1 / 1\n" in str(summary)


@pytest.mark.filterwarnings("ignore:fit got no sensitive_features")
def test_a_fit_without_groups_says_so(data):
    X, y, _ = data
    clf = FairLowRankHeadClassifier(solver=FineTune(max_epochs=0)).fit(X, y)
    summary = summarize(clf)
    assert summary.groups_given is False
    assert "no groups; constraint: none" in shown(clf)
    assert "groups      none were given to fit\n" in str(summary)


def test_a_group_that_is_called_all_was_given(data):
    X, y, _ = data
    with pytest.warns(FairnessWarning, match="is constant"):
        clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=["all"] * len(y))
    assert summarize(clf).groups_given
    assert "1: all" in str(summarize(clf))


def test_many_and_long_names_are_cut():
    X = np.random.default_rng(0).normal(size=(400, 3))
    y, s = np.arange(400) % 20, np.array(["w" * 1000, "m"])[np.arange(400) // 20 % 2]
    summary = summarize(fitted((X, y, s)))
    assert "20: 0, 1, 2, 3, 4, 5, 6, 7 and 12 more" in str(summary)
    assert "m, " + "w" * 37 + "..." in str(summary)
    assert max(map(len, str(summary).splitlines())) <= 88
    assert max(map(len, summary.text(width=50).splitlines())) <= 50


def test_a_path_has_the_summary_of_each_of_its_classifiers(data):
    X, y, s = data
    clf = FairLowRankHeadClassifier(
        constraint="demographic_parity", solver="plug_in", random_state=0
    )
    path = fairness_path(clf, X, y, sensitive_features=s, weights=3)
    weights = [summarize(each).fairness_weight for each in path.classifiers]
    assert weights == path.table["fairness_weight"].tolist()
    frame = summarize(path.classifiers[0]).to_frame()
    assert frame.loc[0, "network_parameters"] == frame.loc[0, "head_parameters"] == 44


def test_summary_asks_nothing_of_the_estimator_but_to_be_read(data):
    clf = fitted(data, backbone(), rank=1)
    before = {name: id(value) for name, value in vars(clf).items()}
    summarize(clf), repr(clf), clf._repr_html_()
    assert {name: id(value) for name, value in vars(clf).items()} == before
    assert type(clf) is FairLowRankHeadClassifier


def test_every_importance_has_words():
    assert set(WEIGHTINGS) == set(IMPORTANCES)


# The classifier inside.


def wrapped(clf, data):
    """Return fitted estimators around one fitted classifier."""
    X, y, s = data
    pipeline = Pipeline([("scale", StandardScaler().fit(X)), ("clf", clf)])
    optimizer = ThresholdOptimizer(estimator=clf, prefit=True, predict_method="predict_proba")
    return {
        "itself": clf,
        "pipeline": pipeline,
        "pipeline in a pipeline": Pipeline([("a", "passthrough"), ("b", pipeline)]),
        "frozen": FrozenEstimator(clf),
        "frozen pipeline": FrozenEstimator(pipeline),
        "fairlearn": optimizer.fit(X, y, sensitive_features=s),
    }


def test_the_classifier_itself_is_found_not_a_copy(data):
    clf = fitted(data, rank=1)
    for name, estimator in wrapped(clf, data).items():
        assert final_classifier(estimator) is clf, name
        assert replace(summarize(estimator), prepared_by=()) == summarize(clf), name


@pytest.mark.usefixtures("routing")
def test_of_a_search_the_best_estimator_is_found(data):
    X, y, s = data
    pipeline = make_pipeline(StandardScaler(), requesting())
    grid = {"fairlowrankheadclassifier__rank": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y, sensitive_features=s)
    assert final_classifier(search) is search.best_estimator_[-1]
    assert summarize(search).fitted
    tuned = TunedThresholdClassifierCV(requesting(rank=1), cv=2).fit(X, y, sensitive_features=s)
    assert final_classifier(tuned) is tuned.estimator_
    outer = make_pipeline(StandardScaler(), search)
    assert final_classifier(outer) is search.best_estimator_[-1]


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (LogisticRegression(), "LogisticRegression"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "in it LogisticRegression"),
        (GridSearchCV(LogisticRegression(), {}), "Got GridSearchCV, in it LogisticRegression;"),
        (make_pipeline(FairLowRankHeadClassifier(), StandardScaler()), "in it StandardScaler"),
        (FrozenFeatureExtractor(nn.Identity()), "FrozenFeatureExtractor"),
        (FairLowRankHeadClassifier, "the class FairLowRankHeadClassifier itself"),
        (GridSearchCV, "the class GridSearchCV itself"),
        (nn.Linear(2, 2), "Linear"),
        (None, "NoneType"),
        ("clf", "str"),
    ],
)
def test_anything_else_is_named_in_the_error(estimator, named):
    for find in (final_classifier, summarize):
        with pytest.raises(TypeError, match="expected a FairLowRankHeadClassifier") as error:
            find(estimator)
        assert named in str(error.value)


def test_what_is_not_fitted_is_not_found(data):
    clf = fitted(data, rank=1)
    # What a search was given is not what it found, fitted or not.
    for estimator, name in [
        (FairLowRankHeadClassifier(), "FairLowRankHeadClassifier"),
        (make_pipeline(FairLowRankHeadClassifier()), "FairLowRankHeadClassifier"),
        (GridSearchCV(clf, {}), "GridSearchCV"),
        (make_pipeline(StandardScaler(), GridSearchCV(clf, {})), "GridSearchCV"),
    ]:
        with pytest.raises(NotFittedError, match=f"{name} instance is not fitted"):
            final_classifier(estimator)


@pytest.mark.usefixtures("routing")
def test_a_search_that_keeps_no_estimator_says_what_to_set(data):
    X, y, s = data
    search = GridSearchCV(requesting(), {"rank": [1]}, cv=2, refit=False)
    search.fit(X, y, sensitive_features=s)
    with pytest.raises(NotFittedError, match="set refit=True"):
        final_classifier(search)


@pytest.mark.usefixtures("routing")
def test_features_input_is_what_the_classifier_predicts_from(data):
    X, y, s = data
    inner = make_pipeline(StandardScaler(), requesting(rank=1))
    search = GridSearchCV(inner, {"fairlowrankheadclassifier__rank": [1]}, cv=2)
    for estimator in (
        requesting(rank=1),
        make_pipeline(requesting(rank=1)),
        inner,
        make_pipeline(StandardScaler(with_mean=False), "passthrough", search),
    ):
        estimator.fit(X, y, sensitive_features=s)
        Z = features_input(estimator, X)
        np.testing.assert_array_equal(
            final_classifier(estimator).decision_function(Z), estimator.decision_function(X)
        )
    assert not np.array_equal(Z, X)
    np.testing.assert_array_equal(
        features_input(FrozenEstimator(inner), X), inner[:-1].transform(X)
    )
    with pytest.raises(NotFittedError):
        features_input(clone(inner), X)


# The display.


class _Text(HTMLParser):
    """What a page shows: text outside of styles, scripts and the text shown without styles."""

    def __init__(self, page):
        super().__init__()
        self.parts, self.tags, self.path = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("input", "br"):
            self.path.append((tag, dict(attrs).get("class", "")))

    def handle_endtag(self, tag):
        while self.path and self.path.pop()[0] != tag:
            pass

    def handle_data(self, data):
        hidden = {"style", "script"} & {tag for tag, _ in self.path}
        if not hidden and ("div", "sk-text-repr-fallback") not in self.path:
            self.parts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.parts).split())


def shown(estimator):
    return _Text(estimator._repr_html_()).text


def lines_of(estimator):
    return [f"{name} {text}" for name, text in summarize(estimator).lines()]


def test_display_shows_backbone_rank_savings_and_groups_as_counted(data):
    module = backbone()
    clf = fitted(data, module, rank=1, constraint="demographic_parity", fairness_weight=0.0)
    text = shown(clf)
    count, head = (sum(p.numel() for p in each.parameters()) for each in (module, clf.head_))
    full = 6 * 2 + 2
    assert f"Sequential: {count} parameters, frozen" in text
    saved = 100 * (1 - head / full)
    assert f"Head: rank 1 of 2, {head} parameters, {saved:.1f} % fewer than {full}" in text
    assert "groups 2: 0, 1; constraint: demographic_parity" in text
    for line in lines_of(clf):
        assert line in text


def test_display_before_fit_shows_the_backbone_and_that_nothing_is_fitted():
    text = shown(FairLowRankHeadClassifier(backbone(), rank=3))
    assert "Sequential: 550 parameters, frozen" in text
    assert "Head: not fitted; rank=3 asked for" in text
    for parameter in ("group_weights", "missing_groups", "groups 'intersections'"):
        text = text.replace(parameter, "")
    assert "groups" not in text


def test_display_keeps_what_scikit_learn_shows(data):
    extractor = FrozenFeatureExtractor(backbone(), pool=None, batch_size=17)
    for clf in (
        fitted(data, backbone(), rank=1, C=0.123),
        fitted(data, extractor, rank=1, C=0.123),
    ):
        page = clf._repr_html_()
        text = shown(clf)
        assert "FairLowRankHeadClassifier" in text
        assert "Fitted" in text
        assert "0.123" in text
        if isinstance(clf.feature_extractor, FrozenFeatureExtractor):
            assert "FrozenFeatureExtractor" in text
            assert "17" in text
        if HAS_TABLES:
            for name in clf.get_params(deep=False):
                assert f'aria-label="Copy {name} to clipboard"' in page
            assert "Fitted attributes" in text
            assert "singular_values_" in text
            assert "Sequential(...)" in text  # not its many layers
        assert "Linear(" not in text
    assert 'data-param-prefix="feature_extractor__"' in page or not HAS_TABLES


def test_display_shows_what_was_fitted_not_what_was_set_since(data):
    clf = fitted(data, backbone(), rank=1)
    for new in (None, nn.Identity(), FrozenFeatureExtractor(nn.Identity())):
        text = shown(clf.set_params(feature_extractor=new))
        assert "Sequential: 550 parameters, frozen" in text
        assert "Identity: " not in text


@pytest.mark.usefixtures("routing")
def test_pipelines_and_searches_show_it_too(data):
    X, y, s = data
    search = GridSearchCV(requesting(backbone()), {"rank": [1, 2]}, cv=2)
    pipeline = make_pipeline(StandardScaler(), requesting(backbone(), rank=1))
    for estimator in (search, pipeline, make_pipeline(StandardScaler(), clone(search))):
        unfitted = shown(estimator)
        assert "Head: not fitted" in unfitted
        estimator.fit(X, y, sensitive_features=s)
        text = shown(estimator)
        assert "Sequential: 550 parameters, frozen" in text
        assert f"Head: rank {final_classifier(estimator).rank_} of 2" in text
        for line in lines_of(final_classifier(estimator)):
            assert line in text
        if HAS_TABLES:  # those of the classifier, also in a search, whose box has no room for them
            assert "difference_bound" in text


HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">&amp;\n'


def test_hostile_names_are_text(data):
    X, y, s = data
    y, s = np.array(["no", HOSTILE])[y], np.array(["&lt;b&gt;", HOSTILE])[s]
    evil = type("<b>Evil&</b>", (nn.Linear,), {})(10, 6)
    for module in (evil, FrozenFeatureExtractor(evil)):
        clf = fitted((X, y, s), module, rank=1)
        for estimator in (clf, make_pipeline(clf)):
            page = _Text(estimator._repr_html_())
            assert "<b>Evil&</b>: 66 parameters, frozen" in page.text
            assert "&lt;b&gt;" in page.text  # as it came, not unescaped
            assert "<script>alert(1)</script>" in page.text
            tags = [tag for tag, _ in page.tags]
            assert tags.count("script") <= 1  # scikit-learn's own
            assert "img" not in tags
            assert not any("onerror" in attrs for _, attrs in page.tags)


def test_display_runs_no_scripts_of_its_own_and_fetches_nothing(data):
    clf = fitted(data, backbone(), rank=1)
    own, usual = (_Text(each._repr_html_()) for each in (clf, LogisticRegression().fit(*data[:2])))
    scripts = [sum(tag == "script" for tag, _ in page.tags) for page in (own, usual)]
    assert scripts[0] == scripts[1]
    assert not any({"src", "href"} & set(attrs) for _, attrs in own.tags)


def test_text_display_stays_text(data):
    clf = fitted(data, backbone(), rank=1)
    with sklearn.config_context(display="text"):
        assert not hasattr(clf, "_repr_html_")
        assert set(clf._repr_mimebundle_()) == {"text/plain"}
    assert set(clf._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_links_to_documentation_work():
    class Linked(FairLowRankHeadClassifier):
        __doc__ = FairLowRankHeadClassifier.__doc__
        _doc_link_module = __name__.split(".")[0]
        _doc_link_template = "https://address.local/{estimator_name}.html"

    page = _Text(Linked(backbone())._repr_html_())
    links = [attrs["href"] for _, attrs in page.tags if "href" in attrs]
    assert "https://address.local/Linked.html" in links
    if HAS_TABLES:
        assert any(
            link.startswith("https://address.local/Linked.html#:~:text=rank") for link in links
        )
        assert "Rank r of the factors." in page.text


def test_invalid_parameters_fall_back_on_the_usual_box():
    clf = FairLowRankHeadClassifier(backbone(), rank=-1)
    with pytest.raises(ValueError, match="rank"):
        summarize(clf)
    assert "FairLowRankHeadClassifier" in shown(clf)
    assert "Head:" not in shown(clf)


def test_repr_clone_and_params_are_as_before(data):
    module = backbone()
    clf = FairLowRankHeadClassifier(module, rank=1)
    params = clf.get_params()
    clf._repr_html_()
    assert clf.get_params() == params
    assert clf.get_params()["feature_extractor"] is module
    assert clone(clf).feature_extractor is module
    assert repr(clf) == (
        "FairLowRankHeadClassifier(feature_extractor=Sequential(...550 parameters),\n"
        "                          rank=1)"
    )
    assert repr(FairLowRankHeadClassifier()) == "FairLowRankHeadClassifier()"


def test_repr_breaks_lines_as_scikit_learn_does():
    extractor = FrozenFeatureExtractor(backbone(), layer="0", batch_size=17, verbose=1)
    clf = FairLowRankHeadClassifier(
        extractor,
        rank=1,
        constraint="demographic_parity",
        fairness_weight=0.5,
        solver=FineTune(max_epochs=3),
    )
    lines = repr(clf).splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 110  # "feature_extractor=FrozenFeatureExtractor(" alone is 66


def test_summary_does_not_import_the_classifier():
    import skfairft.summary
    import skfairft.summary.box
    import skfairft.summary.inside

    for module in (skfairft.summary.inside, skfairft.summary.box, skfairft.summary):
        assert sys.modules["skfairft.classifier"] not in vars(module).values()
        assert FairLowRankHeadClassifier not in [
            v for v in vars(module).values() if isinstance(v, type)
        ]
