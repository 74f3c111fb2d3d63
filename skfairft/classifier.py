"""The estimator: validate, call, store. The arithmetic is in the other modules."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import Tensor, nn

from ._encoding import encode_labels, to_array
from ._modules import ModuleParamsMixin, resolve_device
from ._validation import check_group_weights, check_groups, check_weights
from .exceptions import FairnessWarning
from .extractor import FrozenFeatureExtractor
from .factorization import floor_importance, neutralize, resolve_rank, weighted_svd
from .forward import device_of
from .head import LowRankHead, StandardizedHead, head_scores, single_score_head
from .holdout import hold_out
from .initial import previous_head
from .mapped import Features, as_features, block_rows, is_mapped, release_pages
from .measure import Measured, measure
from .parallel import threads_over_blocks
from .rows import refuse_mapping
from .training import TensorRows, fine_tune

__all__ = ["FairLowRankHeadClassifier"]

# Up to this many numbers (512 MiB in float64) features in memory are converted to double
# precision once. Larger ones are converted block by block in each pass: the result is the same.
_DOUBLE_LIMIT = 2**26


class FairLowRankHeadClassifier(ModuleParamsMixin, ClassifierMixin, BaseEstimator):
    """Fair low-rank classification head on a frozen feature extractor.

    Measures which weights of a linear head matter to which demographic group
    (empirical Fisher information, Eq. 1 of [1]_), neutralizes that importance
    (Eq. 2), factorizes the head by an SVD weighted with it (Eq. 4), and
    fine-tunes the two small factors with skorch. The extractor never changes.

    Parameters
    ----------
    feature_extractor : nn.Module, FrozenFeatureExtractor or None, default=None
        Maps rows of X to features. None means that X already is the features.
        Clones of the classifier share it.
    head : nn.Linear, nn.Sequential or None, default=None
        Pre-trained layer to factorize. None fits a linear head on the features
        first (logistic regression). An ``nn.Linear`` as wide as the number of
        classes is the classification head itself; one of another width, or an
        ``nn.Sequential`` of an ``nn.Linear`` and an activation, is a hidden layer,
        and a new output layer is fitted behind it.
    rank : int, float or None, default=None
        Rank r of the factors. An int above min(d, k) is used as min(d, k). A float
        in (0, 1] is the share of importance-weighted energy (squared singular
        values) to keep. None keeps the head as one full matrix, without factors
        (the paper's transfer-learning baseline, TL).
    importance : {"fisher", "uniform"}, default="fisher"
        What weights the SVD: neutralized Fisher importance, or nothing (the
        paper's baseline f+SVD).
    group_weights : dict, Series, array-like of shape (G,), "proportional" or None, default=None
        Weights of the groups in Eq. 2; scaled to sum 1. A dict, or the index of a
        Series, names each group (tuples where there are several columns), an array
        follows the order of ``groups_``, "proportional" follows the groups' sizes,
        None is equal weights.
    C : float, default=1.0
        Inverse strength of the L2 penalty on the classification weights (in
        standardized features), as in scikit-learn's LogisticRegression; for the
        head fitted first and for the fine-tuning. ``np.inf`` is no penalty.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as elsewhere in scikit-learn.
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
        Share of rows held out.
    n_iter_no_change : int, default=5
        Epochs without improvement after which the training stops.
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
        What weighted the SVD: ``I_N`` with its floor, or ones.
    singular_values_ : ndarray of shape (min(d, k),)
        Of the weighted weight matrix.
    head_ : nn.Module
        The trained head, features -> logits, on the CPU.
    net_ : skorch.NeuralNetClassifier
        What trained it. Its module holds the same head in standardized features.
    history_ : skorch.history.History
        One row per epoch.
    feature_extractor_ : FrozenFeatureExtractor or None
        The extractor in use.

    Warns
    -----
    FairnessWarning
        In `fit`, if there are no sensitive features, or groups too thin for a
        statement.

    See Also
    --------
    FrozenFeatureExtractor : Features of a torch module as a transformer.
    split_head : Cuts a model into extractor and head.

    Notes
    -----
    Each distinct row runs through the extractor once, also in the fits, scores and
    predictions of other classifiers with the same extractor; in several processes
    (``n_jobs > 1``) that takes ``FrozenFeatureExtractor(module, memory=folder)``.

    Features that are an ``np.memmap``, and those of an extractor that outgrow its
    ``max_nbytes``, are read from their file in blocks.

    Prediction never needs the sensitive features. With sample weights, a weight of
    2 stands for the row twice, also in the Fisher information.

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
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "feature_extractor": [nn.Module, FrozenFeatureExtractor, None],
        "head": [nn.Module, None],
        "rank": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="right"),
            None,
        ],
        "importance": [StrOptions({"fisher", "uniform"})],
        "group_weights": [dict, "array-like", StrOptions({"proportional"}), None],
        "C": [Interval(Real, 0, None, closed="right")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "optimizer": "no_validation",  # see _check_optimizer, whose error says more
        "optimizer_kwargs": [dict, None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean", StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
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
        n_iter_no_change: int = 5,
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

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        sensitive_features: Any = None,
    ) -> Self:
        """Fit the head.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or sequence, n rows
            Inputs of the feature extractor; without one, features (n, d).
        y : array-like of shape (n,)
            Class labels of any dtype, without missing values.
        sample_weight : array-like of shape (n,), default=None
            Non-negative weights; None is 1 each.
        sensitive_features : array-like of shape (n,) or (n, c), default=None
            Group of each row, of any dtype; several columns stand for their
            intersections. In pipelines and searches they are routed by
            ``set_fit_request(sensitive_features=True)``.

        Returns
        -------
        FairLowRankHeadClassifier
            Itself.

        Raises
        ------
        ValueError
            For invalid parameters, data, groups or weights, or a module whose
            output is not one row of finite features per row of X.
        """
        self._validate_params()
        _check_optimizer(self.optimizer)
        classes, labels = encode_labels(y)
        refuse_mapping(X)
        check_consistent_length(X, labels)
        groups, codes = check_groups(sensitive_features, self.group_weights, classes, labels)
        w = check_weights(sample_weight, self.class_weight, classes, labels)
        # Only to find a mistake now and not after the extractor, which may run for hours.
        check_group_weights(self.group_weights, groups, np.bincount(codes, weights=w))
        Z = as_features(self._fit_features(X))
        if isinstance(Z, Tensor) and Z.numel() <= _DOUBLE_LIMIT:
            Z = Z.double()
        fitted_head = self._warm_head(classes, Z)
        self.classes_, self.groups_ = classes, groups

        # None is fresh entropy: drawing from NumPy's global state would change it.
        random_state = (
            np.random.RandomState()
            if self.random_state is None
            else check_random_state(self.random_state)
        )
        with threads_over_blocks():
            self._fit_head(Z, labels, codes, w, fitted_head, random_state)
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
            Softmax of the logits, columns in the order of ``classes_``.
        """
        return softmax(self._logits(X), axis=1)

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
            maps what the extractor takes (after ``preprocess``) to what
            `decision_function` gives: (n,) with two classes, otherwise (n, k).
        """
        check_is_fitted(self, "head_")
        head = copy.deepcopy(self.head_)
        if len(self.classes_) == 2:
            head = single_score_head(head)
        if self.feature_extractor_ is None:
            return nn.Sequential(OrderedDict(head=head)).eval()
        extractor = copy.deepcopy(self.feature_extractor_.feature_module())
        head.to(device_of(extractor))
        return nn.Sequential(OrderedDict(extractor=extractor, head=head)).eval()

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
        return validate_data(self, to_array(X), reset=reset, dtype=[np.float32, np.float64])

    def _warm_head(self, classes: NDArray[Any], Z: Features) -> nn.Module | None:
        """Return the head to go on from, None to start afresh."""
        if not (self.warm_start and hasattr(self, "head_")):
            return None
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"warm_start=True goes on from a head for the classes {self.classes_.tolist()} but "
                f"y has {classes.tolist()}; set warm_start=False."
            )
        if len(self.importance_) != Z.shape[1]:
            raise ValueError(
                f"warm_start=True goes on from a head for {len(self.importance_)} features but the "
                f"data has {Z.shape[1]}; set warm_start=False."
            )
        return self.head_

    @property
    def _nonlinear(self) -> bool:
        """Whether the head has an activation inside."""
        return isinstance(self.head, nn.Sequential) and len(self.head) > 1

    def _fit_head(
        self,
        Z: Features,
        labels: NDArray[np.int64],
        codes: NDArray[np.int64],
        w: NDArray[np.float64],
        fitted_head: nn.Module | None,
        random_state: np.random.RandomState,
    ) -> None:
        """Carry out Algorithm 1 on the features."""
        data = TensorRows(Z, torch.from_numpy(labels), torch.from_numpy(w))
        rows, held_out = self._split(labels, codes, w, random_state)
        train = data.take(rows)
        measured = measure(
            train.Z,
            train.y,
            torch.from_numpy(codes if rows is None else codes[rows]),
            train.w,
            n_groups=len(self.groups_),
            n_classes=len(self.classes_),
            C=self.C,
            head=self.head,
            start=None if fitted_head is None else previous_head(fitted_head),
        )
        head = self._factorize(measured)
        valid = None if held_out is None else data.take(held_out)
        seed = random_state.randint(np.iinfo(np.int32).max)
        self._train(head, measured, train, valid, seed)

    def _split(
        self,
        labels: NDArray[np.int64],
        codes: NDArray[np.int64],
        w: NDArray[np.float64],
        random_state: np.random.RandomState,
    ) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
        """Return the rows to train on and those held out; None means all and none."""
        early_stopping = self._nonlinear if self.early_stopping == "auto" else self.early_stopping
        if not early_stopping or self.max_epochs == 0:
            return None, None
        cells = labels * len(self.groups_) + codes
        held_out = hold_out(cells, w, self.validation_fraction, random_state)
        return np.delete(np.arange(len(labels)), held_out), held_out

    def _factorize(self, measured: Measured) -> LowRankHead:
        """Neutralize the importance and cut the head to rank (Eqs. 2 and 4)."""
        start, statistics = measured.start, measured.statistics
        shares = check_group_weights(self.group_weights, self.groups_, statistics.weights.numpy())
        importance = neutralize(statistics.importance, torch.from_numpy(shares))
        if self.importance == "fisher" and not importance.any():
            warnings.warn(
                "The Fisher importance is zero for every feature: all features are zero, or the "
                "head already fits every row with certainty. The SVD is not weighted.",
                FairnessWarning,
                stacklevel=4,
            )
        if self.importance == "uniform" or not importance.any():
            importance = torch.ones_like(importance)
        else:
            mean, scale = measured.moments
            importance = floor_importance(importance, (mean.square() + scale.square()).sqrt())
        decomposition = weighted_svd(start.weight, importance)
        full_rank = len(decomposition.S)
        if self.rank is None:
            self.rank_ = full_rank
            head = LowRankHead(start.weight, None, start.bias)
        else:
            if isinstance(self.rank, Integral) and self.rank > full_rank:
                warnings.warn(
                    f"rank={self.rank} is above min(d, k) = {full_rank}, the rank of any head of "
                    f"shape {tuple(start.weight.shape)}; using {full_rank}.",
                    UserWarning,
                    stacklevel=4,
                )
            self.rank_ = resolve_rank(self.rank, decomposition.S)
            head = LowRankHead(*decomposition.factors(self.rank_), start.bias)
        self.group_importance_ = statistics.importance.numpy()
        self.importance_ = importance.numpy()
        self.singular_values_ = decomposition.S.numpy()
        return head

    def _train(
        self,
        head: LowRankHead,
        measured: Measured,
        train: TensorRows,
        valid: TensorRows | None,
        seed: int,
    ) -> None:
        """Fine-tune the head and store it."""
        start = measured.start
        output_scale = start.output_layer_scale(train.Z, train.w)
        module = StandardizedHead(head, start.tail, *measured.moments, output_scale, torch.float64)
        # LogisticRegression penalizes ||w||^2 / 2 for the margin w of two classes; their two
        # columns -w/2 and w/2 have half that norm.
        columns = 2.0 if len(self.classes_) == 2 else 1.0
        total = float(train.w.sum())
        self.net_ = fine_tune(
            module,
            train.with_unit_mean_weights(),
            None if valid is None else valid.with_unit_mean_weights(),
            n_classes=len(self.classes_),
            l2=columns / (self.C * total),
            nonlinear=self._nonlinear,
            optimizer=self.optimizer,
            optimizer_kwargs=self.optimizer_kwargs,
            lr=self.lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            tol=self.tol,
            patience=self.n_iter_no_change,
            callbacks=self.callbacks,
            device=resolve_device(self.device, torch.device("cpu")),
            seed=seed,
            verbose=int(self.verbose),
        )
        # L-BFGS remembers dozens of vectors as long as all parameters; a pickle needs none.
        self.net_.optimizer_.state.clear()
        self.history_ = self.net_.history
        # The way through standardized features rounds; an untrained head needs none of it.
        untouched = head if start.tail is None else nn.Sequential(head, *copy.deepcopy(start.tail))
        self.head_ = module.fold() if self.max_epochs else untouched

    def _logits(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self, "head_")
        if self.feature_extractor_ is None:
            Z = self._check_features(X, reset=False)
        else:
            Z = self.feature_extractor_.transform(X)
        return head_scores(self.head_, as_features(Z)).numpy()


def _check_optimizer(optimizer: Any) -> None:
    known = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)
    if optimizer is not None and not known:
        raise ValueError(
            f"optimizer is {optimizer!r}; expected None or a subclass of torch.optim.Optimizer: "
            "the class itself, such as torch.optim.AdamW, not its name or an instance."
        )
