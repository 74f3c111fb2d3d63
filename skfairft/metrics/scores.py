"""Error and group fairness of predicted labels: distances, and a report.

Everything here is a function of one table, the (weighted) number of rows in each cell
(group, true label, predicted label), and of the rows of `skfairft.parity.table`.

With two classes there is one positive label. With more, each label is the positive one
in turn, against the rest, and a distance is the largest over labels. A rate that is
undefined, such as the true positive rate of a group without positives, is NaN and a
`FairnessWarning`, never 0.

So of columns that are Dask's only the table comes here, see `skfairft.parity.tally`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..inputs.levels import columns_of, level_name
from ..inputs.words import did_you_mean, shown
from ..parity.cells import count_cells, count_labels
from ..parity.counts import distances_of, warn_undefined, weighted_f1
from ..parity.demands import Demand, check_bounds, read_demands
from ..parity.levels import check_groups_word, levels_asked
from ..parity.table import REPORTED, STATED, TABLE
from .assembly import build_report, report_names
from .report import FairnessReport

__all__ = [
    "FairnessReport",
    "constraint_distance",
    "constraint_ratio",
    "demographic_parity_distance",
    "distance_of",
    "equalized_odds_distance",
    "fairness_report",
    "weighted_f1_error",
    "worst_group_error",
]

_OVER = {"cells": "worst_group", "groups": "worst_error_rate"}


def constraint_distance(
    y_true: Any,
    y_pred: Any,
    *,
    constraint: str,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
    groups: str = "intersections",
) -> float:
    """How far decisions are from a constraint: what a ``difference_bound`` is a bound on.

    Of ``"worst_group"`` and ``"worst_error_rate"`` it is `worst_group_error`. Of others, the
    largest difference between groups in the rate that the constraint compares; of
    ``"equalized_odds"`` the sum of two. With more than two classes, the largest over the classes,
    each against the rest, except for ``"error_rate_parity"``, whose rate is one of all classes.

    Parameters
    ----------
    y_true, y_pred
        As in `demographic_parity_distance`, collections of Dask among them.
    constraint : str
        A ``constraint`` of `skfairft.FairLowRankHeadClassifier`, such as "error_rate_parity".
    sensitive_features, sample_weight
        As in `demographic_parity_distance`.
    pos_label : label, default=None
        As in `demographic_parity_distance`. An error is one whatever the positive label.
    groups : {"intersections", "columns"}, default="intersections"
        As in `demographic_parity_distance`.

    Returns
    -------
    float
        In [0, 1], of equalized odds in [0, 2]; 0 is parity. A group without rows that a rate is a
        share of is named by a `FairnessWarning`, and left out; NaN if fewer than two remain.

    Raises
    ------
    ValueError
        For an unknown constraint, and as in `demographic_parity_distance`.

    Examples
    --------
    Half of group a's rows are decided wrong and none of group b's:

    >>> from skfairft.metrics import constraint_distance
    >>> constraint_distance(
    ...     [0, 1, 0, 1],
    ...     [1, 1, 0, 1],
    ...     constraint="error_rate_parity",
    ...     sensitive_features=["a", "a", "b", "b"],
    ... )
    0.5
    """
    _check_constraint(constraint)
    columns = y_true, y_pred, sensitive_features, sample_weight
    return distance_of(constraint, *columns, pos_label, groups)


def constraint_ratio(
    y_true: Any,
    y_pred: Any,
    *,
    constraint: str,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
    groups: str = "intersections",
) -> float:
    """Smallest rate of a group divided by the largest: what a ``ratio_bound`` is a bound on.

    Of several rates, as of ``"equalized_odds"``, and of several classes or columns, the smallest
    of their ratios. For demographic parity the four-fifths rule asks for at least 0.8 [1]_; it is
    fairlearn's ``demographic_parity_ratio``, and of equalized odds its ``equalized_odds_ratio``.

    Parameters
    ----------
    y_true, y_pred
        As in `demographic_parity_distance`, collections of Dask among them.
    constraint : str
        A constraint that compares rates, such as "demographic_parity".
    sensitive_features, sample_weight, pos_label, groups
        As in `demographic_parity_distance`.

    Returns
    -------
    float
        In [0, 1]; 1 is parity, also where the rates of all groups are 0. A group without rows that
        a rate is a share of is named by a `FairnessWarning`, and left out; NaN if fewer than two
        remain.

    Raises
    ------
    ValueError
        For an unknown constraint, one on a largest rate, and as in `demographic_parity_distance`.

    References
    ----------
    .. [1] "Uniform guidelines on employee selection procedures", 29 CFR 1607.4 D, 1978.

    Examples
    --------
    Of group a three quarters are selected and of group b half:

    >>> from skfairft.metrics import constraint_ratio
    >>> y, pred = [0, 1, 0, 1, 0, 1, 0, 1], [1, 1, 0, 1, 0, 1, 0, 1]
    >>> s = ["a"] * 4 + ["b"] * 4
    >>> round(
    ...     constraint_ratio(y, pred, constraint="demographic_parity", sensitive_features=s), 3
    ... )
    0.667
    """
    _check_constraint(constraint)
    if TABLE[constraint].largest:
        raise ValueError(
            f"constraint={constraint!r} is about the largest rate alone, which has no ratio; "
            "expected one that compares rates, such as 'demographic_parity'."
        )
    columns = y_true, y_pred, sensitive_features, sample_weight
    return 1.0 - distance_of(constraint, *columns, pos_label, groups, ratio=True)


def _check_constraint(constraint: Any) -> None:
    if not isinstance(constraint, str) or constraint not in TABLE:
        raise ValueError(
            f"constraint={constraint!r} is unknown.{did_you_mean(constraint, TABLE)} The "
            f"constraints are {sorted(TABLE)}."
        )


def distance_of(
    constraint: str,
    y_true: Any,
    y_pred: Any,
    sensitive_features: Any,
    sample_weight: Any,
    pos_label: Any,
    groups: str,
    *,
    ratio: bool = False,
    absent: bool = False,
) -> float:
    """Return the distance of a constraint, and warn of rates that are undefined.

    The arguments are those of `constraint_distance`, by ``ratio`` 1 minus `constraint_ratio`;
    ``absent`` is as for `count_cells`.

    Examples
    --------
    >>> distance_of("equalized_odds", [0, 1] * 2, [0, 1, 1, 1], [0, 0, 1, 1], None, 1, "columns")
    1.0
    """
    check_groups_word(groups)
    cells = count_cells(y_true, y_pred, sensitive_features, sample_weight, pos_label, absent=absent)
    levels = levels_asked(groups, cells.groups, sensitive_features)
    row = TABLE[constraint]
    asked = replace(cells, positives=range(len(cells.labels))) if row.each_class else cells
    asked = asked if levels is None else asked.merged(levels.columns)
    name = shown if levels is None else (lambda group: level_name(*group))
    warn_undefined(asked, asked.mass, row.rates, compared=not row.largest, name=name)
    found = distances_of(cells.mass, [constraint], cells.positives, levels, ratio=ratio)
    return float(found[constraint])


def demographic_parity_distance(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
    groups: str = "intersections",
) -> float:
    """Largest difference between groups in the rate of positive predictions.

    ``max_g P(prediction = positive | g) - min_g P(prediction = positive | g)``, the paper's
    demographic parity distance and fairlearn's ``demographic_parity_difference``. With more
    than two classes, the largest of these over the classes, each against the rest.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels. Of the true ones only the set of values matters here.
    sensitive_features : array-like of shape (n,) or (n, columns)
        The group of each row; of several columns see ``groups``.
    sample_weight : array-like of shape (n,), default=None
        Weights >= 0; an integer weight counts the row as often.
    pos_label : label, default=None
        The positive label. None takes the last category of two where the labels are ordered
        categories, 1 (or True) if all labels are in {-1, 0, 1}, else the larger of two labels; of
        more than two labels it takes each in turn. With two labels the choice does not change the
        distance. Where all rows have one label, it may be another: a label without rows.
    groups : {"intersections", "columns"}, default="intersections"
        What is compared where there are several sensitive columns: their combinations that occur,
        or the levels of each column by itself, and of the columns the largest distance. A small
        distance by column says nothing of the combinations, which can be far apart.

    Returns
    -------
    float
        In [0, 1]; 0 is parity. NaN, with a `FairnessWarning`, if there is one group only.

    Raises
    ------
    ValueError
        For missing groups or labels, other lengths, bad weights, or an unknown ``pos_label``.

    Notes
    -----
    Labels and groups that are ordered categories (of pandas, an Enum of polars, an ordered
    dictionary of Arrow) keep their order. Of the labels one of the two columns may have it; two
    orders that differ are an error.

    Each column may be a collection of Dask: an array, a frame or a column of one, or a list of
    delayed chunks. Its chunks are counted where they lie; only how many rows there are of each
    kind comes here, and a column that is not Dask's is sent there. Rows belong together by their
    place, wherever the chunks of the columns end. Chunks whose lengths Dask does not know are kept
    until they are counted, so that they come into being once.

    Examples
    --------
    >>> from skfairft.metrics import demographic_parity_distance
    >>> demographic_parity_distance(
    ...     [0, 1, 0, 1], [1, 1, 0, 1], sensitive_features=["a", "a", "b", "b"]
    ... )
    0.5
    """
    columns = y_true, y_pred, sensitive_features, sample_weight
    return distance_of("demographic_parity", *columns, pos_label, groups)


def equalized_odds_distance(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
    groups: str = "intersections",
) -> float:
    """Sum of the largest differences between groups in true and in false positive rate.

    ``(max_g TPR_g - min_g TPR_g) + (max_g FPR_g - min_g FPR_g)``, the paper's equalized odds
    distance: a sum, in [0, 2]. Beware when comparing numbers: fairlearn's
    ``equalized_odds_difference`` is by default the *larger* of the two terms; with
    ``agg="mean"`` it is half of this sum. With more than two classes, the largest sum over
    the classes, each against the rest.

    Parameters
    ----------
    y_true, y_pred, sensitive_features, sample_weight, pos_label, groups
        As in `demographic_parity_distance`, collections of Dask among them.

    Returns
    -------
    float
        In [0, 2]; 0 is parity. A group without positives (negatives) has no true (false)
        positive rate: a `FairnessWarning` names it, and it is left out of that difference,
        which is NaN if fewer than two groups remain. Of several classes, one whose sum is NaN
        is left out too.

    Raises
    ------
    ValueError
        As in `demographic_parity_distance`.

    Examples
    --------
    Half of group a's negatives are predicted positive and none of group b's; all positives
    are found in both:

    >>> from skfairft.metrics import equalized_odds_distance
    >>> equalized_odds_distance(
    ...     [1, 0, 0, 1, 0], [1, 1, 0, 1, 0], sensitive_features=["a", "a", "a", "b", "b"]
    ... )
    0.5
    """
    columns = y_true, y_pred, sensitive_features, sample_weight
    return distance_of("equalized_odds", *columns, pos_label, groups)


def worst_group_error(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    over: str = "cells",
    groups: str = "intersections",
) -> float:
    """Error of the worst cell of class and group: 1 minus worst-group accuracy.

    ``max_(y, g) P(prediction != y | label y, group g)``, what group DRO [1]_ and last-layer
    retraining [2]_ are measured by. A classifier that decides all rows alike has the error 1.

    Parameters
    ----------
    y_true, y_pred, sensitive_features, sample_weight
        As in `demographic_parity_distance`, collections of Dask among them.
    over : {"cells", "groups"}, default="cells"
        What it is the largest error of: of each class of each group, or of each group with all its
        rows together, of which ``"worst_error_rate"`` is the constraint.
    groups : {"intersections", "columns"}, default="intersections"
        As in `demographic_parity_distance`: with "columns" a cell is of a level of some column.

    Returns
    -------
    float
        In [0, 1], smaller is better. A cell without rows is named by a `FairnessWarning` and left
        out.

    Raises
    ------
    ValueError
        As in `demographic_parity_distance`, and for another ``over``.

    References
    ----------
    .. [1] Sagawa et al., "Distributionally robust neural networks", ICLR 2020.
    .. [2] P. Kirichenko et al., "Last layer re-training is sufficient for robustness to spurious
       correlations", ICLR 2023.

    Examples
    --------
    Of group b's positives all are missed, of its four rows a quarter is decided wrong:

    >>> from skfairft.metrics import worst_group_error
    >>> y, pred = [0, 1, 0, 1, 0, 0, 0, 1], [0, 1, 0, 1, 0, 0, 0, 0]
    >>> s = ["a"] * 4 + ["b"] * 4
    >>> worst_group_error(y, pred, sensitive_features=s)
    1.0
    >>> worst_group_error(y, pred, sensitive_features=s, over="groups")
    0.25
    """
    if over not in _OVER:
        raise ValueError(f"over={over!r}; expected one of {sorted(_OVER)}.")
    columns = y_true, y_pred, sensitive_features, sample_weight
    return distance_of(_OVER[over], *columns, None, groups)


def weighted_f1_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Return the paper's error in percent, ``100 * (1 - weighted F1)``.

    The weighted F1 is the mean of the classes' F1 scores with their true frequencies as
    weights, scikit-learn's ``f1_score(average="weighted", zero_division=0)``.

    Parameters
    ----------
    y_true, y_pred, sample_weight
        As in `demographic_parity_distance`, collections of Dask among them.

    Returns
    -------
    float
        In [0, 100], in percent.

    Raises
    ------
    ValueError
        For missing labels, other lengths, or bad weights.

    Examples
    --------
    >>> from skfairft.metrics import weighted_f1_error
    >>> round(weighted_f1_error([0, 0, 1, 1], [0, 0, 0, 1]), 2)
    26.67
    """
    return float(100.0 * (1.0 - weighted_f1(count_labels(y_true, y_pred, sample_weight))))


def fairness_report(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    pos_label: Any = None,
    constraint: str | Sequence[str] | None = None,
    ratio: bool = False,
    difference_bound: float | Sequence[float | None] | None = None,
    ratio_bound: float | Sequence[float | None] | None = None,
    n_boot: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
    groups: str = "intersections",
) -> FairnessReport:
    """Error and rates by group, their differences and ratios, with confidence intervals.

    Rates, their differences and ratios, and the distances have confidence limits; F1 has
    percentiles over resamples of the rows. The Notes say what each of them covers.

    Parameters
    ----------
    y_true, y_pred, sensitive_features, sample_weight, pos_label
        As in `demographic_parity_distance`. With weights, the column ``count`` still counts
        rows.
    constraint : str, list of str or None, default=None
        As in `constraint_distance`: its distance is then in the headline, too, where it is not
        there anyway. Several are named in a list.
    ratio : bool, default=False
        Whether the headline has the ratios of these, too, as in `constraint_ratio`; of
        demographic parity where none is named. Largest rates have none.
    difference_bound : float, list of float or None, default=None
        What the distance of ``constraint`` is to be at most; of several constraints a list has
        one for each, None for none. ``bounds`` of the report says whether it holds.
    ratio_bound : float, list of float or None, default=None
        What the smallest ratio is to be at least, in (0, 1]; it is then in the headline.
    n_boot : int, default=1000
        Number of resamples behind the intervals of F1; 0 leaves these NaN.
    confidence_level : float, default=0.95
        Nominal coverage of each interval by itself, in (0, 1).
    random_state : int, RandomState, Generator or None, default=None
        Seed of the resamples. NumPy's global state is neither used nor changed.
    groups : {"intersections", "columns"}, default="intersections"
        Between what the distances of the headline are where there are several sensitive columns,
        as in `demographic_parity_distance`. Rates by group, differences and ratios are of their
        combinations either way, ``by_column`` has both side by side.

    Returns
    -------
    FairnessReport
        Columns by group: ``count``, ``selection_rate``, ``tpr``, ``fpr``, ``error`` (share of
        wrong labels) and ``f1`` (weighted F1 inside the group), in [0, 1]. With more than two
        classes the first three rates are ``selection_rate[c]`` and so on for each class ``c``.

    Raises
    ------
    ValueError
        As in `constraint_distance`, for ``n_boot`` or ``confidence_level`` out of range, and for
        bounds without a constraint, or that are no numbers.

    Notes
    -----
    All intervals are about other rows like these, for one fixed set of predictions. They do not
    cover what another training run or training set would give. Each holds its value.

    *Rates* of a group, and of all rows, have Wilson limits, which have some width even where the
    rate is exactly 0 or 1. With weights they are of the effective number of rows, which is at most
    ``(sum w)^2 / sum w^2``: a row of weight 2 is one row, not two.

    *Differences* and *ratios* of rates and the *distances* combine the limits of all groups. A
    largest difference is never negative, and so biased upward near parity, the more the smaller and
    the more numerous the groups: noise alone separates them. The lower end allows for that: at
    parity it is 0 in about 95 % of samples, and above 0 it is evidence of a disparity. Likewise the
    upper end of a ratio is 1 at parity: it is below 1 where that of the difference is above 0. With
    three groups or more that are apart the intervals are cautious: those of 95 % cover 96 to 100 %.
    Each interval is by itself; of many, some miss.

    *F1*, in percent as the error of the headline, has percentile intervals, stretched to hold the
    value; of one group, or of all rows, these cover about as much as they say. A resample of rows
    only matters through its cell counts, which are multinomial, so these are drawn directly.
    Resamples in which it is undefined are left out. Where all decisions are right, or all wrong, so
    are those of each resample, and the interval has no width; that of ``error`` has. The difference
    and the ratio of F1 between groups have no interval (NaN): there is no such formula, and
    percentiles hardly ever hold a difference of 0, however many rows there are.

    *Collections of Dask* are counted by chunk, as in `demographic_parity_distance`, and the report
    is that of the same columns here, resamples and all. These are drawn of the different weights in
    each cell, which come here, too: where each row has a weight of its own that is a column.
    ``n_boot=0`` leaves it there.

    Examples
    --------
    >>> from skfairft.metrics import fairness_report
    >>> y, pred = [1, 1, 0, 0] * 50, [1, 1, 1, 0, 1, 0, 0, 0] * 25
    >>> sex = ["f", "f", "f", "f", "m", "m", "m", "m"] * 25
    >>> report = fairness_report(y, pred, sensitive_features=sex, random_state=0)
    >>> report.by_group.loc["f", ["count", "selection_rate", "tpr", "fpr"]].to_dict()
    {'count': 100.0, 'selection_rate': 0.75, 'tpr': 1.0, 'fpr': 0.5}
    >>> report.headline["value"].round(3)
    weighted_f1_error              25.0
    demographic_parity_distance     0.5
    equalized_odds_distance         1.0
    worst_group_error               0.5
    Name: value, dtype: float64
    """
    named = [constraint] if isinstance(constraint, str) else list(constraint or ())
    for each in named:
        _check_constraint(each)
    demands = _bounds_asked(constraint, named, difference_bound, ratio_bound)
    check_groups_word(groups)
    columns = y_true, y_pred, sensitive_features, sample_weight
    cells = count_cells(*columns, pos_label, resampled=n_boot != 0)
    cells = replace(
        cells,
        levels=levels_asked(groups, cells.groups, sensitive_features),
        constraints=tuple(dict.fromkeys([*STATED, *named])),
    )
    if not isinstance(ratio, bool):
        raise ValueError(f"ratio={shown(ratio)}; expected True or False.")
    compared = named or STATED[:1] if ratio else [each.constraint for each in demands if each.ratio]
    cells = replace(cells, ratios=tuple(each for each in compared if not TABLE[each].largest))
    warn_undefined(cells, cells.mass, REPORTED)
    return build_report(
        cells,
        report_names(sensitive_features, cells),
        columns_of(cells.groups, sensitive_features),
        n_boot=n_boot,
        confidence_level=confidence_level,
        random_state=random_state,
        groups=groups,
        demands=demands,
    )


def _bounds_asked(
    constraint: Any, named: list[str], difference_bound: Any, ratio_bound: Any
) -> list[Demand]:
    given = {"difference_bound": difference_bound, "ratio_bound": ratio_bound}
    for name, value in given.items():
        if value is not None and not named:
            raise ValueError(
                f"{name}={shown(value)}, but constraint is None; say what it is a bound on, for "
                'example constraint="demographic_parity".'
            )
        check_bounds(name, value, named)
    return [each for each in read_demands(constraint, **given) if each.bound is not None]
