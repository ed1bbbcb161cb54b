"""Logs of workers that do not fill the disk, whatever a user's code prints.

rank0.log   (at most MOST_BYTES) --- full ---> rank0.log.1   (the one before it)
    ^
    | append: the worker's stdout, open for the whole run
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["MOST_BYTES", "Rotation"]

MOST_BYTES = 64 << 20
LOOK_SECONDS = 10.0


class Rotation:
    """Keeps logs short.

    Args:
        logs: The files. Whoever writes them appends, so they can be emptied at any time; what is
            printed in that moment may be lost.
        most_bytes: Length from which a log becomes its predecessor.
        look_seconds: How often they are looked at.
    """

    def __init__(
        self,
        logs: Sequence[Path],
        *,
        most_bytes: int = MOST_BYTES,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._logs = logs
        self._most = most_bytes
        self._every = look_seconds
        self._next = time.perf_counter() + look_seconds

    def look(self) -> None:
        """Look at the logs if it is time; a full disk never stops a run."""
        now = time.perf_counter()
        if now < self._next:
            return
        self._next = now + self._every
        for log in self._logs:
            with suppress(OSError):
                if log.stat().st_size > self._most:
                    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                    os.truncate(log, 0)
