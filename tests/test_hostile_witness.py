"""Bytes that stand for no rows: refused in little time and room, and then forgotten."""

import datetime
import signal
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hostile import change_witness, check, filled, inner, put_witness
from PIL import Image

from skfairft.feature_store.codec import decode, encode

MIB = 2**20

# Texts that stand for a value, the buffers behind them, and why they must be refused.
MISMADE = {
    "a hundred thousand brackets": (b"[" * 100_000, []),
    "a hundred thousand tuples": (b'{"tuple": [' * 100_000, []),
    "sixteen million lists": (b"[" + b"[]," * (2**24 // 3) + b"[]]", []),
    "more bytes than there are": (b'{"bytes": 1000000000000}', [b"x"]),
    "bytes before the first": (b'[{"bytes": 1}, {"bytes": -1}]', [b"x"]),
    "the same bytes again": (
        b"[" + b'{"bytes": 1000000}, {"bytes": -1000000}, ' * 10_000 + b"0]",
        [bytes(10**6)],
    ),
    "half a byte": (b'{"bytes": 0.5}', [b"x"]),
    "no kind": (b"{}", []),
    "two kinds": (b'{"bytes": 1, "tuple": []}', [b"x"]),
    "an unknown kind": (b'{"pickle": 1}', [b"x"]),
    "a dtype that is a function": (b'{"tensor": ["load", [1], 1]}', [b"x"]),
    "a dtype that is a module": (b'{"tensor": ["onnx", [1], 1]}', [b"x"]),
    "a quantized dtype": (b'{"tensor": ["qint8", [1], 1]}', [b"x"]),
    "a tensor of too few bytes": (b'{"tensor": ["float32", [1000000000000], 4]}', [b"1234"]),
    "a tensor without bytes": (b'{"tensor": ["float32", [1000000000000], 0]}', []),
    "an array of objects": (b'{"array": ["|O", [1], 8]}', [b"12345678"]),
    "an array of records": (b'{"array": ["<i4,<i4", [1], 8]}', [b"12345678"]),
    "an array of arrays": (b'{"array": ["(2,)<i4", [1], 8]}', [b"12345678"]),
    "an array of nothing": (b'{"array": ["|V0", [1000000000000], 0]}', []),
    "an array of too few bytes": (b'{"array": ["<f4", [1000000000000], 4]}', [b"1234"]),
    "an array of negative size": (b'{"array": ["<f4", [-5, -5], 4]}', [b"1234"]),
    "a shape of NaN": (b'{"array": ["<f4", [NaN], 4]}', [b"1234"]),
    "a shape that is a text": (b'{"array": ["<f4", "12", 4]}', [b"1234"]),
    "objects of another shape": (b'{"objects": [[1000000000, 1000000000], [1]]}', []),
    "a day that is none": (b'{"date": "2021-02-30"}', []),
    "a day that is a number": (b'{"datetime": 20210230}', []),
    "an integer of many digits": (b"1" * 5000, []),
    "a list as a key": (b'{"dict": [[[], 1]]}', []),
    "keys that collide": (
        b'{"dict": [' + b",".join(b"[%d,0]" % ((2**61 - 1) * i) for i in range(100_000)) + b"]}",
        [],
    ),
    "an image of 400 MB": (
        b'{"image": ["L", {"tuple": [20000, 20000]}, {"bytes": 1}, null, {"dict": []}]}',
        [b"x"],
    ),
    "an image of negative size": (
        b'{"image": ["L", {"tuple": [-1, -1]}, {"bytes": 1}, null, {"dict": []}]}',
        [b"x"],
    ),
    "an image of no mode": (
        b'{"image": ["XYZ", {"tuple": [1, 1]}, {"bytes": 1}, null, {"dict": []}]}',
        [b"x"],
    ),
    "one value for many rows": (
        b'{"Series": ["x", "float64", 1.0, {"array": ["|S1", [1000000], 1000000]}]}',
        [bytes(10**6)],
    ),
    "a column of no dtype": (b'{"Series": ["x", "no such", [1.0], [0]]}', []),
    "columns of other rows": (
        b'{"frame": ['
        + b",".join(
            b'{"Series": ["%d", "int64", {"array": ["<i8", [300], 2400]}, '
            b'{"array": ["<i8", [300], 2400]}]}' % i
            for i in range(300)
        )
        + b"]}",
        [np.arange(i * 300, i * 300 + 300).tobytes() for i in range(300) for _ in range(2)],
    ),
    "no columns": (b'{"frame": []}', []),
}


@pytest.fixture
def folder(tmp_path):
    return filled(tmp_path)


@pytest.mark.parametrize("name", MISMADE)
@pytest.mark.some(3)
class TestMismadeWitness:
    def test_is_refused_in_little_room(self, name):
        text, buffers = MISMADE[name]
        content = inner(text, *buffers)
        signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
        signal.alarm(60)
        tracemalloc.start()
        try:
            with pytest.raises(Exception):  # noqa: B017, PT011  # of any kind, as it says
                decode(content)
            assert tracemalloc.get_traced_memory()[1] < 64 * MIB + 64 * len(content)
        finally:
            tracemalloc.stop()
            signal.alarm(0)

    @pytest.mark.parametrize("as_rows", [pytest.param(False, marks=pytest.mark.slow), True])
    @pytest.mark.some(2)
    def test_is_forgotten(self, folder, name, as_rows):
        content = inner(MISMADE[name][0], *MISMADE[name][1])
        if as_rows:
            change_witness(folder, batch=(content, b"", b""))
        else:
            put_witness(folder, content)
        check(folder, 48)


def test_what_is_written_is_read():
    """The control of all that is refused: none of it is what the store itself writes."""
    rows = [
        "text", b"bytes", 2.5, None, (1, [2]), {"a": 1, 7: 2, None: 3}, Path("a"),
        datetime.datetime(2021, 3, 4, 5, 6), np.arange(6.0).reshape(2, 3), np.zeros((0, 3)),
        np.array(["a", "bc"]), np.array(["2021"], "M8[ns]"), np.array(["a", None], dtype=object),
        np.float32(2), torch.arange(4).bfloat16(), torch.zeros(0, 2, dtype=torch.int64),
    ]  # fmt: skip
    for row in rows:
        found = decode(encode(row))
        assert type(found) is type(row) or isinstance(row, Path)
        assert encode(found) == encode(row)
    frame = pd.DataFrame(
        {"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}, index=[5, 5]
    )
    pd.testing.assert_frame_equal(decode(encode(frame)), frame)
    for mode in ("1", "L", "P", "RGB", "RGBA", "I", "F", "CMYK", "LA"):
        image = Image.new(mode, (13, 3))
        assert decode(encode(image)) == image
