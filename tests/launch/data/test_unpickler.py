"""Tests of `blockstep.launch.data.unpickler`."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blockstep.launch.data import DataError
from blockstep.launch.data.unpickler import read_pickle
from hypothesis import given
from hypothesis import strategies as st

BATCH = {
    b"data": np.arange(24, dtype=np.uint8).reshape(2, 12),
    b"labels": [3, 7],
    b"batch_label": b"training batch 1 of 5",
    b"filenames": [b"a.png", b"b.png"],
}


def same(content: dict[str, Any]) -> bool:
    """Whether the content is that of BATCH."""
    return (
        content["labels"] == [3, 7]
        and content["batch_label"] == b"training batch 1 of 5"
        and content["data"].dtype == np.uint8
        and np.array_equal(content["data"], BATCH[b"data"])
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols_of_python_3_are_read(protocol: int):
    """What this Python and this numpy write comes back."""
    assert same(read_pickle(pickle.dumps(BATCH, protocol), source="batch"))


def test_pickles_of_python_2_are_read(write: Any):
    """The published batches: strings of Python 2, and numpy.core."""
    content = write.python2(BATCH)
    assert b"cnumpy.core.multiarray\n_reconstruct" in content
    assert same(read_pickle(content, source="batch"))


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("protocol", [2, 5])
def test_big_endian_and_fortran_arrays_keep_their_values(order: Any, protocol: int):
    """Byte order and memory order are taken from the pickle."""
    array = np.array([[1, 2, 3], [4, 5, 600]], dtype=">i4", order=order)
    content = read_pickle(pickle.dumps({"x": array, "s": np.float32(2.5)}, protocol), source="x")
    np.testing.assert_array_equal(content["x"], array)


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, protocol: int):
    """The function that it names is named in the error and was not called."""
    trace = tmp_path / "was here"
    content = pickle.dumps({b"data": Call(os.system, f"touch '{trace}'")}, protocol)
    with pytest.raises(DataError, match=r"batch: the pickle asks for posix.system.*Nothing was"):
        read_pickle(content, source="batch")
    assert not trace.exists()
    pickle.loads(content)  # the control: the standard unpickler does run it
    assert trace.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Call(eval, "1"), "__builtin__.eval"),
        (Call(getattr, "x", "join"), "__builtin__.getattr"),
        (Call(np.load, "x"), "numpy.load"),
        (np.random.default_rng, "numpy.random"),
        (np.array([{}], dtype=object), "arrays of type 'O8' are not read"),
        (np.zeros(2, dtype=[("a", "u1")]), "arrays of type 'V1' are not read"),
        (Call(codecs.encode, "x", "rot13"), "codecs.encode to 'rot13'"),
        (Call(np.ndarray, (10**12,)), "numpy.ndarray is called directly"),
        (np.ndarray, "expected numbers and texts"),
    ],
)
def test_everything_but_plain_arrays_is_refused(value: Any, message: str):
    """Names that numpy needs cannot be misused either."""
    with pytest.raises(DataError, match=message):
        read_pickle(pickle.dumps({b"data": value}, 2), source="batch")


def test_an_array_must_have_the_bytes_of_its_shape():
    """A shape that the bytes do not fill is refused before memory is reserved."""
    content = pickle.dumps({b"data": np.zeros(300, np.uint8)}, 2)
    content = content.replace(b"M,\x01", b"M,\x02")  # 300 becomes 556 in the shape
    with pytest.raises(DataError, match=r"shape \(556,\) with 300 bytes, not 556"):
        read_pickle(content, source="batch")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"(i__main__\nCall\n.", "makes objects"),
        (b"}\x82\x01.", "makes objects"),
        (b"Pid\n.", "makes objects"),
        (b"}r" + struct.pack("<I", 2**31) + b".", "LONG_BINPUT at byte 1 numbers value 2147483648"),
        (b"cnumpy\ndtype\n}b.", "tries to change a function"),
        (b"]q\x00.", "expected a dictionary, found list"),
        (pickle.dumps(BATCH)[:-20], "damaged"),
        (b"", "damaged"),
        (b"<!DOCTYPE html>", "damaged"),
    ],
)
def test_unusual_and_damaged_pickles_are_refused(content: bytes, message: str):
    """Each ends in an error that says what is wrong."""
    with pytest.raises(DataError, match=message):
        read_pickle(content, source="batch")


@given(st.data())
def test_only_data_errors_come_from_any_pickle(data: st.DataObject):
    """Changed bytes anywhere lead to other numbers or to a DataError."""
    content = bytearray(pickle.dumps(BATCH, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        assert isinstance(read_pickle(bytes(content), source="batch"), dict)


def test_the_stand_ins_are_not_classes_of_numpy():
    """No object of numpy is made while a pickle is followed, so none can be misused."""
    content = io.BytesIO(pickle.dumps({"x": np.zeros(3)}, 2))
    from blockstep.launch.data.unpickler import _Unpickler

    raw = _Unpickler(content, encoding="bytes").load()["x"]
    assert not isinstance(raw, np.ndarray)
