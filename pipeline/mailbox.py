"""Small reports from every rank to whoever watches the run, beside the links, never through them.

    rank 0 --post--> | report/0/1  report/0/2 ... |                 monitor
    rank 1 --post--> | report/1/1 ...             | --take-->  (parent or rank 0)
                          key-value store

A report is taken exactly once and its key deleted, so the store does not grow with the steps.
"""

from __future__ import annotations

import json
import queue
import threading
from datetime import timedelta
from typing import Any, Protocol

import torch.distributed as dist

__all__ = ["LocalMailbox", "Mailbox", "NoMailbox", "Post", "StoreMailbox", "StoreReader"]


class Post(Protocol):
    """Where a rank puts its reports."""

    def post(self, report: dict[str, Any]) -> None:
        """Hand over one report: JSON types only."""
        ...


class Mailbox(Protocol):
    """Where the reports of all ranks are taken from."""

    def take(self) -> list[dict[str, Any]]:
        """Return what has arrived since the last call, each rank's reports in order."""
        ...


class NoMailbox:
    """Drops reports: those of a replica that repeat what the first one tells."""

    def post(self, report: dict[str, Any]) -> None:
        """Drop it."""


class LocalMailbox:
    """Reports between threads of one process."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def post(self, report: dict[str, Any]) -> None:
        """See :meth:`Post.post`."""
        self._queue.put(report)

    def take(self) -> list[dict[str, Any]]:
        """See :meth:`Mailbox.take`."""
        reports = []
        while True:
            try:
                reports.append(self._queue.get_nowait())
            except queue.Empty:
                return reports


class StoreMailbox:
    """Posts one rank's reports to a key-value store.

    Args:
        store: A client of its own: a store's operations must not wait for each other.
        rank: The reporting rank.
    """

    def __init__(self, store: dist.Store, rank: int) -> None:
        self._store = store
        self._rank = rank
        self._posted = 0
        self._lock = threading.Lock()

    def post(self, report: dict[str, Any]) -> None:
        """See :meth:`Post.post`."""
        with self._lock:
            self._posted += 1
            self._store.set(f"report/{self._rank}/{self._posted}", json.dumps(report))


class StoreReader:
    """Takes the reports of all ranks from a key-value store.

    Args:
        store: A client of its own.
        ranks: How many ranks report.
    """

    def __init__(self, store: dist.Store, ranks: int) -> None:
        self._store = store
        self._taken = [0] * ranks
        store.set_timeout(timedelta(seconds=30))

    def take(self) -> list[dict[str, Any]]:
        """See :meth:`Mailbox.take`."""
        reports = []
        for rank in range(len(self._taken)):
            while True:
                key = f"report/{rank}/{self._taken[rank] + 1}"
                if not self._store.check([key]):
                    break
                reports.append(json.loads(self._store.get(key)))
                self._store.delete_key(key)
                self._taken[rank] += 1
        return reports
