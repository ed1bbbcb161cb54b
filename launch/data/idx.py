"""Arrays in the idx format, in which MNIST and Fashion-MNIST are published.

    bytes 0-1   zero
    byte  2     type of the numbers
    byte  3     number of dimensions D
    then        D sizes, each a big-endian unsigned 32-bit integer
    then        the numbers, big-endian, the last dimension running fastest

Format: http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import numpy as np

from .error import DataError

__all__ = ["read_idx"]

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_DIMENSIONS = 8
MOST_BYTES = 1 << 30  # twenty times MNIST: a damaged header must not fill the memory
PIECE = 1 << 20

_Stream = BufferedReader | gzip.GzipFile


def read_idx(path: str | Path, *, dimensions: int | None = None) -> np.ndarray:
    """Reads a whole file, compressed by gzip or not (told apart by its first bytes).

    Args:
        path: the file.
        dimensions: how many there must be; None: any number.

    Returns:
        The array, in the machine's byte order.

    Raises:
        DataError: the file cannot be read, is not in this format, or has more or fewer bytes than
            its header says.
    """
    path = Path(path)
    with _opened(path) as stream:
        dtype, shape = _header(path, stream, dimensions)
        expected = math.prod(shape) * dtype.itemsize
        numbers, problem = _take(stream, expected)
        if len(numbers) < expected:
            raise DataError(_shortage(path, expected, len(numbers), problem))
        # Reading on to the end also makes gzip compare its checksum.
        surplus, problem = _take(stream, 1)
        if surplus or problem:
            raise DataError(
                f"{path}: expected {expected:,} bytes after the header, found "
                f"{problem or 'more'}; fetch the file again"
            )
    array = np.frombuffer(numbers, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(
    path: Path, stream: _Stream, dimensions: int | None
) -> tuple[np.dtype, tuple[int, ...]]:
    magic, problem = _take(stream, 4)
    if len(magic) < 4:
        raise DataError(_shortage(path, 4, len(magic), problem))
    if magic[0] or magic[1] or magic[2] not in TYPES:
        raise DataError(
            f"{path}: not an idx file: it starts with {magic.hex(' ')}, expected 00 00 and one of "
            + ", ".join(f"{code:02x}" for code in TYPES)
        )
    count = magic[3]
    if not 1 <= count <= MOST_DIMENSIONS or count != (dimensions or count):
        expected = dimensions or f"1 to {MOST_DIMENSIONS}"
        raise DataError(f"{path}: expected {expected} dimensions, its header says {count}")
    sizes, problem = _take(stream, 4 * count)
    if len(sizes) < 4 * count:
        raise DataError(_shortage(path, 4 * count, len(sizes), problem))
    dtype = np.dtype(TYPES[magic[2]])
    shape = struct.unpack(f">{count}I", sizes)
    if math.prod(shape) * dtype.itemsize > MOST_BYTES:
        raise DataError(
            f"{path}: its header says {' x '.join(map(str, shape))} numbers, more than "
            f"{MOST_BYTES:,} bytes; fetch the file again"
        )
    return dtype, shape


@contextmanager
def _opened(path: Path) -> Iterator[_Stream]:
    try:
        with path.open("rb") as file:
            compressed = file.peek(2)[:2] == b"\x1f\x8b"
            yield gzip.GzipFile(fileobj=file) if compressed else file
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _take(stream: _Stream, count: int) -> tuple[bytearray, str]:
    """Up to ``count`` bytes, and why there are not more where the compression is damaged."""
    taken = bytearray()
    while len(taken) < count:
        try:
            piece = stream.read1(min(PIECE, count - len(taken)))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return taken, f"damaged compression ({error})"
        if not piece:
            break
        taken += piece
    return taken, ""


def _shortage(path: Path, expected: int, found: int, problem: str) -> str:
    reason = f", then {problem}" if problem else ""
    return f"{path}: expected {expected:,} bytes, found {found:,}{reason}; fetch the file again"
