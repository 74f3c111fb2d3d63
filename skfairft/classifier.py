"""The estimator: validate, call, store. The arithmetic is in the other modules."""

from __future__ import annotations

import copy
import inspect
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from numbers import Integral, Real
from typing import Any, ClassVar, ParamSpec, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .backbone.extractor import FrozenFeatureExtractor, changed_since_fit
from .backbone.forward import device_of
from .backbone.modes import training_modes
from .backbone.module_copy import copy_module, switch_to_evaluation
from .backbone.modules import ModuleParamsMixin, all_or_nothing, around
from .backbone.plain import plain_module
from .fitting import check_parameters, prepare
from .head.modules import (
    DeployedModel,
    DeployedModelWithGroups,
    HeadWithGroups,
    single_score_head,
)
from .inputs.by_name import by_name
from .inputs.index_order import warn_of_index_order
from .inputs.lazy import computed, is_lazy
from .inputs.warn import warn_user
from .inputs.words import shown
from .lowrank.importance import IMPORTANCES
from .parity.demands import Bound
from .parity.levels import GROUPS
from .predicting import check_told, outputs
from .recalibrating import recalibrate
from .rows.blocks import threads_over_blocks
from .rows.chunks import read_chunks
from .saving import write_classifier
from .solvers.base import Solver
from .solvers.bound import only_bound
from .solvers.checks import check_weight_or_bound, demands_of, report_idle_folds, report_void
from .solvers.fine_tune import FineTune
from .solvers.registry import SOLVERS, resolve_solver
from .solving import solve
from .summary.box import classifier_block
from .summary.read import summarize

__all__ = ["FairLowRankHeadClassifier"]

P = ParamSpec("P")

# Parameters of training, which are the solver's.
OF_TRAINING = frozenset(inspect.signature(FineTune).parameters)


def _moved(names: Sequence[str], solver: Any) -> str:
    """Return where parameters of training are to be given."""
    kind = SOLVERS.get(solver) if isinstance(solver, str) else type(solver)
    if "validation_fraction" in names:
        return (
            "validation_fraction: cv says now which rows judge difference_bound, a number of folds "
            "or a share; those that stop a training early by the solver, as in "
            "solver=FineTune(validation_fraction=...)."
        )
    known = [name for name in names if kind and name in inspect.signature(kind).parameters]
    if kind is None or known != list(names):
        return f"the solver {solver!r} has no {', '.join(sorted(set(names) - set(known)))}."
    settings = ", ".join(f"{name}=..." for name in names)
    return (
        f"{', '.join(names)}: set these of the solver, solver={kind.__name__}({settings}), or as "
        f"solver__{names[0]} in set_params and searches."
    )


def _names_the_solver(init: Callable[P, None]) -> Callable[P, None]:
    """Say where parameters of training are, to who gives them to the classifier."""

    @wraps(init)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        strays = sorted(kwargs.keys() & OF_TRAINING - inspect.signature(init).parameters.keys())
        if strays:
            raise TypeError(_moved(strays, kwargs.get("solver", "fine_tune")))
        init(*args, **kwargs)

    return call


class FairLowRankHeadClassifier(ModuleParamsMixin, ClassifierMixin, BaseEstimator):
    """A small classification head on a frozen network, held to parity between groups.

    Give it a backbone, and say which rate is to be alike in all groups, how nearly, and with which
    confidence on other rows. Groups are needed to fit, and not to predict:

    >>> import torch
    >>> from skfairft import FairLowRankHeadClassifier
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=2000, disparity=0.4, random_state=0)
    >>> _ = torch.manual_seed(0)
    >>> backbone = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.ReLU())  # yours
    >>> clf = FairLowRankHeadClassifier(
    ...     backbone, constraint="demographic_parity", difference_bound=0.1, confidence=0.95,
    ...     solver="plug_in", random_state=0,
    ... ).fit(X, y, sensitive_features=s)
    >>> bool(clf.difference_limit_ <= 0.1), clf.predict(X[:3]).shape
    (True, (3,))

    The parameters, by what they are for:

    - the network: ``feature_extractor``;
    - what is to be alike, and how nearly: ``constraint`` with ``difference_bound`` or
      ``ratio_bound`` (``confidence``, ``cv``), or with a ``fairness_weight``; of which class
      (``pos_label``), between which ``groups``, and what of ``missing_groups``;
    - by which ``solver``: "plug_in" where the group may be estimated from the features;
    - the head: ``rank`` (how small), ``head`` (to start from), ``importance``, ``group_weights``
      and ``neutral_loss`` (which weights and groups count), ``C``, ``class_weight`` and
      ``warm_start``;
    - where and how it runs: ``device``, ``random_state``, ``verbose``.

    Without a constraint it is the paper's method, which does not make predictions fair: it measures
    which weights of a linear head matter to which group (empirical Fisher information, Eq. 1 of
    [1]_), neutralizes that importance (Eq. 2), factorizes the head by an SVD weighted with it
    (Eq. 4), and fine-tunes the two small factors with skorch. `fairness_path` shows what a
    constraint costs.

    Parameters
    ----------
    feature_extractor : nn.Module, FrozenFeatureExtractor or None, default=None
        Maps rows of X to features. None means that X already is the features.
        Clones of the classifier share it.
    constraint : str, list of str or None, default=None
        Which rates are to be equal between the groups: "demographic_parity" (of
        positive predictions), "equalized_odds" (true and false positive rates),
        "true_positive_rate_parity", "false_positive_rate_parity",
        "true_negative_rate_parity", "false_negative_rate_parity", or
        "error_rate_parity". They are rates of the positive class, see ``pos_label``. Or
        which rate is to be small where it is largest: "worst_group" (the error of a
        class of a group), "worst_error_rate" (that of a group),
        "worst_false_negative_rate" or "worst_false_positive_rate". A list, with "plug_in",
        is kept as a whole: each constraint with the bound or weight that stands at its place
        in a list of these, or with one number for all.
    difference_bound : float, list of float or None, default=None
        In place of a weight: the weakest one is looked for whose distance between
        the groups (see `skfairft.metrics`; for equalized odds the sum of the
        differences in true and in false positive rate), or whose largest rate, is at most
        this on the rows that ``cv`` judges. Below 1, and for equalized odds below 2, which
        every head meets. Of several constraints each is within its own; None at a place is
        no such bound.
    ratio_bound : float, list of float or None, default=None
        In place of a difference, or beside it: the least that the smallest rate of a group may
        be, divided by the largest, in (0, 1]; 0.8 is the four-fifths rule. For equalized odds
        that holds for both rates. "plug_in" looks for the most accurate rule of that ratio, the
        others for the weakest weight that reaches it.
    confidence : float or None, default=None
        With which the distance is to be within ``difference_bound``, and the ratio above
        ``ratio_bound``, on other rows of the same kind, in [0.5, 1): the upper confidence limit
        of the distance is then held to the bound, not the distance itself. 0.95 is a good
        choice. Without one, expect the distance on other rows to be above the bound about
        every other time.
    cv : int, float, splitter or iterable, default=5
        Which rows judge a bound, by heads that have not seen them. An int
        is that many folds, alike by class and group; a splitter of scikit-learn, or an
        iterable of pairs of row numbers (to fit, to judge), judges each row once at most,
        such as ``list(GroupKFold().split(X, y, people))``. Heads of each fold judge, and a
        head on all rows is handed out. A float in (0, 1) is a share of the rows held out
        for it alone: less sure, but only one head of each weight is fitted. A splitter and
        pairs also divide the rows by which ``C="auto"`` chooses.
    fairness_weight : float, list of float or None, default=None
        How much the constraint counts, in [0, 1]: about the share of the disparity
        that is taken away, whatever the data. 0 is no constraint, 1 as much parity
        as the head can have on the training rows: of mean probabilities where it is
        trained, of mean scores in closed form, of decisions by the plug-in rule. A
        constraint needs this or ``difference_bound``. Where the groups do not differ,
        nothing is taken away. Of a largest rate it is the part that it has beside accuracy
        (trained: beside the mean loss); for "worst_group" and "worst_error_rate" None is 0.9.
        In a list it is, of each, the share of what could be taken away if it stood alone.
    pos_label : label or None, default=None
        The positive class, whose rates the constraint is about, against the rest: one of the
        labels in ``y``. None is the last of two classes (``classes_[1]``, or the last category
        where ``y`` is an ordered categorical), and of more each in turn. Reports of the
        classifier take it, too. The order of ``classes_``, and of what follows it, stays. An
        error is one whatever the class; the closed form holds the mean scores of all classes.
    groups : {"intersections", "columns"}, default="intersections"
        What the constraint compares where there are several sensitive columns: their
        combinations that occur, each a group of its own; or each column by itself, men with
        women, and one race with another, whatever the other column says: then the distance is
        the largest of the columns. Parity by column is the weaker demand: it does not bring
        parity of the combinations. Everything else is of the combinations, ``groups_``, either
        way.
    missing_groups : {"error", "estimate"}, default="error"
        What `fit` does where ``sensitive_features`` lacks values. "estimate", of a solver that can
        ("plug_in"), learns the label from all rows and the group, given features and label, from
        those that have one; a row without counts in each group by how likely it is, where it is
        fitted, judged and measured (``group_importance_``). Of several columns a row lacks its
        group if it lacks one of them. At least 5 rows of each group, and of each class in it (in
        each level, with ``groups="columns"``) that the constraint asks for, must have it. All holds
        if missing depends on features and label only: where the groups differ in it beyond that,
        nothing in the data tells. Confidence limits are of no more rows than those with a group.
        Without missing values nothing changes.
    solver : {"fine_tune", "closed_form", "plug_in"} or solver, default="fine_tune"
        How the head comes to meet the constraint, as an object that holds its own
        parameters, or the name of one with its defaults. "fine_tune" (`FineTune`): the two
        factors are trained against a penalty on the differences of the mean probabilities.
        "closed_form" (`ClosedForm`): nothing is trained; the SVD is penalized with the
        differences of the mean scores, and the bias is fitted anew. "plug_in" (`PlugIn`): the
        head estimates the probabilities of class and group together, and the most accurate
        rule of parity decides by them. In searches ``solver__lr`` and the like set its
        parameters, also of one that is given by name.
    rank : int, float or None, default=None
        Rank r of the factors. An int above min(d, k) is used as min(d, k). A float
        in (0, 1] is the share of importance-weighted energy (squared singular
        values) to keep. None keeps the head as one full matrix, without factors
        (the paper's transfer-learning baseline, TL).
    head : nn.Linear, nn.Sequential or None, default=None
        Pre-trained layer to factorize. None fits a linear head on the features
        first (logistic regression). An ``nn.Linear`` as wide as the number of
        classes is the classification head itself, as is one of width 1 (with or
        without an ``nn.Sigmoid``) for two classes; one of another width, or an
        ``nn.Sequential`` of an ``nn.Linear`` and an activation, is a hidden layer,
        and a new output layer is fitted behind it.
    importance : {"fisher", "fisher_by_group", "uniform", "covariance"}, default="fisher"
        What weights the SVD: neutralized Fisher importance, which depends on the
        features' origin (centre those whose zero means nothing), of one head for all
        groups, or of a head fitted on each group's rows (the other reading of section 3.3
        of [1]_; only with ``head=None``, and not for "plug_in"); nothing (the paper's
        baseline f+SVD); or the covariance of the features, so that the scores
        rather than the weights change least. The closed form of a constraint is
        much better in the last. Where nothing is cut and no constraint in closed form changes
        the head, nothing is weighted: with ``rank=None``, and at a rank that keeps all of
        it (``k - 1`` of one that is fitted here: 1 for two classes), all give one head. Of a
        single group the two readings are one.
    group_weights : None, "minimax", "proportional", dict, Series or array-like of shape (G,)
        Weights of the groups in Eq. 2, of their importances or their covariances;
        scaled to sum 1. None, the default, is equal weights, "minimax" those under which
        the group that the cut costs most is cost least, "proportional" follows the groups'
        sizes. A dict, or the index of a Series, names each group (tuples where there are
        several columns), an array follows the order of ``groups_``. A single group has
        the weight 1.
    neutral_loss : bool, default=False
        Whether the rows' losses are weighted such that each group has its
        ``group_weights`` in their sum, in the first head's fit and in training. The paper
        neutralizes where training starts, but not what it minimizes, so that training undoes
        it. It lowers the loss of a rare group, at the others' cost (measured in the guide).
        Measured, judged and reported is without these weights. Not with "plug_in", whose
        probabilities must be those of the rows, nor with ``group_weights="minimax"``.
    C : float, "auto" or None, default=None
        Inverse strength of the L2 penalty on the classification weights (in
        standardized features), as in scikit-learn's LogisticRegression; for the
        head fitted first and for the fine-tuning. ``np.inf`` is no penalty. "auto" takes
        the power of ten with the least log loss on five folds, or 1 where there are 50 rows
        for each weight, with which it hardly matters. None is "auto" for "plug_in", whose
        head of cells needs it where rows are few, and for constraints on a largest rate, whose
        cells can be rare (all cells then count alike in the choice); 1 for the others.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as elsewhere in scikit-learn: what an error in each
        costs. The rates of a constraint are those of the rows without them.
    warm_start : bool, default=False
        Factorize and train the head of the last `fit` instead of starting afresh. Under a
        constraint that is a head of the same shape and rank; else training starts anew.
    device : str or torch.device, default="auto"
        "auto" is a CUDA GPU where there is one. Prediction from features runs on
        the CPU.
    random_state : int, RandomState or None, default=None
        Of the hold-outs, the order of minibatches, and dropout in the head; without these
        nothing is drawn. None is another one in each fit; NumPy's and torch's global states
        are left alone.
    verbose : int, default=0
        1 shows progress bars, 2 skorch's table of epochs.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        Class labels, sorted, whatever the order of categories: so scikit-learn's scorers
        expect it.
    pos_label_ : label or None
        The positive class; None where each of several is in turn.
    rows_with_group_ : tuple of two int
        With ``missing_groups="estimate"``: how many rows of `fit` came with their group, and how
        many there were. Not there if none lacked it.
    groups_ : ndarray of shape (G,)
        Groups, sorted, or in the order of ordered categories; tuples where there are several
        sensitive columns; ``["all"]`` if `fit` got none.
    groups_given_ : bool
        Whether `fit` got sensitive features.
    n_features_in_ : int
        Number of columns of X (for tensors and arrays, the size of axis 1).
    feature_names_in_ : ndarray of str
        Columns of X, if it was a DataFrame.
    rank_ : int
        Rank of the factors; min(d, k) with ``rank=None``.
    group_importance_ : ndarray of shape (G, d)
        ``I_g = sqrt(F_g)``.
    importance_ : ndarray of shape (d,)
        What weighted the SVD: ``I_N`` with its floor, or ones. With
        ``importance="covariance"``, whose weights are a matrix, ``I_N`` all the same.
    group_weights_ : ndarray of shape (G,)
        ``w_g`` in the order of ``groups_``: those of ``group_weights``, or that were found.
    singular_values_ : ndarray of shape (min(d, k),)
        Of the weighted weight matrix.
    C_ : float
        The inverse strength of the penalty in use.
    fairness_weight_ : float or tuple of float
        The weight in use: ``fairness_weight``, or what a bound led to. Of several constraints,
        and of a ratio in "plug_in", one of each bound: the share that its limit takes away, of
        what could be if it stood alone.
    demands_ : tuple of Demand
        What was asked of the rates: each with ``constraint``, ``ratio`` (whether it is one on a
        ratio), ``bound`` and ``weight``.
    bounds_ : tuple of Bound
        With bounds, what was reached of each: ``constraint``, ``form`` ("difference", "ratio" or
        "largest rate"), the ``bound`` that was asked for, ``value`` on the judged rows, the 95 %
        ``interval`` of it on other rows, the ``limit`` that it is within there with
        ``confidence`` (None: 0.95), which several bounds divide among them, and ``met``. Intervals
        and limits heed that the head is fitted anew on all rows. A limit is one-sided, and so for
        one bound at 0.95 inside the interval. The largest of differences is never negative, and so
        tends to be more on the judged rows than on many, where the groups hardly differ.
    recalibrated_rows_ : int
        After `recalibrate`: by how many rows the votes were found.
    difference_ : float
        ``value`` where there is one bound, on a difference or a largest rate.
    difference_interval_ : ndarray of shape (2,)
        ``interval`` there.
    difference_limit_ : float
        ``limit`` there.
    bound_met_ : bool
        Whether all bounds were met.
    known_groups_ : KnownGroups
        With a bound and "plug_in": ``fairness_weight``, ``bounds`` and ``met`` of predictions
        that are told the groups.
    worst_group_ : WorstGroup
        With "plug_in", one constraint on a largest rate, and a weight above 0: what its decisions
        are to reach by the head's probabilities, as ``error``, the least ``limit`` of any
        decisions by these, the ``binding`` cells, the ``smallest`` one and its ``rows``,
        ``accuracy`` and, without a weight, ``plain_accuracy``; with ``groups="columns"`` a cell
        is of a level, such as "sex='f'". On other rows the worst cell is worse, the more so the
        fewer rows the smallest one has.
    sensitive_names_in_ : list of str
        Names of several columns of ``sensitive_features``; empty where there were none.
    solver_ : FineTune, ClosedForm or PlugIn
        What fitted the head.
    head_ : nn.Module
        The trained head, features -> logits, on the CPU.
    net_ : skorch.NeuralNetClassifier
        What trained it. Its module holds the same head in standardized features.
    history_ : skorch.history.History
        One row per epoch.
    n_iter_ : int
        Number of epochs; 0 where nothing was trained.
    feature_extractor_ : FrozenFeatureExtractor or None
        The extractor in use.

    Warns
    -----
    FairnessWarning
        In `fit`, if there are no sensitive features, groups too thin for a
        statement, or a bound that no weight meets.

    See Also
    --------
    fairness_path : The whole trade-off, from one extraction of the features.
    FrozenFeatureExtractor : Features of a torch module as a transformer.
    split_head : Cuts a model into extractor and head.

    Notes
    -----
    Each distinct row runs through the extractor once, also in the fits, scores and
    predictions of other classifiers with the same extractor, but for a few that are
    looked at again; in several processes (``n_jobs > 1``) that takes
    ``FrozenFeatureExtractor(module, memory=folder)``.

    Features that are an ``np.memmap``, and those of an extractor that outgrow its
    ``max_nbytes``, are read from their file in blocks.

    Prediction never needs the sensitive features, but ``solver="plug_in"`` can use them.
    With sample weights, a weight of 2 stands for the row twice, also in the Fisher information.
    (Where rows are divided at random it need not: copies of a row can be on both sides of a
    hold-out, of the folds of a bound, or of those by which ``C="auto"`` chooses.)

    The same rows in another order give the same head up to rounding. What training does
    with rounding depends on the head: probabilities of a linear head move by 1e-8; of
    heads whose training has no single end (hidden layers, a weight near 1 with several
    classes, few epochs) by up to some hundredths; in minibatches the order of the
    rows decides which of them go together; and what is divided by row numbers (the folds
    of ``cv``, rows held out, and the folds by which ``C="auto"``, the default of
    ``"plug_in"``, chooses where there are few rows for each weight) comes out otherwise,
    as with another ``random_state``.

    References
    ----------
    .. [1] Y. Zhang and F. Zhou, "Bias Mitigation in Fine-tuning Pre-trained Models
       for Enhanced Fairness and Efficiency", arXiv:2403.00625, 2024.

    Examples
    --------
    The paper's method, on features that are there:

    >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
    >>> clf.head_
    LowRankHead(in_features=10, rank=1, out_features=2)
    >>> clf.group_importance_.shape
    (2, 10)
    """

    # What a search gets for its fits is no order to score with it.
    __metadata_request__score: ClassVar[dict[str, Any]] = {"sensitive_features": False}

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "feature_extractor": [nn.Module, FrozenFeatureExtractor, None],
        "head": [nn.Module, None],
        "rank": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="right"),
            None,
        ],
        "importance": [StrOptions(set(IMPORTANCES))],
        "constraint": [str, list, tuple, None],  # see check_fairness_parameters
        "pos_label": "no_validation",  # fit knows what y holds
        "groups": [StrOptions(set(GROUPS))],
        "fairness_weight": [Interval(Real, 0, 1, closed="both"), "array-like", None],
        "difference_bound": [Interval(Real, 0, 2, closed="left"), "array-like", None],
        "ratio_bound": [Interval(Real, 0, 1, closed="right"), "array-like", None],
        "confidence": [Interval(Real, 0.5, 1, closed="left"), None],
        "missing_groups": [StrOptions({"error", "estimate"})],
        "cv": [
            Interval(Integral, 2, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            HasMethods(["split", "get_n_splits"]),
            Iterable,
        ],
        "solver": "no_validation",  # see resolve_solver, whose error says more
        "group_weights": [dict, "array-like", StrOptions({"proportional", "minimax"}), None],
        "neutral_loss": ["boolean"],
        "C": [Interval(Real, 1e-100, None, closed="both"), StrOptions({"auto"}), None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @_names_the_solver
    def __init__(
        self,
        feature_extractor: nn.Module | FrozenFeatureExtractor | None = None,
        *,
        constraint: str | Sequence[str] | None = None,
        difference_bound: float | Sequence[float | None] | None = None,
        ratio_bound: float | Sequence[float | None] | None = None,
        confidence: float | None = None,
        cv: Any = 5,
        fairness_weight: float | Sequence[float | None] | None = None,
        pos_label: Any = None,
        groups: str = "intersections",
        missing_groups: str = "error",
        solver: str | Solver = "fine_tune",
        rank: int | float | None = None,
        head: nn.Module | None = None,
        importance: str = "fisher",
        group_weights: Any = None,
        neutral_loss: bool = False,
        C: float | str | None = None,
        class_weight: Any = None,
        warm_start: bool = False,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.feature_extractor = feature_extractor
        self.constraint = constraint
        self.difference_bound = difference_bound
        self.ratio_bound = ratio_bound
        self.confidence = confidence
        self.cv = cv
        self.fairness_weight = fairness_weight
        self.pos_label = pos_label
        self.groups = groups
        self.missing_groups = missing_groups
        self.solver = solver
        self.rank = rank
        self.head = head
        self.importance = importance
        self.group_weights = group_weights
        self.neutral_loss = neutral_loss
        self.C = C
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @by_name
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sensitive_features: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or sequence, n rows
            Inputs of the feature extractor; without one, features (n, d). Of a collection of
            Dask the features are made and stay where its chunks lie, and ``y``, groups and
            weights may be such collections, too.
        y : array-like of shape (n,)
            Class labels of any dtype, without missing values.
        sensitive_features : array-like of shape (n,) or (n, c), default=None
            Group of each row, of any dtype; several columns stand for their
            intersections, or with ``groups="columns"`` are compared one by one. Missing values
            (None, NaN, NA, null) are an error, unless ``missing_groups`` says otherwise. In
            pipelines and searches they are routed by ``set_fit_request(sensitive_features=True)``.
        sample_weight : array-like of shape (n,), default=None
            Non-negative weights; None is 1 each.

        Returns
        -------
        FairLowRankHeadClassifier
            Itself.

        Raises
        ------
        ValueError
            For invalid parameters, data, groups or weights, a constraint that these
            groups cannot be held to, a module whose output is not one row of
            finite features per row of X, or a training that diverged. The classifier
            then is what it was before.
        KeyboardInterrupt
            If the search for a bound was interrupted, likewise. An interrupted training
            ends `fit` early, with the epochs that it had.
        """
        check_parameters(self)
        check_weight_or_bound(self)
        bounded = any(each.bound is not None for each in demands_of(self))
        cv = self.cv if bounded else None
        with all_or_nothing(self), training_modes():
            problem, random_state = prepare(
                self, X, y, sample_weight, sensitive_features, cv=cv, check=self._report_void
            )
            with threads_over_blocks():
                solve(self, problem, random_state)
        return self

    @by_name
    def recalibrate(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sensitive_features: Any,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Find the votes anew on other rows; backbone and head stay as they are.

        For a classifier whose bound no longer holds where it is used: some thousand later rows with
        label and group are enough, as a handful of numbers is found. Only with
        ``solver="plug_in"``. Bounds, weight and constraint are those that the parameters have now,
        so that ``set_params(difference_bound=0.03).recalibrate(...)`` is a way to another bound.

        Parameters
        ----------
        X, y, sensitive_features, sample_weight
            As for `fit`: rows that the head was not fitted to, of each group of the fit, with the
            classes of the fit. No group may be missing.

        Returns
        -------
        FairLowRankHeadClassifier
            Itself, with the votes of the head, ``fairness_weight_``, ``bounds_`` and
            ``known_groups_`` of these rows, and their number in ``recalibrated_rows_``.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Of other solvers, without a constraint, for labels or groups that the fit did not have,
            and for rows that `fit` would refuse. The classifier then is what it was before.

        Warns
        -----
        FairnessWarning
            As `fit`, of bounds that are not met.

        Notes
        -----
        The rows that the votes are found on judge them, too, which the limits heed. How much the
        votes can do depends on the head, whose estimates of class and group are those of the rows
        of the fit: where these are far off by now, fit again.

        Examples
        --------
        Later, half of the positives of one group stay away:

        >>> import numpy as np
        >>> from skfairft.datasets import make_biased_classification
        >>> from skfairft.metrics import demographic_parity_distance
        >>> X, y, s = make_biased_classification(n_samples=12_000, disparity=0.4, random_state=0)
        >>> clf = FairLowRankHeadClassifier(
        ...     constraint="demographic_parity", difference_bound=0.05, solver="plug_in"
        ... ).fit(X[:2000], y[:2000], sensitive_features=s[:2000])
        >>> stays = (s == 1) | (y == 0) | (np.arange(len(y)) % 2 == 0)
        >>> X, y, s = X[2000:][stays[2000:]], y[2000:][stays[2000:]], s[2000:][stays[2000:]]
        >>> def distance():
        ...     predicted = clf.predict(X[4000:])
        ...     return demographic_parity_distance(
        ...         y[4000:], predicted, sensitive_features=s[4000:]
        ...     )
        >>> before = distance()
        >>> _ = clf.recalibrate(X[:4000], y[:4000], sensitive_features=s[:4000])
        >>> bool(before > 0.1 > distance()), clf.recalibrated_rows_
        (True, 4000)
        """
        with all_or_nothing(self), training_modes(), threads_over_blocks():
            recalibrate(self, X, y, sensitive_features, sample_weight)
        return self

    @property
    def bound_met_(self) -> bool:
        """Whether all bounds of the fit were met."""
        return all(each.met for each in self._reached("bound_met_"))

    @property
    def difference_(self) -> float:
        """What was reached of the only bound, on the judged rows."""
        return self._only_bound("difference_").value

    @property
    def difference_interval_(self) -> NDArray[np.float64]:
        """95 % interval (2,) of it on other rows."""
        return np.array(self._only_bound("difference_interval_").interval)

    @property
    def difference_limit_(self) -> float:
        """What it is within on other rows, with the confidence."""
        return self._only_bound("difference_limit_").limit

    def _reached(self, name: str) -> tuple[Bound, ...]:
        if "bounds_" not in vars(self):
            raise AttributeError(f"{name} is there after a fit with a bound.")
        found: tuple[Bound, ...] = self.bounds_
        return found

    def _only_bound(self, name: str) -> Bound:
        return only_bound(self._reached(name), name)

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``solver__lr`` and the like also where the solver is given by name.

        Parameters
        ----------
        **params
            Of the classifier, and after ``solver__`` those of its solver.

        Returns
        -------
        FairLowRankHeadClassifier
            Itself.
        """
        strays = sorted(params.keys() & OF_TRAINING - self.get_params(deep=False).keys())
        if strays:
            raise ValueError(_moved(strays, params.get("solver", self.solver)))
        solver = params.get("solver", self.solver)
        of_solver = {name: params[name] for name in params if name.startswith("solver__")}
        if of_solver and not isinstance(solver, Solver):
            solver = resolve_solver(solver)
            solver.set_params(**{name.removeprefix("solver__"): v for name, v in of_solver.items()})
            params = {name: v for name, v in params.items() if name not in of_solver}
            params["solver"] = solver
        super().set_params(**params)
        return self

    def decision_function(self, X: Any, *, sensitive_features: Any = None) -> NDArray[np.float64]:
        """Return the scores of X.

        Parameters
        ----------
        X : as for `fit`
            n rows. Of a collection of Dask the result is an array of Dask, not computed yet.
        sensitive_features : array-like of shape (n,) or (n, c), default=None
            Groups of the rows, as in `fit`, of a solver that can use them ("plug_in"). Where one is
            missing (None or NaN) the row is decided as without; so are those of groups that `fit`
            has not seen, with a FairnessWarning.

        Returns
        -------
        ndarray of shape (n,) or (n, k), float64
            With two classes the difference of the two logits (above 0 is
            ``classes_[1]``, whatever ``pos_label``), otherwise the logits.
        """
        found: NDArray[np.float64] = outputs(self, "decision_function", X, sensitive_features)
        return found

    def predict_proba(self, X: Any, *, sensitive_features: Any = None) -> NDArray[np.float64]:
        """Return the class probabilities of X.

        Parameters
        ----------
        X : as for `fit`
            n rows. Of a collection of Dask the result is an array of Dask, not computed yet.
        sensitive_features : array-like of shape (n,) or (n, c), default=None
            Groups of the rows, as in `fit`, of a solver that can use them ("plug_in"). Where one is
            missing (None or NaN) the row is decided as without; so are those of groups that `fit`
            has not seen, with a FairnessWarning.

        Returns
        -------
        ndarray of shape (n, k), float64
            Softmax of the logits, columns in the order of ``classes_``. With
            ``solver="plug_in"`` and a weight above 0 these are the shares of the votes
            that decide, and no longer estimates of the label's frequency: those are
            `predict_label_proba`.
        """
        found: NDArray[np.float64] = outputs(self, "predict_proba", X, sensitive_features)
        return found

    def predict_label_proba(self, X: Any, *, sensitive_features: Any = None) -> NDArray[np.float64]:
        """Return the estimated probability of each class, given the features.

        Of ``solver="plug_in"`` that is what its head estimates before any vote: the sum over the
        groups of the probabilities of the cells of class and group, or, for a row whose group is
        told, over the cells of its group. Of other solvers it is `predict_proba`, which a
        constraint moves too, as it moves the decisions.

        Whether it is calibrated is to be seen on rows that had no part in the fit, see
        `skfairft.metrics.calibration_error`. Where ``class_weight`` or sample weights are not 1,
        it estimates the classes of rows that are weighted so.

        Parameters
        ----------
        X : as for `fit`
            n rows. Of a collection of Dask the result is an array of Dask, not computed yet.
        sensitive_features : array-like of shape (n,) or (n, c), default=None
            As for `predict_proba`.

        Returns
        -------
        ndarray of shape (n, k), float64
            Rows have sum 1, columns are in the order of ``classes_``.

        Examples
        --------
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=2000, disparity=0.4, random_state=0)
        >>> clf = FairLowRankHeadClassifier(
        ...     constraint="demographic_parity", fairness_weight=1.0, solver="plug_in"
        ... ).fit(X, y, sensitive_features=s)
        >>> in_group, p = s == 0, clf.predict_label_proba(X)[:, 1]
        >>> bool(abs(p[in_group].mean() - y[in_group].mean()) < 0.05)
        True
        >>> votes = clf.predict_proba(X)[:, 1]
        >>> bool(abs(votes[in_group].mean() - y[in_group].mean()) < 0.05)
        False
        """
        found: NDArray[np.float64] = outputs(self, "predict_label_proba", X, sensitive_features)
        return found

    def predict_log_proba(self, X: Any, *, sensitive_features: Any = None) -> NDArray[np.float64]:
        """Return the logarithms of the class probabilities of X.

        Parameters
        ----------
        X : as for `fit`
            n rows. Of a collection of Dask the result is an array of Dask, not computed yet.
        sensitive_features : array-like of shape (n,) or (n, c), default=None
            Groups of the rows, as in `fit`, of a solver that can use them ("plug_in"). Where one is
            missing (None or NaN) the row is decided as without; so are those of groups that `fit`
            has not seen, with a FairnessWarning.

        Returns
        -------
        ndarray of shape (n, k), float64
            Of `predict_proba`, and finite where that has rounded to 0.
        """
        found: NDArray[np.float64] = outputs(self, "predict_log_proba", X, sensitive_features)
        return found

    def predict(self, X: Any, *, sensitive_features: Any = None) -> NDArray[Any]:
        """Return the most probable class of each row of X.

        Parameters
        ----------
        X : as for `fit`
            n rows. Of a collection of Dask the result is an array of Dask, not computed yet.
        sensitive_features : array-like of shape (n,) or (n, c), default=None
            Groups of the rows, as in `fit`, of a solver that can use them ("plug_in"). Where one is
            missing (None or NaN) the row is decided as without; so are those of groups that `fit`
            has not seen, with a FairnessWarning.

        Returns
        -------
        ndarray of shape (n,)
            Values of ``classes_``.
        """
        found: NDArray[Any] = outputs(self, "predict", X, sensitive_features)
        return found

    def score(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        sensitive_features: Any = None,
    ) -> float:
        """Return the accuracy of `predict`.

        Meta-estimators pass ``sensitive_features`` on to it only after
        ``set_score_request(sensitive_features=True)``.

        Parameters
        ----------
        X : as for `fit`
            n rows.
        y : array-like of shape (n,)
            True labels.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.
        sensitive_features : array-like of shape (n,) or (n, c), default=None
            As for `predict`.

        Returns
        -------
        float
            Share of the rows whose class is right.
        """
        if is_lazy(X):
            X = read_chunks(X)
        y, sample_weight, sensitive_features = computed(y, sample_weight, sensitive_features)
        warn_of_index_order(
            X=X, y=y, sample_weight=sample_weight, sensitive_features=sensitive_features
        )
        (predicted,) = computed(self.predict(X, sensitive_features=sensitive_features))
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))

    def to_torch(self, *, known_groups: bool = False) -> nn.Module:
        """Return extractor and head as one module, for deployment.

        Parameters
        ----------
        known_groups : bool, default=False
            Whether the module can be told the groups of the rows, of a solver that can use them
            ("plug_in"). It then takes a second input ``groups``, an integer tensor of shape (n,):
            the index of each row's group in ``groups_``. -1, and any other number that is none, is
            a row whose group is not known. Without that input it decides as without groups.

        Returns
        -------
        nn.Module
            In evaluation mode, a copy that shares nothing with the classifier. It
            maps what the extractor takes (after ``preprocess``; a mapping's entries as
            keywords) to what `decision_function` gives: (n,) with two classes,
            otherwise (n, k). Its attribute ``constraint`` is the classifier's.

        Raises
        ------
        ValueError
            If ``known_groups`` is asked of a head that cannot use groups, or the extractor cannot
            be copied.

        Warns
        -----
        FairnessWarning
            If the bound of `fit` was not met for predictions that are told the groups, and
            ``known_groups`` is asked for.

        Examples
        --------
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=400, random_state=0)
        >>> clf = FairLowRankHeadClassifier(solver="plug_in").fit(X, y, sensitive_features=s)
        >>> rows, codes = torch.from_numpy(X), torch.from_numpy(s)  # the groups are 0 and 1
        >>> with torch.no_grad():
        ...     plain = clf.to_torch()(rows)
        ...     told = clf.to_torch(known_groups=True)(rows, codes)
        >>> np.allclose(plain, clf.decision_function(X))
        True
        >>> np.allclose(told, clf.decision_function(X, sensitive_features=s))
        True
        """
        check_is_fitted(self, "head_")
        if not isinstance(known_groups, bool):
            raise ValueError(f"known_groups={shown(known_groups)}; expected True or False.")
        if known_groups:
            check_told(self, "known_groups=True makes a module that is told the groups")
        with training_modes():  # so that the module can be trained, whatever mode it is made in
            head = copy.deepcopy(self.head_)
            if len(self.classes_) == 2:
                head = single_score_head(head)
            given = self.feature_extractor_
            extractor: nn.Module | None = None
            if given is not None:
                if said := changed_since_fit(given):
                    warn_user(said, UserWarning)
                extractor = copy_module(given.feature_module(), type(given.module).__name__)
                head.to(device_of(extractor))
            if known_groups:
                before = nn.Identity() if extractor is None else extractor
                assert isinstance(head, nn.Sequential)
                told = HeadWithGroups(*head)
                deployed: nn.Module = DeployedModelWithGroups(before, told)
            elif extractor is None:
                deployed = nn.Sequential(OrderedDict(head=head))
            else:
                deployed = DeployedModel(extractor, head)
            switch_to_evaluation(deployed)
            vars(deployed)["constraint"] = self.constraint  # for what changes it, as `compress`
            return deployed

    def save(self, folder: str | os.PathLike[str], *, backbone: bool = False) -> None:
        """Write the fitted classifier to a folder, without code; `skfairft.load` reads it.

        ``model.json`` holds parameters, classes, groups and what `fit` found, each in plain text,
        a file of safetensors the numbers of the head. Of the backbone there is a fingerprint, by
        which `load` knows it. The rows of the fit are not in it, nor where features are remembered.

        Parameters
        ----------
        folder : str or path-like
            Made where it is not there. A model that is in it is replaced, at once and as a whole;
            other files stay.
        backbone : bool, default=False
            Whether to write the backbone's weights (its ``state_dict``), too. Its code, and
            ``preprocess``, are never written.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If classes, groups, the head or the solver are of kinds that can only be written as
            code, such as a custom activation; if the backbone was exchanged or trained after `fit`;
            or if the folder holds a ``model.json`` of another program.
        TypeError
            For a subclass.

        Warns
        -----
        UserWarning
            If parameters are left out that are code, such as callbacks. Predictions do not need
            them; `fit` of what was loaded says that they are missing.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from skfairft import FairLowRankHeadClassifier
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=500, random_state=0)
        >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clf.save(folder)
        ...     sorted(path.suffix for path in Path(folder).iterdir())
        ['.json', '.safetensors']
        """
        if type(self) is not FairLowRankHeadClassifier:
            raise TypeError(
                f"{type(self).__name__} is a class of your own, and what is loaded would be a "
                "FairLowRankHeadClassifier; keep it by joblib."
            )
        write_classifier(self, folder, backbone=backbone)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("net_", None)  # an optimizer in the middle of its steps, and code
        used, given = state.get("feature_extractor_"), self.feature_extractor
        if used is not None:
            # The parameter and what fit made of it hold one module, and are to be written so.
            plain = plain_module(used.module)
            if given is used.module:
                state["feature_extractor"] = plain
            elif isinstance(given, FrozenFeatureExtractor) and given.module is used.module:
                state["feature_extractor"] = around(given, plain)
            state["feature_extractor_"] = around(used, plain)
        return state

    def _sk_visual_block_(self) -> Any:
        return classifier_block(self, summarize(self))

    def _report_void(
        self, classes: NDArray[Any], groups: NDArray[Any], positives: range | None
    ) -> None:
        report_void([self], len(classes))
        report_idle_folds(self)
