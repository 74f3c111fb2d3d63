"""A folder to which others write, what they write, and what must hold whatever that is."""

import gc
import os
import resource
import signal
import struct
import warnings

import numpy as np
import pytest
from processes import finish, start
from test_once import Counting
from xxhash import xxh3_128_digest

from skfairft import FrozenFeatureExtractor
from skfairft.feature_store import DiskStore, FeatureStoreWarning, block_file
from skfairft.feature_store.codec import encode
from skfairft.feature_store.witness import MOST_ROWS, Witness

X = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
EXPECTED = FrozenFeatureExtractor(Counting(), memory=False).fit_transform(X)


def extract(folder, *, fit=False):
    """Return features through a folder, how many rows ran, and what was said of the store."""
    module = Counting()
    extractor = FrozenFeatureExtractor(module, memory=DiskStore(folder), batch_size=16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = extractor.fit_transform(X) if fit else extractor.transform(X)
        extractor.store.info()
    assert {warning.category for warning in caught} <= {FeatureStoreWarning}
    return found, module.rows, [str(warning.message) for warning in caught]


def room_of(folder):
    (room,) = folder.glob("module-*")
    return room


def blocks(folder):
    """Return the namespace, and the keys and features of all files of rows."""
    room = room_of(folder)
    namespace = bytes.fromhex(room.name.removeprefix("module-"))
    parts = []
    for path in sorted(room.glob("*.rows")):
        head, keys = block_file.read_keys(path, namespace)
        parts.append((keys, block_file.read_features(path, head)))
    return namespace, *(np.concatenate(part) for part in zip(*parts, strict=True))


def forge(folder, make, *, alone=True):
    """Write rows with the right checksums, in place of what is there or beside it."""
    namespace, keys, features = blocks(folder)
    if alone:
        for path in room_of(folder).glob("*.rows"):
            path.unlink()
    block_file.write(room_of(folder) / "00.rows", namespace, *make(keys, features))


def sparse(path, content, size):
    path.write_bytes(content)
    os.truncate(path, size)


def inner(text, *buffers):
    """Bytes of rows or of a witness: any text, and buffers, in the place of what is encoded."""
    return struct.pack("<Q", len(text)) + text + b"".join(buffers)


def put_witness(folder, content):
    """Write a witness with the right checksum, and have it vouch for the rows that are there."""
    path = room_of(folder) / "witness"
    before = path.read_bytes()[16:]
    path.write_bytes(xxh3_128_digest(content) + content)
    marks = (np.frombuffer(xxh3_128_digest(each), np.uint64) for each in (before, content))
    mark = np.bitwise_xor(*marks)
    forge(folder, lambda keys, features: (keys ^ mark, features))


def change_witness(folder, **changes):
    """Write a witness with other fields and the right checksum."""
    content = (room_of(folder) / "witness").read_bytes()[16:]
    fields = vars(Witness.from_bytes(content)) | changes
    batch = fields.pop("batch")
    batch = batch if isinstance(batch, tuple) else (batch.rows, batch.keys, batch.inputs)
    put_witness(folder, encode((batch, *fields.values())))


def other_features(folder, **changes):
    features = np.full((MOST_ROWS, 8), 7.0, np.float32)
    change_witness(folder, features=features, where="elsewhere", **changes)


def filled(tmp_path):
    """A folder that remembers the rows, beside what is not to be touched."""
    out = tmp_path / "outside"
    out.mkdir()
    (out / "file").write_bytes(b"mine")
    (out / "0c.rows").write_bytes(b"mine")
    (out / "witness").write_bytes(b"mine")
    found, ran, said = extract(tmp_path / "store", fit=True)
    np.testing.assert_array_equal(found, EXPECTED)
    assert (ran, said) == (48, [])
    assert extract(tmp_path / "store")[1:] == (0, [])  # the control: all of them are stored
    return tmp_path / "store"


def check(folder, must_run=None):
    """Extract by another process with little memory and time: right each time, and in the end."""

    def work():
        signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
        signal.alarm(60)
        gc.freeze()  # what a call takes counts, and not what others have left behind
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for call in range(3):
            gc.collect()
            found, ran, said = extract(folder, fit=call == 1)
            np.testing.assert_array_equal(found, EXPECTED)
            assert len(said) < 5, said
            assert max(map(len, said), default=0) < 1000, said
            if call == 0 and must_run is not None:
                assert ran == must_run, said
                assert said or not ran
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 200 * 1024, f"{grown / 1024:.0f} MiB"
        DiskStore(folder).clear()
        assert extract(folder)[0].tolist() == EXPECTED.tolist()

    finish(start(work))
    out = folder.parent / "outside"
    assert sorted(path.name for path in out.iterdir()) == ["0c.rows", "file", "witness"]
    assert {path.read_bytes() for path in out.iterdir()} == {b"mine"}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["outside", "store"]
