"""The estimator: validate, call, store. The arithmetic is in the other modules."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import Tensor, nn

from .backbone.extractor import FrozenFeatureExtractor
from .backbone.forward import device_of
from .backbone.modes import training_modes
from .backbone.module_copy import copy_module, switch_to_evaluation
from .backbone.modules import ModuleParamsMixin, all_or_nothing, resolve_device
from .head.modules import CellVote, DeployedModel, head_scores, single_score_head
from .head.optimization import check_callbacks, resolve_optimizer
from .head.start import check_head, scores_classes
from .inputs.by_name import by_name
from .inputs.checks import (
    check_group_weights,
    check_groups,
    check_weights,
    class_factors,
)
from .inputs.encoding import encode_labels
from .inputs.exceptions import FairnessWarning
from .inputs.feature_table import kept_dtypes, read_features, refuse_mapping, refuse_odd_rows
from .inputs.index_order import warn_of_index_order
from .inputs.warn import warn_user
from .inputs.words import listed
from .lowrank.gaps import group_columns
from .parity.checks import check_constraint, check_held_out
from .parity.constraints import CONSTRAINTS, parity
from .parity.judge import JudgedRows
from .rows.blocks import threads_over_blocks
from .rows.hold_out import hold_out
from .rows.mapped import Features, as_features, block_rows, is_mapped, release_pages
from .rows.number_range import check_range
from .rows.tensor_rows import TensorRows
from .solvers.bound import weakest_weight
from .solvers.checks import (
    check_fairness_parameters,
    check_head_for_solver,
    check_weight_or_bound,
)
from .solvers.problem import FitProblem, FittedHead, HeadFitter, HeadSettings
from .summary.box import classifier_block
from .summary.model import summarize

__all__ = ["FairLowRankHeadClassifier"]

# Up to this many numbers (512 MiB in float64) features in memory are converted to double
# precision once. Larger ones are converted block by block in each pass: the result is the same.
_DOUBLE_LIMIT = 2**26

# A weight that takes away less than this share of what it says is reported, unless the weight or
# the distance without a constraint is small.
_LEAST_SHARE, _SMALL_WEIGHT, _SMALL_DISTANCE = 0.2, 0.25, 0.02


class FairLowRankHeadClassifier(ModuleParamsMixin, ClassifierMixin, BaseEstimator):
    """Fair low-rank classification head on a frozen feature extractor.

    Measures which weights of a linear head matter to which demographic group
    (empirical Fisher information, Eq. 1 of [1]_), neutralizes that importance
    (Eq. 2), factorizes the head by an SVD weighted with it (Eq. 4), and
    fine-tunes the two small factors with skorch. The extractor never changes.

    That alone does not make predictions fair. A ``constraint`` does, by as much as
    ``fairness_weight`` or ``difference_bound`` says; `fairness_path` shows what it costs.

    Parameters
    ----------
    feature_extractor : nn.Module, FrozenFeatureExtractor or None, default=None
        Maps rows of X to features. None means that X already is the features.
        Clones of the classifier share it.
    head : nn.Linear, nn.Sequential or None, default=None
        Pre-trained layer to factorize. None fits a linear head on the features
        first (logistic regression). An ``nn.Linear`` as wide as the number of
        classes is the classification head itself, as is one of width 1 (with or
        without an ``nn.Sigmoid``) for two classes; one of another width, or an
        ``nn.Sequential`` of an ``nn.Linear`` and an activation, is a hidden layer,
        and a new output layer is fitted behind it.
    rank : int, float or None, default=None
        Rank r of the factors. An int above min(d, k) is used as min(d, k). A float
        in (0, 1] is the share of importance-weighted energy (squared singular
        values) to keep. None keeps the head as one full matrix, without factors
        (the paper's transfer-learning baseline, TL).
    importance : {"fisher", "uniform", "covariance"}, default="fisher"
        What weights the SVD: neutralized Fisher importance, which depends on the
        features' origin (centre those whose zero means nothing); nothing (the paper's
        baseline f+SVD); or the covariance of the features, so that the scores
        rather than the weights change least. The closed form of a constraint is
        much better in the last.
    group_weights : dict, Series, array-like of shape (G,), "proportional" or None, default=None
        Weights of the groups in Eq. 2, of their importances or their covariances;
        scaled to sum 1. A dict, or the index of a
        Series, names each group (tuples where there are several columns), an array
        follows the order of ``groups_``, "proportional" follows the groups' sizes,
        None is equal weights.
    constraint : str or None, default=None
        Which rates are to be equal between the groups: "demographic_parity" (of
        positive predictions), "true_positive_rate_parity",
        "false_positive_rate_parity", or "equalized_odds" (both). With two classes
        ``classes_[1]`` is positive, with more each class in turn against the rest.
    fairness_weight : float or None, default=None
        How much the constraint counts, in [0, 1]: about the share of the disparity
        that is taken away, whatever the data. 0 is no constraint, 1 as much parity
        as the head can have on the training rows: of mean probabilities where it is
        trained, of mean scores in closed form, of decisions by the plug-in rule. A
        constraint needs this or ``difference_bound``. Where the groups do not differ,
        nothing is taken away.
    difference_bound : float or None, default=None
        In place of a weight: the weakest one is looked for whose distance between
        the groups (see `skfairft.metrics`; for equalized odds the sum of the
        differences in true and in false positive rate) is at most this on
        ``validation_fraction`` of the rows, which are held out for it. Below 1, and
        for equalized odds below 2, which every head meets.
    solver : {"fine_tune", "closed_form", "plug_in"}, default="fine_tune"
        How the head comes to meet the constraint. "fine_tune": the two factors are
        trained against a penalty on the differences of the mean probabilities.
        "closed_form": nothing is trained; the SVD is penalized with the differences
        of the mean scores, and the bias is fitted anew. "plug_in": the head
        estimates the probabilities of class and group together (here a rank below
        ``k G - 1`` bites), and the most accurate rule of parity decides by them: it
        estimates the group from the features, and needs it at `fit` only.
    calibrate : bool, default=True
        False trains on ``loss + fairness_weight * distance``, with probabilities in
        place of predictions in the distance: our reading of the paper's baselines
        Retrain+DP and Retrain+EO, with weights 0.1, 0.5 and 0.9.
    C : float, default=1.0
        Inverse strength of the L2 penalty on the classification weights (in
        standardized features), as in scikit-learn's LogisticRegression; for the
        head fitted first and for the fine-tuning. ``np.inf`` is no penalty.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as elsewhere in scikit-learn: what an error in each
        costs. The rates of a constraint are those of the rows without them.
    max_epochs : int, default=100
        Most epochs of fine-tuning; it stops before when the loss settles. 0
        returns the factorization untouched.
    lr : float or None, default=None
        Learning rate. None is 1 for L-BFGS and 0.001 for other optimizers.
    batch_size : int or None, default=None
        Rows per step. None is all rows for L-BFGS, and for other optimizers a tenth
        of the rows, between 32 and 1024.
    optimizer : subclass of torch.optim.Optimizer or None, default=None
        None is full-batch L-BFGS, deterministic and without a learning rate to
        choose; or AdamW if ``lr`` or ``batch_size`` is given, or the head has an
        activation.
    optimizer_kwargs : dict or None, default=None
        More arguments of the optimizer.
    weight_decay : float, default=0.0
        Weight decay of the optimizer, beside ``C``; not for L-BFGS.
    early_stopping : bool or "auto", default="auto"
        Hold out ``validation_fraction`` of the rows, stratified by class and group,
        stop when their loss no longer improves, and keep the best epoch. The
        held-out rows are used for nothing else. "auto" does so for a head with an
        activation, which would overfit; a linear head has its penalty ``C``.
    validation_fraction : float, default=0.1
        Share of rows held out, for early stopping or for ``difference_bound``.
    n_iter_no_change : int or None, default=None
        Epochs without improvement after which the training stops. None is 1 for
        L-BFGS, each of whose epochs is up to 20 iterations, and 5 for other optimizers.
    tol : float or None, default=1e-4
        Least relative improvement of the loss that counts. None trains for exactly
        ``max_epochs``, with early stopping it counts every improvement.
    callbacks : list of skorch callbacks or None, default=None
        Run during the fine-tuning.
    warm_start : bool, default=False
        Factorize and train the head of the last `fit` instead of starting afresh.
    device : str or torch.device, default="auto"
        "auto" is a CUDA GPU where there is one. Prediction from features runs on
        the CPU.
    random_state : int, RandomState or None, default=None
        Of the hold-out, the order of minibatches, and dropout in the head. None is
        another one in each fit; NumPy's and torch's global states are left alone.
    verbose : int, default=0
        1 shows progress bars, 2 skorch's table of epochs.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        Class labels.
    groups_ : ndarray of shape (G,)
        Groups; tuples where there are several sensitive columns; ``["all"]`` if
        `fit` got none.
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
    singular_values_ : ndarray of shape (min(d, k),)
        Of the weighted weight matrix.
    fairness_weight_ : float
        The weight in use: ``fairness_weight``, or what ``difference_bound`` led to.
    difference_ : float
        With ``difference_bound``: the distance that was reached on the held-out rows.
    difference_interval_ : ndarray of shape (2,)
        Its 95 % bootstrap interval. The rows chose the weight, so expect a little more
        on others.
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
        statement, or a ``difference_bound`` that no weight meets.

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

    Prediction never needs the sensitive features. With sample weights, a weight of
    2 stands for the row twice, also in the Fisher information.

    The same rows in another order give the same head up to rounding. What training does
    with rounding depends on the head: probabilities of a linear head move by 1e-8; of
    heads whose training has no single end (hidden layers, a weight near 1 with several
    classes, few epochs) by up to some hundredths; and in minibatches the order of the
    rows decides which of them go together.

    References
    ----------
    .. [1] Y. Zhang and F. Zhou, "Bias Mitigation in Fine-tuning Pre-trained Models
       for Enhanced Fairness and Efficiency", arXiv:2403.00625, 2024.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=500, random_state=0)
    >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
    >>> clf.head_
    LowRankHead(in_features=10, rank=1, out_features=2)
    >>> clf.group_importance_.shape
    (2, 10)

    With a constraint, a quarter of the rows held out to find its weight:

    >>> fair = FairLowRankHeadClassifier(
    ...     constraint="demographic_parity",
    ...     difference_bound=0.1,
    ...     solver="plug_in",
    ...     validation_fraction=0.25,
    ...     random_state=0,
    ... ).fit(X, y, sensitive_features=s)
    >>> bool(fair.difference_ <= 0.1), 0 < fair.fairness_weight_ < 1
    (True, True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "feature_extractor": [nn.Module, FrozenFeatureExtractor, None],
        "head": [nn.Module, None],
        "rank": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="right"),
            None,
        ],
        "importance": [StrOptions({"fisher", "uniform", "covariance"})],
        "constraint": [StrOptions(set(CONSTRAINTS)), None],
        "fairness_weight": [Interval(Real, 0, 1, closed="both"), None],
        "difference_bound": [Interval(Real, 0, 2, closed="left"), None],
        "solver": [StrOptions({"fine_tune", "closed_form", "plug_in"})],
        "calibrate": ["boolean"],
        "group_weights": [dict, "array-like", StrOptions({"proportional"}), None],
        "C": [Interval(Real, 1e-100, None, closed="both")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "optimizer": "no_validation",  # see resolve_optimizer, whose error says more
        "optimizer_kwargs": [dict, None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "callbacks": [list, None],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        feature_extractor: nn.Module | FrozenFeatureExtractor | None = None,
        *,
        head: nn.Module | None = None,
        rank: int | float | None = None,
        importance: str = "fisher",
        group_weights: Any = None,
        constraint: str | None = None,
        fairness_weight: float | None = None,
        difference_bound: float | None = None,
        solver: str = "fine_tune",
        calibrate: bool = True,
        C: float = 1.0,
        class_weight: Any = None,
        max_epochs: int = 100,
        lr: float | None = None,
        batch_size: int | None = None,
        optimizer: type[torch.optim.Optimizer] | None = None,
        optimizer_kwargs: dict[str, Any] | None = None,
        weight_decay: float = 0.0,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = None,
        tol: float | None = 1e-4,
        callbacks: list[Any] | None = None,
        warm_start: bool = False,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.feature_extractor = feature_extractor
        self.head = head
        self.rank = rank
        self.importance = importance
        self.group_weights = group_weights
        self.constraint = constraint
        self.fairness_weight = fairness_weight
        self.difference_bound = difference_bound
        self.solver = solver
        self.calibrate = calibrate
        self.C = C
        self.class_weight = class_weight
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.optimizer_kwargs = optimizer_kwargs
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.callbacks = callbacks
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
            Inputs of the feature extractor; without one, features (n, d).
        y : array-like of shape (n,)
            Class labels of any dtype, without missing values.
        sensitive_features : array-like of shape (n,) or (n, c), default=None
            Group of each row, of any dtype; several columns stand for their
            intersections. In pipelines and searches they are routed by
            ``set_fit_request(sensitive_features=True)``.
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
        self._check_parameters()
        check_weight_or_bound(self)
        apart = None if self.difference_bound is None else self.validation_fraction
        with all_or_nothing(self), training_modes():
            prepared = self._prepare(X, y, sample_weight, sensitive_features, apart=apart)
            with threads_over_blocks():
                self._fit_head(*prepared)
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the scores of X.

        Parameters
        ----------
        X : as for `fit`
            n rows.

        Returns
        -------
        ndarray of shape (n,) or (n, k), float64
            With two classes the difference of the two logits (positive means
            ``classes_[1]``), otherwise the logits.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the class probabilities of X.

        Parameters
        ----------
        X : as for `fit`
            n rows.

        Returns
        -------
        ndarray of shape (n, k), float64
            Softmax of the logits, columns in the order of ``classes_``. With
            ``solver="plug_in"`` and a weight above 0 these are the shares of the votes
            that decide, and no longer estimates of the label's frequency.
        """
        return softmax(self._logits(X), axis=1)

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithms of the class probabilities of X.

        Parameters
        ----------
        X : as for `fit`
            n rows.

        Returns
        -------
        ndarray of shape (n, k), float64
            Of `predict_proba`, and finite where that has rounded to 0.
        """
        return log_softmax(self._logits(X), axis=1)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row of X.

        Parameters
        ----------
        X : as for `fit`
            n rows.

        Returns
        -------
        ndarray of shape (n,)
            Values of ``classes_``.
        """
        codes = self._logits(X).argmax(axis=1)
        return self.classes_[codes]

    def to_torch(self) -> nn.Module:
        """Return extractor and head as one module, for deployment.

        Returns
        -------
        nn.Module
            In evaluation mode, a copy that shares nothing with the classifier. It
            maps what the extractor takes (after ``preprocess``; a mapping's entries as
            keywords) to what `decision_function` gives: (n,) with two classes,
            otherwise (n, k).
        """
        check_is_fitted(self, "head_")
        with training_modes():  # so that the module can be trained, whatever mode it is made in
            head = copy.deepcopy(self.head_)
            if len(self.classes_) == 2:
                head = single_score_head(head)
            if self.feature_extractor_ is None:
                return nn.Sequential(OrderedDict(head=head)).eval()
            given = self.feature_extractor_
            extractor = copy_module(given.feature_module(), type(given.module).__name__)
            head.to(device_of(extractor))
            deployed = DeployedModel(extractor, head)
            switch_to_evaluation(deployed)
            return deployed

    def _sk_visual_block_(self) -> Any:
        return classifier_block(self, summarize(self))

    def _check_parameters(self) -> None:
        """Check what does not depend on data."""
        self._validate_params()
        check_fairness_parameters(self)
        if self.head is not None:
            check_head(self.head)

    def _check_for(self, n_classes: int) -> None:
        """Check what depends on the number of classes."""
        check_head_for_solver(self.head, self.solver, n_classes)
        resolve_optimizer(
            self.optimizer,
            self.optimizer_kwargs,
            lr=self.lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            nonlinear=self._is_nonlinear(n_classes),
            device=resolve_device(self.device, torch.device("cpu")),
        )
        check_callbacks(self.callbacks, held_out=self._stops_early(n_classes))

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        sensitive_features: Any,
        *,
        apart: float | None = None,
        check: Callable[[NDArray[Any], NDArray[Any]], None] | None = None,
    ) -> tuple[FitProblem, nn.Module | None, np.random.RandomState]:
        """Check the data, and only then run the extractor, which may take hours.

        ``apart`` is the share of the rows to judge on, ``check`` is told classes and groups.
        """
        classes, labels = encode_labels(y)
        refuse_mapping(X)
        refuse_odd_rows(X)
        check_consistent_length(X, labels)
        warn_of_index_order(
            X=X, y=y, sensitive_features=sensitive_features, sample_weight=sample_weight
        )
        self._check_for(len(classes))
        needed_by = None if self.constraint is None else f"constraint={self.constraint!r}"
        if needed_by is None and self.solver == "plug_in":
            needed_by = "solver='plug_in'"
        groups, codes = check_groups(
            sensitive_features, self.group_weights, classes, labels, needed_by=needed_by
        )
        w = check_weights(sample_weight, self.class_weight, classes, labels)
        check_group_weights(self.group_weights, groups, np.bincount(codes, weights=w))
        check_constraint(self.constraint, classes, groups, labels, codes, w)
        if check is not None:
            check(classes, groups)
        earlier = self._earlier_head(classes)
        # None is fresh entropy: drawing from NumPy's global state would change it.
        random_state = (
            np.random.RandomState()
            if self.random_state is None
            else check_random_state(self.random_state)
        )
        cells = labels * len(groups) + codes
        held_out = None
        if apart is not None:
            held_out = hold_out(cells, w, apart, random_state)
        if self.difference_bound is not None and self.constraint is not None:
            assert held_out is not None
            check_held_out(
                self.constraint,
                self.difference_bound,
                *(column[held_out] for column in (labels, codes)),
                shape=(len(classes), len(groups)),
            )
        if self._stops_early(len(classes)):  # whether it can be, whatever the rows that are drawn
            rest = slice(None) if held_out is None else np.delete(np.arange(len(w)), held_out)
            hold_out(cells[rest], w[rest], self.validation_fraction, np.random.RandomState(0))
        Z = as_features(self._fit_features(X))
        if isinstance(Z, Tensor) and Z.is_inference():  # X was made in that mode
            Z = Z.clone()
        if isinstance(Z, Tensor) and Z.numel() <= _DOUBLE_LIMIT:
            Z = Z.double()
        check_range(Z)
        self._report_group_columns(Z, torch.from_numpy(codes))
        if earlier is not None and len(self.importance_) != Z.shape[1]:
            raise ValueError(
                f"warm_start=True goes on from a head for {len(self.importance_)} features but the "
                f"data has {Z.shape[1]}; set warm_start=False."
            )
        self.classes_, self.groups_ = classes, groups
        self._groups_given = sensitive_features is not None
        rows = TensorRows(Z, *map(torch.from_numpy, (labels, w, codes)))
        alone = check_weights(sample_weight, None, classes, labels)
        factors = class_factors(self.class_weight, classes, labels, alone)
        weights = torch.from_numpy(alone), torch.from_numpy(factors)
        problem = FitProblem(rows, *weights, held_out)
        return problem, earlier, random_state

    def _fit_features(self, X: Any) -> NDArray[Any]:
        """Set up the extractor and return the features of X."""
        extractor = self.feature_extractor
        if extractor is None:
            self.feature_extractor_ = None
            return self._check_features(X, reset=True)
        if isinstance(extractor, nn.Module):
            extractor = FrozenFeatureExtractor(
                extractor, device=self.device, verbose=min(self.verbose, 1)
            )
        self.feature_extractor_ = clone(extractor)
        Z = self.feature_extractor_.fit_transform(X)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.feature_extractor_, name):
                setattr(self, name, getattr(self.feature_extractor_, name))
            elif hasattr(self, name):
                delattr(self, name)
        return Z

    def _check_features(self, X: Any, *, reset: bool) -> NDArray[Any]:
        if is_mapped(X) and X.ndim == 2 and X.dtype.type in (np.float32, np.float64):
            # validate_data would bring all of X into memory; an array with the shape of X but one
            # element is enough for its bookkeeping.
            shape_only = np.broadcast_to(np.zeros((), X.dtype.type), X.shape)
            validate_data(self, shape_only, reset=reset, ensure_all_finite=False)
            for start in range(0, len(X), step := block_rows(X.shape[1])):
                block = np.asarray(X[start : start + step])
                assert_all_finite(block, estimator_name=type(self).__name__, input_name="X")
                release_pages(X)
            return X
        # scikit-learn looks for infinities in a sum, which large numbers of both signs spoil.
        with np.errstate(over="ignore", invalid="ignore"):
            return read_features(
                X, lambda rows: validate_data(self, rows, reset=reset, dtype=kept_dtypes(rows))
            )

    def _earlier_head(self, classes: NDArray[Any]) -> nn.Module | None:
        """Return the head to go on from, None to start afresh."""
        if not (self.warm_start and hasattr(self, "head_")):
            return None
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"warm_start=True goes on from a head for the classes {self.classes_.tolist()} but "
                f"y has {classes.tolist()}; set warm_start=False."
            )
        voting = any(isinstance(part, CellVote) for part in self.head_.modules())
        if voting != (self.solver == "plug_in"):
            raise ValueError(
                f"warm_start=True goes on from a head of another solver than {self.solver!r}, "
                "which it cannot; set warm_start=False."
            )
        return self.head_

    def _is_nonlinear(self, n_classes: int) -> bool:
        """Tell whether the head has an activation inside."""
        if not isinstance(self.head, nn.Sequential) or len(self.head) < 2:
            return False
        return not scores_classes(self.head, n_classes)

    def _stops_early(self, n_classes: int) -> bool:
        """Tell whether rows are held out from the training."""
        auto = self.early_stopping == "auto"
        wanted = self._is_nonlinear(n_classes) if auto else self.early_stopping
        return bool(wanted) and self.max_epochs > 0 and self.solver != "closed_form"

    def _settings(self, groups: NDArray[Any], n_classes: int) -> HeadSettings:
        return HeadSettings(
            head=self.head,
            rank=self.rank,
            importance=self.importance,
            group_shares=partial(check_group_weights, self.group_weights, groups),
            C=self.C,
            constraint=self.constraint,
            solver=self.solver,
            calibrate=self.calibrate,
            early_stopping=self._stops_early(n_classes),
            validation_fraction=self.validation_fraction,
            training={
                "nonlinear": self._is_nonlinear(n_classes),
                "optimizer": self.optimizer,
                "optimizer_kwargs": self.optimizer_kwargs,
                "lr": self.lr,
                "weight_decay": self.weight_decay,
                "batch_size": self.batch_size,
                "max_epochs": self.max_epochs,
                "tol": self.tol,
                "patience": self.n_iter_no_change,
                "callbacks": self.callbacks,
                "device": resolve_device(self.device, torch.device("cpu")),
                "verbose": int(self.verbose),
            },
        )

    def _fitter(
        self,
        problem: FitProblem,
        data: TensorRows,
        groups: NDArray[Any],
        classes: NDArray[Any],
        random_state: np.random.RandomState,
        earlier_head: nn.Module | None = None,
    ) -> HeadFitter:
        return HeadFitter(
            data,
            n_classes=len(classes),
            n_groups=len(groups),
            settings=self._settings(groups, len(classes)),
            random_state=random_state,
            class_weight=problem.class_weight,
            fitted=earlier_head,
        )

    def _fitted_copy(self, fitted: FittedHead, **params: Any) -> Self:
        """Return a classifier with other parameters and the head that belongs to them."""
        new = clone(self).set_params(**params)
        new.classes_, new.groups_, new._groups_given = (
            self.classes_,
            self.groups_,
            self._groups_given,
        )
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(new, name, getattr(self, name))
        new.feature_extractor_ = self.feature_extractor_
        new.fairness_weight_ = new.fairness_weight
        new._store(fitted)
        return new

    def _fit_head(
        self,
        problem: FitProblem,
        earlier: nn.Module | None,
        random_state: np.random.RandomState,
    ) -> None:
        """Carry out Algorithm 1 on the features."""
        data, held_out = problem.split()
        fitter = self._fitter(problem, data, self.groups_, self.classes_, random_state, earlier)
        for name in ("difference_", "difference_interval_"):
            if hasattr(self, name):
                delattr(self, name)
        rule = None if self.constraint is None else parity(self.constraint, len(self.classes_))
        if held_out is None or rule is None or self.difference_bound is None:
            self.fairness_weight_ = self.fairness_weight or 0.0
            fitted = fitter.fit(self.fairness_weight_)
            if rule is not None and self.fairness_weight_ and self.calibrate:
                judge = JudgedRows(problem.as_they_are, rule, self.groups_)
                self._report_share(judge, problem.rows.Z, fitter.unconstrained(), fitted.head)
        else:
            found = weakest_weight(
                fitter,
                JudgedRows(held_out, rule, self.groups_),
                self.difference_bound,
                random_state,
            )
            fitted, self.fairness_weight_ = found.fitted, found.weight
            self.difference_, self.difference_interval_ = found.distance, found.interval
            self._report_bound(self.difference_bound)
        self._store(fitted)
        if fitted.interrupted:
            epochs = "1 whole epoch" if self.n_iter_ == 1 else f"{self.n_iter_} whole epochs"
            warn_user(
                f"Training was interrupted; the head holds what was trained in {epochs}.",
                UserWarning,
            )

    def _report_group_columns(self, Z: Features, codes: Tensor) -> None:
        """Say so if features are the group itself."""
        found = group_columns(Z, codes)
        if not found:
            return
        named = self.feature_extractor is None and hasattr(self, "feature_names_in_")
        names = self.feature_names_in_[found].tolist() if named else found
        where = "X has" if self.feature_extractor is None else "The features have"
        warn_user(
            f"{where} sensitive_features, or part of them, as a column of its own: "
            f"[{listed(names)}]. The head can decide by it directly, also under a constraint. Drop "
            "it, unless that is meant and allowed.",
            FairnessWarning,
        )

    def _report_share(
        self, judge: JudgedRows, Z: Features, plain: nn.Module, fair: nn.Module
    ) -> None:
        """Warn if the weight took away much less than it says, from the training rows."""
        tables = [judge.table(judge.cells(head_scores(head, Z))) for head in (plain, fair)]
        before, after = judge.distances(np.stack(tables))
        wanted = self.fairness_weight_ * before
        small = before <= _SMALL_DISTANCE or self.fairness_weight_ < _SMALL_WEIGHT
        if small or before - after >= _LEAST_SHARE * wanted:
            return
        advice = "try another solver"
        if self.solver == "closed_form" and self.importance != "covariance":
            advice = 'set importance="covariance", which suits this solver better'
        warn_user(
            f"fairness_weight={self.fairness_weight_:.3g} did little: the distance between the "
            f"groups' decisions on the training rows was {before:.3f} without a constraint and is "
            f"{after:.3f} now. To change that, {advice}, or raise the weight.",
            FairnessWarning,
        )

    def _report_bound(self, bound: float) -> None:
        """Warn if the bound was not met."""
        if self.difference_ <= bound:
            return
        low, high = self.difference_interval_
        warn_user(
            f"difference_bound={bound} was not met: the nearest was a difference of "
            f"{self.difference_:.3f} (95 % interval {low:.3f} to {high:.3f}) on the held-out rows, "
            f"at fairness_weight={self.fairness_weight_:.3g}. Hold out more rows "
            "(validation_fraction), allow a larger difference, or try another solver.",
            FairnessWarning,
        )

    def _store(self, fitted: FittedHead) -> None:
        if not all(bool(values.isfinite().all()) for values in fitted.head.state_dict().values()):
            raise ValueError(
                "The head that was fitted holds numbers that are not finite. Measure the columns "
                "of X in other units, or leave optimizer, lr and batch_size at None."
            )
        self.head_, self.net_, self.rank_ = fitted.head, fitted.net, fitted.rank
        self.history_ = fitted.net.history
        self.n_iter_ = len(self.history_)
        self.group_importance_ = fitted.group_importance.numpy()
        self.importance_ = fitted.importance.numpy()
        self.singular_values_ = fitted.singular_values.numpy()

    def _features(self, X: Any) -> Features:
        if self.feature_extractor_ is None:
            return as_features(self._check_features(X, reset=False))
        return as_features(self.feature_extractor_.transform(X))

    def _logits(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self, "head_")
        scores = head_scores(self.head_, self._features(X)).numpy()
        beyond = np.flatnonzero(~np.isfinite(scores).all(axis=1))
        if len(beyond):
            raise ValueError(
                f"The scores of {len(beyond)} rows of X, row {beyond[0]} first, are beyond double "
                "precision: their features are far outside of what the head was fitted on. Mend or "
                "drop such rows."
            )
        return scores
