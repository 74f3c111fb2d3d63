"""A frozen backbone while it runs: what it gives, its name, and whether both stay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray
from torch import nn
from xxhash import xxh3_128_digest

from ..feature_store import Store
from ..feature_store.codec import CannotEncodeError
from ..feature_store.explain import changes
from ..feature_store.fingerprint import UnknownContentError
from ..feature_store.witness import (
    LARGEST_BYTES,
    MOST_BYTES,
    TIGHT,
    Noise,
    Witness,
    WrittenBatch,
    conditions,
    distance,
    spread_of,
)
from ..inputs.exceptions import FeatureStoreWarning
from ..inputs.warn import warn_user
from .alone import why_other
from .forward import BatchRunner
from .items import take

__all__ = ["BackboneRun"]

Inputs = Callable[[Any], Any]

# Modules of which it was said that nothing is stored of them.
_noted: WeakSet[nn.Module] = WeakSet()


@dataclass
class BackboneRun:
    """A backbone that is frozen and on its device, for one pass over rows."""

    runner: BatchRunner
    module: nn.Module  # the user's own
    preprocess: Any  # for notes
    identify: Callable[[], bytes]  # returns the fingerprint of module and settings as they are now
    find_noise: Callable[[], Noise]  # returns that of what it gives
    name: bytes = b""  # the fingerprint, as of the last look
    # Whether this pass has seen that what is stored under this name is what the module gives.
    vouched: bool = False
    gives: tuple[int, Any] = (0, None)  # width and dtype, of the rows that vouch for the others
    _content: bytes = b""
    _renamed: int = 0
    _run_again: Callable[[], Any] = lambda: None  # the last few rows

    def mark(self, store: Store) -> NDArray[np.uint64]:
        """Return what is added to the keys of rows: it is of the witness that vouches for them.

        So rows that another process stored under another witness are not found, and what is
        stored here is not found by it.
        """
        if not self.vouched:
            self._content = store.witness(self.name) or b""
        return np.frombuffer(xxh3_128_digest(self._content), dtype=np.uint64)

    def is_known(self) -> bool:
        """Find the name; False, with a note, for a module whose content cannot be told."""
        try:
            self.name = self.identify()
        except UnknownContentError as error:
            self.note(f"what the module or preprocess holds cannot be compared. {error}")
            return False
        return True

    def is_steady(self) -> bool:
        """Look at the name again; False, with a note, if it is another one for the second time.

        Once it may change: what a module fills in when it first runs is there from then on.
        """
        before = self.name
        if not self.is_known():
            return False
        if self.name == before:
            return True
        self.vouched = False
        self._renamed += 1
        if self._renamed == 1:
            return True
        names, _ = changes(self._run_again, self.module, self.preprocess)
        names = names or "something that its code uses"
        self.note(
            f"running it changes {names}, and with it perhaps what it gives. Keep such "
            "a state elsewhere than in what the module and preprocess hold or use, or set "
            "memory=False."
        )
        return False

    def still_gives(self, store: Store, inputs: Inputs) -> bool:
        """Tell whether the module gives what is stored; if not, have it forgotten, and say so."""
        if self.vouched:
            return True
        self.mark(store)
        if not self._content:
            return False
        try:
            witness = Witness.from_bytes(self._content)
        except Exception as error:  # of another version, or made up, whatever that may raise
            store.forget(self.name)
            warn_user(
                f"What is stored of {self._title} cannot be read: {str(error)[:200]!r}. Another "
                "version of this package has written it, or another program. It is forgotten, and "
                "all rows run again.",
                FeatureStoreWarning,
            )
            return False
        self._run_again = partial(self._run_written, witness.batch, inputs, len(witness.features))
        same = witness.where == self._where()
        try:
            found = self._run_again()
            apart = witness.distance(found, tight=same)
            what = f"they differ by {apart:.2g} of the columns' spread"
        except Exception as error:  # whatever preprocess may raise
            apart, what = float("inf"), f"its first rows do not run any more ({str(error)[:200]})"
        # Not what the witness says would be near enough. NaN is not near, either.
        if not apart <= (TIGHT if same else max(TIGHT, self.find_noise().limit)):
            store.forget(self.name)
            warn_user(
                f"The features that were stored of {self._title} are not what it gives now: "
                f"{what}. They are forgotten, and all rows run again. The module, or preprocess, "
                "depends on something that is not seen in it: a file, the environment, a changed "
                "library, or chance. A head that was fitted on the earlier features has to be "
                "fitted again.",
                FeatureStoreWarning,
            )
            return False
        if apart > TIGHT:
            warn_user(
                f"The features that were stored of {self._title} differ by {apart:.2g} of the "
                f"columns' spread from what it gives here: they were made on {witness.where}, and "
                f"this is {self._where()}. They are used all the same; clear the store to make "
                "all of them here.",
                FeatureStoreWarning,
            )
        self.vouched, self.gives = True, (found.shape[1], found.dtype)
        return True

    def look(
        self, rows: Any, inputs: Inputs, features: NDArray[Any], chosen: Any, *, keep: bool
    ) -> Witness | None:
        """Run some rows of a batch by themselves; refuse it if they have other features then.

        Returns a witness of them if one is to be kept, and rows and inputs can be written down.

        Parameters
        ----------
        rows : object
            The rows, as loaded.
        inputs : callable
            Makes rows into the module's input.
        features : ndarray of shape (n, d)
            Of the whole batch.
        chosen : ndarray of int64
            Which of its rows they are.
        keep : bool
            Whether to make a witness of them.
        """
        batch = None
        if keep:
            with suppress(CannotEncodeError):
                batch = WrittenBatch.of(rows, inputs)
        if batch is not None and batch.nbytes > MOST_BYTES and len(chosen) > 1:
            rows = take(rows, np.zeros(1, dtype=np.int64))
            return self.look(rows, inputs, features, chosen[:1], keep=keep)
        if batch is None:
            self._run_again = lambda: self._run_alone(inputs(copy.deepcopy(rows)), len(chosen))
        else:
            self._run_again = partial(self._run_written, batch, inputs, len(chosen))
        found = features[chosen]
        if len(chosen) < len(features):  # else it is the batch that has just run
            try:
                found = self._run_again()
            except ValueError as error:
                raise ValueError(
                    f"The feature extractor {self._title} runs on a batch of {len(features)} "
                    f"rows, but not on {len(chosen)} of them by themselves: {error}"
                ) from error
        noise = self.find_noise()
        spread = spread_of(features, noise)
        apart = distance(found, features[chosen], spread, noise.eps)
        if apart > noise.limit:
            raise ValueError(self._depends(apart, len(features), found))
        if batch is None or batch.nbytes + found.nbytes + spread.nbytes > LARGEST_BYTES // 2:
            return None
        return Witness(batch, found, spread, self._where())

    def vouch(self, store: Store, witness: Witness) -> None:
        """Keep a witness for what is stored from here on."""
        self._content = witness.to_bytes()
        store.put_witness(self.name, self._content)
        self.vouched = True

    @property
    def _title(self) -> str:
        return type(self.module).__name__

    def _where(self) -> str:
        return conditions(self.runner.device)

    def _run_written(self, batch: WrittenBatch, inputs: Inputs, n_rows: int) -> Any:
        return self._run_alone(batch.input(inputs, n_rows), n_rows)

    def _run_alone(self, inputs: Any, n_rows: int) -> Any:
        """Return the features of a batch that may be of another width than those before."""
        runner = copy.copy(self.runner)
        runner.width = None
        return runner(inputs, n_rows)

    def _depends(self, apart: float, n_rows: int, found: NDArray[Any]) -> str:
        """Say that features depend on the batch, and why that may be."""
        each_time, why = why_other(found, self._run_again, self.module, self.preprocess)
        if each_time:
            return (
                f"The feature extractor {self._title} gives other features each time for the same "
                f"batch: {why}. Features must be the same each time: take the layer before, with "
                "layer=, or the mean in place of a sample."
            )
        return (
            f"The features that {self._title} gives for a row depend on the other rows of its "
            f"batch: {len(found)} of {n_rows} rows, run by themselves, have others, by {apart:.2g} "
            f"of the columns' spread. Each row must stand for itself. Likely cause: {why}."
        )

    def note(self, text: str) -> None:
        """Say once of a module why nothing is stored of it."""
        if self.module not in _noted:
            _noted.add(self.module)
            warn_user(
                f"The features of {self._title} are not stored, and each call runs all rows: "
                f"{text}",
                FeatureStoreWarning,
            )
