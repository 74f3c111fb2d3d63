"""The whole trade-off of a classifier: fairness weights, ranks and solvers on held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from torch import Tensor
from tqdm.auto import tqdm

from .backbone.modes import training_modes
from .classifier import FairLowRankHeadClassifier
from .fitting import check_for, check_parameters, features_of, fitted_copy, prepare
from .head.modules import head_scores, shift_scores
from .inputs.by_name import by_name
from .inputs.columns import is_row
from .inputs.exceptions import FairnessWarning
from .inputs.held_out import HeldOut, read_held_out, refuse_other_width
from .inputs.tensors import to_array
from .inputs.warn import warn_user
from .inputs.words import shown
from .parity.auc import auc_with_error
from .parity.checks import refuse_alone
from .parity.constraints import parity
from .parity.judge import JudgedRows, interval_around, pareto_front
from .rows.blocks import threads_over_blocks
from .rows.tensor_rows import TensorRows
from .solvers.base import Solver
from .solvers.checks import report_void
from .solvers.problem import FittedHead, Problem
from .solvers.registry import resolve_solver

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


class _Candidate(NamedTuple):
    """A head and its decisions on the held-out rows."""

    label: str  # of its solver
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
        One row per point. Columns: ``solver`` (its name, or with other parameters than the
        defaults its repr), ``rank`` (as asked for), ``fairness_weight``,
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


@by_name
def fairness_path(
    clf: FairLowRankHeadClassifier,
    X: Any,
    y: ArrayLike,
    *,
    sensitive_features: Any,
    sample_weight: ArrayLike | None = None,
    weights: int | ArrayLike = 25,
    ranks: Sequence[int | float | None] | None = None,
    solvers: Sequence[str | Solver] | None = None,
    thresholds: int = 13,
    held_out: float | tuple[Any, Any, Any] | tuple[Any, Any, Any, Any] | list[Any] = 0.25,
    n_boot: int = 1000,
) -> FairnessPath:
    """Fit a classifier for many fairness weights and measure each on held-out rows.

    The features are extracted once, what does not depend on the weight is computed once, and the
    training of each head starts at the one before.

    Parameters
    ----------
    clf : FairLowRankHeadClassifier
        With a ``constraint``. It is not changed, and its own ``fairness_weight`` is not used.
    X, y, sensitive_features, sample_weight
        As for its `fit`, n rows.
    weights : int or array-like of shape (m,), default=25
        Fairness weights in [0, 1], each of which is taken once; an int is that many, at least 2,
        from 0 to 1.
    ranks : sequence or None, default=None
        Ranks, each once; None is that of ``clf``.
    solvers : sequence of str or solvers, or None, default=None
        Solvers, by name or with parameters, each once; None is that of ``clf``.
    thresholds : int, default=13
        With two classes, each head is also tried with thresholds at which the share of positive
        decisions, by sample weight, is nearest to 0.7 to 1.3 times its own, so many of them; those
        on the front are kept. 1 leaves thresholds alone. The column ``positive_share`` says how
        many times.
    held_out : float, tuple or list, default=0.25
        Share of the rows, stratified by class and group, on which the points are measured, each
        with its ``sample_weight`` (without the classifier's ``class_weight``). Or other rows to
        measure them on: ``(X, y, sensitive_features)``, each of weight 1, or
        ``(X, y, sensitive_features, sample_weight)``, h rows, with weights of shape (h,) that are
        not negative. Rows of weight zero change nothing. Each rate of the constraint must have
        rows of at least two groups.
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
        As `fit`; for a classifier without constraint or with a bound; for settings other than
        those above; for held-out rows that `fit` would refuse, of classes or groups that the
        training rows lack, or on which groups cannot be compared. Labels, groups and weights are
        looked at before the extractor runs; of a share only after it whether groups can be
        compared.
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
    constraint, weights = _check(clf, weights, thresholds, held_out, n_boot)
    variants = _variants(clf, ranks, solvers)
    clf = clone(clf)
    given, apart = None, None
    if isinstance(held_out, (tuple, list)):
        given = read_held_out(*held_out)
        if clf.feature_extractor is None:
            refuse_other_width(given.X, X)
    else:
        apart = held_out

    def check(classes: NDArray[Any], groups: NDArray[Any]) -> None:
        for one in variants:
            check_for(one, len(classes))
        report_void(variants, len(classes))
        if given is not None:
            shape = len(classes), len(groups)
            w = torch.from_numpy(given.w)
            refuse_alone(constraint, *given.encoded(classes, groups), w, shape=shape)

    with training_modes():
        problem, random_state = prepare(
            clf, X, y, sample_weight, sensitive_features, apart=apart, check=check
        )
        to_fit, outside = problem.split()
        if given is not None:
            outside = _measured(clf, given)
    assert outside is not None
    assert outside.codes is not None
    shape = len(clf.classes_), len(clf.groups_)  # which rows a share is, is known only here
    refuse_alone(constraint, outside.y, outside.codes, outside.w, shape=shape)
    seed = random_state.randint(np.iinfo(np.int32).max)
    judge = JudgedRows(outside, parity(constraint, len(clf.classes_)), clf.groups_)
    judge.warn_of_empty()
    heads = _heads(variants, to_fit, weights, seed)
    total = len(weights) * len(variants)
    candidates: list[_Candidate] = []
    with training_modes(), threads_over_blocks():
        try:
            for label, settings, fitted in tqdm(
                heads, total=total, disable=not clf.verbose, unit="head"
            ):
                if fitted.interrupted:
                    raise KeyboardInterrupt
                candidates.append(_candidate(label, settings, fitted, judge))
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
            fitted_copy(
                clf,
                each.fitted.with_head(shift_scores(each.fitted.head, each.shift)),
                **each.settings,
            )
            for each in candidates
        ],
        constraint=constraint,
        n_held_out=len(outside),
    )


def _check(
    clf: FairLowRankHeadClassifier, weights: Any, thresholds: Any, held_out: Any, n_boot: Any
) -> tuple[str, NDArray[np.float64]]:
    if clf.constraint is None or clf.difference_bound is not None:
        raise ValueError(
            f"fairness_path got a classifier with constraint={clf.constraint!r} and "
            f"difference_bound={clf.difference_bound!r}; it draws the whole curve of a constraint "
            "without a bound. Afterwards path.choose(difference_bound) picks a point."
        )
    if clf.warm_start:
        raise ValueError(
            "fairness_path got a classifier with warm_start=True; it fits all heads anew. Set "
            "warm_start=False."
        )
    for name, value, least, which in (
        ("thresholds", thresholds, 1, "leaves thresholds alone"),
        ("n_boot", n_boot, 0, "is without resamples"),
    ):
        if not _is_a(Integral, value) or value < least:
            raise ValueError(
                f"{name}={shown(value)}; expected a whole number of at least {least}, which "
                f"{which}."
            )
    parts = isinstance(held_out, (tuple, list))
    share = _is_a(Real, held_out) and 0 < held_out < 1
    if not (share or (parts and len(held_out) in (3, 4))):
        kind = type(held_out).__name__
        raise ValueError(
            f"held_out{f' is a {kind} of {len(held_out)}' if parts else f'={shown(held_out)}'}; "
            "expected a share in (0, 1), or a tuple (X, y, sensitive_features) or (X, y, "
            "sensitive_features, sample_weight)."
        )
    return clf.constraint, _read_weights(weights)


def _is_a(kind: type, value: Any) -> bool:
    """Tell whether a value is a number of a kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _read_weights(weights: Any) -> NDArray[np.float64]:
    """Return the fairness weights, in their order."""
    if _is_a(Integral, weights) and weights >= 2:
        return np.linspace(0.0, 1.0, int(weights))
    # As objects, because beside numbers True would become one.
    values = np.asarray(to_array(weights, "weights"), dtype=object)
    if (
        values.ndim != 1
        or not len(values)
        or not all(_is_a(Real, value) and 0 <= value <= 1 for value in values)
    ):
        raise ValueError(
            f"weights={shown(weights)}; expected fairness weights in [0, 1], such as [0.0, 0.5, "
            "1.0], or how many, a whole number of at least 2."
        )
    return np.unique(values.astype(np.float64))


def _variants(
    clf: FairLowRankHeadClassifier, ranks: Any, solvers: Any
) -> list[FairLowRankHeadClassifier]:
    """Return the classifier with each solver and rank, checked."""
    tried: dict[str, list[Any]] = {"solvers": [clf.solver], "ranks": [clf.rank]}
    for name, values in (("solvers", solvers), ("ranks", ranks)):
        if values is None:
            continue
        several = is_row(values) or isinstance(values, Sequence)
        if not several or isinstance(values, str) or not len(values):
            raise ValueError(
                f"{name}={shown(values)}; expected a list of {name}, at least one. None is that of "
                "clf."
            )
        tried[name] = list(values)
    # A name means the solver with its defaults, but that of clf with the parameters that it has.
    own = {} if isinstance(clf.solver, str) else {clf.solver.name: clf.solver}
    variants = [
        clone(clf).set_params(
            solver=own.get(solver, solver) if isinstance(solver, str) else solver,
            rank=rank,
            fairness_weight=None,
        )
        for solver in tried["solvers"]
        for rank in tried["ranks"]
    ]
    for one in variants:
        check_parameters(one)
    tried["solvers"] = [one.solver for one in variants[:: len(tried["ranks"])]]
    for name, values in tried.items():
        if any(_same(a, b) for a, b in combinations(values, 2)):
            raise ValueError(
                f"{name}={shown(values)} holds a value twice, and its points would be the same; "
                "name each once."
            )
    return variants


def _same(a: Any, b: Any) -> bool:
    """Tell whether two ranks or two solvers are the same."""
    if isinstance(a, (str, Solver)):
        a, b = resolve_solver(a), resolve_solver(b)
        return type(a) is type(b) and a.get_params(deep=False) == b.get_params(deep=False)
    # The rank 1 is one direction, 1.0 a share of all.
    return bool(a == b) and isinstance(a, Integral) == isinstance(b, Integral)


def _labels(variants: Sequence[FairLowRankHeadClassifier]) -> list[str]:
    """Return what each variant's solver is called; those of one name are numbered."""
    named: dict[str, list[Any]] = {}
    out = []
    for one in variants:
        solver = resolve_solver(one.solver)
        same = named.setdefault(solver.label(), [])
        if not any(_same(solver, other) for other in same):
            same.append(solver)
        number = next(i for i, other in enumerate(same) if _same(solver, other))
        out.append(solver.label() + (f" ({number + 1})" if number else ""))
    return out


def _heads(
    variants: Sequence[FairLowRankHeadClassifier],
    problem: Problem,
    weights: NDArray[np.float64],
    seed: int,
) -> Iterator[tuple[str, dict[str, Any], FittedHead]]:
    """Yield the name of each head's solver, its parameters that set it apart, and the head."""
    for one, label in zip(variants, _labels(variants), strict=True):
        fitter = resolve_solver(one.solver).fitter(replace(problem, rank=one.rank), seed)
        apart = {"solver": one.solver, "rank": one.rank}
        for weight, fitted in zip(weights, fitter.fit_path(weights), strict=True):
            yield label, {**apart, "fairness_weight": float(weight)}, fitted


def _measured(clf: FairLowRankHeadClassifier, given: HeldOut) -> TensorRows:
    """Return rows to measure on in the classes and groups of the classifier."""
    labels, groups = given.encoded(clf.classes_, clf.groups_)
    rows = TensorRows(features_of(clf, given.X), labels, torch.from_numpy(given.w), groups)
    # A resample would draw rows of weight zero, too.
    return rows if given.w.all() else rows.take(np.flatnonzero(given.w))


def _candidate(
    label: str, settings: dict[str, Any], fitted: FittedHead, judge: JudgedRows
) -> _Candidate:
    scores = head_scores(fitted.head, judge.rows.Z)
    shift = torch.zeros(scores.shape[1], dtype=torch.float64)
    return _Candidate(label, settings, fitted, scores, 1.0, shift, judge.table(judge.cells(scores)))


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


def _frame(candidates: list[_Candidate], judge: JudgedRows, n_boot: int, seed: int) -> pd.DataFrame:
    """Return the table of all points."""
    import pandas as pd

    points = judge.metrics(np.stack([each.table for each in candidates]))
    records = []
    areas: dict[int, tuple[float, float]] = {}  # a moved threshold changes no rank
    for i, each in enumerate(candidates):
        record = {**each.settings, "solver": each.label, "positive_share": each.share}
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
