"""Frozen feature extractors: from raw inputs to features, and from a model to its two parts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _check_feature_names, _num_samples, validate_data
from torch import Tensor, nn
from tqdm.auto import tqdm

from ._modules import ModuleParamsMixin, resolve_device
from .forward import device_of, forward, frozen, number_tensor

__all__ = ["FrozenFeatureExtractor", "split_head"]


class FrozenFeatureExtractor(
    ModuleParamsMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Features of a frozen torch module, as a scikit-learn transformer.

    The module runs in evaluation mode and without gradients, and is left
    exactly as it was: training flags, device and ``requires_grad``. Nothing is
    learned by `fit`, which only checks X and the module against each other.

    Parameters
    ----------
    module : nn.Module
        Maps a batch of inputs to features (batch, d). Clones share it.
    preprocess : callable, default=None
        Turns a slice of X (list of texts, image paths, rows of a DataFrame, ...)
        into what the module takes: a tensor, a tuple of tensors (positional
        arguments) or a mapping of tensors (keyword arguments). None means that X
        is numeric. Must be picklable for ``n_jobs > 1``.
    batch_size : int, default=256
        Rows per forward pass.
    device : str, torch.device or None, default="auto"
        "auto" is a CUDA GPU where there is one, and else where the module lies.
        None is always where the module lies.
    verbose : int, default=0
        1 shows a progress bar over rows.

    Attributes
    ----------
    n_features_in_ : int
        Size of axis 1 of X seen by `fit`; only for arrays, tensors and DataFrames.
    feature_names_in_ : ndarray of str
        Column names, if X was a DataFrame.

    Notes
    -----
    Floating-point input is cast to the dtype of the module's parameters, so
    half-precision modules work as they are. Integer arrays count as numbers and
    are cast as well; integer *tensors* (token ids) are passed as they are. The
    features are float64 for float64 modules and float32 for all others.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skfairft import FrozenFeatureExtractor
    >>> extractor = FrozenFeatureExtractor(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)))
    >>> extractor.fit_transform(np.ones((4, 3, 2, 2))).shape
    (4, 5)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "module": [nn.Module],
        "preprocess": [callable, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        module: nn.Module,
        *,
        preprocess: Callable[[Any], Any] | None = None,
        batch_size: int = 256,
        device: str | torch.device | None = "auto",
        verbose: int = 0,
    ) -> None:
        self.module = module
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check X and run its first row through the module; nothing is learned.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or sequence, n rows
            Inputs of the module, or of ``preprocess``.
        y : ignored
            For scikit-learn's sake.

        Returns
        -------
        FrozenFeatureExtractor
            Itself.

        Raises
        ------
        ValueError
            For NaN or infinite input, and for a module whose output is not one
            row of finite floating-point features per row of X.
        """
        self._validate_params()
        rows = self._check_rows(X, reset=True)
        self._n_features_out = self._extract(rows[:1], None).shape[1]
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> NDArray[Any]:
        """Check X and return its features; each row runs through the module once.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or sequence, n rows
            Inputs of the module, or of ``preprocess``.
        y : ignored
            For scikit-learn's sake.
        **fit_params : ignored
            For scikit-learn's sake.

        Returns
        -------
        ndarray of shape (n, d), float32 or float64
            The features.
        """
        self._validate_params()
        features = self._extract(self._check_rows(X, reset=True), None)
        self._n_features_out = features.shape[1]
        return features

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the features of X.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or sequence, n rows
            Inputs of the module, or of ``preprocess``.

        Returns
        -------
        ndarray of shape (n, d), float32 or float64
            The features.

        Raises
        ------
        ValueError
            As `fit`, and for another number of input columns than at `fit`.
        """
        self._validate_params()
        rows = self._check_rows(X, reset=False)
        return self._extract(rows, getattr(self, "_n_features_out", None))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []  # features have the module's dtype
        tags.input_tags.three_d_array = True
        return tags

    def _check_rows(self, X: Any, *, reset: bool) -> _Rows:
        """Validate X and return it as something that can be cut into slices of rows."""
        if self.preprocess is not None:
            _check_feature_names(self, X, reset=reset)
            if _num_samples(X) == 0:
                raise ValueError("X has 0 rows; at least one is needed.")
            return _Rows(X)
        if isinstance(X, Tensor):
            # validate_data would make it an array, and token ids then could not be told
            # from numbers; a view on one element per row is enough for its bookkeeping.
            if X.ndim < 2:
                raise ValueError(
                    f"X is a {X.ndim}-d tensor of shape {tuple(X.shape)}; expected one row per "
                    "sample. Use X.reshape(-1, 1) for one feature, X[None] for one sample."
                )
            if X.is_floating_point() and not bool(torch.isfinite(X).all()):
                raise ValueError("Input X contains NaN or infinity.")
            shape_only = np.broadcast_to(np.zeros(1, dtype=np.float32), X.shape[:2])
            validate_data(self, shape_only, reset=reset, ensure_all_finite=False)
            return _Rows(X.detach())
        return _Rows(validate_data(self, X, reset=reset, allow_nd=True, dtype="numeric"))

    def _extract(self, rows: _Rows, width: int | None) -> NDArray[Any]:
        """Run the module over all rows, batch by batch; ``width`` None takes any width."""
        source = device_of(self.module)
        device = resolve_device(self.device, source)
        features: NDArray[Any] | None = None
        with (
            frozen(self.module, source, device),
            tqdm(total=len(rows), unit="row", desc="features", disable=not self.verbose) as bar,
        ):
            for start in range(0, len(rows), self.batch_size):
                batch = rows[start : start + self.batch_size]
                if self.preprocess is None:
                    inputs = number_tensor(batch.data, self.module)
                else:
                    inputs = self.preprocess(batch.data)
                output = forward(self.module, inputs, len(batch), device, width)
                if features is None:
                    width = output.shape[1]
                    features = np.empty((len(rows), width), dtype=output.dtype)
                features[start : start + len(batch)] = output
                bar.update(len(batch))
        assert features is not None  # _check_rows lets no empty X through
        return features


class _Rows:
    """A sequence of any kind, cut into slices of rows."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return int(_num_samples(self.data))

    def __getitem__(self, rows: slice) -> _Rows:
        return _Rows(self.data.iloc[rows] if hasattr(self.data, "iloc") else self.data[rows])


def split_head(model: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Cut a model at its last linear layer.

    Parameters
    ----------
    model : nn.Module
        A model that ends in an ``nn.Linear``. It is not changed; the two parts
        share its other layers.

    Returns
    -------
    extractor : nn.Module
        The model with an identity in place of that layer. What follows it in an
        ``nn.Sequential``, nested ones included (a softmax, say), is left out.
    head : nn.Linear
        The layer itself.

    Raises
    ------
    ValueError
        If the model has no ``nn.Linear``, or is one.

    Notes
    -----
    The last layer is the one registered last. A model whose ``forward`` does
    more after that layer (a log-softmax, say) does so on the features too: wrap
    such a model yourself.

    Examples
    --------
    >>> from torch import nn
    >>> from skfairft import split_head
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> extractor, head = split_head(model)
    >>> head
    Linear(in_features=8, out_features=2, bias=True)
    """
    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not names or names[-1] == "":
        raise ValueError(
            f"{type(model).__name__} cannot be cut: expected a model with an nn.Linear inside it. "
            "If the model already gives features, use it as feature_extractor with head=None."
        )
    *path, last = names[-1].split(".")
    extractor = part = _shallow_copy(model)
    for name in path:
        _drop_after(part, name)
        part._modules[name] = _shallow_copy(part._modules[name])
        part = part._modules[name]
    _drop_after(part, last)
    head = part._modules[last]
    assert isinstance(head, nn.Linear)
    part._modules[last] = nn.Identity()
    return extractor, head


def _drop_after(part: nn.Module, name: str) -> None:
    """Remove what follows a child from a Sequential; others may run their children in any order."""
    if isinstance(part, nn.Sequential):
        names = list(part._modules)
        for later in names[names.index(name) + 1 :]:
            del part._modules[later]


def _shallow_copy(module: nn.Module | None) -> Any:
    """Copy a module's own attributes but share its parameters and submodules."""
    new = copy.copy(module)
    assert new is not None
    new._modules = dict(new._modules)
    return new
