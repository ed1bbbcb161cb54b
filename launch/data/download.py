"""Published files from their official addresses, checked before they are used."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from .error import DataError

__all__ = ["RemoteFile", "download"]

SECONDS = 30.0
PIECE = 1 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: of the file.
        url: its address.
        size: in bytes.
        sha256: of its content, in hexadecimal digits.
    """

    name: str
    url: str
    size: int
    sha256: str


def download(file: RemoteFile, folder: Path) -> Path:
    """Fetches a file into a folder, which is made if need be.

    The content goes to a temporary file, which gets its name only once size and checksum are
    right: a file of that name is always whole, and several processes may fetch it at once.

    Args:
        file: what to fetch.
        folder: where to.

    Returns:
        The path of the file.

    Raises:
        DataError: no network, an error of the server, another size or checksum, or a folder that
            cannot be written.
    """
    _log.info("downloading %s (%s bytes) to %s", file.url, f"{file.size:,}", folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".part", dir=folder)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as target:
                _receive(file, target)
            part.chmod(0o644)
            part.replace(folder / file.name)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file.url}: the download failed: {_reason(error)}") from error
    return folder / file.name


def _receive(file: RemoteFile, target: IO[bytes]) -> None:
    digest = hashlib.sha256()
    received = 0
    with urllib.request.urlopen(file.url, timeout=SECONDS) as response:
        while piece := response.read(min(PIECE, file.size - received + 1)):
            received += len(piece)
            if received > file.size:
                break
            digest.update(piece)
            target.write(piece)
    if received != file.size:
        found = f"{received:,}" if received < file.size else "more"
        raise DataError(f"{file.url}: expected {file.size:,} bytes, found {found}")
    if digest.hexdigest() != file.sha256:
        raise DataError(
            f"{file.url}: expected the SHA-256 checksum {file.sha256}, found "
            f"{digest.hexdigest()}; the file was not kept"
        )


def _reason(error: Exception) -> str:
    """Without the wrapping of ``URLError``, which repeats itself."""
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(error).__name__
