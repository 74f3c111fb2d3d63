"""Damaged and made-up files by the thousand: right features or none, and nothing else happens.

What is damaged is noticed. What is forged with the right checksums may be taken for features, as
those who may write to the folder are trusted, but it does no more than that.
"""

import copy
import json
import resource
import signal
import struct
import warnings
from datetime import date, time

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hostile import EXPECTED, X, blocks, room_of
from PIL import Image
from test_once import Counting
from xxhash import xxh3_128_digest

from skfairft import FrozenFeatureExtractor
from skfairft.feature_store import DiskStore, FeatureStoreWarning, block_file
from skfairft.feature_store.codec import decode, encode
from skfairft.feature_store.witness import Witness

A = b"a" * 16
KEYS = np.random.default_rng(0).integers(0, 2**64, (8, 2), dtype=np.uint64)
FEATURES = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)

# A slow run takes 100,000 inputs in all.
FEW, MANY = 100, [60_000, 30_000, 10_000]


def counts(many):
    return pytest.mark.parametrize("n", [FEW, pytest.param(many, marks=pytest.mark.slow)])


@pytest.fixture
def bounded():
    """Fail where a single input takes long, or all of them take much memory."""

    def stop(*_):
        raise AssertionError("it hangs")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handler = signal.signal(signal.SIGALRM, stop)
    yield lambda: signal.alarm(20)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def mutated(content, rng):
    """Return bytes that are flipped, cut, repeated, moved or replaced at a place or several."""
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        size = len(content)
        start, stop = sorted(rng.integers(0, size + 1, 2).tolist())
        stop = min(stop, start + int(rng.choice([1, 4, 8, 64, size + 1])))
        kind = rng.integers(7)
        if kind == 0 and size:
            content[int(rng.integers(size))] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del content[start:]
        elif kind == 2:
            del content[start:stop]
        elif kind == 3:
            at = int(rng.integers(size + 1))
            content[at:at] = content[start:stop]
        elif kind == 4:
            content[start:stop] = rng.bytes(stop - start)
        elif kind == 5:
            content[start:stop] = bytes([int(rng.choice([0, 255, 127]))]) * (stop - start)
        else:
            content += rng.bytes(int(rng.integers(100)))
    return bytes(content)


def with_header(content, rng):
    """Return a block file with another number of rows, width or size."""
    head = list(struct.unpack_from("<QII", content, 16))
    field = int(rng.integers(3))
    values = [*range(9), 12, 16, 24, 48, 2**16, 2**24, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    head[field] = values[int(rng.integers(len(values) - 2 * (field > 0)))]
    if rng.integers(2):  # what fits the size again
        head[1] = max(0, ((len(content) - 64) // max(1, head[0]) - 16) // max(1, head[2])) % 2**32
    return content[:16] + struct.pack("<QII", *head) + content[32:]


def repaired(content):
    """Return a block file with the checksums of what is in it."""
    if len(content) < 64:
        return content
    head = block_file.Head(*struct.unpack_from("<QII", content, 16))
    split = min(len(content), 64 + 16 * head.n)
    keys_sum = block_file._sum_of_keys(head, A, content[64:split])
    total = xxh3_128_digest(keys_sum + xxh3_128_digest(content[split:]))
    return b"skfairft rows 1\n" + content[16:32] + keys_sum + total + content[64:]


def said_by(content):
    """Return the features by their keys, as the bytes of a file say; None if they cannot be it."""
    if len(content) < 64:
        return None
    n, width, size = struct.unpack_from("<QII", content, 16)
    if not n or not width or size not in (4, 8) or len(content) != 64 + n * (16 + width * size):
        return None
    keys = [content[64 + 16 * i : 80 + 16 * i] for i in range(n)]
    features = np.frombuffer(content[64 + 16 * n :], f"<f{size}").reshape(n, width)
    if not np.isfinite(features).all():
        return None
    found = {}
    for key, row in zip(keys, features, strict=True):
        found.setdefault(key, set()).add(row.tobytes())
    return found


@counts(MANY[0])
def test_blocks(tmp_path, bounded, n):
    rng = np.random.default_rng(n)
    path = tmp_path / f"module-{A.hex()}" / "00.rows"
    DiskStore(tmp_path).put(A, KEYS, FEATURES)
    (original,) = path.parent.glob("*.rows")
    content = original.read_bytes()
    original.unlink()
    lost = taken = 0
    for _ in range(n):
        bounded()
        changed = (with_header if rng.integers(3) == 0 else mutated)(content, rng)
        is_repaired = bool(rng.integers(2))
        changed = repaired(changed) if is_repaired else changed
        path.write_bytes(changed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            store = DiskStore(tmp_path)
            found, features = store.lookup(A, KEYS)
            store.info()
        expected = said_by(changed) if is_repaired or changed == content else None
        if expected is None:
            assert not found.any()
            # What no asked key is found in is not read to its end.
            assert [warning.category for warning in caught] == [FeatureStoreWarning] or is_repaired
            assert not (caught and path.exists())
            lost += 1
            continue
        assert not caught
        for key, row in zip(KEYS[found], features if found.any() else [], strict=True):
            assert row.tobytes() in expected[key.tobytes()]
        known = [key.tobytes() in expected for key in KEYS]
        assert found.tolist() == known or len({key[:8] for key in expected}) < len(expected)
        taken += 1
    assert lost > n / 4
    assert taken > n / 10  # the control: forged files reach the features


ROWS = [
    np.arange(20, dtype=np.float32).reshape(4, 5),
    torch.arange(8).reshape(4, 2),
    ["a text", "another", "a third", "the last"],
    [{"ids": np.arange(3), 7: (1, 2.5, None)}] * 4,
    [date(2021, 3, 4), time(5, 6), b"bytes", True],
    np.array(["a", 1, None, (2,)], dtype=object),
    np.array(["2021-03-04", "NaT", "2022-01-01", "1970-01-01"], dtype="M8[s]"),
    pd.DataFrame({"a": [1, 2, 3, 4], "b": ["x", None, "y", "z"]}, index=[3, 3, 1, 0]),
    pd.DataFrame({"c": pd.Categorical(["u", "v", "u", "v"]), "d": pd.array([1, 2, None, 4])}),
    pl.Series("p", [1.5, None, 3.0, 4.0]),
    [Image.new("RGB", (3, 2), (1, 2, 3)), Image.new("1", (9, 2)), Image.new("P", (2, 2))] * 2,
]
VALUES = [
    None, True, 0, 1, -1, 2**31, 2**63, -(2**63), 1e308, float("nan"), float("inf"), "", "a", "\0",
    "\ud800", "<f4", "|O", "float32", "load", "RGB", "2021-02-30", [], {}, [[]], {"tuple": []},
    {"bytes": 4}, {"bytes": -4}, {"scalar": 1}, {"array": ["<f8", [1], 8]}, {"dict": [[1, 2]]},
    {"tensor": ["bool", [2], 2]}, {"path": "/dev/zero"}, {"polars": ["a", [1, "b", []]]},
    {"image": ["L", [2, 2], {"bytes": 4}, None, {"dict": []}]}, {"date": "0000-00-00"},
    {"objects": [[2], [1, 2]]}, {"Series": ["a", "int64", [1], [0]]}, {"frame": [1]},
]  # fmt: skip


def places(tree):
    """Return all lists and dicts of a tree with the keys of what is in them."""
    found, waiting = [], [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, (list, dict)):
            parts = range(len(each)) if isinstance(each, list) else each
            found += [(each, part) for part in parts]
            waiting += [each[part] for part in parts]
    return found


def restructured(content, rng):
    """Return encoded bytes of which parts of the structure are other ones."""
    (size,) = struct.unpack_from("<Q", content)
    tree, rest = [json.loads(content[8 : 8 + size])], content[8 + size :]
    for _ in range(int(rng.integers(1, 4))):
        spots = places(tree)
        holder, part = spots[int(rng.integers(len(spots)))]
        other, its = spots[int(rng.integers(len(spots)))]
        kind = rng.integers(6)
        if kind == 0:
            holder[part] = copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
        elif kind == 1:
            holder[part] = copy.deepcopy(other[its])
        elif kind == 2 and holder is not tree:
            del holder[part]
        elif kind == 3 and isinstance(holder, list) and holder is not tree:
            holder.extend(copy.deepcopy(holder[part : part + 1]) * int(rng.integers(1, 9)))
        elif kind == 4 and isinstance(holder, dict):
            kinds = ["tuple", "dict", "bytes", "tensor", "array", "objects", "scalar", "date"]
            holder[str(rng.choice([*kinds, "Series", "frame", "polars", "image"]))] = holder.pop(
                part
            )
        elif isinstance(holder[part], (int, float)):
            holder[part] = holder[part] * int(rng.choice([-1, 0, 2, 1000])) + int(rng.integers(3))
    text = json.dumps(tree[0]).encode("ascii")
    return struct.pack("<Q", len(text)) + text + (mutated(rest, rng) if rng.integers(3) else rest)


def changed_witness(content, rows, rng):
    """Return a witness that is changed as a whole or in its rows."""
    change = restructured if rng.integers(3) else mutated
    if rng.integers(3) == 0:
        return change(content, rng)
    (_, *batch), *others = decode(content)
    rows = change(rows, rng)
    return encode(((rows, *batch), *others))


@counts(MANY[1])
@pytest.mark.filterwarnings("ignore")  # of the libraries that are given nonsense
def test_witnesses(bounded, n):
    rng = np.random.default_rng(n)
    features, spread = np.ones((4, 6), np.float32), np.ones(6)
    written = [encode(rows) for rows in ROWS]
    read = refused = 0
    for i in range(n):
        bounded()
        rows = written[i % len(written)]
        batch = rows, bytes(64) if rng.integers(2) else b"", rows
        content = changed_witness(encode((batch, features, spread, "here")), rows, rng)
        try:
            witness = Witness.from_bytes(content)
            witness.distance(features, tight=bool(rng.integers(2)))
            witness.batch.input(lambda rows: rows, len(witness.features))
            read += 1
        except Exception:  # of any kind, but none that ends a program
            refused += 1
    assert read > n / 50
    assert refused > n / 4


@counts(MANY[2])
def test_extraction(tmp_path, bounded, n):
    """Whatever the witness is that vouches for the rows, the features are the module's."""
    rng = np.random.default_rng(n)
    module = Counting()
    extractor = FrozenFeatureExtractor(module, memory=DiskStore(tmp_path), batch_size=64)
    np.testing.assert_allclose(extractor.fit_transform(X), EXPECTED, rtol=1e-6)
    expected = extractor.transform(X)
    namespace, keys, features = blocks(tmp_path)
    room = room_of(tmp_path)
    content = (room / "witness").read_bytes()[16:]
    rows = decode(content)[0][0]
    own = np.frombuffer(xxh3_128_digest(content), np.uint64)
    used = forgotten = 0
    for _ in range(n):
        bounded()
        for path in room.glob("*.rows"):
            path.unlink()
        made = changed_witness(content, rows, rng)
        (room / "witness").write_bytes(xxh3_128_digest(made) + made)
        mark = own ^ np.frombuffer(xxh3_128_digest(made), np.uint64)
        block_file.write(room / "00.rows", namespace, keys ^ mark, features)
        module.log.batches.clear()
        extractor.memory = DiskStore(tmp_path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = extractor.transform(X)
        np.testing.assert_array_equal(found, expected)
        assert {warning.category for warning in caught} <= {FeatureStoreWarning}
        assert caught or not module.rows or not made
        used, forgotten = used + (module.rows == 0), forgotten + (module.rows > 0)
    assert used > n / 50  # the control: some changes change nothing, and the rows are taken
    assert forgotten > n / 4
