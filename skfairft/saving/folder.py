"""A folder of files whose content is checked: ``model.json``, and numbers beside it.

``model.json`` says everything but the numbers, and the SHA-256 of each other file and of itself.
The others are named by that, and it is replaced last, at once: a folder holds a whole model at
each moment, the earlier one or the later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from .._version import __version__

__all__ = ["read_folder", "write_folder"]

FORMAT = 1
"""Counted up with what older versions could not read."""

_MODEL = "model.json"
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
    before = _files_of(path)
    names = {}
    for kind, tensors in files.items():
        # Copies, for tensors that share memory are not to be written as one.
        own = {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}
        data = tensors_to_bytes(own)
        digest = hashlib.sha256(data).hexdigest()
        names[kind] = {"file": f"{kind}-{digest[:16]}.safetensors", "sha256": digest}
        if not _is_whole(path / names[kind]["file"], digest):
            _put(path / names[kind]["file"], data)
    whole = {"format": FORMAT, "skfairft": __version__, "files": names, **content}
    _put(path / _MODEL, _text({"sha256": _sum_of(whole), **whole}).encode("ascii"))
    # Only those of the model that was there: another process may be writing its own.
    for name in before - {each["file"] for each in names.values()}:
        (path / name).unlink(missing_ok=True)


def _files_of(path: Path) -> set[str]:
    """Return the names of the files of a model, as far as there is one."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        files = json.loads((path / _MODEL).read_bytes())["files"]
        return {each["file"] for each in files.values() if _OWN.fullmatch(each["file"])}
    return set()


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


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


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
    try:
        whole = json.loads((path / _MODEL).read_bytes())
        if not isinstance(whole, dict):
            raise ValueError("it is no object of JSON")
        digest = whole.pop("sha256", None)
        version = whole.pop("format", None)
        if type(version) is int and version > FORMAT:
            raise _NewerError(
                f"{path / _MODEL} is of format {version}, written by skfairft "
                f"{str(whole.get('skfairft'))[:40]}; skfairft {__version__} reads up to format "
                f"{FORMAT}. Upgrade skfairft, or save the model with this version."
            )
        if version != FORMAT or digest != _sum_of({"format": version, **whole}):
            raise ValueError("its checksum is another one")
        files = {
            str(kind): _tensors(path / Path(each["file"]).name, each["sha256"])
            for kind, each in whole.pop("files").items()
        }
    except _NewerError:
        raise
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ValueError(
            f"{path / _MODEL}, or a file that it names, is damaged or was changed ({error}). "
            "Nothing was loaded; take a copy that is whole, or save the model again."
        ) from error
    return whole, files


class _NewerError(ValueError):
    """The files are of a later version."""


def _tensors(path: Path, digest: str) -> dict[str, Tensor]:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"the checksum of {path.name} is another one")
    try:
        return tensors_from_bytes(data)
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} holds no tensors ({error})") from error
