"""What rows count: one by one where they are here, by sorts of rows where Dask has them.

All that is said of decisions follows from how many rows there are of each sort, which is a true
label, a predicted one and a group, and from the sums of their weights and of the squares of these.
So of columns of Dask each chunk is counted where it lies, and only its sorts come here. Resamples
with weights are drawn of more: of each weight within a sort.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..inputs.chunks import map_chunks
from ..inputs.encoding import (
    column_names,
    encode_groups,
    label_order,
    one_column,
    whole_labels,
)
from ..inputs.lazy import is_lazy
from ..inputs.tables import (
    number_column,
    read_table,
    refuse_weightless,
    weight_column,
    weight_values,
)

__all__ = ["Floats", "Kinds", "Tally", "sorts_of_rows", "tally_rows"]

Array = NDArray[Any]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_GROUPS, _WEIGHT = "sensitive_features", "sample_weight"


class Kinds(NamedTuple):
    """Rows that no resample tells apart: of one place, and of one weight.

    ``place`` (r,) is the number of their sort or cell, ``weight`` (r,) that of each row, and
    ``number`` (r,) how many they are; None is 1 each.
    """

    place: Counts
    weight: Floats | None
    number: Counts | None


class Tally(NamedTuple):
    """What each of m sorts of rows counts, or each of m rows.

    ``rows`` (m,) is how many they are, None for 1 each. ``moments`` (2, m) are the sums of their
    weights and of the squares, None without weights. ``kinds`` are None where no resamples are
    wanted.

    Weights are in units of a power of two such that the largest is about 1. That rounds nothing,
    changes no rate, and keeps their squares within the range of numbers.
    """

    rows: Counts | None
    moments: Floats | None
    kinds: Kinds | None

    def tables(self, cell: Counts, shape: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
        """Return rows, weights and squares of weights by cell; ``cell`` (m,) says which each is in.

        Examples
        --------
        >>> rows, mass, squares = tally_rows([4.0, 8.0, 4.0], 3).tables(np.array([0, 1, 1]), (2,))
        >>> rows.tolist(), mass.tolist(), squares.tolist()
        ([1.0, 2.0], [0.25, 0.75], [0.0625, 0.3125])
        """

        def table(counted: Array | None) -> Floats:
            flat = np.bincount(cell, counted, int(np.prod(shape)))
            return flat.reshape(shape).astype(np.float64)

        rows = table(self.rows)
        if self.moments is None:
            return rows, rows, rows
        return rows, table(self.moments[0]), table(self.moments[1])


def tally_rows(sample_weight: Any, n_rows: int) -> Tally:
    """Return the tally of rows that are here, each a sort of its own."""
    each = np.arange(n_rows)
    if sample_weight is None:  # plain numbers of rows are counted faster
        return Tally(None, None, Kinds(each, None, None))
    w, _ = _scaled(weight_column(sample_weight, _WEIGHT, n_rows, rows_of="y_true"))
    return Tally(None, np.stack([w, w**2]), Kinds(each, w, None))


def sorts_of_rows(
    columns: Mapping[str, Any], sample_weight: Any = None, *, resampled: bool = False
) -> tuple[Mapping[str, Any], Tally | None]:
    """Return columns as they are if all are here, else the sorts of their rows, and their tally.

    Parameters
    ----------
    columns : mapping of str to array-like or Dask collection
        Of n rows, by name: "sensitive_features" are groups, all others labels.
    sample_weight : array-like or Dask collection of shape (n,), default=None
        Weights >= 0.
    resampled : bool, default=False
        Whether resamples are to be drawn, which takes each weight within a sort.

    Returns
    -------
    columns : mapping of str to array-like
        Of n rows; or of m sorts, of which one that is in several chunks is there as often. The
        order of a column's categories stays; not of several columns of groups.
    tally : Tally or None
        That of the sorts; None for rows.

    Raises
    ------
    ValueError
        Of columns of Dask as of others, with the chunk and its rows.

    Examples
    --------
    >>> import dask.array
    >>> y = dask.array.from_array(np.array([0, 1, 1, 1]), chunks=2)
    >>> columns, tally = sorts_of_rows({"y": y})
    >>> columns["y"].tolist(), tally.rows.tolist()
    ([0, 1, 1], [1, 1, 2])
    """
    given = dict(columns) if sample_weight is None else {**columns, _WEIGHT: sample_weight}
    if not any(map(is_lazy, given.values())):
        return columns, None
    ready = {name: _ready(name, values) for name, values in given.items()}
    here = {name: _order_of(values) for name, values in columns.items() if not is_lazy(values)}
    parts = map_chunks(partial(_count, resampled=resampled), ready)
    orders = list(dict.fromkeys(part.names for part in parts if part.names))
    if len(orders) > 1:
        first, other = (list(names) for names in orders[:2])
        raise ValueError(
            f"{_GROUPS} has the columns {first} in some chunks and {other} in others; expected the "
            "same in all, in one order."
        )
    sorts = {}
    for name in columns:
        found = [here[name]] if name in here else [part.orders[name] for part in parts]
        sorts[name] = _in_order(_joined([part.sorts[name] for part in parts]), found, name)
    return sorts, _merged(parts)


def _order_of(values: Any) -> tuple[Any, ...] | None:
    """Return the categories of one column in their order, None of others."""
    order = label_order(values)
    return None if order is None else tuple(order)


def _in_order(values: Array, orders: list[tuple[Any, ...] | None], name: str) -> Any:
    """Return values as a categorical, if all chunks that they came from have one order of them."""
    import pandas as pd

    order, *others = dict.fromkeys(orders)
    if others:
        found = ["none" if each is None else f"{list(each)}" for each in (order, *others)]
        raise ValueError(
            f"{name} has ordered categories that differ between chunks: {' and '.join(found)}; "
            "expected one order. Give all chunks the same, for example by .cat.as_known()."
        )
    return values if order is None else pd.Categorical(values, list(order), ordered=True)


def _ready(name: str, values: Any) -> Any:
    """Return a column of Dask, or another one as an array (n,)."""
    if name not in (_GROUPS, _WEIGHT):
        return one_column(values, name=name)
    if is_lazy(values):
        return values
    if name == _WEIGHT:
        w = number_column(values, name)
        return weight_values(w, name, len(w), rows_of=name)
    n_rows = (*read_table(values, name).shape, 0)[0]
    groups, codes = encode_groups(values, n_rows, name=name)
    return groups[codes]


class _Counted(NamedTuple):
    """The sorts of a chunk's rows, and what they count; see `Tally`."""

    sorts: dict[str, Array]
    names: tuple[str, ...]  # of the columns of groups, where they have some
    orders: dict[str, tuple[Any, ...] | None]  # of categories
    rows: Counts
    moments: Floats | None = None
    kinds: Kinds | None = None
    exponent: int = 0  # of the unit of the weights


def _count(rows: dict[str, Any], called: dict[str, str], *, resampled: bool) -> _Counted:
    """Count the rows of a chunk, where they lie."""
    import pandas as pd

    weight = rows.pop(_WEIGHT, None)
    names = tuple(column_names(rows[_GROUPS])) if _GROUPS in rows else ()
    orders = {name: _order_of(values) for name, values in rows.items()}
    columns = {
        name: values if name == _GROUPS else whole_labels(values, name=called[name])
        for name, values in rows.items()
    }
    first = next(iter(columns))
    among: dict[str, Any] = {"n_rows": len(columns[first]), "rows_of": called[first]}
    coded = {
        name: encode_groups(values, name=called[name], **among) for name, values in columns.items()
    }
    sizes = [len(values) for values, _ in coded.values()]
    sort, found = pd.factorize(np.ravel_multi_index([codes for _, codes in coded.values()], sizes))
    places = dict(zip(coded, np.unravel_index(found, sizes), strict=True))
    sorts = {name: values[places[name]] for name, (values, _) in coded.items()}
    number = np.bincount(sort)
    if weight is None:
        return _Counted(sorts, names, orders, number)
    w, exponent = _scaled(weight_values(weight, called[_WEIGHT], **among))
    moments = np.array([np.bincount(sort, w), np.bincount(sort, w**2)], dtype=np.float64)
    if not resampled:
        return _Counted(sorts, names, orders, number, moments, None, exponent)
    alike = pd.Series(sort).groupby([sort, w]).size()
    place, own = (alike.index.get_level_values(level).to_numpy() for level in (0, 1))
    kinds = Kinds(place, own, np.asarray(alike))
    return _Counted(sorts, names, orders, number, moments, kinds, exponent)


def _scaled(w: Floats) -> tuple[Floats, int]:
    """Return weights in units of a power of two, and its exponent."""
    exponent = int(np.frexp(max(w.max(), np.finfo(np.float64).tiny))[1])
    return np.ldexp(w, -exponent), exponent


def _joined(parts: list[Array]) -> Array:
    """Return the values of several chunks, in which they may be of several types."""
    if len({part.dtype.kind for part in parts}) == 1:
        return np.concatenate(parts)
    values = [value for part in parts for value in part.tolist()]
    return np.fromiter(values, dtype=object, count=len(values))


def _merged(parts: list[_Counted]) -> Tally:
    """Return the tally of all chunks' sorts, one chunk's after the other's."""
    rows = np.concatenate([part.rows for part in parts])
    moments = [part.moments for part in parts if part.moments is not None]
    if not moments:
        return Tally(rows, None, Kinds(np.arange(len(rows)), None, rows))
    lengths = np.array([len(part.rows) for part in parts])
    exponents = np.array([part.exponent for part in parts])
    shift = np.repeat(exponents - exponents.max(), lengths)
    mass, squares = np.ldexp(np.concatenate(moments, axis=1), [shift, 2 * shift])
    refuse_weightless(mass, _WEIGHT, int(rows.sum()))
    kinds = [part.kinds for part in parts if part.kinds is not None]
    if not kinds:
        return Tally(rows, np.stack([mass, squares]), None)
    starts = np.cumsum(lengths) - lengths
    place = np.concatenate([each.place + start for each, start in zip(kinds, starts, strict=True)])
    weight = np.ldexp(np.concatenate([each.weight for each in kinds]), shift[place])
    number = np.concatenate([each.number for each in kinds])
    return Tally(rows, np.stack([mass, squares]), Kinds(place, weight, number))
