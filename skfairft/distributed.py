"""Fits of joblib on the workers of a Dask cluster, to which a backbone goes once.

joblib pickles each fit with its estimator, and so with the whole module. Here modules and data go
ahead, in a plugin, which Dask also gives to workers that start later or anew. In the pickle of a
fit and of its result a number stands for each of them; no other pickle is touched.

Must not know what is fitted, nor how.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from joblib import parallel_config
from joblib.parallel import ParallelBackendBase

from .backbone.extractor import FrozenFeatureExtractor
from .feature_store.fingerprint import fingerprint
from .inputs.words import joined

try:
    import cloudpickle
    from distributed import Client, WorkerPlugin, get_client, get_worker
except ImportError as error:
    raise ImportError(
        "skfairft.distributed needs Dask, which is not installed: "
        "pip install 'skfairft[distributed]'."
    ) from error

__all__ = ["on_cluster"]

# What Dask can send at once.
_MOST_BYTES = 2**32 - 2**10

# joblib does a single job itself, not on the cluster; and workers may still be to come.
_LEAST_JOBS = 2


@contextmanager
def on_cluster(*held: Any, client: Client | None = None) -> Iterator[None]:
    """Run the fits of searches and cross-validations on the workers of a Dask cluster.

    Their results are those of fits here. What is named goes to each worker once, all else with
    each fit. A fit whose worker dies is done again by another.

    Parameters
    ----------
    *held : object
        What the fits have in common and do not change: the backbone (an ``nn.Module``, or the
        `FrozenFeatureExtractor` around it), X, y, groups. The very objects that the estimator and
        its ``fit`` are given, together less than 4 GiB.
    client : distributed.Client, default=None
        Of the cluster; None is the one that was made last.

    Yields
    ------
    None
        Inside the ``with`` statement joblib works on the cluster.

    Raises
    ------
    ConnectionError
        If the cluster is lost meanwhile.
    ImportError
        When `skfairft.distributed` is imported without Dask.
    RuntimeError
        If what the workers hold has changed here.
    TypeError
        For an object of which it cannot be told whether it changes.
    ValueError
        If there is no client, or for more bytes than Dask can send.

    Warns
    -----
    UserWarning
        If no fit needed one of the objects: it was given another one, perhaps a copy.

    Notes
    -----
    With a folder as ``memory`` of the extractor, which all workers see, each distinct row runs
    through the backbone once on the whole cluster. Otherwise each worker remembers its own.

    Examples
    --------
    >>> import sklearn
    >>> from distributed import Client
    >>> from sklearn.model_selection import GridSearchCV
    >>> from torch import nn
    >>> from skfairft import FairLowRankHeadClassifier
    >>> from skfairft.datasets import make_biased_classification
    >>> from skfairft.distributed import on_cluster
    >>> X, y, s = make_biased_classification(n_samples=500, random_state=0)
    >>> backbone = nn.Sequential(nn.Linear(10, 16), nn.ReLU())
    >>> client = Client(processes=False, dashboard_address=":0")  # threads of this process
    >>> with sklearn.config_context(enable_metadata_routing=True), on_cluster(backbone, X, y, s):
    ...     clf = FairLowRankHeadClassifier(backbone).set_fit_request(sensitive_features=True)
    ...     search = GridSearchCV(clf, {"rank": [1, None]}, cv=2)
    ...     search = search.fit(X, y, sensitive_features=s)
    >>> search.best_estimator_.feature_extractor is backbone
    True
    >>> client.close()
    """
    client = _last_client() if client is None else client
    objects = [one.module if isinstance(one, FrozenFeatureExtractor) else one for one in held]
    plugin, backend = _Held(objects), _Cluster(client, objects)
    try:
        client.register_plugin(plugin, backend.name)
        with parallel_config(backend=backend):
            yield
    except Exception as error:
        if client.status == "running":
            raise
        raise ConnectionError(
            "The Dask cluster was lost, and with it what was not done yet. Start another one, "
            "connect a Client, and call again: features that memory= keeps in a folder are not "
            f"made anew. ({error!r})"
        ) from error
    finally:
        if client.status == "running":
            with suppress(Exception):  # a worker that is just going holds it no longer
                client.unregister_worker_plugin(backend.name)
    if unmet := [i for i in range(len(objects)) if i not in backend.met]:
        names = joined(
            [f"{type(objects[i]).__name__} at place {i + 1}" for i in unmet], separator=", "
        )
        warnings.warn(
            f"on_cluster got {names}, but no fit needed it; expected the very objects that the "
            "estimator and its fit are given. Name those: what is not named goes with each fit.",
            UserWarning,
            stacklevel=3,  # contextlib is between
        )


def _last_client() -> Client:
    try:
        return get_client()
    except ValueError as error:
        raise ValueError(
            "on_cluster got no client, and there is none yet. Make one first: "
            "distributed.Client() starts a cluster on this machine, Client('address:8786') is of "
            "one elsewhere."
        ) from error


class _Held(WorkerPlugin):
    """What a worker holds."""

    def __init__(self, objects: Sequence[Any]) -> None:
        self.content = cloudpickle.dumps(objects)
        if len(self.content) > _MOST_BYTES:
            raise ValueError(
                f"on_cluster got {len(self.content) / 2**30:.1f} GiB; expected less than 4 GiB, "
                "which Dask can send at once. Name less, or extract the features first and search "
                "on these."
            )

    def setup(self, worker: Any) -> None:
        """Unpickle it once; Dask tells the client of an error here."""
        self.objects = pickle.loads(self.__dict__.pop("content"))


class _Pickler(cloudpickle.Pickler):
    """Writes, in place of an object that workers hold, its number."""

    def __init__(self, file: io.BytesIO, objects: Sequence[Any]) -> None:
        super().__init__(file)
        self.numbers = {id(each): number for number, each in enumerate(objects)}
        self.met = set[int]()

    def persistent_id(self, value: Any) -> int | None:
        number = self.numbers.get(id(value))
        if number is not None:
            self.met.add(number)
        return number


class _Unpickler(pickle.Unpickler):
    """Takes objects by their numbers."""

    def __init__(self, content: bytes, objects: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(content))
        self.objects = objects

    def persistent_load(self, number: int) -> Any:
        return self.objects[number]


def _dumps(value: Any, objects: Sequence[Any]) -> tuple[bytes, set[int]]:
    """Return a pickle without the objects, and the numbers of those that it needs."""
    file = io.BytesIO()
    pickler = _Pickler(file, objects)
    pickler.dump(value)
    return file.getvalue(), pickler.met


def _loads(content: bytes, objects: Sequence[Any]) -> Any:
    return _Unpickler(content, objects).load()


def _call(content: bytes, name: str) -> bytes:
    """Do, on a worker, some of joblib's work."""
    held: Any = get_worker().plugins[name]
    objects = held.objects
    work = _loads(content, objects)
    return _dumps(work(), objects)[0]


class _Cluster(ParallelBackendBase):
    """To whom joblib hands its work, piece by piece."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, client: Client, objects: Sequence[Any]) -> None:
        super().__init__()
        self.client, self.objects = client, objects
        self.name = f"skfairft-{uuid4().hex}"
        self.fingerprint = fingerprint(*objects)
        self.met = set[int]()  # the numbers of objects that were needed

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many pieces may be under way."""
        return max(_LEAST_JOBS, sum(self.client.nthreads().values()))

    def start_call(self) -> None:
        """Begin with the pieces of a search, unless the workers hold what was."""
        if fingerprint(*self.objects) != self.fingerprint:
            raise RuntimeError(
                "What on_cluster was given has changed since, and the workers hold it as it was. "
                "Leave the with statement and enter it again."
            )
        self.executor = self.client.get_executor(pure=False)  # the same piece twice is two

    def submit(self, func: Any, callback: Callable[[Any], Any]) -> Future[bytes]:
        """Send a piece."""
        future: Future[bytes] = Future()
        try:
            content, met = _dumps(func, self.objects)
            self.met |= met
            future = self.executor.submit(_call, content, self.name)
        except Exception as error:  # raised in a thread of Dask's, joblib would wait forever
            future.set_exception(error)
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[bytes]) -> Any:
        """Return the result of a piece."""
        return _loads(out.result(), self.objects)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what is under way."""
        if self.client.status == "running":
            self.executor.shutdown(wait=False)
