"""A folder of files whose content is checked: ``model.json``, and numbers beside it.

``model.json`` says everything but the numbers, and the SHA-256 of each other file and of itself.
The others have names of their own in each save, and it is replaced last, at once: a folder holds a
whole model at each moment, the earlier one or the later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from .._version import __version__

__all__ = ["read_folder", "write_folder"]

FORMAT = 1
"""Counted up with what older versions could not read."""

_MODEL = "model.json"
_KEYS = {"sha256", "format", "skfairft", "files"}
# No other name is ever deleted, whatever is in a folder.
_OWN = re.compile(r"(head|backbone)-[0-9a-f]{16}\.safetensors")


def write_folder(
    folder: str | os.PathLike[str], content: dict[str, Any], files: dict[str, dict[str, Tensor]]
) -> None:
    """Write a model to a folder, in place of one that is there; other files stay.

    Parameters
    ----------
    folder : str or path-like
        Made where it is not there.
    content : dict
        Of what JSON holds.
    files : dict of dict of Tensor
        Numbers by name, for each file.

    Raises
    ------
    ValueError
        If there is a file of that name.
    """
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; expected a folder, which is made if it is not there.")
    path.mkdir(parents=True, exist_ok=True)
    before = _files_of(path / _MODEL)
    names: dict[str, dict[str, str]] = {}
    try:
        for kind, tensors in files.items():
            data = _bytes_of(kind, tensors)
            name = f"{kind}-{uuid.uuid4().hex[:16]}.safetensors"  # of no other save
            names[kind] = {"file": name, "sha256": hashlib.sha256(data).hexdigest()}
            _put(path / name, data)
        whole = {"format": FORMAT, "skfairft": __version__, "files": names, **content}
        _put(path / _MODEL, _text({"sha256": _sum_of(whole), **whole}).encode("ascii"))
    except BaseException:
        _delete(path, {each["file"] for each in names.values()})
        raise
    # Only those of the model that was there: another process may be writing its own.
    _delete(path, before)


def _delete(path: Path, names: set[str]) -> None:
    for name in names:
        (path / name).unlink(missing_ok=True)


def _bytes_of(kind: str, tensors: dict[str, Tensor]) -> bytes:
    # Copies, for tensors that share memory are not to be written as one.
    try:
        own = {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}
        return tensors_to_bytes(own)
    except Exception as error:  # of a kind of tensor that such files do not hold
        raise ValueError(
            f"The {kind} has tensors that safetensors does not hold ({type(error).__name__}: "
            f"{error}); keep the classifier by joblib."
        ) from error


def _files_of(model: Path) -> set[str]:
    """Return the names of the files of the model that is there; refuse what is none of ours."""
    if not os.path.lexists(model):
        return set()
    try:
        if not model.is_file():
            raise ValueError("it is no file")
        whole = json.loads(model.read_bytes())
        if not whole.keys() >= _KEYS:
            raise ValueError("it has not the keys of one")
        return {each["file"] for each in whole["files"].values() if _OWN.fullmatch(each["file"])}
    except Exception as error:  # whatever is in it
        raise ValueError(
            f"{model} was not written by the save method of a classifier, or is damaged "
            f"({str(error).rstrip('.')}). Save to another folder, or delete it first."
        ) from error


def _put(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(unfinished, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _text(value: Any, levels: int = 2) -> str:
    """Return JSON with a line for each entry of the outer objects, for people to read."""
    if levels == 0 or not isinstance(value, dict) or not value:
        return json.dumps(value, allow_nan=False)
    entries = [f"{json.dumps(key)}: {_text(each, levels - 1)}" for key, each in value.items()]
    return "{\n" + ",\n".join(entries) + "\n}"


def _sum_of(whole: dict[str, Any]) -> str:
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read_folder(
    folder: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Return what `write_folder` was given: content, and numbers for each file.

    Raises
    ------
    FileNotFoundError
        If there is no model in the folder.
    ValueError
        If a file is damaged, was changed, or is of a later format.
    """
    path = Path(folder).expanduser()
    if not (path / _MODEL).is_file():
        there = "is no folder" if not path.is_dir() else f"has no {_MODEL}"
        raise FileNotFoundError(
            f"{path} {there}; expected a folder that the save method of a classifier wrote."
        )
    while True:
        text = (path / _MODEL).read_bytes()
        try:
            return _read(path, text)
        except _MissingError:
            # Another process has just replaced the model: its own is read then.
            if (path / _MODEL).read_bytes() == text:
                raise


class _MissingError(ValueError):
    """A file is not there."""


def _read(path: Path, text: bytes) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    try:
        whole = json.loads(text)
        ours = whole.keys() >= _KEYS
        later = ours and type(whole["format"]) is int and whole["format"] > FORMAT
        if ours and not later:
            return _checked(path, whole)
        why = "it has not the keys of one"
    except _MissingError:
        raise
    except Exception as error:  # whatever a damaged file makes of what reads it
        ours, later, why = True, False, str(error).rstrip(".")
    if later:
        raise ValueError(
            f"{path / _MODEL} is of format {whole['format']}, written by skfairft "
            f"{str(whole['skfairft'])[:40]}; skfairft {__version__} reads up to format "
            f"{FORMAT}. Upgrade skfairft, or save the model with this version."
        )
    whose = "is damaged or was changed" if ours else "was not written by the save method"
    raise ValueError(
        f"{path / _MODEL}, or a file that it names, {whose} ({why}). "
        "Nothing was loaded; take a copy that is whole, or save the model again."
    )


def _checked(
    path: Path, whole: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Return content and numbers, or raise whatever there is."""
    digest = whole.pop("sha256")
    if whole["format"] != FORMAT or digest != _sum_of(whole):
        raise ValueError("its checksum is another one")
    del whole["format"]
    return whole, {
        str(kind): _tensors(path / Path(each["file"]).name, each["sha256"])
        for kind, each in whole.pop("files").items()
    }


def _tensors(path: Path, digest: str) -> dict[str, Tensor]:
    missing = _MissingError(
        f"{path} is missing, which {_MODEL} names. Nothing was loaded; take a copy that is whole, "
        "or save the model again."
    )
    if not path.is_file():
        raise missing
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # deleted in between
        raise missing from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"the checksum of {path.name} is another one")
    return tensors_from_bytes(data)
