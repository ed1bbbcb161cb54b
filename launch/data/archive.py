"""Files inside a compressed tar archive, read in memory. Nothing is ever written to the disk."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from .error import DataError

__all__ = ["read_members"]


def read_members(
    path: str | Path, names: Collection[str], *, most_bytes: int = 1 << 29
) -> dict[str, bytes]:
    """Reads some files of a ``.tar.gz``.

    Args:
        path: the archive.
        names: the members to read.
        most_bytes: uncompressed size at which reading stops, so that a small file that unpacks to
            a huge one does no harm.

    Returns:
        The content of each name.

    Raises:
        DataError: the archive is damaged or too large, lacks a name or has it twice, or holds
            links, devices, absolute names or ``..``, which no published archive does.
    """
    found: dict[str, bytes] = {}
    try:
        with gzip.open(path, "rb") as unpacked:
            stream = cast(IO[bytes], _Bounded(unpacked, str(path), most_bytes))
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    _refuse_unsafe(path, member)
                    if member.name in names and member.isfile():
                        if member.name in found:
                            raise DataError(f"{path}: it holds {member.name} twice")
                        found[member.name] = _content(archive, member)
    except DataError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); fetch the file again") from error
    missing = sorted(set(names) - set(found))
    if missing:
        raise DataError(f"{path}: it lacks {', '.join(missing)}; fetch the file again")
    return found


def _refuse_unsafe(path: str | Path, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{path}: its member {member.name!r} points outside; do not trust it")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise DataError(f"{path}: its member {member.name!r} is no plain file; do not trust it")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # a plain file always has content
    content = file.read()
    if len(content) != member.size:
        raise EOFError(f"{member.name}: expected {member.size:,} bytes, found {len(content):,}")
    return content


class _Bounded:
    """A stream that refuses to deliver more than so many bytes."""

    def __init__(self, stream: Any, name: str, most_bytes: int) -> None:
        self._stream = stream
        self._name = name
        self._most = most_bytes
        self._delivered = 0

    def read(self, size: int) -> bytes:
        if self._delivered + size > self._most + tarfile.RECORDSIZE:
            raise DataError(f"{self._name}: it unpacks to more than {self._most:,} bytes")
        piece = self._stream.read(size)
        self._delivered += len(piece)
        return piece
