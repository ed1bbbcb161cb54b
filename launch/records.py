"""``metrics.jsonl``: everything that happened in a run, one JSON object per line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

__all__ = ["Records", "read_records"]


class Records:
    """Appends to ``metrics.jsonl``.

    Args:
        path: The file; a resumed run appends to it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, record: dict[str, Any]) -> dict[str, Any]:
        """Append ``record`` with the time of day; return it with the time."""
        stamped = {"event": record["event"], "time": round(time.time(), 3), **record}
        self._file.write(json.dumps(stamped) + "\n")
        return stamped

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return all records of a run; a last line that was cut short is left out."""
    records = []
    with path.open() as file:
        for line in file:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
    return records
