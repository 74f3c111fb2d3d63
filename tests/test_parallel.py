"""Blocks on several threads: the same results in the same order, whatever the threads do."""

import threading

import numpy as np
import pytest
import torch

from skfairft import FairLowRankHeadClassifier
from skfairft.datasets import make_biased_classification
from skfairft.head import measure
from skfairft.rows import mapped
from skfairft.rows.blocks import map_blocks, threads_over_blocks
from skfairft.rows.mapped import as_features


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 100)  # of ten features: ten rows


def features(kind, tmp_path, n=95):
    Z = np.random.default_rng(0).normal(size=(n, 10)).astype(np.float32)
    if kind == "mapped":
        np.save(tmp_path / "Z.npy", Z)
        return as_features(np.load(tmp_path / "Z.npy", mmap_mode="r"))
    return torch.from_numpy(Z if kind == "float32" else Z.astype(np.float64))


@pytest.mark.parametrize("kind", ["float32", "float64", "mapped"])
@pytest.mark.usefixtures("two_threads", "small_blocks")
def test_results_come_in_order_from_two_threads_at_once(tmp_path, kind):
    Z = features(kind, tmp_path)
    together, threads = threading.Barrier(2, timeout=20), set()

    def look(block, numbers):
        threads.add(threading.get_ident())
        assert torch.get_num_threads() == 1
        if numbers[0] < 20:
            together.wait()  # passes only if the first two blocks are worked on at the same time
        return numbers[0], block.clone()

    with threads_over_blocks():
        results = list(map_blocks(look, Z, torch.arange(len(Z))))
    assert len(threads) == 2
    assert [first for first, _ in results] == list(range(0, 95, 10))
    assert torch.equal(torch.cat([block for _, block in results]), Z[:].double())
    assert torch.get_num_threads() == 2
    outside = list(map_blocks(lambda block: threading.get_ident(), Z))
    assert set(outside) == {threading.get_ident()}


@pytest.mark.usefixtures("two_threads", "small_blocks")
def test_an_error_in_a_block_is_raised_and_ends_the_work(tmp_path):
    seen = []

    def fail(block):
        seen.append(len(block))
        raise ValueError("no")

    with threads_over_blocks(), pytest.raises(ValueError, match="no"):
        list(map_blocks(fail, features("float32", tmp_path, n=2000)))
    assert len(seen) < 20
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.usefixtures("small_blocks")
def test_a_fit_is_the_same_to_the_bit_with_any_number_of_threads(n_classes):
    X, y, s = make_biased_classification(300, 10, n_classes=n_classes, random_state=0)
    found = []
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            measure.forget()
            clf = FairLowRankHeadClassifier(rank=2).fit(X, y, sensitive_features=s)
            found.append(clf.decision_function(X))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
