"""The disk that runs are written to: room and speed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from ..folder import existing_parent
from .finding import Finding, fail, ok, warn

__all__ = ["check_disk", "write_speed"]

GIB, MIB = 1 << 30, 1 << 20
LITTLE = 5 * GIB
TOO_LITTLE = 256 * MIB
"""Less than a small run needs: checkpoints are written beside those that they replace."""

SLOW = 50 * MIB
"""Bytes per second below which writing a checkpoint is felt."""

PIECE = 4 * MIB
MOST = 64 * MIB
SECONDS = 1.0
"""How long is written at most, before the file is flushed."""


def check_disk(runs: Path) -> list[Finding]:
    """Look at the folder of the runs, or at the nearest one above it that exists."""
    folder = existing_parent(runs)
    free = shutil.disk_usage(folder).free
    where = f"{free / GIB:.1f} GiB free in {folder}"
    if free < TOO_LITTLE:
        return [fail("disk", where, "make room, or choose another runs=FOLDER", free_bytes=free)]
    try:
        speed = write_speed(folder, most=min(MOST, free // 4))
    except OSError as error:
        reason = f"{folder} cannot be written: {error.strerror or error}"
        return [fail("disk", reason, "choose another runs=FOLDER", free_bytes=free)]
    text = f"{where}, written at {speed / MIB:,.0f} MiB/s"
    figures = {"free_bytes": free, "bytes_per_second": speed}
    if free < LITTLE:
        advice = "large networks need more for their checkpoints; dry_run=true says how much"
        return [warn("disk", text, advice, **figures)]
    if speed < SLOW:
        advice = "checkpoints take long; choose a local disk by runs=FOLDER, or write fewer"
        return [warn("disk", text, advice, **figures)]
    return [ok("disk", text, **figures)]


def write_speed(folder: Path, *, most: int = MOST) -> float:
    """Return the bytes per second at which a file is written and flushed to the disk.

    Args:
        folder: Where; the file has no name there, or is removed.
        most: Bytes to write at most.

    Raises:
        OSError: It cannot be written.
    """
    # Not zeros: some file systems do not write those.
    piece = os.urandom(PIECE)
    written, begin = 0, time.perf_counter()
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        while written < max(PIECE, most) and time.perf_counter() - begin < SECONDS:
            written += file.write(piece)
        os.fsync(file.fileno())
    return written / (time.perf_counter() - begin)
