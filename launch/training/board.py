"""The progress of a training: a line and a row of the table for each stage."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..view import Board, clock, event_line

__all__ = ["TrainBoard", "progress_lines"]


class TrainBoard(Board):
    """The newest figures of every stage, and the time that is left.

    Args:
        name: Of the run.
        steps: The last step.
        start: Steps that were done before.
        replicas: How many ranks share each stage; the figures are those of the first.
    """

    def __init__(self, name: str, *, steps: int, start: int, replicas: Sequence[int] = ()) -> None:
        self._name = name
        self._replicas = replicas
        self._steps = steps
        self._start = start
        self._stages: dict[int, Mapping[str, Any]] = {}
        self._first: tuple[int, float] | None = None

    def series(self, record: Mapping[str, Any]) -> int | None:
        """Each stage has its own."""
        return record["stage"] if record["event"] == "train" else None

    def note(self, record: Mapping[str, Any]) -> None:
        """See :meth:`Board.note`."""
        self._stages[record["stage"]] = record
        if self._first is None:
            self._first = (record["step"], time.perf_counter())

    def is_last(self, record: Mapping[str, Any]) -> bool:
        """See :meth:`Board.is_last`."""
        return record["step"] == self._steps

    def line(self, record: Mapping[str, Any]) -> str:
        """See :meth:`Board.line`."""
        return stage_line(record, self._steps, self._seconds_left(), self._replicas)

    def event(self, record: Mapping[str, Any]) -> str | None:
        """See :meth:`Board.event`."""
        return training_line(record)

    def table(self) -> Any:
        """See :meth:`Board.table`."""
        from rich.table import Table

        left = clock(self._seconds_left())
        table = Table(title=f"{self._name} - {left} left", title_justify="left")
        columns = ("stage", "step", "loss", "accuracy", "img/s", "queue", "busy", "in", "out")
        for column in columns:
            table.add_column(column, justify="right")
        for stage, record in sorted(self._stages.items()):
            busy, wait_in, wait_out = shares(record)
            table.add_row(
                stage_text(stage, self._replicas),
                f"{record['step']}/{self._steps}",
                number(record["loss"]),
                percent(record["accuracy"]),
                f"{record['images_per_second']:.1f}",
                str(record["queue_depth"]),
                f"{busy:.0%}",
                f"{wait_in:.0%}",
                f"{wait_out:.0%}",
            )
        return table

    def _seconds_left(self) -> float | None:
        """Return the seconds until the last stage reaches the last step."""
        done = min((record["step"] for record in self._stages.values()), default=self._start)
        if self._first is None or done <= self._first[0]:
            return None
        seconds = time.perf_counter() - self._first[1]
        return seconds * (self._steps - done) / (done - self._first[0])


def progress_lines(
    records: Sequence[Mapping[str, Any]], *, steps: int, replicas: Sequence[int] = ()
) -> list[str]:
    """Return the newest line of each stage and the last events, for ``blockstep status``."""
    newest = {record["stage"]: record for record in records if record["event"] == "train"}
    lines = [stage_line(record, steps, None, replicas) for _, record in sorted(newest.items())]
    events = [line for record in records if (line := training_line(record)) is not None]
    return lines + events[-5:]


def shares(record: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return the shares of time a stage computed, waited for input, waited for room.

    The rest, if there is one, it learned again.
    """
    parts = (record["busy"], record["wait_in"], record["wait_out"])
    total = sum(parts) + record.get("replay", 0.0) or 1.0
    return parts[0] / total, parts[1] / total, parts[2] / total


def number(value: float | None) -> str:
    """Return a loss; a dash for a block without one."""
    return "-" if value is None else f"{value:.4f}"


def percent(value: float | None) -> str:
    """Return an accuracy; a dash for a block without a head."""
    return "-" if value is None else f"{value:.2%}"


def stage_text(stage: int, replicas: Sequence[int]) -> str:
    """Return the number of a stage, and of how many replicas it is where there are several."""
    count = replicas[stage - 1] if stage <= len(replicas) else 1
    return str(stage) if count == 1 else f"{stage} ({count} replicas)"


def stage_line(
    record: Mapping[str, Any], steps: int, left: float | None, replicas: Sequence[int] = ()
) -> str:
    """Return one stage's progress as a line of fixed columns."""
    busy, wait_in, wait_out = shares(record)
    return (
        f"step {record['step']:>6}/{steps} | stage {stage_text(record['stage'], replicas)} | "
        f"loss {number(record['loss']):>6} | acc {percent(record['accuracy']):>6} | "
        f"{record['images_per_second']:8.1f} img/s | queue {record['queue_depth']} | "
        f"busy {busy:4.0%} in {wait_in:4.0%} out {wait_out:4.0%}{_replayed(record)} | "
        f"left {clock(left)}"
    )


def _replayed(record: Mapping[str, Any]) -> str:
    """Return how many batches a stage learned from again, if it may."""
    return f" again {record['replayed']}" if "replayed" in record else ""


def training_line(record: Mapping[str, Any]) -> str | None:
    """Return an event of a training as a sentence; None for other records."""
    if record["event"] == "evaluation":
        blocks = ", ".join(percent(accuracy) for accuracy in record["accuracies"])
        vote = record.get("ensemble_accuracy")
        ensemble = f", last two heads together {vote:.2%}" if vote is not None else ""
        return (
            f"step {record['step']}: {record['split']} accuracy by block {blocks}{ensemble} "
            f"({record['seconds']:.1f} s)"
        )
    if record["event"] == "measured":
        speed = record["backprop_images_per_second"]
        return f"backpropagation on one device, measured: {speed:.1f} img/s"
    return event_line(record)
