"""What the terminal shows while a run goes on: a live table, plain lines, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from .job import Job

__all__ = ["LiveView", "NoView", "PlainView", "View", "make_view", "stage_line"]

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


class NoView:
    """Shows nothing."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Drop it."""

    def print(self, text: str) -> None:
        """Drop it."""

    def close(self) -> None:
        """Do nothing."""


class Progress:
    """The newest figures of every stage, and the time that is left.

    Args:
        steps: The last step.
        start: Steps that were done before.
    """

    def __init__(self, steps: int, start: int) -> None:
        self.steps = steps
        self.stages: dict[int, Mapping[str, Any]] = {}
        self._start = start
        self._first: tuple[int, float] | None = None

    def note(self, record: Mapping[str, Any]) -> None:
        """Take a record of training."""
        self.stages[record["stage"]] = record
        if self._first is None:
            self._first = (record["step"], time.perf_counter())

    def seconds_left(self) -> float | None:
        """Return the seconds until the last stage reaches the last step."""
        done = min((record["step"] for record in self.stages.values()), default=self._start)
        if self._first is None or done <= self._first[0]:
            return None
        seconds = time.perf_counter() - self._first[1]
        return seconds * (self.steps - done) / (done - self._first[0])


def clock(seconds: float | None) -> str:
    """Return seconds as minutes:seconds or hours:minutes:seconds."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shares(record: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return the shares of time a stage computed, waited for input, waited for room."""
    parts = (record["busy"], record["wait_in"], record["wait_out"])
    total = sum(parts) or 1.0
    return parts[0] / total, parts[1] / total, parts[2] / total


def stage_line(record: Mapping[str, Any], steps: int, left: float | None) -> str:
    """Return one stage's progress as a line of fixed columns."""
    busy, wait_in, wait_out = shares(record)
    return (
        f"step {record['step']:>6}/{steps} | stage {record['stage']} | "
        f"loss {record['loss']:.4f} | acc {record['accuracy']:6.2%} | "
        f"{record['images_per_second']:8.1f} img/s | queue {record['queue_depth']} | "
        f"busy {busy:4.0%} in {wait_in:4.0%} out {wait_out:4.0%} | left {clock(left)}"
    )


def event_line(record: Mapping[str, Any]) -> str | None:
    """Return an evaluation, a checkpoint or a warning as a sentence; None for other records."""
    event = record["event"]
    if event == "evaluation":
        blocks = ", ".join(f"{accuracy:.2%}" for accuracy in record["accuracies"])
        vote = record.get("ensemble_accuracy")
        ensemble = f", last two heads together {vote:.2%}" if vote is not None else ""
        return (
            f"step {record['step']}: {record['split']} accuracy by block {blocks}{ensemble} "
            f"({record['seconds']:.1f} s)"
        )
    if event == "checkpoint":
        best = ", the best so far" if record["best"] else ""
        size = record["bytes"] / 1e6
        return f"step {record['step']}: checkpoint {record['path']} ({size:.1f} MB{best})"
    if event == "measured":
        speed = record["backprop_images_per_second"]
        return f"backpropagation on one device, measured: {speed:.1f} img/s"
    if event == "warning":
        return f"warning: {record['text']}"
    return None


class PlainView:
    """Lines, for logs and pipes: each stage at most every few seconds.

    Args:
        job: The run.
        stream: Where to print.
        every: Seconds between two lines of the same stage.
    """

    def __init__(self, job: Job, stream: TextIO, *, every: float = 5.0) -> None:
        self._progress = Progress(job.config.train.steps, job.start)
        self._stream = stream
        self._every = every
        self._printed: dict[int, float] = {}

    def record(self, record: Mapping[str, Any]) -> None:
        """See :meth:`View.record`."""
        if record["event"] != "train":
            line = event_line(record)
            if line is not None:
                self.print(line)
            return
        self._progress.note(record)
        now = time.perf_counter()
        last = record["step"] == self._progress.steps
        if last or now - self._printed.get(record["stage"], -1e9) >= self._every:
            self._printed[record["stage"]] = now
            left = self._progress.seconds_left()
            self.print(stage_line(record, self._progress.steps, left))

    def print(self, text: str) -> None:
        """See :meth:`View.print`."""
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """See :meth:`View.close`."""


class LiveView:
    """A table that is redrawn twice a second.

    Args:
        job: The run.
    """

    def __init__(self, job: Job) -> None:
        from rich.console import Console
        from rich.live import Live

        self._job = job
        self._progress = Progress(job.config.train.steps, job.start)
        self._live = Live(
            console=Console(),
            refresh_per_second=REFRESH_PER_SECOND,
            get_renderable=self._table,
        )
        self._live.start()

    def record(self, record: Mapping[str, Any]) -> None:
        """See :meth:`View.record`."""
        if record["event"] == "train":
            self._progress.note(record)
            return
        line = event_line(record)
        if line is not None:
            self.print(line)

    def print(self, text: str) -> None:
        """See :meth:`View.print`."""
        self._live.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """See :meth:`View.close`."""
        self._live.refresh()
        self._live.stop()

    def _table(self) -> Any:
        from rich.table import Table

        left = clock(self._progress.seconds_left())
        table = Table(title=f"{self._job.folder.name} - {left} left", title_justify="left")
        columns = ("stage", "step", "loss", "accuracy", "img/s", "queue", "busy", "in", "out")
        for column in columns:
            table.add_column(column, justify="right")
        for stage, record in sorted(self._progress.stages.items()):
            busy, wait_in, wait_out = shares(record)
            table.add_row(
                str(stage),
                f"{record['step']}/{self._progress.steps}",
                f"{record['loss']:.4f}",
                f"{record['accuracy']:.2%}",
                f"{record['images_per_second']:.1f}",
                str(record["queue_depth"]),
                f"{busy:.0%}",
                f"{wait_in:.0%}",
                f"{wait_out:.0%}",
            )
        return table


def make_view(job: Job) -> View:
    """Return the view that ``log.view`` asks for; ``auto`` is live on a terminal."""
    kind = job.config.log.view
    if kind == "auto":
        kind = "live" if sys.stdout.isatty() else "plain"
    if kind == "live":
        return LiveView(job)
    return PlainView(job, sys.stdout) if kind == "plain" else NoView()
