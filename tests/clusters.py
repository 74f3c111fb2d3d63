"""A cluster of Dask on this machine for the tests that need one: two processes on loopback."""

import logging
import warnings
from contextlib import contextmanager


@contextmanager
def local_cluster(n_workers=2, **settings):
    """Start a cluster of worker processes, hand out its client, and stop both."""
    from distributed import Client, LocalCluster

    settings = {
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": None,
        "processes": True,
    } | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ports and sockets; not what the tests are about
        with (
            LocalCluster(n_workers=n_workers, silence_logs=logging.CRITICAL, **settings) as cluster,
            Client(cluster) as client,
        ):
            yield client
