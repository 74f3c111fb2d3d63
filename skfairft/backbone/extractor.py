"""Frozen feature extractors: from raw inputs to features."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self
from weakref import WeakSet

import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils._param_validation import Interval, Options, StrOptions
from torch import nn
from tqdm.auto import tqdm

from ..feature_store import DiskStore, MemoryStore, get_store
from ..feature_store.fingerprint import UnknownContentError, fingerprint
from ..feature_store.witness import MOST_ROWS, noise_of
from ..inputs.exceptions import FeatureStoreWarning
from ..inputs.lazy import is_lazy
from ..inputs.warn import warn_user
from ..rows.chunks import read_chunks
from .box import extractor_block
from .by_chunk import features_by_chunk
from .extraction import FIRST_ROWS, Extraction
from .feature_module import MIXED_PRECISION, POOLINGS, FeatureModule, find_layer, picks_of
from .forward import BatchRunner, ambient, device_of
from .frozen import frozen, locked
from .items import InputRows, check_rows
from .modules import ModuleParamsMixin, all_or_nothing, digest_of_weights, resolve_device
from .run import BackboneRun

__all__ = ["FrozenFeatureExtractor", "changed_since_fit", "settle_folder"]

# To be counted up when `FeatureModule` makes other features of the same settings.
_PICKING = 2

# Modules that run in less time than it takes to look their rows up.
_cheap: WeakSet[nn.Module] = WeakSet()

# Folders of which it was said that they are not here.
_missing: set[str] = set()


class FrozenFeatureExtractor(
    ModuleParamsMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Features of a frozen torch module, as a scikit-learn transformer.

    The module runs in evaluation mode and without gradients, and is left
    exactly as it was: training flags, device and ``requires_grad``. Nothing is
    learned by `fit`, which only checks X and the module against each other.

    Features are remembered: a row that the same module has seen does not run
    through it again, in this object, its clones, the fits of a grid search, and,
    with a folder as ``memory``, in other processes and on other days. Features
    must not depend on the other rows of the batch: `fit` looks at a few rows by
    themselves, and refuses a module in which they do.

    Parameters
    ----------
    module : nn.Module
        Maps a batch of inputs to features (batch, d). Clones share it.
    preprocess : callable, default=None
        Turns a slice of X (list of texts, image paths, rows of a DataFrame, ...)
        into what the module takes: a tensor, a tuple of tensors (positional
        arguments) or a mapping of tensors (keyword arguments). None means that X
        is numeric, or a dataset. Must be picklable for ``n_jobs > 1``. An attribute
        ``reads_files`` may say whether texts are names of files (True) or nothing but
        texts (False); else those are taken for names that look like it. See
        `preprocessing.Texts` and `preprocessing.ImageFiles`.
    layer : str, default=None
        Take the output of this submodule (a name from ``module.named_modules()``,
        such as "avgpool") in place of the module's, and run nothing after it. Of a
        submodule that is run several times, the first output.
    output : str or int, default=None
        Entry to take from an output that is a mapping or a tuple. None takes a
        tensor as it is, and of a Hugging Face model the ``pooler_output``.
    pool : {"mean", "max", "first"}, default=None
        Pool maps (n, channels, ...) over their positions, or tokens (n, tokens, d)
        over those that an input called ``attention_mask`` marks, by the model's own
        rule where there are fewer tokens than marks; "first" is the first token that
        is marked. None takes features (n, d) only.
    batch_size : int, default=256
        Most rows per forward pass. Where memory is short it is halved, with a
        warning, and the work goes on.
    device : str, torch.device or None, default="auto"
        "auto" is a CUDA GPU where there is one, and else where the module lies.
        None is always where the module lies.
    dtype : {"bfloat16", "float16"} or torch.dtype, default=None
        Mixed precision: products and convolutions in this dtype, the rest as it
        is. None computes in the module's own precision.
    channels_last : bool, default=False
        Lay out image batches channels last, which convolutions may run faster in.
    compile : bool, default=False
        Run the module through ``torch.compile``. The first batches then take long.
    num_workers : int, default=0
        Threads that load and preprocess the next batches while the module runs; 0
        does so in between. Opening images, resizing and tokenizing release
        Python's lock; a dataset must allow reads from several threads.
    memory : None, str, path, MemoryStore, DiskStore or False, default=None
        Where features are remembered. None is the memory of this process, up to
        512 MiB, least recently used first out; features of one module that outgrow
        it go to temporary files. A folder keeps them on disk, up to 10 GiB,
        shared between processes (``n_jobs > 1``) and kept for later ones. `fit` makes it, and
        decides where a relative one is; a fitted extractor that finds it gone, perhaps on
        another machine, warns and takes the memory of the process. False
        remembers nothing. A store of `skfairft.feature_store` has a bound of your own.
    max_nbytes : int or None, default=2**29
        Features of more bytes are returned as a memory-mapped array, on a temporary
        file that is gone with the array. None never maps.
    verbose : int, default=0
        1 shows a progress bar with rows per second.

    Attributes
    ----------
    n_features_in_ : int
        Size of axis 1 of X seen by `fit`; only for arrays, tensors and DataFrames.
    feature_names_in_ : ndarray of str
        Column names, if X was a DataFrame.

    Notes
    -----
    X may be an array or tensor of any dimension, a DataFrame, a map-style torch
    dataset, whose items are inputs or tuples (input, ...), or with ``preprocess``
    any sequence.

    Floating-point input is cast to the dtype of the module's parameters, so
    half-precision modules work as they are. Integer arrays count as numbers and
    are cast as well; integer *tensors* (token ids) are passed as they are. The
    features are float64 for float64 modules and float32 for all others.

    A row is known by its content (of a file also by the file's), a module by all that it
    holds: weights, buffers, attributes, code, settings. Training the module further or
    changing ``preprocess``, ``layer``, ``output``, ``pool`` or ``dtype`` makes every row a
    new one, loading the same weights again does not. A module that changes whenever it
    runs is run each time, with a `FeatureStoreWarning`. As nothing sees everything, up to
    four rows are run again by each call that is given stored features; if they have other
    features, all that is stored of the module is forgotten, with a warning. Where looking
    up takes more than 5 % of the time of the module itself, ``memory=None`` stops
    remembering.

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
        "layer": [str, None],
        "output": [str, Integral, None],
        "pool": [StrOptions(set(POOLINGS)), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device, None],
        "dtype": [
            StrOptions(set(MIXED_PRECISION)),
            Options(torch.dtype, set(MIXED_PRECISION.values())),
            None,
        ],
        "channels_last": ["boolean"],
        "compile": ["boolean"],
        "num_workers": [Interval(Integral, 0, None, closed="left")],
        "memory": [str, os.PathLike, MemoryStore, DiskStore, Options(bool, {False}), None],
        "max_nbytes": [Interval(Integral, 0, None, closed="left"), None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        module: nn.Module,
        *,
        preprocess: Callable[[Any], Any] | None = None,
        layer: str | None = None,
        output: str | int | None = None,
        pool: str | None = None,
        batch_size: int = 256,
        device: str | torch.device | None = "auto",
        dtype: str | torch.dtype | None = None,
        channels_last: bool = False,
        compile: bool = False,
        num_workers: int = 0,
        memory: Any = None,
        max_nbytes: int | None = 2**29,
        verbose: int = 0,
    ) -> None:
        self.module = module
        self.preprocess = preprocess
        self.layer = layer
        self.output = output
        self.pool = pool
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.channels_last = channels_last
        self.compile = compile
        self.num_workers = num_workers
        self.memory = memory
        self.max_nbytes = max_nbytes
        self.verbose = verbose

    @property
    def store(self) -> Any:
        """What remembers the features; None if nothing does.

        ``info()`` tells its size, and the rows that were found (``hits``) and that were
        not and had to run (``misses``); ``clear()`` forgets everything.
        """
        if self.memory is False:
            return None
        known, folder = getattr(self, "_kept_in", ("", None))
        if folder is None or known != repr(self.memory):
            return get_store(self.memory)
        # What fit took it for, wherever the working directory is now. A model that was brought
        # elsewhere does not make folders there: features are personal data.
        if os.path.isdir(folder):
            return self.memory if isinstance(self.memory, DiskStore) else get_store(folder)
        if folder not in _missing:
            _missing.add(folder)
            warn_user(
                f"{folder}, in which features were kept at fit, is not here. They are kept in the "
                "memory of this process; make the folder, or set memory, to keep them otherwise.",
                FeatureStoreWarning,
            )
        return get_store(None)

    def feature_module(self) -> nn.Module:
        """Return what maps a batch to features: the module itself, or with what picks them.

        Returns
        -------
        nn.Module
            It shares the module; see `to_torch` of the classifier for a copy.
        """
        return FeatureModule(self.module, **picks_of(self))

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check X and run its first rows through the module; nothing is learned.

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
            For infinite input, and for a module whose output is not one row of finite
            floating-point features per row of X, the same whatever rows are beside it.
        """
        self._validate_params()
        if is_lazy(X):
            X = read_chunks(X, counted=False).head(2 * MOST_ROWS)
        with all_or_nothing(self):
            settle_folder(self)
            rows = check_rows(self, X, reset=True)
            first = replace(rows, data=rows.load(slice(0, 2 * MOST_ROWS)), of_item=None)
            before = _weights_now(self)
            self._keep(*self._extract(first, None, look=True), before)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> NDArray[Any]:
        """Check X and return its features; each row runs through the module once.

        Up to four rows run once more by themselves, to see that their features do not
        depend on the other rows of the batch.

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
        if is_lazy(X):
            return self.fit(X).transform(X)
        with all_or_nothing(self):
            settle_folder(self)
            rows, before = check_rows(self, X, reset=True), _weights_now(self)
            features, name = self._extract(rows, None, look=True)
            self._keep(features, name, before)
        return features

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the features of X.

        Parameters
        ----------
        X : array-like, tensor, DataFrame or sequence, n rows
            Inputs of the module, or of ``preprocess``. Of a collection of Dask
            the features are an array of Dask, not computed yet.

        Returns
        -------
        ndarray of shape (n, d), float32 or float64
            The features.

        Raises
        ------
        ValueError
            As `fit`, and for another number of input columns than at `fit`.

        Warns
        -----
        UserWarning
            If the module has other weights than at `fit`, unless ``memory`` is False.
        """
        self._validate_params()
        if is_lazy(X):
            X = read_chunks(X, counted=False)
            # How many features there are is not known otherwise.
            fitted = self if hasattr(self, "_n_features_out") else clone(self).fit(X)
            return features_by_chunk(fitted, X, fitted._n_features_out, fitted._features_dtype)
        rows = check_rows(self, X, reset=False)
        features, name = self._extract(rows, getattr(self, "_n_features_out", None), look=False)
        if self.memory is not False and name not in getattr(self, "_names", ()):
            # A fingerprint of more than weights; one that is new may be of the same ones.
            if said := changed_since_fit(self):
                warn_user(said, UserWarning)
            elif name:
                self._names = {*getattr(self, "_names", ()), name}
        return features

    def _keep(self, features: NDArray[Any], name: bytes, before: str | None) -> None:
        """Keep what is known of all features from those of some rows, and whose they are."""
        self._n_features_out, self._features_dtype = features.shape[1], features.dtype
        # A module that writes to its weights as it runs will not have the same ones again.
        weights = _weights_now(self)
        self._weights = weights if weights == before else None
        self._names = {name} - {b""}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []  # features have the module's dtype
        tags.input_tags.three_d_array = True
        return tags

    def _sk_visual_block_(self) -> Any:
        return extractor_block(self)

    def _extract(
        self, rows: InputRows, width: int | None, *, look: bool
    ) -> tuple[NDArray[Any], bytes]:
        """Return the features of the rows, and the module's fingerprint if it was looked at.

        ``width`` None takes any number of features.
        """
        module = self.feature_module()
        if self.layer is not None:
            find_layer(self.module, self.layer)
        device = resolve_device(self.device, device_of(self.module))

        @contextmanager
        def open_backbone() -> Iterator[BackboneRun]:
            with frozen(self.module, device):
                run: Any = torch.compile(module) if self.compile else module
                title = type(self.module).__name__
                runner = BatchRunner(run, title, self.batch_size, device, self.channels_last, width)
                noise = partial(noise_of, self.module, self.dtype)
                name = partial(self._name, rows.kind)
                yield BackboneRun(runner, self.module, self.preprocess, name, noise)

        store = self.store
        if self.memory is None and self.module in _cheap and len(rows) > FIRST_ROWS:
            store = None
        with (
            locked(self.module),
            tqdm(total=len(rows), unit="row", desc="features", disable=not self.verbose) as bar,
        ):
            extraction = Extraction(
                rows=rows,
                open_backbone=open_backbone,
                store=store,
                look=look,
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                max_nbytes=self.max_nbytes,
                folder=store.folder if isinstance(store, DiskStore) else None,
                may_stop_storing=self.memory is None,
                width=width,
                advance=bar.update,
            )
            features = extraction()
        if extraction.stopped_storing:
            _cheap.add(self.module)
        return features, b"" if extraction.store is None else extraction.backbone.name

    def _name(self, kind: str = "numbers") -> bytes:
        """Return what the features depend on besides the rows, in 16 bytes."""
        settings = picks_of(self), kind, _PICKING, ambient()
        return fingerprint(self.module, self.preprocess, *settings)


def settle_folder(extractor: FrozenFeatureExtractor) -> None:
    """Make the folder of an extractor's features, and note which it is, for it may be relative."""
    extractor.__dict__.pop("_kept_in", None)
    store = extractor.store
    if isinstance(store, DiskStore):
        store.make()
        extractor._kept_in = repr(extractor.memory), str(store.folder)


def changed_since_fit(extractor: FrozenFeatureExtractor) -> str | None:
    """Return a sentence if the module of a fitted extractor has other weights than at fit."""
    fitted = getattr(extractor, "_weights", None)
    if fitted is None or fitted == _weights_now(extractor):
        return None
    return (
        f"The weights of {type(extractor.module).__name__} are others than at fit. What was fitted "
        "on its features, such as a head, does not go with those that it gives now: fit again, or "
        "give it the earlier weights."
    )


def _weights_now(extractor: FrozenFeatureExtractor) -> str | None:
    """Return the digest of the weights as the module runs; None if they cannot be told."""
    module = extractor.module
    with locked(module), frozen(module, device_of(module)), suppress(UnknownContentError):
        return digest_of_weights(module)
    return None
