"""A clock that jumps from event to event, and the processes that live by it.

A process is a generator. What it yields is what it waits for::

    def worker(queue):
        yield lambda: bool(queue)   # until a condition holds
        yield 0.25                  # until so many seconds have passed

Nothing is random and nobody competes for anything, so the order in which processes go on at the
same moment changes no time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator

__all__ = ["Clock", "Process", "StuckError"]

Process = Generator["float | Callable[[], bool]", None, None]
"""Yields seconds to pass, or a condition to wait for."""


class StuckError(RuntimeError):
    """Processes wait for each other for ever."""


class Clock:
    """Virtual seconds, from 0.

    Attributes:
        now: Seconds since the beginning.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Process]] = []
        self._waiting: dict[str, tuple[Callable[[], bool], Process]] = {}
        self._names: dict[Process, str] = {}
        self._numbers = itertools.count()

    def start(self, name: str, process: Process) -> None:
        """Let a process begin now.

        Args:
            name: What an error calls it; no other process has it.
            process: The generator.
        """
        self._names[process] = name
        self._resume(process)

    def run(self) -> None:
        """Let time pass until every process has ended.

        Raises:
            StuckError: Some cannot; they are named.
        """
        while True:
            self._settle()
            if not self._due:
                break
            self.now, _, process = heapq.heappop(self._due)
            self._resume(process)
        if self._waiting:
            raise StuckError(f"these wait for ever: {', '.join(self._waiting)}")

    def _settle(self) -> None:
        """Resume whoever waits for something that holds, until nobody does."""
        changed = True
        while changed:
            changed = False
            for name, (condition, process) in list(self._waiting.items()):
                if condition():
                    del self._waiting[name]
                    self._resume(process)
                    changed = True

    def _resume(self, process: Process) -> None:
        """Let a process go on until it has to wait."""
        for wanted in process:
            if callable(wanted):
                if wanted():
                    continue
                self._waiting[self._names[process]] = wanted, process
            else:
                heapq.heappush(self._due, (self.now + wanted, next(self._numbers), process))
            return
