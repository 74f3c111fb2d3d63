"""Each distinct row through the module once: what the store knows is not run again."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exceptions import FeatureStoreWarning
from .feature_store import DiskStore, Store
from .mapped import allocate_features, release_pages
from .row_keys import row_keys
from .rows import Rows, take

__all__ = ["Extraction"]

Numbers = NDArray[np.int64]
Keys = NDArray[np.uint64]
Run = Callable[[Any, int], NDArray[Any]]

# Rows looked up at once: many, as each look has a cost.
_CHUNK_ROWS = 2**16
# What a process looks up in a shared store it claims, and others wait for it in the end: chunks
# grow and shrink to take about this many seconds.
_SHARED_SECONDS = 1.0, 4.0
# Features are handed to the store when there are this many bytes, or seconds of work, of them.
_PUT_BYTES, _PUT_SECONDS = 2**24, 2.0
# A store that is about to cost more than this share of the work it could save is not worth it,
# beyond a millisecond. The first rows tell.
_STORE_SHARE, _STORE_SECONDS = 0.05, 0.001
FIRST_ROWS = 3 * 2**10


class Extraction:
    """One pass over rows: look up, run what is not known, remember it.

    Parameters
    ----------
    rows : Rows
        n rows.
    open_module : callable
        Returns a context in which ``run(inputs, n_rows)`` gives features; entered
        only if a row has to be run.
    store : MemoryStore, DiskStore or None
        What remembers features; None runs every row.
    namespace : bytes
        What the features depend on besides the row.
    batch_size : int
        Rows per pass through the module.
    num_workers : int
        Threads that load and preprocess batches ahead; 0 does it in between.
    max_nbytes : int or None
        Features of more bytes are memory-mapped.
    folder : path or None
        Where, None is the system's folder for temporary files.
    may_stop_storing : bool
        Whether to go on without the store if it costs too much of the time.
    width : int or None
        Features per row, where it is known.
    advance : callable
        Told the number of rows as they are done.
    """

    def __init__(
        self,
        rows: Rows,
        open_module: Callable[[], AbstractContextManager[Run]],
        *,
        store: Store | None,
        namespace: bytes,
        batch_size: int,
        num_workers: int,
        max_nbytes: int | None,
        folder: Any,
        may_stop_storing: bool,
        width: int | None,
        advance: Callable[[int], Any],
    ) -> None:
        self.rows = rows
        self.open_module = open_module
        self.store = store
        self.namespace = namespace
        self.batch_size = batch_size
        self.max_nbytes = max_nbytes
        self.folder = folder
        self.may_stop_storing = may_stop_storing
        self.width = width
        self.advance = advance
        self.features: NDArray[Any] | None = None
        self._ahead = 2 * num_workers
        self._stack = ExitStack()
        self._pool = None
        if num_workers:
            self._pool = self._stack.enter_context(ThreadPoolExecutor(num_workers))
        self._run: Run | None = None
        self.stopped_storing = False
        self._work_seconds = self._store_seconds = 0.0
        self._rows_computed = self._rows_keyed = 0
        # Filled in at the end: rows that another process is computing, with their keys, and
        # rows that repeat another, with that one's number.
        self._elsewhere: list[tuple[Numbers, Keys]] = []
        self._repeats: list[tuple[Numbers, Numbers]] = []

    def __call__(self) -> NDArray[Any]:
        """Return the features (n, d)."""
        with self._stack:
            for index, loaded, keys in self._chunks():
                self._extract_chunk(index, loaded, keys)
            while self._elsewhere:
                self._fetch(*self._elsewhere.pop())
        assert self.features is not None  # there is at least one row
        for index, source in self._repeats:
            self.features[index] = self.features[source]
        release_pages(self.features)
        return self.features

    @property
    def ran(self) -> bool:
        """Whether any row went through the module."""
        return self._run is not None

    def _map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Apply a function in order; with workers some items ahead."""
        if self._pool is None:
            yield from map(function, items)
            return
        queue: deque[Any] = deque()
        try:
            for item in items:
                queue.append(self._pool.submit(function, item))
                if len(queue) > self._ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()

    def _chunks(self) -> Iterator[tuple[Numbers, Any, Keys | None]]:
        """Iterate over the numbers of some rows, the rows, and their keys."""

        def load(part: slice) -> tuple[Numbers, Any, Keys | None]:
            loaded = self.rows.load(part)
            return numbers[part], loaded, self._keys(loaded)

        n_rows = len(self.rows)
        numbers = np.arange(n_rows)
        if self.rows.of_item is not None:  # loading is the work, so it is done ahead
            starts = range(0, n_rows, self.batch_size)
            yield from self._map(load, (slice(i, i + self.batch_size) for i in starts))
            return
        shared = isinstance(self.store, DiskStore)
        size = FIRST_ROWS if self.may_stop_storing else _CHUNK_ROWS
        size = self.batch_size if shared else size
        start = 0
        while start < n_rows:
            begun = time.perf_counter()
            yield load(slice(start, min(start + size, n_rows)))
            start += size
            if not shared:
                size = _CHUNK_ROWS
            elif time.perf_counter() - begun < _SHARED_SECONDS[0]:
                size = min(2 * size, max(_CHUNK_ROWS, self.batch_size))
            elif time.perf_counter() - begun > _SHARED_SECONDS[1]:
                size = max(size // 2, self.batch_size)

    def _keys(self, loaded: Any) -> Keys | None:
        if self.store is None:
            return None
        start = time.thread_time()
        keys = row_keys(loaded)
        self._store_seconds += time.thread_time() - start
        if keys is None:
            self._forgo_store(loaded)
        else:
            self._rows_keyed += len(keys)
        return keys

    def _forgo_store(self, loaded: Any) -> None:
        """Go on without a store, for rows whose content cannot be told."""
        self.store = None
        if not self.may_stop_storing:
            unknown = next((row for row in loaded if row_keys([row]) is None), loaded)
            warnings.warn(
                f"Rows of X hold {type(unknown).__name__} objects, whose "
                "content cannot be compared: their features are not stored in memory=, and each "
                "call runs the module anew. Use arrays, tensors, texts, paths, or tuples and "
                "dicts of these.",
                FeatureStoreWarning,
                stacklevel=2,
            )

    def _extract_chunk(self, index: Numbers, loaded: Any, keys: Keys | None) -> None:
        """Find or compute the features of some rows."""
        store = self.store  # a worker that loads ahead may set it to None meanwhile
        if store is None or keys is None:
            self._compute(index, loaded, np.arange(len(index)), None)
            return
        start = time.thread_time()
        first, source = _first_of_each(keys)
        if source is not None:
            repeated = source != np.arange(len(keys))
            self._repeats.append((index[repeated], index[source[repeated]]))
            self.advance(int(repeated.sum()))
        known, features = store.lookup(self.namespace, keys[first])
        if features is not None:
            self._fill(index[first[known]], features)
        unknown = first[~known]
        mine = store.claim(self.namespace, keys[unknown])
        self._store_seconds += time.thread_time() - start
        claimed, elsewhere = unknown[mine], unknown[~mine]
        if len(elsewhere):
            self._elsewhere.append((index[elsewhere], keys[elsewhere]))
        if len(claimed):
            try:
                self._compute(index, loaded, claimed, keys)
            finally:
                store.release(self.namespace, keys[claimed])

    def _fetch(self, index: Numbers, keys: Keys) -> None:
        """Take over the rows that another process computed, or compute those it did not."""
        if self.store is not None:  # rows after these may have ended its use
            self.store.wait(self.namespace, keys)
        self._extract_chunk(index, self.rows.load(index), keys)

    def _compute(self, index: Numbers, loaded: Any, todo: Numbers, keys: Keys | None) -> None:
        """Run the loaded rows at some positions through the module, and remember them."""
        if self._run is None:
            self._run = self._stack.enter_context(self.open_module())
        waiting: list[Numbers] = []
        last_put = start = time.perf_counter()
        store_seconds = self._store_seconds

        def prepare(batch: Numbers) -> tuple[Numbers, Any]:
            picked = loaded if len(batch) == len(index) else take(loaded, _as_slice(batch))
            return batch, self.rows.inputs(picked)

        batches = (todo[i : i + self.batch_size] for i in range(0, len(todo), self.batch_size))
        try:
            for batch, inputs in self._map(prepare, batches):
                features = self._run(inputs, len(batch))
                self._fill(index[batch], features)
                if keys is None:
                    continue
                waiting.append(batch)
                now = time.perf_counter()
                full = len(waiting) * features.nbytes >= _PUT_BYTES
                if full or now - last_put >= _PUT_SECONDS:
                    self._put(index, waiting, keys)
                    last_put = now
        finally:
            if keys is not None:
                self._put(index, waiting, keys)  # what an interruption leaves is kept, too
        store_seconds = self._store_seconds - store_seconds
        self._work_seconds += time.perf_counter() - start - store_seconds
        self._rows_computed += len(todo)
        if self.may_stop_storing and keys is not None and not self._is_worth_storing():
            self.store, self.stopped_storing = None, True

    def _is_worth_storing(self) -> bool:
        """Tell whether the store will cost little beside the module, going by the rows so far."""
        n_rows = len(self.rows)
        if self._rows_keyed < FIRST_ROWS:
            return True
        cost = self._store_seconds * n_rows / self._rows_keyed
        work = self._work_seconds * n_rows / self._rows_computed
        return cost <= _STORE_SECONDS + _STORE_SHARE * work

    def _put(self, index: Numbers, waiting: list[Numbers], keys: Keys) -> None:
        """Hand the features of the loaded rows at some positions to the store."""
        store = self.store
        if store is None or self.features is None or not waiting:
            return
        start = time.thread_time()
        positions = np.concatenate(waiting)
        store.put(self.namespace, keys[positions], self.features[_as_slice(index[positions])])
        self._store_seconds += time.thread_time() - start
        waiting.clear()

    def _fill(self, index: Numbers, features: NDArray[Any]) -> None:
        """Write features to their rows of the result."""
        if self.features is None:
            width = self.width or features.shape[1]
            self.features = allocate_features(
                (len(self.rows), width), features.dtype, limit=self.max_nbytes, folder=self.folder
            )
        if features.shape[1] != self.features.shape[1]:
            raise ValueError(
                f"The feature extractor gives {features.shape[1]} features for some rows but "
                f"{self.features.shape[1]} for others. Pool over what varies in length, or pad it."
            )
        self.features[_as_slice(index)] = features
        release_pages(self.features)
        self.advance(len(index))


def _as_slice(index: Numbers) -> slice | Numbers:
    """Return numbers without a gap as a slice, which does not copy."""
    if len(index) == index[-1] - index[0] + 1 and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _first_of_each(keys: Keys) -> tuple[Numbers, Numbers | None]:
    """Return the positions of the distinct keys, and for each key that of its first equal.

    The second is None where all keys are distinct.
    """
    words = np.sort(keys[:, 0])
    if not (words[1:] == words[:-1]).any():
        return np.arange(len(keys)), None
    # The first of the two words tells nearly all apart; where it does not, that row counts as
    # distinct and is merely computed once more.
    _, first, inverse = np.unique(keys[:, 0], return_index=True, return_inverse=True)
    own = np.arange(len(keys))
    source = first[inverse]
    source = np.where((keys == keys[source]).all(axis=1), source, own)
    return np.flatnonzero(source == own), source
