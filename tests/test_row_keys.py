"""A row key depends on the content of its row, all of it, and on nothing else."""

import collections
import datetime
import decimal
import os
import pathlib
import time

import numpy as np
import pandas as pd
import pytest
import torch

from skfairft.feature_store import row_keys as kernel
from skfairft.feature_store.row_keys import row_keys

N = 40


def numbers(dtype, shape=(3,)):
    draws = np.random.default_rng(0).normal(size=(N, *shape)) * 100
    return np.abs(draws).astype(dtype)


def frame():
    rng = np.random.default_rng(0)
    words = np.array(["Private", "State-gov", "Self"], dtype=object)
    mixed = [[i, str(i), i + 0.5, None, pd.NA, (i,)][i % 6] for i in range(N)]
    return pd.DataFrame(
        {
            "number": rng.normal(size=N),
            "whole": rng.integers(9, size=N).astype("int8"),
            "flag": rng.random(N) < 0.5,
            "word": words[rng.integers(3, size=N)],
            "text": pd.array([str(i) if i % 5 else pd.NA for i in range(N)], dtype="string"),
            "kind": pd.Categorical(["abc"[i % 3] if i % 7 else None for i in range(N)]),
            "nullable": pd.array([i if i % 4 else None for i in range(N)], dtype="Int64"),
            "date": pd.date_range("2020", periods=N),
            "zone": pd.date_range("2020", periods=N, tz="Europe/Paris"),
            "gap": [pd.NaT if i % 3 else pd.Timedelta(i, "s") for i in range(N)],
            "mixed": np.array([*mixed, ()], dtype=object)[:-1],
        },
        index=rng.permutation(N),
    )


def tensors(dtype):
    return torch.from_numpy(numbers("f8")).to(dtype)


KINDS = {
    **{
        kind: lambda kind=kind: numbers(kind) for kind in ("f2", "f4", ">f4", "f8", "i1", "u8", "?")
    },
    "complex": lambda: numbers("c16"),
    "images": lambda: numbers("f4", (2, 9, 9)),
    "fortran": lambda: np.asfortranarray(numbers("f8", (5, 3))),
    "scalars": lambda: numbers("f8", ()),
    "dates": lambda: numbers("f8").astype("M8[s]"),
    "records": lambda: np.array([(i, i / 3) for i in range(N)], "i4, f8"),
    "bytes": lambda: np.array([b"%d" % i for i in range(N)]),
    "unicode": lambda: np.array([str(i) for i in range(N)]),
    "unicode columns": lambda: np.array([[str(i), "a"] for i in range(N)]),
    "objects": lambda: np.array([[i, str(i), None] for i in range(N)], object),
    "tensor": lambda: tensors(torch.float32),
    "bfloat16": lambda: tensors(torch.bfloat16),
    "tokens": lambda: tensors(torch.int64),
    "tensor of booleans": lambda: tensors(torch.float32).reshape(N, 3) > 50,
    "transposed tensor": lambda: tensors(torch.float32).T.contiguous().T,
    "frame": frame,
    "series": lambda: frame()["kind"],
    "texts": lambda: [f"text {i}\n" for i in range(N)],
    "lists": lambda: numbers("f8").tolist(),
    "arrays": lambda: list(numbers("f8")),
    "dataset": lambda: [
        {"x": torch.ones(2) * i, "y": (i, "a", b"b", 1j, {i, -i}), "z": [np.float32(i), None]}
        for i in range(N)
    ],
}


def take(rows, index):
    if isinstance(rows, (pd.DataFrame, pd.Series)):
        return rows.iloc[index]
    return [rows[i] for i in index] if isinstance(rows, (list, tuple)) else rows[index]


@pytest.mark.parametrize("kind", KINDS)
def test_key_is_of_the_row_alone(kind, monkeypatch):
    rows = KINDS[kind]()
    keys = row_keys(rows)
    assert keys.shape == (N, 2)
    assert keys.dtype == np.uint64
    order = np.random.default_rng(1).permutation(N)
    assert (row_keys(take(rows, order)) == keys[order]).all()
    assert (row_keys(rows[7:20]) == keys[7:20]).all()
    assert (row_keys(take(rows, [5])) == keys[5]).all()
    assert (row_keys(KINDS[kind]()) == keys).all()
    assert row_keys(rows[:0]).shape == (0, 2)
    monkeypatch.setattr(kernel, "CHUNK_BYTES", 500)
    monkeypatch.setattr(kernel, "COPY_BYTES", 500)
    assert (row_keys(rows) == keys).all()


@pytest.mark.parametrize("kind", ["f8", "images", "tensor", "bfloat16", "tokens"])
def test_one_bit_changes_the_key_of_its_row_only(kind):
    rows = KINDS[kind]()
    keys = row_keys(rows)
    view = rows.view(torch.uint8).numpy() if isinstance(rows, torch.Tensor) else rows.view("u1")
    rng = np.random.default_rng(0)
    first, last = (0,) * view.ndim, tuple(size - 1 for size in view.shape)
    for place in [first, last, *(tuple(rng.integers(view.shape)) for _ in range(50))]:
        view[place] ^= 1 << int(rng.integers(8))
        assert np.flatnonzero((row_keys(rows) != keys).all(axis=1)).tolist() == [place[0]]
        keys = row_keys(rows)


def test_no_two_different_rows_share_a_key():
    rng = np.random.default_rng(0)
    coarse = np.unique(rng.integers(-3, 4, size=(20_000, 6)), axis=0)
    groups = [row_keys(coarse.astype(dtype)) for dtype in ("f2", "f4", "f8", "i1", "i8", ">i8")]
    groups += [row_keys(torch.from_numpy(coarse)), row_keys(torch.from_numpy(coarse * 1.0))]
    groups += [row_keys(np.zeros((1, *shape))) for shape in ((6,), (7,), (2, 3), (3, 2), (6, 1))]
    groups += [row_keys(np.zeros((1, 6), dtype)) for dtype in ("?", "u1", "u8", "c8", "m8[s]")]
    groups += [row_keys(np.zeros((1, 300), dtype)) for dtype in ("f4", "i4")]
    table = pd.DataFrame(coarse.astype("i2"), columns=list("abcdef"))
    groups += [row_keys(table), row_keys(table.rename(columns={"a": "A"}))]
    groups += [row_keys(table.astype({"a": "i4"})), row_keys(table.iloc[:, ::-1])]
    keys = np.concatenate(groups)
    assert len(np.unique(keys, axis=0)) == len(keys)
    # Even half a key tells twenty thousand rows apart: no word of it is wasted.
    assert len(np.unique(groups[2][:, 0])) == len(np.unique(groups[2][:, 1])) == len(coarse)


NamedRow = collections.namedtuple("NamedRow", "x y")
ITEMS = [
    1, 1.0, True, "1", b"1", None, 1j, "", b"", (), [], {}, (1,), [1], {1: 1}, {1}, (1, 2),
    ((1, 2),), [[1], 2], [1, [2]], {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 1},
    NamedRow(1, 2), np.float32(1), np.float64(1), np.int64(1), np.zeros(2), np.zeros((1, 2)),
    np.zeros(2, "f4"), torch.zeros(2), torch.zeros(1, 2), torch.zeros(2, dtype=torch.float64),
    np.array(["a", "b"]), np.array([["a", "b"]]), np.array(["a", None], object), -0.0, 0.0,
    pathlib.PurePosixPath("1"), datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1),
    decimal.Decimal(1), pd.NA, pd.NaT, pd.Timestamp("2020"), pd.Timedelta(1), float("nan"),
    pd.Series([1, 2]), pd.Series([1, 2], index=[1, 2]), pd.DataFrame({"a": [1]}), 2**80,
]  # fmt: skip


def test_items_of_different_types_have_different_keys():
    keys = row_keys(ITEMS)
    alone = np.concatenate([row_keys([item]) for item in ITEMS])
    assert (keys == alone).all()
    assert len(np.unique(keys, axis=0)) == len(ITEMS)
    assert (row_keys(tuple(ITEMS)) == keys).all()


def test_texts_agree_in_every_array_of_texts():
    texts = ["a", "", "b\nc", "é" * 5000, "\udcff", "a"]
    keys = row_keys(texts)
    assert (keys == row_keys(np.array(texts, object))).all()
    assert (keys == row_keys(np.array(texts))).all()
    assert (keys[0] == keys[-1]).all()
    assert len(np.unique(keys, axis=0)) == len(texts) - 1


@pytest.mark.parametrize("kind", [str, pathlib.Path, lambda path: {"image": [str(path)]}])
def test_file_counts_by_its_bytes_even_at_equal_size_and_time(tmp_path, kind):
    path = tmp_path / "image.png"
    missing = row_keys([kind(path)])
    path.write_bytes(b"one")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    one = row_keys([kind(path)])
    path.write_bytes(b"two")
    os.utime(path, ns=times)
    two = row_keys([kind(path)])
    other = tmp_path / "other.png"
    other.write_bytes(b"two")
    keys = np.concatenate([missing, one, two, row_keys([kind(other)])])
    assert len(np.unique(keys, axis=0)) == 4
    path.write_bytes(b"one")
    assert (row_keys([kind(path)]) == one).all()
    assert row_keys([kind(tmp_path)]) is not None  # a folder has no bytes


def test_texts_that_cannot_be_paths_are_not_looked_up(monkeypatch):
    asked = []
    monkeypatch.setattr(kernel, "_file", lambda path: asked.append(path) or [])
    row_keys(["a", "a", "two\nlines", "x" * 5000, "b"])
    assert asked == ["a", "b"]


def test_file_that_cannot_be_read_has_no_key(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    path.write_bytes(b"one")

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kernel, "open", refuse, raising=False)
    assert not row_keys([str(path)]).any()


def test_values_and_labels_of_a_table_count():
    table = frame()
    keys = row_keys(table)
    order = np.random.default_rng(0).permutation(N)
    assert (row_keys(table.iloc[order]) == keys[order]).all()
    moved = table.set_axis([*table.index[:-1], 1000])
    assert np.flatnonzero((row_keys(moved) != keys).any(axis=1)).tolist() == [N - 1]
    assert len(np.unique(keys, axis=0)) == N
    for i, name in enumerate(table.columns):
        changed = table.copy()
        here = table.iloc[3, i]
        changed.iloc[3, i] = next(v for v in table[name] if repr(v) != repr(here))
        assert np.flatnonzero((row_keys(changed) != keys).any(axis=1)).tolist() == [3], name


def test_category_counts_by_value_and_with_its_dtype():
    column = pd.Categorical(["a", "b", None], categories=["a", "b"])
    keys = row_keys(pd.Series(column))
    swapped = row_keys(pd.Series(column.rename_categories({"a": "b", "b": "a"})))
    assert not (keys[:2] == swapped[:2]).any()
    assert not (keys == row_keys(pd.Series(column.add_categories("c")))).any()
    assert not (keys == row_keys(pd.Series(column.as_ordered()))).any()
    assert len(np.unique(keys, axis=0)) == 3


class Text(str):
    pass


@pytest.mark.parametrize(
    "rows",
    [
        [1, object()],
        [[1, {"a": len}]],
        [Text("a")],
        np.array([1, object()], object),
        pd.DataFrame({"a": [1, object()]}),
        np.ma.array([1.0, 2.0], mask=[0, 1]),
        [np.ma.array([1.0, 2.0], mask=[0, 1])],
        np.array([(1, None)], "i4, O"),
        torch.eye(3).to_sparse(),
        [torch.eye(3).to_sparse()],
        torch.zeros(2, device="meta"),
        "text",
        {"a": [1]},
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_rows_that_are_not_known_by_content_have_no_keys(rows):
    keys = row_keys(rows)
    assert not keys[-1].any()
    assert len(keys) == len(rows)


def test_what_may_be_the_name_of_a_file_elsewhere_has_no_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "here.png").write_bytes(b"x")
    unknown = ["folder", "image.jpg", "a/b", "x.y.npy", r"c:\\data\\x", str(tmp_path)]
    texts = [
        "a text",
        "a/b or c",
        "one",
        "3.14",
        "Really?",
        "and/or maybe",
        "end.",
        "a\nb.png",
        "",
    ]
    known = [*texts, "here.png"]
    for as_row in (str, os.fsencode):
        assert not row_keys([as_row(name) for name in unknown]).any()
        assert row_keys([as_row(name) for name in known]).any(axis=1).all()
    assert not row_keys([pathlib.Path(name) for name in unknown]).any()
    mixed = pd.DataFrame({"name": ["here.png", "image.jpg"], "age": [1, 2]})
    assert row_keys(mixed).any(axis=1).tolist() == [True, False]


def test_a_file_named_in_bytes_counts_by_its_content(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"one")
    rows = [os.fsencode(path)]
    before = row_keys(rows)
    path.write_bytes(b"two")
    assert (row_keys(rows) != before).any()


def test_images_count_pixels_mode_palette_and_what_loading_applies():
    image = pytest.importorskip("PIL.Image")
    plain = image.new("P", (2, 3))
    palette = plain.copy()
    palette.putpalette([9, 9, 9] * 256)
    clear = plain.copy()
    clear.info["transparency"] = 0
    turned = plain.copy()
    turned.info["exif"] = b"Exif\x00\x00"
    rows = [
        plain, palette, clear, turned, image.new("L", (2, 3)), image.new("L", (3, 2)),
        image.new("L", (2, 3), 1), image.new("RGB", (2, 3)), np.zeros((3, 2), "u1"),
    ]  # fmt: skip
    keys = row_keys(rows)
    assert len(np.unique(keys, axis=0)) == len(rows)
    assert (row_keys([each.copy() for each in rows]) == keys).all()


def test_memory_stays_bounded():
    tracemalloc = pytest.importorskip("tracemalloc")
    for rows in (np.zeros((300_000, 14)), np.zeros((8, 3, 1024, 1024)).transpose(0, 2, 3, 1)):
        row_keys(rows[:2])
        tracemalloc.start()
        keys = row_keys(rows)
        peak = tracemalloc.get_traced_memory()[1] - keys.nbytes
        tracemalloc.stop()
        # At least one row is copied; 2 for what Python allocates besides.
        assert peak < 2 * kernel.COPY_BYTES + rows[0].nbytes


class TestFilesAreReadOnce:
    @pytest.fixture
    def reads(self, monkeypatch):
        """Count the files that are opened."""
        opened = []

        def counted(path, mode):
            opened.append(path)
            return open(path, mode)

        monkeypatch.setattr(kernel, "open", counted, raising=False)
        monkeypatch.setattr(kernel, "_files", {})
        return opened

    def test_if_they_have_been_left_alone_for_a_while(self, tmp_path, reads, monkeypatch):
        path = tmp_path / "a.png"
        path.write_bytes(b"first")
        first = row_keys([str(path)])
        np.testing.assert_array_equal(row_keys([str(path)]), first)
        assert len(reads) == 2  # it is new: another change might show the same time
        monkeypatch.setattr(kernel, "_QUIET_NS", -(10**12))  # as if it were old
        for _ in range(3):
            np.testing.assert_array_equal(row_keys([str(path)]), first)
        assert len(reads) == 3

    def test_and_again_when_they_change(self, tmp_path, reads, monkeypatch):
        monkeypatch.setattr(kernel, "_QUIET_NS", -(10**12))
        path = tmp_path / "a.png"
        path.write_bytes(b"first")
        status = path.stat()
        keys = [row_keys([str(path)])]
        time.sleep(0.02)  # longer than the steps of the file system's clock
        path.write_bytes(b"other")  # of the same size, and with the old time of writing
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_mtime_ns == status.st_mtime_ns
        keys.append(row_keys([str(path)]))
        replacement = tmp_path / "b.png"
        replacement.write_bytes(b"third")
        replacement.replace(path)
        keys.append(row_keys([str(path)]))
        path.unlink()
        keys.append(row_keys([str(path)]))
        assert len({key.tobytes() for key in keys}) == 4

    def test_of_very_many_some_are_forgotten(self, tmp_path, reads, monkeypatch):
        monkeypatch.setattr(kernel, "_QUIET_NS", -(10**12))
        monkeypatch.setattr(kernel, "_FILES_MOST", 3)
        paths = [tmp_path / f"{i}" for i in range(8)]
        for path in paths:
            path.write_bytes(path.name.encode())
        first = row_keys(list(map(str, paths)))
        np.testing.assert_array_equal(row_keys(list(map(str, paths))), first)
        assert len(kernel._files) <= 3
