"""From image files and texts to tensors: what FrozenFeatureExtractor takes as ``preprocess``.

Pillow is imported when an image is read; the tokenizer is the caller's own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageFiles", "Texts"]

_CHANNELS = {"RGB": 3, "L": 1}

# A bootstrap sample holds the same image twice. Two threads that decode one lazily opened image
# would read its file in turns and get garbage, and miss its EXIF tags.
_DECODING = threading.Lock()

# A Hugging Face tokenizer stores the length to cut at, then cuts: of two threads that share one,
# each may get the other's length. It spreads a batch over all cores by itself.
_TOKENIZING = threading.Lock()

# Tokenizers without a limit say so by a model_max_length of about 1e30.
_UNLIMITED = 1_000_000


@dataclass(frozen=True)
class ImageFiles:
    """Image files to a tensor: open, turn upright, resize, centre-crop, normalize.

    As torchvision's transforms for ImageNet: the shorter side becomes ``resize``
    (antialiased, bilinear), the centre of ``size`` x ``size`` is kept, and each
    channel is ``(value / 255 - mean) / std``. Threads may call it at the same time,
    as the extractor's ``num_workers`` do.

    Parameters
    ----------
    size : int
        Height and width of the result.
    resize : int, default=None
        Length of the shorter side before the crop, at least ``size``; None is
        ``size``. ImageNet models are mostly evaluated with 256 before a crop of 224.
    mean, std : sequence of float, or both None
        Of each channel. None leaves the values between 0 and 1; the default is that
        of ImageNet.
    mode : {"RGB", "L"}, default="RGB"
        Three channels, or one of grey. Transparency is dropped.

    Raises
    ------
    ValueError
        When called, for a file that is missing or broken, and for images of more
        than 8 bits, which Pillow would clip; it names the file and its row.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> from torch import nn
    >>> from skfairft import FrozenFeatureExtractor
    >>> from skfairft.preprocessing import ImageFiles
    >>> for name, colour in [("cat.jpg", "black"), ("dog.jpg", "brown")]:
    ...     Image.new("RGB", (64, 48), colour).save(name)
    >>> backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> extractor = FrozenFeatureExtractor(backbone, preprocess=ImageFiles(32, resize=36))
    >>> extractor.transform(["cat.jpg", "dog.jpg"]).shape
    (2, 8)

    PIL images and uint8 arrays, (height, width, 3) or grey (height, width), do as well:

    >>> photo = np.zeros((48, 64, 3), dtype=np.uint8)
    >>> extractor.transform([photo, photo]).shape
    (2, 8)
    """

    reads_files: ClassVar[bool] = True

    size: int
    _: KW_ONLY
    resize: int | None = None
    mean: Sequence[float] | None = (0.485, 0.456, 0.406)
    std: Sequence[float] | None = (0.229, 0.224, 0.225)
    mode: str = "RGB"

    def __post_init__(self) -> None:
        _check_count("size", self.size)
        if self.resize is not None:
            _check_count("resize", self.resize, " or None")
        if self.resize is not None and self.resize < self.size:
            raise ValueError(
                f"resize={self.resize} is less than size={self.size}: the crop would be larger "
                "than the image. Use resize=None, or a larger one."
            )
        if self.mode not in _CHANNELS:
            raise ValueError(f"mode={self.mode!r}; expected one of {sorted(_CHANNELS)}.")
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                f"mean={self.mean!r} and std={self.std!r}; give both, or None for both."
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != _CHANNELS[self.mode]:
                raise ValueError(
                    f"{name}={values!r} has {len(values)} values, but mode={self.mode!r} has "
                    f"{_CHANNELS[self.mode]} channels. Give one per channel, or mean=None, "
                    "std=None for values between 0 and 1."
                )
        if self.std is not None and not all(0 < value < np.inf for value in self.std):
            raise ValueError(f"std={self.std!r}; expected positive, finite numbers.")

    def __call__(self, batch: Any) -> Tensor:
        """Return the images of a batch as one tensor.

        Parameters
        ----------
        batch : sequence of n paths, PIL images or uint8 arrays
            The arrays are (height, width, 3), or (height, width) for grey.

        Returns
        -------
        Tensor of shape (n, channels, size, size), float32
            The images.
        """
        _import_pillow()  # here, so that a missing Pillow does not count as a broken file
        rows = _rows(batch)
        # uint8 until all are there: a quarter of the memory traffic, and one pass of float work.
        pixels = np.empty((len(rows), self.size, self.size, _CHANNELS[self.mode]), dtype=np.uint8)
        for row, given in enumerate(rows):
            pixels[row] = self._read(row, given)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        images = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        if self.mean is not None and self.std is not None:
            mean, std = (
                torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
                for values in (self.mean, self.std)
            )
            images.sub_(mean).div_(std)
        return images

    def _read(self, row: int, given: Any) -> NDArray[np.uint8]:
        """Return one image as an array (size, size, channels)."""
        from PIL import ImageOps

        pillow = _import_pillow()
        path = None
        if isinstance(given, (str, os.PathLike)):
            path = Path(given)
        elif isinstance(given, np.ndarray):
            _check_array(row, given)
        elif not isinstance(given, pillow.Image):
            raise ValueError(
                f"Row {row} of the batch is {given!r} ({type(given).__name__}); expected the path "
                "of an image, a PIL image, or a uint8 array (height, width, 3)."
            )
        try:
            if path is not None:
                with pillow.open(path) as image:
                    return self._prepare(ImageOps.exif_transpose(image))
            if isinstance(given, np.ndarray):
                return self._prepare(pillow.fromarray(given))
            with _DECODING:
                upright = ImageOps.exif_transpose(given)  # a copy; the caller's stays as it is
            return self._prepare(upright)
        except FileNotFoundError as error:
            raise ValueError(
                f"Row {row} of the batch: there is no file {str(path)!r} in {Path.cwd()}. Give "
                "full paths, or paths from there."
            ) from error
        # Pillow raises OSError, SyntaxError, struct.error and more, depending on the format.
        except Exception as error:
            name = f"a {type(given).__name__}" if path is None else f"{str(path)!r}"
            raise ValueError(
                f"Row {row} of the batch, {name}, cannot be read as an image "
                f"({type(error).__name__}: {error}). Leave the row out, or mend or convert the "
                "file."
            ) from error

    def _prepare(self, image: Image) -> NDArray[np.uint8]:
        """Convert, resize and crop one image."""
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"mode {image.mode} has more than 8 bits, expected 8 per channel")
        if "transparency" in image.info and image.mode == "P":
            image = image.convert("RGBA")  # straight to RGB, Pillow warns
        image = image.convert(self.mode)
        # The rounding of both steps is torchvision's, for the same pixels.
        short = self.size if self.resize is None else self.resize
        width, height = (int(short * side / min(image.size)) for side in image.size)
        image = image.resize((width, height), _import_pillow().Resampling.BILINEAR)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        image = image.crop((left, top, left + self.size, top + self.size))
        return np.asarray(image).reshape(self.size, self.size, _CHANNELS[self.mode])


class Texts:
    """Texts to token ids: a Hugging Face tokenizer, as a ``preprocess``.

    Each batch is padded to its longest text. The features of a text then do not
    depend on the batch it is in if the module heeds ``attention_mask``, also when
    it pools over tokens, as ``pool`` of the extractor does.

    Parameters
    ----------
    tokenizer : callable
        A Hugging Face tokenizer, or a callable with the same arguments.
    max_length : int, default=None
        Tokens at which texts are cut. None is the tokenizer's ``model_max_length``;
        if it has none, texts are not cut.
    **kwargs
        More arguments of the tokenizer, ``return_token_type_ids=False`` for a model
        that does not take them, say; they override ``padding`` and ``truncation``.

    Raises
    ------
    ValueError
        When called, for a row that is not a string.

    Examples
    --------
    With a model of Hugging Face, whose tokens ``pool`` averages by their mask. Yours come from
    ``AutoTokenizer.from_pretrained`` and ``AutoModel.from_pretrained``; these are tiny and new:

    >>> from skfairft import FrozenFeatureExtractor
    >>> from skfairft.preprocessing import Texts
    >>> from transformers import BertConfig, BertModel, BertTokenizer
    >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "short", "text"]
    >>> tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    >>> model = BertModel(BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1,
    ...                              num_attention_heads=2, intermediate_size=16))
    >>> extractor = FrozenFeatureExtractor(
    ...     model, preprocess=Texts(tokenizer, max_length=128), output="last_hidden_state",
    ...     pool="mean",
    ... )
    >>> extractor.transform(["a short text", "a text"]).shape
    (2, 8)

    What it gives, here with a tokenizer of letters:

    >>> import torch
    >>> from torch import nn
    >>> def letters(texts, *, padding, truncation, max_length, return_tensors):
    ...     rows = [torch.tensor([ord(letter) for letter in text[:max_length]]) for text in texts]
    ...     return {"input_ids": nn.utils.rnn.pad_sequence(rows, batch_first=True)}
    >>> Texts(letters, max_length=3)(["abcde", "f"])
    {'input_ids': tensor([[ 97,  98,  99],
            [102,   0,   0]])}
    """

    reads_files = False  # the rows are texts, whatever they look like

    def __init__(
        self, tokenizer: Callable[..., Any], *, max_length: int | None = None, **kwargs: Any
    ) -> None:
        if not callable(tokenizer):
            raise ValueError(
                f"tokenizer is {type(tokenizer).__name__}; expected a Hugging Face tokenizer, "
                "AutoTokenizer.from_pretrained(...), or a callable with its arguments."
            )
        if max_length is not None:
            _check_count("max_length", max_length, " or None")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.kwargs = kwargs

    def __repr__(self) -> str:
        # A tokenizer prints its vocabulary's special tokens over many lines.
        name = getattr(self.tokenizer, "__name__", type(self.tokenizer).__name__)
        kwargs = "".join(f", {key}={value!r}" for key, value in self.kwargs.items())
        return f"Texts({name}, max_length={self.max_length}{kwargs})"

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """Return the tokens of a batch of texts.

        Parameters
        ----------
        batch : sequence of n str
            The texts.

        Returns
        -------
        dict of str to Tensor, mostly of shape (n, longest)
            What the tokenizer returned: ``input_ids``, ``attention_mask``...
        """
        texts = _rows(batch)
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(
                    f"Row {row} of the batch is {text!r} ({type(text).__name__}); expected a str. "
                    "Leave out or fill rows without text, and convert numbers by str()."
                )
        limit = self.max_length
        if limit is None:
            limit = getattr(self.tokenizer, "model_max_length", None)
            # To ask for truncation without a length would be logged by the tokenizer.
            limit = limit if limit is not None and limit < _UNLIMITED else None
        arguments = {
            "padding": True,
            "truncation": limit is not None,
            "max_length": limit,
            "return_tensors": "pt",
            **self.kwargs,
        }
        with _TOKENIZING, _as_it_came(self.tokenizer):
            tokens = self.tokenizer(texts, **arguments)
        if not isinstance(tokens, Mapping) or not all(
            isinstance(value, Tensor) for value in tokens.values()
        ):
            raise ValueError(
                f"The tokenizer {type(self.tokenizer).__name__} returned {type(tokens).__name__}; "
                "expected a mapping of names to tensors, as Hugging Face's with "
                "return_tensors='pt' and padding."
            )
        return dict(tokens)


def _check_count(name: str, value: Any, or_else: str = "") -> None:
    if not (isinstance(value, Integral) and int(value) >= 1):
        raise ValueError(f"{name}={value!r}; expected a positive int{or_else}.")


@contextmanager
def _as_it_came(tokenizer: Any) -> Iterator[None]:
    """Undo what a call sets in a Hugging Face tokenizer: others use it, too, and compare it.

    A fast one's backend keeps how it last padded and cut; each notes which warnings it gave.
    """
    backend: Any = getattr(tokenizer, "_tokenizer", None)
    warned: Any = getattr(tokenizer, "deprecation_warnings", None)
    in_target = getattr(tokenizer, "_in_target_context_manager", None)
    with ExitStack() as undo:  # the last that is noted comes first
        if hasattr(backend, "enable_truncation"):
            undo.callback(setattr, backend, "encode_special_tokens", backend.encode_special_tokens)
            for kept, set_to, unset in (
                (backend.padding, backend.enable_padding, backend.no_padding),
                (backend.truncation, backend.enable_truncation, backend.no_truncation),
            ):
                undo.callback(unset) if kept is None else undo.callback(set_to, **kept)
        if isinstance(warned, dict):
            undo.callback(warned.update, dict(warned))
            undo.callback(warned.clear)
        if in_target is not None:
            undo.callback(setattr, tokenizer, "_in_target_context_manager", in_target)
        yield


def _rows(batch: Any) -> list[Any]:
    """Return the items of a batch, which must be a flat sequence of them."""
    if isinstance(batch, str):
        raise ValueError(f"X is one string, {batch!r}; expected a sequence of them: [X].")
    if hasattr(batch, "columns"):
        raise ValueError(
            f"X is a table with the columns {list(batch.columns)}; give one column, X['name']. In "
            "a ColumnTransformer select it by 'name', not by ['name']."
        )
    return list(batch)


def _check_array(row: int, array: NDArray[Any]) -> None:
    """Raise unless an array is an 8-bit image in colour or grey."""
    coloured = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (coloured or array.ndim == 2):
        raise ValueError(
            f"Row {row} of the batch is an array of shape {array.shape} and dtype {array.dtype}; "
            "expected uint8 of shape (height, width, 3) or (height, width)."
        )


def _import_pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Reading images needs Pillow, which is not installed: pip install 'skfairft[images]'."
        ) from error
    return Image
