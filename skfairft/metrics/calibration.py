"""How far estimated probabilities are from what came, by group: `calibration_error`."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..inputs.encoding import encode_groups, python_value, to_label_array
from ..inputs.exceptions import FairnessWarning
from ..inputs.index_order import warn_of_index_order
from ..inputs.lazy import computed
from ..inputs.tables import number_column, read_table, weight_column
from ..inputs.warn import warn_user
from ..inputs.words import joined, shown
from .assembly import group_names
from .frame import exact_index
from .reliability import Bins, Floats, bins, mean_error, root_error, rows_alike
from .report import FEW_ROWS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GroupBins", "calibration_error", "calibration_table", "group_bins", "warn_of_few"]

_COLUMNS = (
    *("count", "predicted", "observed"),
    *("bias", "bias_low", "bias_high"),
    *("error", "error_low", "error_high"),
)
_CLASS = "class"

# How far a sum of probabilities may be from 1: those of single precision are.
_UNSURE = 1e-3


class GroupBins(NamedTuple):
    """Rows in bins, by group and class.

    ``found`` are those of each group (G,) and each class of interest, the first group's first; None
    of a group without weight.
    """

    groups: list[Any]
    classes: list[Any]
    counts: list[int]  # rows of each group
    alike: list[float]  # how many rows without weights would tell as much
    found: list[Bins | None]
    several: bool  # whether each class is in turn against the rest
    names: list[str]  # of the columns of groups


def calibration_error(
    y_true: Any,
    y_prob: Any,
    *,
    sensitive_features: Any = None,
    labels: Any = None,
    pos_label: Any = None,
    sample_weight: Any = None,
    n_bins: int = 10,
    strategy: str = "quantile",
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    """How far estimated probabilities are from the frequencies that came, by group.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.
    y_prob : array-like of shape (n,) or (n, k)
        Estimated probabilities of the positive label, or of each of the k labels, such as
        `FairLowRankHeadClassifier.predict_label_proba` gives.
    sensitive_features : array-like of shape (n,) or (n, columns), default=None
        The group of each row; several columns stand for their intersections. None is one group,
        "all".
    labels : array-like of shape (k,), default=None
        The label of each column of ``y_prob``, such as ``classes_``; None is those of ``y_true``,
        sorted.
    pos_label : label, default=None
        The label that is measured. None takes 1 (or True) if all labels are in {-1, 0, 1}, else the
        second of two labels; of more than two it takes each in turn, against the rest.
    sample_weight : array-like of shape (n,), default=None
        Weights >= 0.
    n_bins : int, default=10
        Bins of each group, at most: with ``strategy="quantile"`` fewer where not each would have 30
        rows.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of equal weight, those of each group its own, or of equal width.
    confidence_level : float, default=0.95
        Nominal coverage of each interval by itself, in (0, 1).

    Returns
    -------
    DataFrame
        A row for each group; of several labels for each group and "class".

        ========================= ==========================================================
        count                     number of rows
        predicted, observed       mean probability, and share of the label
        bias                      predicted minus observed: above 0 it is estimated too high
        bias_low, bias_high       its interval
        error                     how far a probability typically is off, see Notes
        error_low, error_high     its interval: above 0 it is more than chance
        ========================= ==========================================================

    Raises
    ------
    ValueError
        For missing values, other lengths, bad weights, what is no probability, columns that do not
        fit the labels, or other parameters out of range.

    Warns
    -----
    FairnessWarning
        For groups of fewer than 30 rows: their error and intervals are NaN.

    See Also
    --------
    skfairft.GroupCalibrationDisplay : The same rows, drawn.

    Notes
    -----
    *error* is the root of the mean squared difference between predicted and observed in bins, each
    with its share of the rows. Chance makes such a difference where there is none, the more so the
    fewer the rows; what it adds to the square on average is taken off [1]_ [2]_, and what then is
    below 0 is 0. The square has no bias from the number of rows, beyond that cut; its root is a
    little low where it is about as large as chance. The usual expected calibration error, a mean of
    absolute differences, is too high without end: 0.06 of 300 rows where all is calibrated.

    It is the error of the bins: differences that cancel within one are not seen, so that it is a
    lower bound of the error of single rows. Calibrated is not accurate: the share of the label, for
    all rows alike, is calibrated.

    *Intervals* are about other rows like these. That of ``bias`` is normal, that of ``error``
    inverts a noncentral chi-squared distribution. Where all is calibrated its lower end is 0 in
    97.5 % of samples or more of 95 %; elsewhere it held the error in 94 to 99 % of simulated
    samples of 60 to 10,000 rows, and that of ``bias`` in 94 % or more, but in 90 % of 60 rows whose
    label was rare and estimated too low. A row of weight 2 counts in them as one row, not two.

    *Estimates from the features alone* can be calibrated over all rows and yet not within each
    group: where rows with the same features have the label more often in one group. That is no
    fault of the estimate, and only the group itself would mend it.

    *Collections of Dask* are brought here.

    References
    ----------
    .. [1] J. Broecker, "Estimating reliability and resolution of probability forecasts through
       decomposition of the empirical score", Climate Dynamics 39, 2012.
    .. [2] Kumar, Liang and Ma, "Verified uncertainty calibration", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skfairft.metrics import calibration_error
    >>> rng = np.random.default_rng(0)
    >>> p, s = rng.random(4000), np.repeat(["a", "b"], 2000)
    >>> y = rng.random(4000) < np.where(s == "a", p, p**2)  # of b it comes less often
    >>> found = calibration_error(y, p, sensitive_features=s)
    >>> found.loc["a", ["bias", "error", "error_low", "error_high"]].round(2).tolist()
    [-0.01, 0.02, 0.0, 0.04]
    >>> found.loc["b", ["bias", "error", "error_low", "error_high"]].round(2).tolist()
    [0.17, 0.18, 0.16, 0.2]
    """
    found = group_bins(
        y_true,
        y_prob,
        sensitive_features=sensitive_features,
        labels=labels,
        pos_label=pos_label,
        sample_weight=sample_weight,
        n_bins=n_bins,
        strategy=strategy,
        confidence_level=confidence_level,
    )
    warn_of_few(found)
    return calibration_table(found, confidence_level)


def warn_of_few(found: GroupBins) -> None:
    """Name the groups whose error is NaN."""
    few = zip(found.groups, found.counts, found.alike, strict=True)
    notes = [f"{shown(group)} has {n:,}" for group, n, alike in few if alike < FEW_ROWS]
    if notes:
        warn_user(
            f"The calibration error of groups of fewer than {FEW_ROWS} rows is NaN: "
            f"{joined(notes)} (rows of weights that differ count as fewer). Merge groups or gather "
            "more rows.",
            FairnessWarning,
        )


def calibration_table(found: GroupBins, level: float) -> pd.DataFrame:
    """Return what `calibration_error` does, of rows in bins."""
    import pandas as pd

    keys, rows = [], []
    for i, group in enumerate(found.groups):
        for j, label in enumerate(found.classes):
            parts = group if isinstance(group, tuple) else (group,)
            keys.append((*parts, label) if found.several else group)
            own = found.found[i * len(found.classes) + j]
            rows.append(_numbers(own, level, few=found.alike[i] < FEW_ROWS))
    names = [*found.names, _CLASS] if found.several else found.names
    table = pd.DataFrame(rows, exact_index(keys, names), _COLUMNS[1:])
    counts = np.repeat(np.array(found.counts, dtype=np.int64), len(found.classes))
    table.insert(0, _COLUMNS[0], counts)
    return table


def _numbers(own: Bins | None, level: float, *, few: bool) -> list[float]:
    """Return a row of the table, without its count."""
    if own is None:
        return [np.nan] * (len(_COLUMNS) - 1)
    bias, error = mean_error(own, level), root_error(own, level)
    ends = [np.nan] * 5 if few else [bias.low, bias.high, *error]
    means = float(own.share @ own.predicted), float(own.share @ own.observed)
    return [*means, bias.value, *ends]


def group_bins(
    y_true: Any,
    y_prob: Any,
    *,
    sensitive_features: Any,
    labels: Any,
    pos_label: Any,
    sample_weight: Any,
    n_bins: int,
    strategy: str,
    confidence_level: float,
) -> GroupBins:
    """Check what is given to `calibration_error`, and put the rows of each group in bins."""
    _check_settings(n_bins, strategy, confidence_level)
    y_true, y_prob, sensitive_features, sample_weight = computed(
        y_true, y_prob, sensitive_features, sample_weight
    )
    truth = to_label_array(y_true, name="y_true")
    n = len(truth)
    if n == 0:
        raise ValueError("y_true has 0 rows; expected at least one.")
    p = _probabilities(y_prob, n)
    known, codes = _encoded(truth, labels, None if p.ndim == 1 else p.shape[1])
    positives = _positives(known, pos_label, 1 if p.ndim == 1 else p.shape[1])
    if sensitive_features is None:
        groups, of, names = ["all"], np.zeros(n, dtype=np.int64), ["group"]
    else:
        found, of = encode_groups(sensitive_features, n, rows_of="y_true")
        groups = found.tolist()
        names = group_names(sensitive_features, groups[0], {_CLASS, *_COLUMNS})
    warn_of_index_order(
        y_true=y_true,
        y_prob=y_prob,
        sensitive_features=sensitive_features,
        sample_weight=sample_weight,
    )
    w = weight_column(sample_weight, "sample_weight", n, rows_of="y_true")
    w = w / w.max()
    weighty = [(of == g) & (w > 0.0) for g in range(len(groups))]

    def each() -> Iterator[Bins | None]:
        for rows in weighty:
            for code in positives:
                if not rows.any():
                    yield None
                    continue
                own = p[rows] if p.ndim == 1 else p[rows, code]
                came = (codes[rows] == code).astype(np.float64)
                yield bins(came, own, w[rows], n_bins=n_bins, strategy=strategy)

    return GroupBins(
        groups=groups,
        classes=[known[code] for code in positives],
        counts=np.bincount(of, minlength=len(groups)).tolist(),
        alike=[rows_alike(w[rows]) if rows.any() else 0.0 for rows in weighty],
        found=list(each()),
        several=len(positives) > 1,
        names=names,
    )


def _check_settings(n_bins: Any, strategy: Any, confidence_level: float) -> None:
    if isinstance(n_bins, bool) or not isinstance(n_bins, Integral) or n_bins < 1:
        raise ValueError(f"n_bins={shown(n_bins)}; expected a whole number of at least 1.")
    if strategy not in ("quantile", "uniform"):
        raise ValueError(f"strategy={shown(strategy)}; expected 'quantile' or 'uniform'.")
    if not 0.0 < confidence_level < 1.0:
        raise ValueError(f"confidence_level={confidence_level!r}; expected a number in (0, 1).")


def _probabilities(y_prob: Any, n_rows: int) -> Floats:
    """Return probabilities (n,) or (n, k), k > 1, in [0, 1]."""
    table = read_table(y_prob, "y_prob", n_rows=n_rows)
    if len(table.shape) not in (1, 2) or not table.columns or table.shape[0] != n_rows:
        raise ValueError(
            f"y_prob has shape {table.shape}; expected {n_rows} rows as y_true, each with a "
            "probability of the positive label or one for each label."
        )
    p = np.stack([number_column(column, "y_prob") for column in table.columns], axis=1)
    if not ((p >= -_UNSURE) & (p <= 1.0 + _UNSURE)).all():
        strange = p[~((p >= -_UNSURE) & (p <= 1.0 + _UNSURE))][0]
        raise ValueError(
            f"y_prob holds {strange:.4g}; expected probabilities in [0, 1], as predict_label_proba "
            "or predict_proba gives, not scores."
        )
    if p.shape[1] == 1:
        return np.clip(p[:, 0], 0.0, 1.0)
    off = np.abs(p.sum(axis=1) - 1.0)
    if off.max() > _UNSURE:
        row = int(off.argmax())
        raise ValueError(
            f"The probabilities of row {row} in y_prob have sum {p[row].sum():.4g}; expected 1, "
            "with a column for each label. For one label pass its column, and pos_label."
        )
    return np.clip(p, 0.0, 1.0)


def _encoded(
    truth: NDArray[Any], labels: Any, width: int | None
) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the labels (k,) in the order of the columns, and each row's code (n,)."""
    there, codes = encode_groups(truth, len(truth), name="y_true")
    if labels is None:
        known = there.tolist()
        if width is not None and len(known) != width:
            raise ValueError(
                f"y_prob has {width} columns but y_true holds the {len(known)} labels "
                f"{shown(known)}; pass labels=, the label of each column, such as classes_."
            )
        return known, codes
    known = [python_value(label) for label in to_label_array(labels, name="labels").tolist()]
    if len(set(known)) != len(known) or (width is not None and len(known) != width):
        columns = "each once" if width is None else f"one for each of the {width} columns"
        raise ValueError(f"labels={shown(known)}; expected different labels, {columns}.")
    missing = [label for label in there.tolist() if label not in known]
    if missing:
        raise ValueError(
            f"y_true holds {joined([shown(label) for label in missing])}, which is not among "
            f"labels={shown(known)}; pass all of them, in the order of the columns."
        )
    return known, np.array([known.index(label) for label in there.tolist()])[codes]


def _positives(known: list[Any], pos_label: Any, width: int) -> list[int]:
    """Return the codes of the labels that are measured; a label 1 that no row has is added."""
    if pos_label is not None:
        if pos_label not in known:
            raise ValueError(
                f"pos_label={shown(pos_label)} does not occur in y_true; the labels are "
                f"{shown(known)}. If it could have, pass labels=, too."
            )
        return [known.index(pos_label)]
    if width > 2:
        return list(range(width))
    if all(label in (-1, 0, 1) for label in known) and len(known) <= 2:
        if 1 not in known:
            known.append(1)
        return [known.index(1)]
    if len(known) != 2:
        raise ValueError(
            f"y_prob has one number for each row, and y_true holds {shown(known)}; expected two "
            "labels. Pass pos_label=, the label whose probability it is, or a column for each."
        )
    return [1]
