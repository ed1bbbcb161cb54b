"""What the terminal shows while a run goes on: a live table, plain lines, or nothing.

What stands in the table and in the lines is the command's own: its `Board`.
"""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO

__all__ = [
    "Board",
    "LiveView",
    "NoView",
    "PlainView",
    "View",
    "clock",
    "event_line",
    "make_view",
    "tell",
]

REFRESH_PER_SECOND = 2.0


class View(Protocol):
    """The terminal."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Show one record of the run."""
        ...

    def print(self, text: str) -> None:
        """Print a text above what is shown."""
        ...

    def close(self) -> None:
        """Stop showing."""
        ...


class Board(ABC):
    """How the progress of one run is told: its newest figures, as lines and as a table."""

    @abstractmethod
    def series(self, record: Mapping[str, Any]) -> Hashable | None:
        """Return what a record of progress belongs to, such as its stage; None for events."""

    @abstractmethod
    def note(self, record: Mapping[str, Any]) -> None:
        """Take a record of progress."""

    @abstractmethod
    def is_last(self, record: Mapping[str, Any]) -> bool:
        """Whether no further record of the same series follows."""

    @abstractmethod
    def line(self, record: Mapping[str, Any]) -> str:
        """Return a record of progress that was noted, as a line."""

    @abstractmethod
    def table(self) -> Any:
        """Return the newest figures as something that rich can draw."""

    def event(self, record: Mapping[str, Any]) -> str | None:
        """Return an event as a sentence; None for what is not told."""
        return event_line(record)


class NoView:
    """Shows nothing."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Drop it."""

    def print(self, text: str) -> None:
        """Drop it."""

    def close(self) -> None:
        """Do nothing."""


def clock(seconds: float | None) -> str:
    """Return seconds as minutes:seconds or hours:minutes:seconds."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def event_line(record: Mapping[str, Any]) -> str | None:
    """Return a checkpoint or a warning as a sentence; None for other records."""
    if record["event"] == "checkpoint":
        best = ", the best so far" if record["best"] else ""
        size = record["bytes"] / 1e6
        return f"step {record['step']}: checkpoint {record['path']} ({size:.1f} MB{best})"
    if record["event"] == "warning":
        return f"warning: {record['text']}"
    return None


class PlainView:
    """Lines, for logs and pipes: those of a series at most every few seconds.

    Args:
        board: What to tell.
        stream: Where to print.
        every: Seconds between two lines of the same series.
    """

    def __init__(self, board: Board, stream: TextIO, *, every: float = 5.0) -> None:
        self._board = board
        self._stream = stream
        self._every = every
        self._printed: dict[Hashable, float] = {}

    def record(self, record: Mapping[str, Any]) -> None:
        """See :meth:`View.record`."""
        series = self._board.series(record)
        if series is None:
            line = self._board.event(record)
            if line is not None:
                self.print(line)
            return
        self._board.note(record)
        now = time.perf_counter()
        late = now - self._printed.get(series, -1e9) >= self._every
        if late or self._board.is_last(record):
            self._printed[series] = now
            self.print(self._board.line(record))

    def print(self, text: str) -> None:
        """See :meth:`View.print`."""
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """See :meth:`View.close`."""


class LiveView:
    """A table that is redrawn twice a second.

    Args:
        board: What to tell.
    """

    def __init__(self, board: Board) -> None:
        from rich.console import Console
        from rich.live import Live

        self._board = board
        self._live = Live(
            console=Console(),
            refresh_per_second=REFRESH_PER_SECOND,
            get_renderable=board.table,
        )
        self._live.start()

    def record(self, record: Mapping[str, Any]) -> None:
        """See :meth:`View.record`."""
        if self._board.series(record) is not None:
            self._board.note(record)
            return
        line = self._board.event(record)
        if line is not None:
            self.print(line)

    def print(self, text: str) -> None:
        """See :meth:`View.print`."""
        self._live.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """See :meth:`View.close`."""
        self._live.refresh()
        self._live.stop()


class LastingView:
    """A view that ends, and not the run, when nobody reads any more: a closed pipe or terminal.

    Args:
        view: What to show as long as it can be shown.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    def record(self, record: Mapping[str, Any]) -> None:
        """See :meth:`View.record`."""
        with self._alone_if_lost():
            self._view.record(record)

    def print(self, text: str) -> None:
        """See :meth:`View.print`."""
        with self._alone_if_lost():
            self._view.print(text)

    def close(self) -> None:
        """See :meth:`View.close`."""
        with self._alone_if_lost():
            self._view.close()

    @contextmanager
    def _alone_if_lost(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._view = NoView()
            _forget_stdout()


def tell(text: str) -> None:
    """Print a text before or after a run; nobody need read it."""
    try:
        print(text, flush=True)
    except OSError:
        _forget_stdout()


def _forget_stdout() -> None:
    """Let all that is printed from now on go nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def make_view(kind: str, board: Board) -> View:
    """Return the view that ``log.view`` asks for.

    Args:
        kind: ``live``, ``plain``, ``none``, or ``auto``, which is live on a terminal.
        board: What to tell.
    """
    if kind == "auto":
        kind = "live" if sys.stdout.isatty() else "plain"
    if kind == "live":
        return LastingView(LiveView(board))
    return LastingView(PlainView(board, sys.stdout)) if kind == "plain" else NoView()
