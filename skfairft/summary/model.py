"""A summary of a classifier: its figures, and how they read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inputs.words import group_name, named
from ..parity.demands import Bound, Demand, each_of
from ..solvers.maximin import WorstGroup
from .weighting import WEIGHTINGS, Weighting

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ModelSummary"]

# Longer names of classes and groups are cut.
_LONGEST_NAME = 40

# Of many cells the first.
_MOST_CELLS = 4


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """What a `FairLowRankHeadClassifier` is made of; `summarize` makes it.

    What only ``fit`` can tell is None before it.

    Parameters
    ----------
    fitted : bool
        Whether the classifier is fitted.
    backbone : str or None
        Class of the frozen module. None: X already holds the features.
    backbone_parameters : int or None
        All parameters of that module, also of parts whose output is not used; 0
        without a module. None: they cannot be counted (an ONNX file, whose weights
        are not parameters of torch; a lazy module that has not run yet).
    layer, output, pool : str, int or None
        What is taken from the module, see `FrozenFeatureExtractor`.
    prepared_by : tuple of str, default=()
        What the rows go through before the module, or the head, gets them, in this order: steps of
        a pipeline, and ``preprocess`` of the extractor.
    dtype : str or None, default=None
        Of mixed precision, see `FrozenFeatureExtractor`.
    n_features_in : int or None
        Columns of X; None also for texts, files and datasets.
    n_features : int or None
        Features d that the head gets.
    classes, groups : tuple or None
        As ``classes_`` and ``groups_``.
    positive : label or None, default=None
        As ``pos_label_``: the positive class, None where each of several is in turn.
    groups_given : bool or None
        Whether ``fit`` got sensitive features.
    rows_with_group : tuple of two int, or None, default=None
        As ``rows_with_group_``: how many rows came with their group, and how many there were;
        None if all did.
    recalibrated_rows : int or None, default=None
        As ``recalibrated_rows_``: by how many later rows the votes were found anew.
    widths : tuple of int or None
        Width of the features, of each layer of the head, and of its output: ``(d, k)``
        for a linear head, ``(d, h, k)`` with a hidden layer. Where cells vote the output is
        that of the cells.
    cells : int or None
        With `PlugIn`, the cells of class and group that the head tells apart, and that a
        table of votes turns into classes. None for other solvers.
    rank_asked : int, float or None
        The parameter ``rank``.
    factorized : bool or None
        Whether the head has two factors, and not one matrix.
    rank : int or None
        As ``rank_``.
    full_rank : int or None
        The largest rank that the factorized layer can have.
    head_parameters : int or None
        Parameters of the head: what is trained.
    full_head_parameters : int or None
        Parameters of a head of the same widths with one matrix in place of factors.
    importance : str
        As the parameter.
    solver : str
        Its name, or with other parameters than the defaults its repr.
    solver_caveats : tuple of (str, str)
        Topic and text of what its solver says of such a model.
    told_caveats : tuple of (str, str)
        The same for predictions that are told the groups.
    demands : tuple of Demand
        What is asked of the rates: constraints with their bounds or weights.
    fairness_weight : float, tuple of float or None
        The weight in use, of an unfitted classifier the parameter.
    bounds : tuple of Bound
        As ``bounds_``: what was reached on the rows that judged the bounds.
    confidence : float or None
        As the parameter.
    worst : WorstGroup or None
        As ``worst_group_``.
    by_column : bool, default=False
        Whether the constraint compares each of several sensitive columns by itself.

    Examples
    --------
    >>> from torch import nn
    >>> from skfairft import FairLowRankHeadClassifier
    >>> from skfairft.datasets import make_biased_classification
    >>> from skfairft.summary import summarize
    >>> X, y, s = make_biased_classification(n_samples=500, random_state=0)
    >>> backbone = nn.Sequential(nn.Linear(10, 32), nn.ReLU())
    >>> clf = FairLowRankHeadClassifier(backbone, rank=1).fit(X, y, sensitive_features=s)
    >>> summary = summarize(clf)
    >>> summary.head_parameters, summary.full_head_parameters
    (36, 66)
    >>> print(summary)
    backbone    Sequential, 352 parameters, frozen: never trained here
    features    32
    classes     2: 0, 1; positive: 1
    groups      2: 0, 1
    head        32 -> 2, rank 1 of 2: 36 parameters, 45.5 % fewer than 66 at full rank
    importance  fisher
    constraint  none
    solver      fine_tune
    network     388 parameters in all
    """

    fitted: bool
    backbone: str | None
    backbone_parameters: int | None
    layer: str | None
    output: str | int | None
    pool: str | None
    prepared_by: tuple[str, ...] = ()
    dtype: str | None = None
    n_features_in: int | None = None
    n_features: int | None = None
    classes: tuple[Any, ...] | None = None
    groups: tuple[Any, ...] | None = None
    positive: Any = None
    groups_given: bool | None = None
    rows_with_group: tuple[int, int] | None = None
    recalibrated_rows: int | None = None
    widths: tuple[int, ...] | None = None
    cells: int | None = None
    rank_asked: int | float | None
    factorized: bool | None = None
    rank: int | None = None
    full_rank: int | None = None
    head_parameters: int | None = None
    full_head_parameters: int | None = None
    importance: str
    solver: str
    solver_caveats: tuple[tuple[str, str], ...]
    told_caveats: tuple[tuple[str, str], ...]
    demands: tuple[Demand, ...]
    fairness_weight: float | tuple[float, ...] | None
    bounds: tuple[Bound, ...] = ()
    confidence: float | None = None
    worst: WorstGroup | None = None
    by_column: bool = False

    @property
    def constraints(self) -> tuple[str, ...]:
        """Names of the constraints, each once."""
        return tuple(dict.fromkeys(each.constraint for each in self.demands))

    @property
    def constrained(self) -> bool:
        """Whether a constraint is in force."""
        return bool(self.demands) and bool(np.any(self.fairness_weight or 0.0))

    @property
    def frozen(self) -> bool:
        """Whether there is a backbone, which is then never trained by the classifier."""
        return self.backbone is not None

    @property
    def decomposed(self) -> bool:
        """Whether the head, or what its training started from, is of a weighted SVD.

        So it is with two factors, and where the SVD meets a constraint.
        """
        return bool(self.factorized) or (self.constrained and self.cells is None)

    @property
    def weighting(self) -> Weighting:
        """What the importance weighted, in words."""
        words = WEIGHTINGS[self.importance]
        return words if self.decomposed else words.unused()

    @property
    def share_saved(self) -> float | None:
        """Share of the full head's parameters that low rank saves.

        Two factors can have more parameters than the one matrix in their place: of a
        small head it is negative.
        """
        if self.head_parameters is None or self.full_head_parameters is None:
            return None
        return 1.0 - self.head_parameters / self.full_head_parameters

    @property
    def network_parameters(self) -> int | None:
        """Parameters of backbone and head together; None where either is not known."""
        if self.backbone_parameters is None or self.head_parameters is None:
            return None
        return self.backbone_parameters + self.head_parameters

    def lines(self) -> list[tuple[str, str]]:
        """Return the summary in words, as pairs of a name and a text.

        Returns
        -------
        list of (str, str)
            Plain text; in names of classes and groups, what is unseen is written as in a Python
            string, and markup is as it came.
        """
        rows = []
        if self.prepared_by:
            rows.append(("inputs", f"through {', then '.join(self.prepared_by)}"))
        rows.append(("backbone", self.describe_backbone()))
        if self.n_features is not None:
            rows.append(("features", f"{self.n_features:,}"))
        if self.classes is not None:
            rows.append(("classes", self.describe_classes()))
        if self.groups is not None:
            rows.append(("groups", self.describe_groups()))
        rows += [
            ("head", self.describe_head()),
            ("importance", self.importance),
            ("constraint", self.describe_constraint()),
            *([] if self.worst is None else [("worst cell", self.describe_worst())]),
            ("solver", self.describe_solver()),
        ]
        if self.network_parameters is not None:
            rows.append(("network", f"{self.network_parameters:,} parameters in all"))
        return rows

    def text(self, width: int = 88) -> str:
        """Return the summary as plain text.

        Parameters
        ----------
        width : int, default=88
            Characters after which a line is broken.

        Returns
        -------
        str
            A name and its text per line; names stand on the left.
        """
        rows = self.lines()
        indent = " " * (max(len(name) for name, _ in rows) + 2)
        return "\n".join(
            fill(
                text,
                width,
                initial_indent=name.ljust(len(indent)),
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
            for name, text in rows
        )

    def __str__(self) -> str:
        return self.text()

    def to_frame(self) -> pd.DataFrame:
        """Return the figures as one row of a table, to set beside those of other classifiers.

        Returns
        -------
        DataFrame
            One row; the fields, and the shares and sums that follow from them.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier
        >>> from skfairft.summary import summarize
        >>> frame = summarize(FairLowRankHeadClassifier(rank=2)).to_frame()
        >>> frame[["rank_asked", "solver"]]
           rank_asked     solver
        0           2  fine_tune
        """
        import pandas as pd

        derived = {name: getattr(self, name) for name in ("share_saved", "network_parameters")}
        return pd.DataFrame([{**asdict(self), **derived}])

    def describe_backbone(self) -> str:
        """Return the backbone in one line: class, parameters, what is taken from it."""
        if self.backbone is None:
            return "none (X holds the features)"
        count = "parameters not known"
        if self.backbone_parameters is not None:
            count = f"{self.backbone_parameters:,} parameters"
        taken = {"layer": self.layer, "output": self.output, "pool": self.pool}
        taken["dtype"] = self.dtype
        settings = [f"{name} {value!r}" for name, value in taken.items() if value is not None]
        return ", ".join([self.backbone, *settings, count, "frozen: never trained here"])

    def describe_classes(self) -> str:
        """Return how many classes there are, their names, and which is the positive one."""
        if self.classes is None:
            return "not fitted"
        each = "each in turn" if self.positive is None else _listed((self.positive,))
        return f"{len(self.classes):,}: {_listed(self.classes)}; positive: {each}"

    def describe_groups(self) -> str:
        """Return how many groups there are, and their names."""
        if self.groups is None:
            return "not fitted"
        if not self.groups_given:
            return "none were given to fit"
        names = f"{len(self.groups):,}: {_listed(self.groups)}"
        return names if self.rows_with_group is None else f"{names}; {self.describe_known()}"

    def describe_known(self) -> str:
        """Return how many rows told of the groups, and when that holds for the others."""
        if self.rows_with_group is None:
            return "known of each row"
        known, rows = self.rows_with_group
        return (
            f"groups estimated on {known:,} known rows of {rows:,}, valid if missingness depends "
            "on x and y only"
        )

    def describe_head(self) -> str:
        """Return the head in one line: widths, rank, parameters, what low rank saves."""
        if self.widths is None:
            asked = "full rank" if self.rank_asked is None else f"rank={self.rank_asked!r}"
            return f"not fitted; {asked} asked for"
        shape = " -> ".join(f"{width:,}" for width in self.widths)
        if self.cells is not None:
            shape += " (cells of class and group, which vote)"
        return f"{shape}, {self.describe_rank()}: {self.describe_savings()}"

    def describe_rank(self) -> str:
        """Return the rank, and the largest one possible."""
        if not self.factorized:
            return f"full rank {self.full_rank}, without factors"
        return f"rank {self.rank} of {self.full_rank}"

    def describe_savings(self) -> str:
        """Return the head's parameters beside those at full rank."""
        head, full, share = self.head_parameters, self.full_head_parameters, self.share_saved
        if head is None or full is None or share is None:
            return "not fitted"
        if head == full:
            return f"{head:,} parameters"
        compared = f"{100 * abs(share):.1f} % {'fewer' if share > 0 else 'more'} than {full:,}"
        return f"{head:,} parameters, {compared} at full rank"

    def describe_constraint_asked(self) -> str:
        """Return the constraint that was asked for, with its weight or bound."""
        if not self.demands:
            return "none"
        by = " of each column by itself" if self.by_column else ""
        asked = []
        weights = self._weights()
        for demand, weight in zip(self.demands, weights, strict=True):
            what = f"{demand.constraint}{by}, "
            if demand.bound is not None:
                least = "least" if demand.ratio else "most"
                what += f"{demand.form} of at {least} {demand.bound:.3g}"
            else:
                what += "no weight yet" if weight is None else f"weight {weight:.3g}"
            asked.append(what)
        bounded = any(demand.bound is not None for demand in self.demands)
        sure = f" with confidence {self.confidence:.3g}" if self.confidence and bounded else ""
        sure = f"; all{sure}" if sure and len(asked) > 1 else sure
        return f"{'; '.join(asked)}{sure}"

    def describe_constraint(self) -> str:
        """Return the constraint in one line: of what, how much, and how near it came."""
        asked = self.describe_constraint_asked()
        if not self.bounds:
            return asked
        reached = []
        for bound in self.bounds:
            low, high = bound.interval
            sure = ""
            if self.confidence is not None:
                within = "at least" if bound.form == "ratio" else "within"
                sure = f", {within} {bound.limit:.3f} with it"
            reached.append(
                f"{bound.value:.3f} on the judged rows (95 % interval {low:.3f} to "
                f"{high:.3f}{sure})"
            )
        weights = " and ".join(f"{weight or 0.0:.3g}" for weight in self._weights())
        return f"{asked}: {' and '.join(reached)}, at weight {weights}"

    def _weights(self) -> list[float | None]:
        """Return the weight of each demand."""
        return each_of(self.fairness_weight, len(self.demands))

    def describe_solver(self) -> str:
        """Return the solver, and whether its votes are of other rows than those of the fit."""
        later = self.recalibrated_rows
        return self.solver if later is None else f"{self.solver}; votes of {later:,} later rows"

    def describe_worst(self) -> str:
        """Return what the decisions are to reach in the worst cell, and the price."""
        if self.worst is None:
            return "not estimated"
        found = self.worst
        first, rest = found.binding[:_MOST_CELLS], found.binding[_MOST_CELLS:]
        cells = [f"{_cell(label, group)} ({100.0 * share:.0f} %)" for label, group, share in first]
        held = ", ".join(cells) + (f" and {len(rest)} more" if rest else "")
        price = 100.0 * (found.plain_accuracy - found.accuracy)
        return (
            f"expected error {found.error:.3f}, of decisions by these probabilities at least "
            f"{found.limit:.3f}; held down: {held}; "
            f"fewest rows: {found.rows:,}, {_cell(*found.smallest)}; price: {price:.1f} points of "
            "accuracy"
        )

    @property
    def met(self) -> bool:
        """Whether the fit met its bounds; without any it did."""
        return all(bound.met for bound in self.bounds)


def _cell(label: Any, group: Any) -> str:
    """Return a cell in words."""
    of = "" if label is None else f"class {group_name(label)} of "
    return f"{of}group {group_name(group)}"


def _listed(names: tuple[Any, ...]) -> str:
    """Return the first of some names, long ones cut, and how many more there are."""
    return named(names, longest=_LONGEST_NAME)
