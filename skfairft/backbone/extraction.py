"""Each distinct row through the module once: what the store knows is not run again."""

from __future__ import annotations

import contextvars
import copy
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..feature_store import Store
from ..feature_store.key_index import Keys, Numbers
from ..feature_store.row_keys import row_keys
from ..feature_store.witness import MOST_ROWS, witness_rows
from ..inputs.exceptions import FeatureStoreWarning
from ..inputs.warn import warn_user
from ..rows.blocks import results_in_order
from ..rows.mapped import allocate_features, release_pages
from .items import InputRows, take
from .run import BackboneRun

__all__ = ["FIRST_ROWS", "Extraction"]

# Rows looked up at once: many, as each look has a cost.
_CHUNK_ROWS = 2**16
# Features are handed to the store when there are this many bytes, or seconds of work, of them.
_PUT_BYTES, _PUT_SECONDS = 2**24, 2.0
# A store that is about to cost more than this share of the work it could save is not worth it,
# beyond a millisecond. The first rows tell.
_STORE_SHARE, _STORE_SECONDS = 0.05, 0.001
FIRST_ROWS = 3 * 2**10


@dataclass(kw_only=True)
class Extraction:
    """One pass over rows: look up, run what is not known, remember it.

    Settings are those of `FrozenFeatureExtractor`.
    """

    rows: InputRows  # n rows
    open_backbone: Callable[[], AbstractContextManager[BackboneRun]]
    store: Store | None
    look: bool  # at the first batch, for features that depend on the batch
    batch_size: int
    num_workers: int
    max_nbytes: int | None
    folder: Any  # of features that are memory-mapped; None is the system's for temporary files
    may_stop_storing: bool  # if the store costs too much of the time
    width: int | None  # features per row, where it is known
    advance: Callable[[int], Any]  # told the number of rows as they are done
    stopped_storing: bool = False
    features: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._noted = self._warned = False
        self._work_seconds = self._store_seconds = 0.0
        self._rows_computed = self._rows_keyed = 0
        # Filled in at the end: rows that repeat another, with that one's number.
        self._repeats: list[tuple[Numbers, Numbers]] = []

    def __call__(self) -> NDArray[Any]:
        """Return the features (n, d)."""
        with ExitStack() as stack:
            if self.num_workers:
                self._pool = stack.enter_context(ThreadPoolExecutor(self.num_workers))
            self.backbone = stack.enter_context(self.open_backbone())
            if self.store is not None and not self.backbone.is_known():
                self.store = None
            for index, loaded, keys in self._chunks():
                self._extract_chunk(index, loaded, keys)
        assert self.features is not None  # there is at least one row
        for index, source in self._repeats:
            self.features[index] = self.features[source]
        release_pages(self.features)
        return self.features

    def _map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Apply a function in order; with workers some items ahead."""
        if self._pool is None:
            return map(function, items)
        # Each in a context of its own: preprocess may look at the caller's variables.
        works = (partial(contextvars.copy_context().run, function, item) for item in items)
        return results_in_order(self._pool, works, 2 * self.num_workers)

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
        first = FIRST_ROWS if self.may_stop_storing else _CHUNK_ROWS
        for start, stop in pairwise([0, *range(first, n_rows, _CHUNK_ROWS), n_rows]):
            yield load(slice(start, stop))

    def _keys(self, loaded: Any) -> Keys | None:
        if self.store is None:
            return None
        start = time.thread_time()
        keys = row_keys(loaded, reads_files=self.rows.reads_files)
        self._store_seconds += time.thread_time() - start
        self._rows_keyed += len(keys)
        if not keys.any(axis=1).all() and not self._noted:
            self._noted = True
            self._note_unknown(loaded, int(np.argmin(keys.any(axis=1))))
        return keys

    def _note_unknown(self, loaded: Any, row: int) -> None:
        """Say that some rows cannot be known by their content."""
        unknown = take(loaded, np.array([row]))
        unknown = unknown if hasattr(unknown, "columns") else next(iter(unknown), unknown)
        is_text = isinstance(unknown, (str, bytes))
        if is_text and self.rows.reads_files:
            return  # preprocess will say that there is no such file
        if self.may_stop_storing and not is_text:
            return  # nobody asked for a memory
        why = f"hold {type(unknown).__name__} objects, whose content cannot be compared"
        remedy = "Use arrays, tensors, texts, whole paths of files, or tuples and dicts of these"
        if is_text:
            why = f"such as {unknown!r} look like files or folders whose content is not seen"
            remedy = (
                "Give whole paths of files; or if these are texts and no files, set "
                "preprocess.reads_files = False"
            )
        warn_user(
            f"Rows of X {why}: their features are not stored in memory=, and each call runs them "
            f"anew. {remedy}.",
            FeatureStoreWarning,
        )

    def _extract_chunk(self, index: Numbers, loaded: Any, keys: Keys | None) -> None:
        """Find or compute the features of some rows."""
        store = self.store  # a worker that loads ahead may set it to None meanwhile
        if store is None or keys is None:
            self._compute(index, loaded, np.arange(len(index)), None)
            return
        first, source = _first_of_each(keys)
        if source is not None:
            repeated = source != np.arange(len(keys))
            self._repeats.append((index[repeated], index[source[repeated]]))
            self.advance(int(repeated.sum()))
        known = keys[first].any(axis=1)
        if not known.all():
            self._compute(index, loaded, first[~known], None)
        todo = self._serve(index, loaded, keys, first[known])
        if len(todo) and len(self.rows) <= MOST_ROWS:
            # To look at rows again, as storing takes, would cost more than to run so few anew.
            self._compute(index, loaded, todo, None)
        elif len(todo):
            with store.working(self.backbone.name):
                while len(todo):
                    # Another process may have been at them; or they are known by another name.
                    todo = self._serve(index, loaded, keys, todo, again=True)
                    todo = todo[self._compute(index, loaded, todo, keys) :]

    def _serve(
        self, index: Numbers, loaded: Any, keys: Keys, wanted: Numbers, *, again: bool = False
    ) -> Numbers:
        """Fill in the loaded rows at some positions that are stored; return the others."""
        store = self.store
        if store is None or not len(wanted):
            return wanted
        start = time.thread_time()
        mark = self.backbone.mark(store)
        known, features = store.lookup(self.backbone.name, keys[wanted] ^ mark, again=again)
        self._store_seconds += time.thread_time() - start
        if features is None or not self.backbone.still_gives(store, self.rows.inputs):
            return wanted
        # Another process may have put another witness in between: these are not its rows.
        if not np.array_equal(self.backbone.mark(store), mark):
            return wanted
        if self._is_foreign(features):
            if self.features is not None:
                return wanted
            # Rows of another size may have features of another width: one row tells.
            self._compute(index, loaded, wanted[:1], None)
            return self._serve(index, loaded, keys, wanted[1:], again=True)
        self._fill(index[wanted[known]], features)
        return wanted[~known]

    def _is_foreign(self, features: NDArray[Any]) -> bool:
        """Tell whether stored features are unlike those that the module is known to give."""
        width, dtype = self.backbone.gives
        if self.features is not None:
            width, dtype = self.features.shape[1], self.features.dtype
        if (features.shape[1], features.dtype) == (width, dtype):
            return False
        if self.features is not None and not self._warned:
            self._warned = True
            warn_user(
                f"The store holds {features.shape[1]} features ({features.dtype}) of some rows, "
                f"but the module gives {width} ({dtype}). They are not used, and these rows run "
                "again. If that comes each time, clear the store.",
                FeatureStoreWarning,
            )
        return True

    def _compute(self, index: Numbers, loaded: Any, todo: Numbers, keys: Keys | None) -> int:
        """Run the loaded rows at some positions, remember them, and return how many are done.

        That is not all if the module has another name after a batch than before it, under which
        the others may be stored.
        """
        waiting: list[Numbers] = []
        done = 0
        last_put = start = time.perf_counter()
        store_seconds = self._store_seconds

        def prepare(batch: Numbers) -> tuple[Numbers, Any]:
            picked = loaded if len(batch) == len(index) else take(loaded, _as_slice(batch))
            return batch, self.rows.made(picked)

        batches = (todo[i : i + self.batch_size] for i in range(0, len(todo), self.batch_size))
        # Before a batch is made of them, for preprocess may change its rows.
        apart = self._apart(loaded, todo[: self.batch_size])
        try:
            for batch, inputs in self._map(prepare, batches):
                features = self.backbone.runner(inputs, len(batch))
                self._fill(index[batch], features)
                done += len(batch)
                if self._is_renamed(apart, features, keyed=keys is not None):
                    break
                apart = None
                if keys is None or self.store is None:
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
        self._rows_computed += done
        if self.may_stop_storing and keys is not None and not self._is_worth_storing():
            self.store, self.stopped_storing = None, True
        return done

    def _apart(self, loaded: Any, batch: Numbers) -> Any:
        """Return copies of the rows of a batch that are to run by themselves."""
        if not len(batch) or not (
            self.look or (self.store is not None and not self.backbone.vouched)
        ):
            return None
        rows = take(loaded, batch[witness_rows(len(batch))])
        try:
            return copy.deepcopy(rows)
        except Exception:  # whatever a row that cannot be copied raises
            return rows

    def _is_renamed(self, apart: Any, features: NDArray[Any], *, keyed: bool) -> bool:
        """Look at a first batch; tell whether the module has another name since it ran."""
        backbone, inputs = self.backbone, self.rows.inputs
        store = self.store if keyed else None
        if not self.look and (store is None or backbone.vouched):
            return False
        before = backbone.name
        store = self._kept(store)
        if not self.look and store is not None and backbone.still_gives(store, inputs):
            return backbone.name != before
        if apart is None:  # the name changed later on: nothing more is stored in this pass
            self.store = None
            return False
        chosen = witness_rows(len(features))
        witness = backbone.look(apart, inputs, features, chosen, keep=store is not None)
        self.look = False
        store = self._kept(store)
        if store is not None and not backbone.still_gives(store, inputs):
            if witness is None:
                self.store = None
                if not self.may_stop_storing:
                    backbone.note(
                        f"rows such as {str(next(iter(apart), apart))[:40]} cannot be kept to be "
                        "looked at again. Use arrays, tensors, texts, paths, images, or tuples "
                        "and dicts of these."
                    )
            else:
                backbone.vouch(store, witness)
        return backbone.name != before

    def _kept(self, store: Store | None) -> Store | None:
        """Return the store, None if the module changes whenever it runs."""
        if store is not None and not self.backbone.is_steady():
            store = self.store = None
        return store

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
        name = self.backbone.name
        if self._kept(store) is not None and self.backbone.name == name:
            positions = np.concatenate(waiting)
            marked = keys[positions] ^ self.backbone.mark(store)
            store.put(name, marked, self.features[_as_slice(index[positions])])
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

    The second is None where all keys are distinct. Rows without a key are like no other.
    """
    unknown = np.flatnonzero(~keys.any(axis=1))
    if len(unknown):
        keys = keys.copy()
        keys[unknown] = unknown[:, None]
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
