"""What tells a backbone from another one, kept where the backbone itself is not."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..feature_store.fingerprint import UnknownContentError, fingerprint
from ..inputs.warn import warn_user
from .extractor import FrozenFeatureExtractor
from .feature_module import picks_of
from .forward import device_of
from .frozen import frozen, locked
from .modules import count_parameters, digest_of_weights, named_weights

__all__ = ["BackboneReference"]


@dataclass(frozen=True)
class BackboneReference:
    """What is known of a backbone by its name, its numbers, and all that it would compute.

    Parameters
    ----------
    title : str
        Class of the module.
    n_parameters : int or None
        Of the module, as far as they can be counted.
    parts : str
        Digest of the classes of all submodules, and of names, dtypes and shapes of the weights.
    weights : str
        Digest of the values of all parameters and buffers that are saved with the module.
    code : str or None
        Digest of all that is held, code and settings included, without versions of libraries;
        None where something has no content that can be told.
    preprocess, preprocess_code : str or None
        Class or name of what prepares the rows, and its digest.
    layer, output, pool, dtype : str, int or None
        What is taken from the module; see `FrozenFeatureExtractor`.
    python, torch : str
        Versions with which it was made.

    Examples
    --------
    >>> from torch import nn
    >>> from skfairft import FrozenFeatureExtractor
    >>> extractor = FrozenFeatureExtractor(nn.Linear(3, 2))
    >>> known = BackboneReference.of(extractor)
    >>> known.check(extractor)
    >>> known.check(FrozenFeatureExtractor(nn.Linear(3, 2)))
    Traceback (most recent call last):
    ...
    ValueError: The feature extractor is not that of the fit, a Linear with 8 parameters: its \
weights, or buffers, have other values. Pass the one that the classifier was fitted with, or save \
the classifier with backbone=True, which sends them along.
    """

    title: str
    n_parameters: int | None
    parts: str
    weights: str
    code: str | None
    preprocess: str | None
    preprocess_code: str | None
    layer: str | None
    output: str | int | None
    pool: str | None
    dtype: str | None
    python: str
    torch: str

    @classmethod
    def of(cls, extractor: FrozenFeatureExtractor) -> BackboneReference:
        """Return that of an extractor's module as it runs: in evaluation mode."""
        module = getattr(extractor.module, "_orig_mod", extractor.module)  # of torch.compile
        preprocess = extractor.preprocess
        with locked(module), frozen(module, device_of(module)):
            parts = [[name, type(part).__qualname__] for name, part in module.named_modules()]
            shapes = [
                [name, str(each.dtype), tuple(each.shape)] for name, each in named_weights(module)
            ]
            return cls(
                title=type(module).__name__,
                n_parameters=count_parameters(module),
                parts=_digest(parts, shapes) or "",
                weights=digest_of_weights(module),
                code=_digest(extractor.module),
                preprocess=None if preprocess is None else _title(preprocess),
                preprocess_code=None if preprocess is None else _digest(preprocess),
                **picks_of(extractor),
                python=".".join(platform.python_version_tuple()[:2]),
                torch=str(torch.__version__).partition("+")[0],
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def check(self, extractor: FrozenFeatureExtractor, *, check_code: bool = True) -> None:
        """Refuse an extractor that is another one, with a ValueError that says in what.

        Where only code differs, and Python or torch are of another version than at the fit, whose
        bytecode or attributes may be what differs, a UserWarning says that it was not compared; as
        where the content of something cannot be told.

        Parameters
        ----------
        extractor : FrozenFeatureExtractor
            To be used in place of that of the fit.
        check_code : bool, default=True
            Whether code and settings count, or weights, names and what is taken alone.
        """
        found = BackboneReference.of(extractor)
        for name in ("layer", "output", "pool", "dtype"):
            mine, other = getattr(self, name), getattr(found, name)
            if mine != other:
                raise self._refused(f"its {name} is {other!r}, and {mine!r} was fitted with")
        if found.title != self.title or found.parts != self.parts:
            why = "its submodules, or names, dtypes or shapes of its tensors, are others"
            if (found.title, found.n_parameters) != (self.title, self.n_parameters):
                why = f"it is {found._described()}"
            raise self._refused(why)
        if found.weights != self.weights:
            raise self._refused(
                "its weights, or buffers, have other values",
                "Pass the one that the classifier was fitted with, or save the classifier with "
                "backbone=True, which sends them along.",
            )
        if (found.preprocess is None) != (self.preprocess is None):
            raise self._refused(
                f"its preprocess is {found.preprocess}, and {self.preprocess} prepared the rows of "
                "the fit"
            )
        if not check_code:
            return
        pairs = {
            "the module": (self.code, found.code),
            "preprocess": (self.preprocess_code, found.preprocess_code),
        }
        if self.preprocess is None:
            del pairs["preprocess"]
        unlike = [what for what, pair in pairs.items() if None in pair or pair[0] != pair[1]]
        if not unlike:
            return
        what, do = " and ".join(unlike), "Compare some predictions with earlier ones."
        if any(None in pairs[each] for each in unlike):
            warn_user(
                f"The weights of the feature extractor are those of the fit. In {what} is "
                "something whose content cannot be told, so that code and settings were not "
                f"compared. {do}",
                UserWarning,
            )
        elif (self.python, self.torch) != (found.python, found.torch):
            warn_user(
                "The weights of the feature extractor are those of the fit. Code and settings of "
                f"{what} could not be compared: the fit was with Python {self.python} and torch "
                f"{self.torch}, and here are Python {found.python} and torch {found.torch}. {do} "
                "Saving the model anew ends this warning.",
                UserWarning,
            )
        else:
            raise self._refused(
                f"code or settings of {what} are others, though weights are the same",
                "Pass the one that the classifier was fitted with, its code as it was then, or fit "
                "again. If you know that it gives the same features, load with check_code=False.",
            )

    def _refused(
        self, why: str, do: str = "Pass the one that the classifier was fitted with."
    ) -> ValueError:
        return ValueError(
            f"The feature extractor is not that of the fit, {self._described()}: {why}. {do}"
        )

    def _described(self) -> str:
        count = "unknown" if self.n_parameters is None else f"{self.n_parameters:,}"
        return f"a {self.title} with {count} parameters"


def _digest(*parts: Any) -> str | None:
    try:
        return fingerprint(*parts, versions=False).hex()
    except UnknownContentError:
        return None


def _title(preprocess: Any) -> str:
    """Return the name of a function, or of an object's class."""
    return str(getattr(preprocess, "__qualname__", None) or type(preprocess).__qualname__)
