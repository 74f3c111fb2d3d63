"""A fitted classifier and its backbone to a folder, and from there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..backbone.extractor import FrozenFeatureExtractor, changed_since_fit, settle_folder
from ..backbone.module_copy import copy_module
from ..backbone.reference import BackboneReference
from ..inputs.values import pack, unpack
from .folder import read_folder, write_folder
from .modules import Tensors
from .record import classifier_of, written_classifier

__all__ = ["read_classifier", "write_classifier"]

# Of an extractor: how it runs, and what it has seen of X. Of its memory only that there is none: a
# folder is of the machine that wrote it.
_SETTINGS = (
    *("layer", "output", "pool", "batch_size", "device", "dtype", "channels_last", "compile"),
    *("num_workers", "max_nbytes", "verbose"),
)
_SEEN: dict[str, Any] = {
    "n_features_in_": int,
    "feature_names_in_": np.ndarray,
    "_n_features_out": int,
    "_features_dtype": np.dtype,
    "_sklearn_output_config": dict,
    "_weights": (str, type(None)),
}


def write_classifier(clf: Any, folder: str | os.PathLike[str], *, backbone: bool) -> None:
    """Write a fitted classifier to a folder; see its method ``save``."""
    check_is_fitted(clf, "head_")
    content, tensors = written_classifier(clf)
    own, files = _of_backbone(clf, backbone)
    write_folder(folder, content | {"backbone": own}, {"head": tensors, **files})


def write_classifiers(
    classifiers: Sequence[Any],
    folder: str | os.PathLike[str],
    *,
    backbone: bool,
    more: dict[str, Any],
    numbers: Tensors,
) -> None:
    """Write fitted classifiers of one backbone to a folder, and what belongs to all of them.

    ``more`` is content of JSON, by other names than those that are used here, and ``numbers`` are
    tensors by name, beside those of the heads.
    """
    parts = [written_classifier(clf) for clf in classifiers]
    tensors = dict(numbers)
    for i, (_, own) in enumerate(parts):
        tensors |= {f"{i}.{name}": tensor for name, tensor in own.items()}
    written, files = _of_backbone(classifiers[0], backbone)
    content = {"classifiers": [each for each, _ in parts], "backbone": written, **more}
    write_folder(folder, content, {"head": tensors, **files})


def _of_backbone(clf: Any, whole: bool) -> tuple[dict[str, Any] | None, dict[str, Tensors]]:
    """Return what is written of the backbone, and its weights where the whole of it is."""
    extractor = clf.feature_extractor_
    if extractor is not None:
        files = {"backbone": _weights(extractor.module)} if whole else {}
        return _written_backbone(clf), files
    if whole:
        raise ValueError(
            "backbone=True, but the classifier has no feature extractor: X holds its features. "
            "Leave backbone out."
        )
    return None, {}


def _weights(module: nn.Module) -> Tensors:
    module = getattr(module, "_orig_mod", module)  # of torch.compile
    state = module.state_dict()
    odd = [name for name, value in state.items() if not hasattr(value, "numel")]
    if odd:
        raise ValueError(
            f"backbone=True, but the state of {type(module).__name__} holds more than tensors "
            f"({', '.join(odd[:3])}). Save without it, and keep the backbone apart."
        )
    return dict(state)


def _written_backbone(clf: Any) -> dict[str, Any]:
    extractor, given = clf.feature_extractor_, clf.feature_extractor
    wrapped = isinstance(given, FrozenFeatureExtractor)
    if (given.module if wrapped else given) is not extractor.module:
        raise ValueError(
            "feature_extractor was set to another one after fit; the head belongs to the one "
            "before. Fit again, or set it back."
        )
    if said := changed_since_fit(extractor):
        raise ValueError(said)
    return {
        "reference": {k: pack(v) for k, v in BackboneReference.of(extractor).to_dict().items()},
        "settings": _settings(extractor),
        "given": _settings(given) if wrapped else None,
        "seen": {name: pack(vars(extractor)[name]) for name in _SEEN if name in vars(extractor)},
    }


def _settings(extractor: FrozenFeatureExtractor) -> dict[str, Any]:
    settings = {name: pack(getattr(extractor, name)) for name in _SETTINGS}
    return {**settings, "memory": False if extractor.memory is False else None}


def read_classifier(
    kind: type, folder: str | os.PathLike[str], feature_extractor: Any, check_code: bool
) -> Any:
    """Return the classifier that `write_classifier` was given; see `skfairft.load`."""
    content, files = read_folder(folder)
    if "classifiers" in content:
        raise ValueError(f"{os.fspath(folder)} holds a path; load it by skfairft.load_path.")
    (clf,) = _read(kind, folder, content, [(content, files.get("head", {}))])
    _give(clf, folder, content, files, feature_extractor, check_code)
    return clf


def read_classifiers(
    kind: type, folder: str | os.PathLike[str], feature_extractor: Any, check_code: bool
) -> tuple[dict[str, Any], Tensors, list[Any]]:
    """Return what `write_classifiers` was given: content, numbers, and the classifiers."""
    content, files = read_folder(folder)
    if "classifiers" not in content:
        raise ValueError(f"{os.fspath(folder)} holds one classifier; load it by skfairft.load.")
    own: list[Tensors] = [{} for _ in content["classifiers"]]
    numbers: Tensors = {}
    for name, tensor in files.get("head", {}).items():
        at, dot, rest = name.partition(".")
        if dot and at.isdecimal() and int(at) < len(own):
            own[int(at)][rest] = tensor
        else:
            numbers[name] = tensor
    parts = list(zip(content["classifiers"], own, strict=True))
    first, *others = classifiers = _read(kind, folder, content, parts)
    _give(first, folder, content, files, feature_extractor, check_code)
    for clf in others:
        clf.feature_extractor = first.feature_extractor
        clf.feature_extractor_ = first.feature_extractor_
    return content, numbers, classifiers


def _read(
    kind: type,
    folder: str | os.PathLike[str],
    content: dict[str, Any],
    parts: list[tuple[dict[str, Any], Tensors]],
) -> list[Any]:
    """Return classifiers without their backbone, which is looked at, too."""
    try:
        if content["backbone"] is not None:
            _Backbone.read(content["backbone"])
        return [classifier_of(kind, *part) for part in parts]
    except Exception as error:  # whatever comes of values that do not belong there
        raise ValueError(
            f"{os.fspath(folder)} is whole, but not as save writes it: {error}. Nothing was "
            "loaded; save the model again."
        ) from error


def _give(
    clf: Any,
    folder: str | os.PathLike[str],
    content: dict[str, Any],
    files: dict[str, Tensors],
    feature_extractor: Any,
    check_code: bool,
) -> None:
    """Give a classifier its backbone."""
    written = content["backbone"]
    if written is None:
        if feature_extractor is not None:
            raise ValueError(
                f"A feature_extractor was passed, but the classifier in {os.fspath(folder)} has "
                "none: its X holds features. Pass none, or load another folder."
            )
        clf.feature_extractor = clf.feature_extractor_ = None
        return
    _attach(clf, _Backbone.read(written), feature_extractor, files.get("backbone"), check_code)


class _Backbone(NamedTuple):
    """What was written of a backbone."""

    reference: BackboneReference
    used: dict[str, Any]  # parameters of the fitted extractor
    given: dict[str, Any] | None  # those of the parameter, if that was one, too
    seen: dict[str, Any]  # of X

    @classmethod
    def read(cls, written: dict[str, Any]) -> _Backbone:
        reference = {key: unpack(value) for key, value in written["reference"].items()}
        seen = {name: unpack(value) for name, value in written["seen"].items()}
        for name, value in seen.items():
            if not isinstance(value, _SEEN[name]):
                raise ValueError(f"{name} is a {type(value).__name__}")
        given = written["given"]
        return cls(
            BackboneReference(**reference),
            _read_settings(written["settings"]),
            None if given is None else _read_settings(given),
            seen,
        )


def _read_settings(written: dict[str, Any]) -> dict[str, Any]:
    settings = {name: unpack(written[name]) for name in _SETTINGS}
    settings["memory"] = memory = written["memory"]
    if memory is not False and memory is not None:
        raise ValueError(f"memory is {memory!r}")
    FrozenFeatureExtractor(nn.Identity(), **settings)._validate_params()
    return settings


def _attach(
    clf: Any, backbone: _Backbone, given: Any, weights: Tensors | None, check_code: bool
) -> None:
    """Give a classifier its backbone, if it is the one of the fit."""
    reference = backbone.reference
    wrapped = isinstance(given, FrozenFeatureExtractor)
    if not wrapped and not isinstance(given, nn.Module):
        arrived = "None" if given is None else f"a {type(given).__name__}"
        raise TypeError(
            f"The classifier was fitted on the features of a {reference.title}, and "
            f"feature_extractor is {arrived}; expected that module, or a FrozenFeatureExtractor "
            f"around it{' (with any weights: its own are in the folder)' if weights else ''}: "
            f"load(folder, feature_extractor=...)."
        )
    if not wrapped and reference.preprocess is not None:
        raise ValueError(
            f"preprocess ({reference.preprocess}) made the inputs of the {reference.title}, which "
            "a module alone does not say; pass FrozenFeatureExtractor(module, preprocess=...)."
        )
    used = clone(given) if wrapped else FrozenFeatureExtractor(given, **backbone.used)
    if weights is not None:
        used = _with_weights(used, reference, weights)
    reference.check(used, check_code=check_code)
    for name, value in backbone.seen.items():
        setattr(used, name, value)
    settle_folder(used)
    if wrapped:
        same = given.module is used.module
        clf.feature_extractor = given if same else clone(given).set_params(module=used.module)
    elif backbone.given is None:
        clf.feature_extractor = used.module
    else:
        clf.feature_extractor = FrozenFeatureExtractor(used.module, **backbone.given)
    clf.feature_extractor_ = used


def _with_weights(
    extractor: FrozenFeatureExtractor, reference: BackboneReference, weights: Tensors
) -> FrozenFeatureExtractor:
    """Return an extractor whose module has the weights; it is copied if it has others."""
    module = extractor.module
    meta = any(tensor.is_meta for tensor in module.parameters())
    if not meta and BackboneReference.of(extractor).weights == reference.weights:
        return extractor
    module = copy_module(module, type(module).__name__)
    inside = getattr(module, "_orig_mod", module)
    try:
        inside.load_state_dict(weights, assign=meta)
    except RuntimeError as error:
        raise ValueError(
            f"The weights of the {reference.title} that was saved do not fit the "
            f"{type(module).__name__} that was passed. Build the module as for the fit. "
            f"{' '.join(str(error).split())}"
        ) from error
    return clone(extractor).set_params(module=module)
