"""What the tests share besides the root's conftest."""

import math
import os
from collections import defaultdict
from itertools import product

import pytest
import sklearn
import torch

from skfairft.feature_store import get_store
from skfairft.head import logistic, measure

# The tests' matrices are small: more threads would only wait for each other. What the tests say
# holds with any number of them.
torch.set_num_threads(int(os.environ.get("SKFAIRFT_TEST_THREADS", "1")))


def pytest_collectstart(collector):
    """Seed torch for the modules that a file makes as it is imported, whatever came before it."""
    if isinstance(collector, pytest.Module):
        torch.default_generator.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Leave to the slow run all but every nth case of a test that is marked ``some(n)``.

    Along the diagonals of a product of parameters, so that each value of each is run with some of
    the others; a case that is asked for by its name is run.
    """
    tests = defaultdict(list)
    for item in items:
        if item.get_closest_marker("some") is not None:
            tests[item.nodeid.partition("[")[0]].append(item)
    for cases in tests.values():
        (every,) = cases[0].get_closest_marker("some").args
        sizes = [len(mark.args[1]) for mark in cases[0].iter_markers("parametrize")]
        if math.prod(sizes) == len(cases):
            for case, places in zip(cases, product(*map(range, sizes)), strict=True):
                if sum(places) % every:
                    case.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _same_modules_in_each_run():
    """Seed torch, from which the tests' modules get their weights, and undo it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def _no_memory_of_other_tests():
    """Forget the features and measurements of data and modules that several tests share."""
    get_store(None).clear()
    measure.forget()


@pytest.fixture(scope="module")
def cluster():
    """Hand out the client of two worker processes."""
    from clusters import local_cluster

    with local_cluster() as client:
        yield client


@pytest.fixture
def tight(monkeypatch):
    """Fit logistic regressions to the last digits, those of folds, too."""
    inner = logistic._minimize
    monkeypatch.setattr(logistic, "_minimize", lambda *args: inner(*args[:-1], 1e-11))


@pytest.fixture
def routing():
    """Switch scikit-learn's metadata routing on for one test."""
    with sklearn.config_context(enable_metadata_routing=True):
        yield
