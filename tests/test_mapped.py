"""Where features lie, and that it does not show in what is read."""

import errno
import os
import weakref

import numpy as np
import pytest
import torch

from skfairft.rows import mapped
from skfairft.rows.mapped import (
    MappedFeatures,
    allocate_features,
    as_features,
    block_rows,
    double_blocks,
    is_mapped,
    release_pages,
)


@pytest.fixture(params=["<f4", "<f8", ">f4", ">f8"])
def array(request, tmp_path):
    """Numbers in a mapped file, also in the other byte order."""
    values = np.random.default_rng(0).normal(size=(53, 6)).astype(request.param)
    np.save(tmp_path / "features.npy", values)
    return np.load(tmp_path / "features.npy", mmap_mode="r")


SELECTIONS = [
    slice(None),
    slice(3, 9),
    slice(50, 99),
    slice(7, 7),
    slice(1, 40, 5),
    torch.tensor([5, 2, 2, 52]),
    np.array([5, -1, 0]),
    torch.tensor([], dtype=torch.int64),
]


class TestMappedFeatures:
    @pytest.mark.parametrize("rows", SELECTIONS)
    def test_gives_the_rows_of_the_array(self, array, rows):
        Z = MappedFeatures(array)
        found = Z[rows]
        assert isinstance(found, torch.Tensor)
        assert found.dtype == (torch.float32 if array.dtype.itemsize == 4 else torch.float64)
        np.testing.assert_array_equal(
            found.numpy(),
            np.asarray(array)[np.asarray(rows)] if not isinstance(rows, slice) else array[rows],
        )
        assert (len(Z), Z.shape) == (53, (53, 6))

    @pytest.mark.parametrize("first", SELECTIONS[:2] + SELECTIONS[4:7])
    @pytest.mark.parametrize("second", [slice(None), slice(1, 3), torch.tensor([2, 0, 1])])
    def test_takes_rows_of_rows_without_reading(self, array, first, second, monkeypatch):
        def read(self, rows, out):
            raise AssertionError("read")

        first = first if isinstance(first, slice) else np.asarray(first)
        with monkeypatch.context() as patch:
            patch.setattr(MappedFeatures, "_read", read)
            taken = MappedFeatures(array).take(first)
            again = taken.take(second)
        expected = np.asarray(array)[first]
        assert taken.shape == expected.shape
        np.testing.assert_array_equal(taken[:].numpy(), expected)
        if len(expected) >= 3:
            second = second if isinstance(second, slice) else second.numpy()
            np.testing.assert_array_equal(again[:].numpy(), expected[second])
            np.testing.assert_array_equal(taken[second].numpy(), expected[second])

    def test_what_it_gives_is_a_copy(self):
        array = allocate_features((5, 2), "float32", limit=0)
        array[:] = 1.0
        for rows in (slice(1, 3), np.array([1, 2])):
            MappedFeatures(array)[rows].fill_(7.0)
        assert (array == 1.0).all()

    def test_releases_pages_before_they_are_many(self, monkeypatch):
        released = []
        monkeypatch.setattr(mapped, "release_pages", lambda array: released.append(read[0]))
        monkeypatch.setattr(mapped, "_RESIDENT_BYTES", 1000)
        Z = MappedFeatures(allocate_features((100, 10), "float32", limit=0))
        read = [0]
        for start in range(0, 100, 10):  # 400 bytes each
            read[0] += 1
            Z[start : start + 10]
        assert released == [3, 6, 9]
        # One row of a gather may bring in the pages around it.
        del released[:]
        Z[np.array([3])]
        assert released == [10]

    def test_of_fortran_order(self, tmp_path):
        values = np.asfortranarray(np.arange(12.0).reshape(4, 3))
        np.save(tmp_path / "features.npy", values)
        Z = MappedFeatures(np.load(tmp_path / "features.npy", mmap_mode="r"))
        assert Z[1:3].is_contiguous()
        np.testing.assert_array_equal(Z[1:3].numpy(), values[1:3])


class TestReleasePages:
    @pytest.mark.parametrize("mode", ["r", "r+", "c"])
    def test_keeps_what_is_in_them(self, tmp_path, mode):
        np.save(tmp_path / "features.npy", np.arange(10_000.0))
        array = np.load(tmp_path / "features.npy", mmap_mode=mode)
        expected = np.arange(10_000.0)
        if mode != "r":
            # Of a private mapping the change is nowhere but in the pages.
            array[::7] = expected[::7] = -1.0
        release_pages(array)
        release_pages(array[5:])
        np.testing.assert_array_equal(array, expected)

    def test_takes_arrays_in_memory(self):
        array = np.ones(3)
        release_pages(array)
        assert (array == 1.0).all()


class TestAllocateFeatures:
    def test_up_to_the_limit_memory_then_a_file(self):
        for limit in (None, 10**6, 4 * 5 * 8):
            assert not is_mapped(allocate_features((4, 5), "float64", limit=limit))
        array = allocate_features((4, 5), np.float64, limit=4 * 5 * 8 - 1)
        assert is_mapped(array)
        assert (array.shape, array.dtype) == ((4, 5), np.dtype("float64"))
        array[:] = 3.0
        assert (array == 3.0).all()

    def test_no_rows_need_no_file(self):
        assert allocate_features((0, 5), "float64", limit=0).shape == (0, 5)

    def test_the_file_is_in_the_folder_and_has_no_name(self, tmp_path):
        array = allocate_features((1000, 5), "float32", limit=0, folder=tmp_path)
        assert list(tmp_path.iterdir()) == []
        if os.path.exists("/proc/self/maps"):
            with open("/proc/self/maps") as maps:
                assert str(tmp_path) in maps.read()
        del array
        if os.path.exists("/proc/self/maps"):
            with open("/proc/self/maps") as maps:
                assert str(tmp_path) not in maps.read()

    def test_a_full_disk_is_an_error_before_the_work(self, tmp_path, monkeypatch):
        def full(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(OSError, match=r"1,048,576 rows of 512 .* 2\.00 GiB") as caught:
            allocate_features((2**20, 512), "float32", limit=2**30, folder=tmp_path)
        assert caught.value.errno == errno.ENOSPC
        assert str(tmp_path) in str(caught.value)
        assert "limit of 1.00 GiB" in str(caught.value)
        assert "TMPDIR" in str(caught.value)

    @pytest.mark.parametrize("free", [10**9, 10])
    def test_where_space_cannot_be_reserved_it_is_looked_up(self, tmp_path, monkeypatch, free):
        def unknown(*args):
            raise OSError(errno.EOPNOTSUPP, "not supported")

        monkeypatch.setattr(os, "posix_fallocate", unknown, raising=False)
        monkeypatch.setattr(
            mapped.shutil,
            "disk_usage",
            lambda path: (
                os.terminal_size((0, free)) if False else type("Usage", (), {"free": free})
            ),
        )
        if free > 1000:
            assert is_mapped(allocate_features((10, 5), "float32", limit=0, folder=tmp_path))
        else:
            with pytest.raises(OSError, match="No space left"):
                allocate_features((10, 5), "float32", limit=0, folder=tmp_path)

    def test_a_missing_folder_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="missing cannot take them"):
            allocate_features((10, 5), "float32", limit=0, folder=tmp_path / "missing")


class TestBlocks:
    @pytest.mark.parametrize("lies", ["memory", "file"])
    @pytest.mark.parametrize("n", [0, 1, 7, 8, 50])
    def test_have_each_row_once_in_order_and_in_float64(self, n, lies, monkeypatch):
        monkeypatch.setattr(mapped, "_BLOCK_ELEMENTS", 35)  # 7 rows of 5
        Z = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
        array = allocate_features((n, 5), "float32", limit=0 if lies == "file" else None)
        array[:] = Z
        features = as_features(array)
        assert isinstance(features, MappedFeatures) == (lies == "file" and n > 0)
        blocks = [(rows, block.clone()) for rows, block in double_blocks(features)]
        assert all(block.dtype == torch.float64 for _, block in blocks)
        assert [len(block) for _, block in blocks] == [7] * (n // 7) + [n % 7] * (n % 7 > 0)
        seen = np.full(Z.shape, np.nan)
        for rows, block in blocks:
            assert np.isnan(seen[rows]).all()
            seen[rows] = block.numpy()
        np.testing.assert_array_equal(seen, Z)

    def test_have_rows_however_wide_they_are(self):
        assert block_rows(10**9) == 1
        assert block_rows(0) == block_rows(1) == 2**14

    def test_of_an_array_that_cannot_be_written_to(self):
        array = np.ones((3, 2))
        array.flags.writeable = False
        as_features(array).fill_(7.0)  # warnings are errors
        assert (array == 1.0).all()


def test_features_keep_the_file_only_as_long_as_they_live(tmp_path):
    array = allocate_features((10, 5), "float32", limit=0, folder=tmp_path)
    gone = weakref.ref(array)
    Z = MappedFeatures(array).take(np.array([1, 2]))
    del array
    assert gone() is not None
    del Z
    assert gone() is None
