import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfairft import FairLowRankHeadClassifier, FineTune, SingularSpectrumDisplay
from skfairft.datasets import make_biased_classification
from skfairft.lowrank.factorization import resolve_rank


@pytest.fixture(scope="module")
def data():
    return make_biased_classification(
        n_samples=600, n_features=20, n_classes=5, n_informative=6, random_state=0
    )


def curve(ax):
    return ax.get_lines()[0]


def line(ax, start):
    return next(one for one in ax.get_lines() if str(one.get_label()).startswith(start))


def spectra():
    rng = np.random.default_rng(0)
    for m in (1, 2, 3, 10, 64, 1000):
        for power in (0.0, 1.0, 4.0):
            yield -np.sort(-(rng.random(m) ** power + 1e-3))
    yield np.array([3.0, 1e-17])
    yield np.array([1.0, 1.0, 0.0, 0.0])
    yield np.ones(4)  # at energy 0.75 the cut is exactly reached


@pytest.mark.parametrize("energy", [0.01, 0.5, 0.75, 0.95, 0.999, 1.0])
@pytest.mark.some(2)
def test_the_cut_is_where_the_curve_reaches_the_energy_and_what_the_classifier_takes(energy):
    _, ax = plt.subplots()
    for values in spectra():
        ax.clear()
        display = SingularSpectrumDisplay(singular_values=values, energy=energy).plot(ax=ax)
        cut = line(display.ax_, "_child").get_xdata()[0]  # the vertical line
        assert cut == resolve_rank(energy, torch.tensor(values)) == display.cut
        share = curve(display.ax_).get_ydata()
        assert share[cut - 1] >= energy * (1 - 1e-9)
        assert (share[: cut - 1] < energy).all()
        assert f"rank {cut}" in line(display.ax_, "energy").get_label()


def test_a_classifier_asked_for_that_energy_has_that_rank(data):
    X, y, s = data
    full = FairLowRankHeadClassifier(solver=FineTune(max_epochs=0)).fit(X, y, sensitive_features=s)
    for energy in (0.3, 0.6, 0.95, 1.0):
        cut = FairLowRankHeadClassifier(rank=energy, solver=FineTune(max_epochs=0)).fit(
            X, y, sensitive_features=s
        )
        display = SingularSpectrumDisplay.from_estimator(full, energy=energy)
        assert display.cut == cut.rank_
        marked = SingularSpectrumDisplay.from_estimator(cut, energy=energy).ax_
        assert line(marked, "in use").get_xdata()[0] == cut.rank_


def test_the_curve_is_the_energy_of_truncated_matrices(data):
    X, y, s = data
    clf = FairLowRankHeadClassifier(solver=FineTune(max_epochs=0)).fit(X, y, sensitive_features=s)
    weighted = clf.importance_[:, None] * clf.head_.weight.detach().numpy()
    U, S, Vt = np.linalg.svd(weighted, full_matrices=False)
    norms = [np.linalg.norm((U[:, :r] * S[:r]) @ Vt[:r]) ** 2 for r in range(1, len(S) + 1)]
    drawn = curve(SingularSpectrumDisplay.from_estimator(clf).ax_)
    np.testing.assert_allclose(drawn.get_ydata(), np.array(norms) / np.linalg.norm(weighted) ** 2)
    np.testing.assert_array_equal(drawn.get_xdata(), np.arange(1, len(S) + 1))


@pytest.mark.parametrize("solver", ["fine_tune", "closed_form", "plug_in"])
@pytest.mark.parametrize("rank", [None, 2])
def test_every_solver_and_no_rank_at_all(data, solver, rank):
    X, y, s = data
    clf = FairLowRankHeadClassifier(
        rank=rank,
        solver=solver,
        constraint="demographic_parity",
        fairness_weight=0.5,
        importance="covariance" if rank or solver == "closed_form" else "fisher",
    ).fit(X, y, sensitive_features=s)
    ax = SingularSpectrumDisplay.from_estimator(clf).ax_
    ring = line(ax, "in use")
    assert ring.get_xdata()[0] == clf.rank_
    assert ring.get_ydata()[0] == curve(ax).get_ydata()[clf.rank_ - 1]
    assert ("full rank" in ring.get_label()) == (clf.rank_ == len(clf.singular_values_))


def test_the_classifier_is_found_inside_a_pipeline(data, routing):
    X, y, s = data
    clf = FairLowRankHeadClassifier(rank=2).set_fit_request(sensitive_features=True)
    pipeline = make_pipeline(StandardScaler(), clf).fit(X, y, sensitive_features=s)
    display = SingularSpectrumDisplay.from_estimator(pipeline)
    np.testing.assert_array_equal(display.singular_values, pipeline[-1].singular_values_)


def test_without_energy_there_is_no_cut_and_without_rank_no_mark():
    display = SingularSpectrumDisplay(singular_values=[2.0, 1.0], energy=None).plot()
    assert display.cut is None
    assert len(display.ax_.get_lines()) == 1


@pytest.mark.parametrize("m", [1, 2, 40, 41, 1000])
def test_ticks_are_whole_ranks_and_all_is_in_sight(m):
    values = 1 / np.arange(1, m + 1)
    display = SingularSpectrumDisplay(singular_values=values, rank=m).plot()
    display.figure_.canvas.draw()
    ax = display.ax_
    low, high = ax.get_xlim()
    shown = [
        text.get_text()
        for tick, text in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert shown
    assert all(text.replace(",", "").isdigit() for text in shown if text)
    assert low < 1
    assert high > m
    assert ax.get_ylim()[1] > 1
    assert (ax.get_xscale() == "log") == (m > 40)
    assert (curve(ax).get_marker() == "o") == (m <= 60)


def test_a_head_of_zeros_keeps_an_undefined_share_and_no_point_at_zero():
    display = SingularSpectrumDisplay(singular_values=[0.0, 0.0], rank=1).plot()
    assert np.isnan(curve(display.ax_).get_ydata()).all()
    assert display.ax_.get_title() == "undefined: all singular values are zero"
    assert "undefined share" in line(display.ax_, "in use").get_label()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"singular_values": []}, "expected \\(m,\\) with m of at least 1"),
        ({"singular_values": [[1.0]]}, "expected \\(m,\\)"),
        ({"singular_values": [1.0, 2.0]}, "not sorted"),
        ({"singular_values": [1.0, np.nan]}, "infinite or NaN"),
        ({"singular_values": [1.0, -1.0]}, "negative"),
        ({"rank": 3}, "rank=3; expected a whole number from 1 to 2"),
        ({"rank": 0}, "rank=0"),
        ({"rank": 0.5}, r"rank=0\.5"),
        ({"energy": 0.0}, r"energy=0\.0; expected a share in \(0, 1\]"),
        ({"energy": 95}, "energy=95"),
        ({"energy": True}, "energy=True"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        SingularSpectrumDisplay(**({"singular_values": [2.0, 1.0]} | given)).plot()
