"""The Adult data set, read from the copy in the package.

``adult.xz`` is an xz file. Its content is one line of JSON and then the
columns one after another, without anything between them. The line says how many
rows there are and, for each column, which of three forms it has:

============== ===============================================================
``categories`` n signed bytes: index into the list, -1 where the value is missing
``values``     n signed bytes: index into the list of integers
``planes``     that many times n bytes: the lowest bytes of the integers, then
               the next higher ones, and so on
============== ===============================================================

``tools/build_adult.py`` writes it from the two original files.
"""

from __future__ import annotations

import json
import lzma
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fetch_adult"]

_SENSITIVE = ["sex", "race"]
_NOT_FEATURES = [*_SENSITIVE, "fnlwgt", "income", "split"]


@overload
def fetch_adult(*, return_X_y_s: Literal[False] = ...) -> pd.DataFrame: ...


@overload
def fetch_adult(*, return_X_y_s: Literal[True]) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame]: ...


@overload
def fetch_adult(
    *, return_X_y_s: bool
) -> pd.DataFrame | tuple[pd.DataFrame, pd.Series, pd.DataFrame]: ...


def fetch_adult(
    *, return_X_y_s: bool = False
) -> pd.DataFrame | tuple[pd.DataFrame, pd.Series, pd.DataFrame]:
    """Load the Adult (Census Income) data set; no network is needed.

    48,842 persons of the United States census of 1994: 32,561 rows of the file
    ``adult.data``, then 16,281 of ``adult.test``, in their original order. The
    task is to tell whether a person earns more than 50,000 dollars a year.

    Parameters
    ----------
    return_X_y_s : bool, default=False
        Whether to return ``(X, y, sensitive_features)`` instead of one frame.

    Returns
    -------
    frame : DataFrame of shape (48842, 16)
        Where ``return_X_y_s`` is False: all columns under their original names,
        and ``split``.

        - int64: ``age`` (years), ``fnlwgt`` (survey weight: about how many
          persons the row stands for), ``education-num`` (the level of education,
          1 to 16), ``capital-gain`` and ``capital-loss`` (dollars),
          ``hours-per-week`` (hours);
        - categorical, unordered: ``workclass``, ``education``,
          ``marital-status``, ``occupation``, ``relationship``, ``race``,
          ``sex``, ``native-country``, ``income`` (``"<=50K"`` or ``">50K"``,
          without the full stop that ``adult.test`` puts after it) and ``split``
          (``"train"`` or ``"test"``: the file that the row came from).

        The categories are the same on every call: those that occur, sorted;
        ``education`` by ``education-num``. Missing values are NaN, in 2,799 rows
        of ``workclass``, 2,809 of ``occupation`` and 857 of ``native-country``.
    X : DataFrame of shape (48842, 11)
        The columns of ``frame`` a model may use: without ``sex`` and ``race``,
        which are in ``sensitive_features``, without ``fnlwgt``, ``income`` and
        ``split``. Leaving sex out does not hide it: ``relationship`` holds
        "Husband" and "Wife".
    y : Series of shape (48842,), int64
        Named "income": 1 for more than 50,000 dollars, else 0. 11,687 rows are 1.
    sensitive_features : DataFrame of shape (48842, 2)
        The categorical columns ``sex`` and ``race``; no value is missing.

    Notes
    -----
    Each call returns new objects, so changing them changes nothing else.
    52 rows are copies of earlier ones, as in the original files (29 of a row of
    the same file).

    The first 32,561 rows of X are the original training file: ``X.iloc[:32561]``.

    References
    ----------
    Becker, B. and Kohavi, R. (1996). Adult. UCI Machine Learning Repository.
    https://doi.org/10.24432/C5XW20. Licence: CC BY 4.0.

    Examples
    --------
    >>> from skfairft.datasets import fetch_adult
    >>> frame = fetch_adult()
    >>> frame.shape
    (48842, 16)
    >>> frame.loc[0, ["education", "sex", "income"]].tolist()
    ['Bachelors', 'Male', '<=50K']
    >>> X, y, s = fetch_adult(return_X_y_s=True)
    >>> y.groupby(s["sex"], observed=True).mean().round(3).to_dict()
    {'Female': 0.109, 'Male': 0.304}
    """
    import pandas as pd

    # The copy is writable; the views of the decompressed bytes are not.
    frame = pd.DataFrame(_columns(), copy=True)
    if not return_X_y_s:
        return frame
    y = (frame["income"] == ">50K").astype(np.int64)
    return frame.drop(columns=_NOT_FEATURES), y, frame[_SENSITIVE].copy()


def _columns() -> dict[str, Any]:
    """Decode the packaged file, see the module's docstring, into arrays that may be read-only."""
    import pandas as pd

    packed = resources.files(__package__).joinpath("adult.xz").read_bytes()
    line, _, body = lzma.decompress(packed).partition(b"\n")
    header = json.loads(line)
    n = header["rows"]
    columns: dict[str, Any] = {}
    start = 0
    for column in header["columns"]:
        size = n * column.get("planes", 1)
        content = np.frombuffer(body, dtype=np.int8, count=size, offset=start)
        start += size
        if "categories" in column:
            values: Any = pd.Categorical.from_codes(content, column["categories"])
        elif "values" in column:
            values = np.array(column["values"], dtype=np.int64)[content]
        else:
            planes = content.view(np.uint8).reshape(-1, n).astype(np.int64)
            values = (256 ** np.arange(len(planes))) @ planes
        columns[column["name"]] = values
    return columns
