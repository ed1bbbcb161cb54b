"""Tests of `blockstep.launch.data.idx`."""

from __future__ import annotations

import contextlib
import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blockstep.launch.data import DataError
from blockstep.launch.data.idx import read_idx
from hypothesis import given
from hypothesis import strategies as st

VALID = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + b"abcdef"


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", "<i4", "<f4", "<f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_type_comes_back_as_it_was_written(
    write: Any, tmp_path: Path, dtype: str, compressed: bool
):
    """Values, shape and the machine's byte order survive, with gzip and without."""
    array = (np.arange(24).reshape(2, 3, 4) * 7 - 50).astype(dtype)
    content = write.idx(array)
    path = tmp_path / "numbers"
    path.write_bytes(gzip.compress(content) if compressed else content)
    read = read_idx(path)
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, array)


def test_a_truncated_file_is_named_with_both_counts(tmp_path: Path):
    """Fewer bytes than the header says: the message holds file, expected and found."""
    path = tmp_path / "short"
    path.write_bytes(VALID[:-2])
    with pytest.raises(DataError, match=r"short: expected 6 bytes, found 4"):
        read_idx(path)


def test_truncated_compression_is_named_with_both_counts(tmp_path: Path):
    """A gzip file that ends early says what was expected and how much there was."""
    content = VALID[:4] + (5_000_000).to_bytes(4, "big") + (1).to_bytes(4, "big")
    content += np.random.default_rng(0).bytes(5_000_000)
    path = tmp_path / "short.gz"
    path.write_bytes(gzip.compress(content, 1)[:3_000_000])
    with pytest.raises(DataError, match=r"short.gz: expected 5,000,000 bytes, found 2,\d+,\d+"):
        read_idx(path)


def test_surplus_bytes_are_refused(tmp_path: Path):
    """More bytes than the header says are no less wrong."""
    path = tmp_path / "long"
    path.write_bytes(VALID + b"!")
    with pytest.raises(DataError, match="expected 6 bytes after the header, found more"):
        read_idx(path)


def test_a_wrong_checksum_of_gzip_is_noticed(tmp_path: Path):
    """One changed byte in the stored checksum is an error although all numbers are there."""
    content = bytearray(gzip.compress(VALID))
    content[-5] ^= 1
    path = tmp_path / "changed.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged compression"):
        read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected 4 bytes, found 0"),
        (b"PK\x03\x04more", "not an idx file: it starts with 50 4b 03 04"),
        (b"\0\0\x07\x01\0\0\0\0", "not an idx file"),
        (b"\0\0\x08\0", "expected 1 to 8 dimensions, its header says 0"),
        (b"\0\0\x08\xff" + b"\0" * 2000, "its header says 255"),
        (b"\0\0\x08\x02\0\0\0\x01", "expected 8 bytes, found 4"),
        (b"\0\0\x0e\x02" + b"\xff" * 8, "4294967295 x 4294967295 numbers, more than"),
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, content: bytes, message: str):
    """No header makes the reader guess, or reserve memory for what is not there."""
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_another_number_of_dimensions_is_refused(tmp_path: Path):
    """Labels where images should be are noticed."""
    path = tmp_path / "flat"
    path.write_bytes(VALID)
    with pytest.raises(DataError, match="expected 3 dimensions, its header says 2"):
        read_idx(path, dimensions=3)


def test_a_missing_file_is_named(tmp_path: Path):
    """The error of the system comes with the path."""
    with pytest.raises(DataError, match=r"nowhere: cannot be read: No such file"):
        read_idx(tmp_path / "nowhere")


@given(st.data())
def test_only_data_errors_come_from_any_bytes(data: st.DataObject):
    """Random, truncated and changed files are read or refused; nothing else happens."""
    content = bytearray(data.draw(st.sampled_from([VALID, gzip.compress(VALID), b""])))
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            position = data.draw(st.integers(0, len(content) - 1))
            content[position] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=9))
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with contextlib.suppress(DataError):
            assert isinstance(read_idx(file.name), np.ndarray)
