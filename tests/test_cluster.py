"""Fits on a cluster of Dask on this machine: what goes where, and what if some of it dies."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import dask.array as da
import numpy as np
import pytest
import torch
from clusters import local_cluster
from distributed import Client
from torch import nn

from skfairft import FairLowRankHeadClassifier, FrozenFeatureExtractor
from skfairft.datasets import make_biased_classification
from skfairft.inputs.lazy import computed
from skfairft.metrics import fairness_report
from skfairft.rows import dask as chunked
from skfairft.rows.dask import DaskFeatures

# Starting workers takes long; the guide's page on scaling out, which is run, has a cluster, too.
pytestmark = pytest.mark.slow

N, D = 3000, 12
BOUND = {
    "constraint": "demographic_parity",
    "difference_bound": 0.3,
    "solver": "plug_in",
    "random_state": 0,
}


class Slow(nn.Module):
    """Writes down its rows and the processes that it comes to; takes its time."""

    def __init__(self, folder, seconds=0.0):
        super().__init__()
        self.linear, self.folder, self.seconds = nn.Linear(D, 6), str(folder), seconds
        folder.mkdir()

    def __setstate__(self, state):
        super().__setstate__(state)
        self.note("came", os.getpid())

    def forward(self, x):
        time.sleep(self.seconds)
        self.note("rows", len(x))
        return torch.relu(self.linear(x))

    def note(self, name, number):
        with open(os.path.join(self.folder, name), "a") as file:
            print(number, file=file)

    def noted(self, name):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            return []
        with open(path) as file:
            return list(map(int, file))


@pytest.fixture(scope="module")
def data():
    X, y, s = make_biased_classification(n_samples=N, n_features=D, disparity=0.4, random_state=0)
    return X.astype(np.float32), y, s


def kill_one(client):
    """End a worker's process; its nanny starts another one."""
    os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)


@contextmanager
def when(reached, act):
    """Act once something is reached, from a thread of its own."""
    over, done = threading.Event(), []

    def wait():
        while not over.wait(0.01):
            if reached():
                done.append(act())
                return

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def test_a_backbone_comes_to_each_worker_once_and_each_row_runs_once(cluster, data, tmp_path):
    X, y, s = data
    module = Slow(tmp_path / "module")
    settings = {**BOUND, "cv": 0.3, "C": 0.01}  # few passes over the rows
    here = FairLowRankHeadClassifier(FrozenFeatureExtractor(module, memory=False), **settings)
    here.fit(X, y, sensitive_features=s)
    in_memory = sum(module.noted("rows"))
    there = FairLowRankHeadClassifier(module, **settings)
    there.fit(da.from_array(X, chunks=(750, -1)), y, sensitive_features=s)
    rows = sum(module.noted("rows")) - in_memory
    assert N <= rows <= N + 16  # the first rows are looked at by themselves
    came = [process for process in module.noted("came") if process != os.getpid()]
    assert len(came) == len(set(came)) == 2
    assert abs(here.difference_ - there.difference_) < 1e-12
    assert here.difference_interval_ == pytest.approx(there.difference_interval_)
    lazy = da.from_array(X, chunks=(450, -1))
    np.testing.assert_allclose(
        there.decision_function(lazy).compute(), here.decision_function(X), atol=1e-7
    )
    # And a report that is counted where the predictions are.
    found = fairness_report(y, there.predict(lazy), sensitive_features=s, n_boot=0)
    expected = fairness_report(y, here.predict(X), sensitive_features=s, n_boot=0)
    assert found.by_group.equals(expected.by_group)


def test_features_lie_in_files_of_the_workers_and_are_gone_with_them(cluster, data):
    X, *_ = data
    Z = DaskFeatures.of(da.from_array(X, chunks=(200, -1)))
    assert torch.equal(Z[:], torch.from_numpy(X))

    def held(dask_worker):
        kept = [(key, each) for key, each in dask_worker.data.items() if key.startswith("_kept")]
        return sum(sys.getsizeof(each) for _, each in kept)

    assert 0 < sum(cluster.run(held).values()) < X.nbytes / 100
    del Z
    end = time.monotonic() + 20
    while sum(cluster.run(held).values()) and time.monotonic() < end:
        time.sleep(0.05)
    assert sum(cluster.run(held).values()) == 0


def test_a_bad_row_is_named_and_nothing_is_left(cluster, data):
    X, y, s = data
    bad = X.copy()
    bad[1234, 0] = np.inf
    for _ in range(3):
        with pytest.raises(
            ValueError, match=r"In chunk 4 of X, rows 1200 to 1499, first in row 1234"
        ):
            FairLowRankHeadClassifier(nn.Linear(D, 3)).fit(
                da.from_array(bad, chunks=(300, -1)), y, sensitive_features=s
            )
    end = time.monotonic() + 20
    while cluster.futures and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
    assert not cluster.futures


@pytest.mark.slow
def test_a_fit_may_be_a_task_of_the_cluster(cluster, data):
    """Each worker has one thread: the fit gives it up while it waits."""
    X, y, s = (each[:600] for each in data)

    def fit(X):
        return FairLowRankHeadClassifier(C=0.01).fit(X, y, sensitive_features=s).singular_values_[0]

    lazy = da.from_array(X, chunks=(300, -1))
    found = cluster.gather([cluster.submit(fit, lazy, pure=False) for _ in range(2)])
    assert found == pytest.approx([fit(X)] * 2)


def test_rows_of_another_cluster_are_said(cluster, data):
    X, y, s = data
    lazy = cluster.persist(da.from_array(X, chunks=(300, -1)))
    with (
        local_cluster(n_workers=1, processes=False, host=None),
        pytest.raises(RuntimeError, match="another cluster than that of the client"),
    ):
        FairLowRankHeadClassifier().fit(lazy, y, sensitive_features=s)


def test_a_task_that_ends_its_workers_says_what_to_do(cluster):
    def end():
        os._exit(1)

    from dask import config, delayed

    with (
        config.set({"distributed.scheduler.allowed-failures": 0}),
        local_cluster(n_workers=1) as client,
    ):
        with pytest.raises(RuntimeError, match="Give X smaller chunks"):
            computed(delayed(end, pure=False)())
        assert client.status == "running"


@pytest.mark.slow
def test_workers_die_while_features_are_made_and_between_passes(
    cluster, data, tmp_path, monkeypatch
):
    X, y, s = data
    module = Slow(tmp_path / "module", seconds=0.01)
    here = FairLowRankHeadClassifier(FrozenFeatureExtractor(module, memory=False), **BOUND)
    here.fit(X, y, sensitive_features=s)
    before, calls, original = sum(module.noted("rows")), [], chunked.compute

    def counted(tasks):
        calls.append(1)
        if len(calls) == 12:
            kill_one(cluster)
        return original(tasks)

    monkeypatch.setattr(chunked, "compute", counted)
    extractor = FrozenFeatureExtractor(module, batch_size=50, memory=str(tmp_path / "store"))
    there = FairLowRankHeadClassifier(extractor, **BOUND)
    with when(
        lambda: sum(module.noted("rows")) > before + N // 3, lambda: kill_one(cluster)
    ) as killed:
        there.fit(da.from_array(X, chunks=(300, -1)), y, sensitive_features=s)
    assert killed
    assert len(calls) > 12
    np.testing.assert_allclose(there.decision_function(X), here.decision_function(X), atol=1e-7)


@contextmanager
def own_scheduler():
    """Start a scheduler and two workers as processes; yield the first, and a client."""

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", *arguments, "--no-dashboard"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); "
            "print(s.getsockname()[1])",
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as free:
        port = int(free.communicate()[0])
    address = f"tcp://127.0.0.1:{port}"
    scheduler = start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port))
    workers = [
        start("distributed.cli.dask_worker", address, "--nthreads", "1", "--host", "127.0.0.1")
        for _ in range(2)
    ]
    try:
        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            yield scheduler, client
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_lost_scheduler_is_said_and_a_second_run_goes_on(data, tmp_path):
    X, y, s = data
    module = Slow(tmp_path / "module", seconds=0.05)
    extractor = FrozenFeatureExtractor(module, batch_size=50, memory=str(tmp_path / "store"))
    clf = FairLowRankHeadClassifier(extractor, **BOUND)
    lazy = da.from_array(X, chunks=(300, -1))
    with own_scheduler() as (scheduler, _):
        with (
            when(lambda: sum(module.noted("rows")) > N // 2, scheduler.kill),
            pytest.raises(ConnectionError, match=r"cluster was lost.*not made anew"),
        ):
            clf.fit(lazy, y, sensitive_features=s)
        assert not hasattr(clf, "head_")
    ran = sum(module.noted("rows"))
    with own_scheduler():
        clf.fit(lazy, y, sensitive_features=s)
    assert sum(module.noted("rows")) - ran < N - N // 4
