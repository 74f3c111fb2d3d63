"""The whole trade-off of a classifier: fairness weights, ranks and solvers on held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_consistent_length
from torch import Tensor
from tqdm.auto import tqdm

from ._auc import auc_with_error
from ._columns import listed
from ._encoding import encode_groups, to_label_array
from ._feature_table import refuse_odd_rows
from ._index_order import warn_of_index_order
from ._tables import number_column
from ._validation import check_head_for_solver
from ._warn import warn_user
from .batches import TensorRows
from .classifier import FairLowRankHeadClassifier
from .constraints import parity
from .exceptions import FairnessWarning
from .fitting import FittedHead
from .head import head_scores, shift_scores
from .judge import JudgedRows, interval_around, pareto_front
from .modes import training_modes
from .parallel import threads_over_blocks
from .rows import refuse_mapping

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FairnessPath", "fairness_path"]

# The columns of the table that have an interval, and what the curve is about.
METRICS = (
    "weighted_f1_error",
    "difference",
    "demographic_parity_distance",
    "equalized_odds_distance",
    "accuracy",
    "roc_auc",
)

# Thresholds at which the share of positive decisions is this many times the head's own.
_LEAST_SHARE, _MOST_SHARE = 0.7, 1.3

# Margins that differ by less than this share of the largest one are not told apart: copies of a row
# may have other last digits, and a threshold between them would tell how they were rounded.
_SAME_MARGIN = 1e-9

# Two-sided 95 % of a normal distribution.
_NORMAL = 1.959964


class _HeldOut(NamedTuple):
    """Rows to measure on, checked as far as they can be without the classifier."""

    X: Any
    y: tuple[NDArray[Any], NDArray[np.int64]]  # values, and the code (n,) of each row's
    sensitive_features: tuple[NDArray[Any], NDArray[np.int64]]
    w: NDArray[np.float64]  # (n,)

    def refuse_unknown(self, classes: NDArray[Any], groups: NDArray[Any]) -> None:
        """Raise an error for a label or a group that the training rows do not have."""
        for name, (values, _), known in (
            ("y", self.y, classes),
            ("sensitive_features", self.sensitive_features, groups),
        ):
            unknown = set(values.tolist()) - set(known.tolist())
            if unknown:
                raise ValueError(
                    f"held_out's {name} holds [{listed(sorted(unknown, key=str))}], but the "
                    f"training rows only [{listed(known.tolist())}]; drop the other rows, or train "
                    "with such rows too."
                )


class _Candidate(NamedTuple):
    """A head and its decisions on the held-out rows."""

    settings: dict[str, Any]
    fitted: FittedHead
    scores: Tensor  # (n, k), of the head
    share: float  # of positive decisions, as a multiple of the head's own
    shift: Tensor  # (k,), which added to the scores leads to it
    table: NDArray[np.float64]  # (G, k, k)


@dataclass(frozen=True, repr=False)
class FairnessPath:
    """Points of a trade-off, and the classifier of each.

    Parameters
    ----------
    table : DataFrame
        One row per point. Columns: ``solver``, ``rank`` (as asked for), ``fairness_weight``,
        ``positive_share`` (see `fairness_path`), then each metric on the held-out rows with the
        ends of its 95 % interval in columns ``_low`` and ``_high``, and ``on_front``: no other
        point has less error and no more difference, or less difference and no more error.
    classifiers : list of FairLowRankHeadClassifier
        The fitted classifiers, in the order of the rows.
    constraint : str
        What ``difference`` measures.
    n_held_out : int
        Number of held-out rows, without those of weight zero.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, fairness_path
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=1000, disparity=0.4, random_state=0)
    >>> clf = FairLowRankHeadClassifier(
    ...     constraint="demographic_parity", solver="plug_in", random_state=0
    ... )
    >>> path = fairness_path(clf, X, y, sensitive_features=s, weights=5, thresholds=1)
    >>> path.constraint, len(path.table), len(path.classifiers)
    ('demographic_parity', 5, 5)
    >>> path
    <FairnessPath: 5 points, 4 on the front, demographic_parity on 250 held-out rows>
    >>> bool(path.table.loc[path.choose(difference_bound=0.1), "difference"] <= 0.1)
    True
    """

    table: pd.DataFrame
    classifiers: list[FairLowRankHeadClassifier]
    constraint: str
    n_held_out: int

    def __repr__(self) -> str:
        # The fields' own would print every classifier with its network.
        on_front = int(self.table["on_front"].sum())
        return (
            f"<{type(self).__name__}: {len(self.table):,} points, {on_front:,} on the front, "
            f"{self.constraint} on {self.n_held_out:,} held-out rows>"
        )

    def choose(self, difference_bound: float) -> int:
        """Return the row of the least error whose held-out difference is within a bound.

        Parameters
        ----------
        difference_bound : float
            Largest difference.

        Returns
        -------
        int
            For ``table.loc`` and ``classifiers``.

        Raises
        ------
        ValueError
            If no difference is defined.

        Warns
        -----
        FairnessWarning
            If there is none: then the row of the smallest difference is returned.
        """
        within = self.table[self.table["difference"] <= difference_bound]
        if len(within):
            order = np.lexsort((within["difference"], within["weighted_f1_error"]))
            return int(within.index.to_numpy()[order[0]])
        if self.table["difference"].isna().all():
            raise ValueError(
                "The difference is undefined at every point: the held-out rows lack a class that "
                "the constraint asks for in all groups but one. Hold out more rows."
            )
        nearest = int(np.nanargmin(self.table["difference"].to_numpy()))
        warn_user(
            f"No point has a difference of at most {difference_bound}; the nearest has "
            f"{self.table['difference'].iloc[nearest]:.3f}, on {self.n_held_out} held-out rows.",
            FairnessWarning,
        )
        return nearest


def fairness_path(
    clf: FairLowRankHeadClassifier,
    X: Any,
    y: ArrayLike,
    *,
    sensitive_features: Any,
    sample_weight: ArrayLike | None = None,
    weights: int | ArrayLike = 25,
    ranks: Sequence[int | float | None] | None = None,
    solvers: Sequence[str] | None = None,
    thresholds: int = 13,
    held_out: float | tuple[Any, Any, Any] | tuple[Any, Any, Any, Any] = 0.25,
    n_boot: int = 1000,
) -> FairnessPath:
    """Fit a classifier for many fairness weights and measure each on held-out rows.

    The features are extracted once, what does not depend on the weight is computed once, and the
    training of each head starts at the one before.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        With a ``constraint``. It is not changed.
    X, y, sensitive_features, sample_weight
        As for its `fit`, n rows.
    weights : int or array-like of shape (m,), default=25
        Fairness weights in [0, 1]; an int is that many from 0 to 1.
    ranks : sequence or None, default=None
        Ranks; None is that of ``clf``.
    solvers : sequence of str or None, default=None
        Solvers; None is that of ``clf``.
    thresholds : int, default=13
        With two classes, each head is also tried with thresholds at which the share of positive
        decisions, by sample weight, is nearest to 0.7 to 1.3 times its own, so many of them; those
        on the front are kept. 1 leaves thresholds alone. The column ``positive_share`` says how
        many times.
    held_out : float or tuple, default=0.25
        Share of the rows, stratified by class and group, on which the points are measured, each
        with its ``sample_weight`` (without the classifier's ``class_weight``). Or other rows to
        measure them on: ``(X, y, sensitive_features)``, each of weight 1, or
        ``(X, y, sensitive_features, sample_weight)``, h rows, with weights of shape (h,) that are
        not negative. Rows of weight zero change nothing.
    n_boot : int, default=1000
        Resamples of the rows, each with its weight, behind the intervals; 0 for none. That of the
        AUC is DeLong's, with weights.

    Returns
    -------
    FairnessPath
        With ``table`` and ``classifiers``.

    Raises
    ------
    ValueError
        As `fit`; for a classifier without constraint or with a bound; for weights outside [0, 1];
        for held-out rows that `fit` would refuse, or of classes or groups that the training rows
        lack. Labels, groups and weights are looked at before the extractor runs.
    KeyboardInterrupt
        If it was interrupted before the first head was fitted.

    Warns
    -----
    FairnessWarning
        If the held-out rows lack a class in a group. UserWarning if it was interrupted: what was
        fitted until then is returned.

    Notes
    -----
    Points that are chosen by their values on the held-out rows look a little better there than
    they are. Measure the chosen classifier on rows of its own.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, fairness_path
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=1000, disparity=0.4, random_state=0)
    >>> clf = FairLowRankHeadClassifier(
    ...     constraint="demographic_parity", solver="plug_in", random_state=0
    ... )
    >>> path = fairness_path(clf, X, y, sensitive_features=s, weights=5, thresholds=1)
    >>> path.table["difference"].round(2).tolist() == sorted(
    ...     path.table["difference"].round(2), reverse=True
    ... )
    True
    >>> best = path.classifiers[path.choose(difference_bound=0.1)]
    >>> best.predict(X[:3]).shape
    (3,)
    """
    if not isinstance(clf, FairLowRankHeadClassifier):
        raise TypeError(
            f"fairness_path got a {type(clf).__name__}; expected a FairLowRankHeadClassifier. Of a "
            "pipeline, pass its last step, and X as the steps before transform it."
        )
    constraint, weights = _check(clf, weights, thresholds, held_out)
    variants = _variants(clf, ranks, solvers)
    clf = clone(clf)
    given = _read_held_out(*held_out) if isinstance(held_out, tuple) else held_out
    apart = None if isinstance(given, _HeldOut) else given

    def check(classes: NDArray[Any], groups: NDArray[Any]) -> None:
        for one in variants:
            check_head_for_solver(one.head, one.solver, len(classes))
        if isinstance(given, _HeldOut):
            given.refuse_unknown(classes, groups)

    with training_modes():
        problem, _, random_state = clf._prepare(
            X, y, sample_weight, sensitive_features, apart=apart, check=check
        )
        rows, outside = problem.split()
        if isinstance(given, _HeldOut):
            outside = _encoded(clf, given)
    assert outside is not None
    seed = random_state.randint(np.iinfo(np.int32).max)
    judge = JudgedRows(outside, parity(constraint, len(clf.classes_)), clf.groups_)
    judge.warn_of_empty()
    heads = _heads(clf, variants, rows, weights, seed)
    total = len(weights) * len(variants)
    candidates: list[_Candidate] = []
    with training_modes(), threads_over_blocks():
        try:
            for settings, fitted in tqdm(heads, total=total, disable=not clf.verbose, unit="head"):
                if fitted.interrupted:
                    raise KeyboardInterrupt
                candidates.append(_candidate(settings, fitted, judge))
        except KeyboardInterrupt:
            if not candidates:
                raise
            warn_user(
                f"Interrupted: the path holds {len(candidates)} of {total} heads.", UserWarning
            )
    if len(clf.classes_) == 2 and thresholds > 1:
        candidates += [moved for each in candidates for moved in _moved(each, thresholds, judge)]
        points = judge.metrics(np.stack([each.table for each in candidates]))
        front = pareto_front(points["weighted_f1_error"], points["difference"])
        candidates = [
            each for each, best in zip(candidates, front, strict=True) if best or each.share == 1.0
        ]
    return FairnessPath(
        table=_frame(candidates, judge, n_boot, seed),
        classifiers=[
            clf._fitted_copy(
                each.fitted.with_head(shift_scores(each.fitted.head, each.shift)), **each.settings
            )
            for each in candidates
        ],
        constraint=constraint,
        n_held_out=len(outside),
    )


def _check(
    clf: FairLowRankHeadClassifier, weights: Any, thresholds: Any, held_out: Any
) -> tuple[str, NDArray[np.float64]]:
    if clf.constraint is None or clf.difference_bound is not None:
        raise ValueError(
            f"fairness_path got a classifier with constraint={clf.constraint!r} and "
            f"difference_bound={clf.difference_bound!r}; it draws the whole curve of a constraint "
            "without a bound. Afterwards path.choose(difference_bound) picks a point."
        )
    if not isinstance(thresholds, Integral) or thresholds < 1:
        raise ValueError(f"thresholds={thresholds!r}; expected a whole number of at least 1.")
    if isinstance(held_out, tuple):
        fits = len(held_out) in (3, 4)
    else:
        fits = isinstance(held_out, Real) and 0.0 < float(held_out) < 1.0
    if not fits:
        held_out = f"a tuple of {len(held_out)}" if isinstance(held_out, tuple) else held_out
        raise ValueError(
            f"held_out={held_out!r}; expected a share in (0, 1), or a tuple (X, y, "
            "sensitive_features) or (X, y, sensitive_features, sample_weight)."
        )
    steps = isinstance(weights, Integral) and not isinstance(weights, bool)
    values = np.linspace(0.0, 1.0, max(int(weights), 0)) if steps else np.unique(weights)
    if not len(values) or not (values >= 0.0).all() or not (values <= 1.0).all():
        raise ValueError(f"weights={weights!r}; expected fairness weights in [0, 1], or how many.")
    return clf.constraint, values


def _variants(
    clf: FairLowRankHeadClassifier, ranks: Sequence[Any] | None, solvers: Sequence[str] | None
) -> list[FairLowRankHeadClassifier]:
    """Return the classifier with each solver and rank, checked."""
    variants = []
    for solver in [clf.solver] if solvers is None else solvers:
        for rank in [clf.rank] if ranks is None else ranks:
            one = clone(clf).set_params(solver=solver, rank=rank)
            one._check_parameters()
            variants.append(one)
    if not variants:
        raise ValueError(
            f"ranks={ranks!r} and solvers={solvers!r} leave nothing to fit; None is that of clf."
        )
    return variants


def _heads(
    clf: FairLowRankHeadClassifier,
    variants: Sequence[FairLowRankHeadClassifier],
    rows: TensorRows,
    weights: NDArray[np.float64],
    seed: int,
) -> Iterator[tuple[dict[str, Any], FittedHead]]:
    """Yield the heads with the parameters that set them apart."""
    for one in variants:
        fitter = one._fitter(rows, clf.groups_, clf.classes_, np.random.RandomState(seed))
        apart = {"solver": one.solver, "rank": one.rank}
        for weight, fitted in zip(weights, fitter.fit_path(weights), strict=True):
            yield {**apart, "fairness_weight": float(weight)}, fitted


def _candidate(settings: dict[str, Any], fitted: FittedHead, judge: JudgedRows) -> _Candidate:
    scores = head_scores(fitted.head, judge.rows.Z)
    shift = torch.zeros(scores.shape[1], dtype=torch.float64)
    return _Candidate(settings, fitted, scores, 1.0, shift, judge.table(judge.cells(scores)))


def _moved(candidate: _Candidate, thresholds: int, judge: JudgedRows) -> Iterator[_Candidate]:
    """Yield a two-class head with other thresholds."""
    margin = (candidate.scores[:, 1] - candidate.scores[:, 0]).numpy()
    w = judge.rows.w.numpy()
    own = w[margin > 0].sum()
    order = np.argsort(margin)
    low, high = margin[order][:-1], margin[order][1:]
    apart = high - low > _SAME_MARGIN * np.abs(margin).max(initial=0.0)
    middles, above = ((low + high) / 2.0)[apart], (w.sum() - np.cumsum(w[order])[:-1])[apart]
    for share in np.linspace(_LEAST_SHARE, _MOST_SHARE, thresholds):
        wanted = share * own
        if abs(share - 1.0) < 1e-9 or not 0.0 < wanted < w.sum() or not len(middles):
            continue
        threshold = float(middles[np.abs(above - wanted).argmin()])
        shift = torch.tensor([0.5, -0.5], dtype=torch.float64) * threshold
        table = judge.table(judge.cells(candidate.scores + shift))
        yield candidate._replace(share=float(share), shift=shift, table=table)


def _read_held_out(X: Any, y: Any, sensitive_features: Any, sample_weight: Any = None) -> _HeldOut:
    """Check rows to measure on, all but their features and whether the classifier knows them."""
    labels = to_label_array(y, name="held_out's y")
    refuse_mapping(X)
    refuse_odd_rows(X)
    check_consistent_length(X, labels)
    warn_of_index_order(
        X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
    )
    return _HeldOut(
        X,
        encode_groups(labels, len(labels), name="held_out's y"),
        encode_groups(sensitive_features, len(labels), name="held_out's sensitive_features"),
        _read_weights(sample_weight, len(labels)),
    )


def _read_weights(sample_weight: Any, n_rows: int) -> NDArray[np.float64]:
    """Return the weights (n,) of rows to measure on; a class or a group may be without."""
    if sample_weight is None:
        return np.ones(n_rows)
    name = "held_out's sample_weight"
    w = number_column(sample_weight, name)
    if len(w) != n_rows:
        raise ValueError(
            f"{name} has {len(w)} rows but X has {n_rows}; expected one weight per row of X."
        )
    if (wrong := ~(np.isfinite(w) & (w >= 0.0))).any():
        raise ValueError(
            f"{name} holds {w[wrong][0]:g} in row {np.flatnonzero(wrong)[0]}; expected finite "
            "numbers of at least 0. A row that is not to count has weight 0."
        )
    if not w.any():
        raise ValueError(
            f"{name} is zero for all {n_rows} rows; expected a positive weight in some."
        )
    return w


def _encoded(clf: FairLowRankHeadClassifier, given: _HeldOut) -> TensorRows:
    """Return rows to measure on in the classes and groups of the classifier."""
    encoded = []
    for (values, codes), known in (
        (given.y, clf.classes_),
        (given.sensitive_features, clf.groups_),
    ):
        number = {value: code for code, value in enumerate(known.tolist())}
        encoded.append(torch.tensor([number[value] for value in values.tolist()])[codes])
    labels, groups = encoded
    rows = TensorRows(clf._features(given.X), labels, torch.from_numpy(given.w), groups)
    # A resample would draw rows of weight zero, too.
    return rows if given.w.all() else rows.take(np.flatnonzero(given.w))


def _frame(candidates: list[_Candidate], judge: JudgedRows, n_boot: int, seed: int) -> pd.DataFrame:
    """Return the table of all points."""
    import pandas as pd

    points = judge.metrics(np.stack([each.table for each in candidates]))
    records = []
    areas: dict[int, tuple[float, float]] = {}  # a moved threshold changes no rank
    for i, each in enumerate(candidates):
        record = {**each.settings, "positive_share": each.share}
        drawn = []
        if n_boot:
            cells = judge.cells(each.scores + each.shift)
            drawn = [judge.metrics(block) for block in judge.resampled(cells, n_boot, seed)]
        for name, values in points.items():
            samples = np.concatenate([np.empty(0), *(block[name] for block in drawn)])
            low, high = interval_around(values[i], samples)
            record |= {name: values[i], f"{name}_low": low, f"{name}_high": high}
        if id(each.scores) not in areas:
            areas[id(each.scores)] = auc_with_error(
                judge.rows.y.numpy(), each.scores.numpy(), judge.rows.w.numpy()
            )
        area, error = areas[id(each.scores)]
        record |= {
            "roc_auc": area,
            "roc_auc_low": max(area - _NORMAL * error, 0.0),
            "roc_auc_high": min(area + _NORMAL * error, 1.0),
        }
        records.append(record)
    frame = pd.DataFrame.from_records(records)
    frame["rank"] = pd.Series([each["rank"] for each in records], dtype=object)  # None stays None
    frame["on_front"] = pareto_front(frame["weighted_f1_error"], frame["difference"])
    return frame
