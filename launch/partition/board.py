"""The progress of a partitioned training: losses of each rank, L_ML, what psi is now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..nested import leaves
from ..view import Board, clock, event_line
from .config import PartitionConfig

__all__ = ["PartitionBoard", "progress_lines", "psi_words"]

MOST = 8
"""So many numbers of psi are told in a line."""


class PartitionBoard(Board):
    """The newest figures of each rank.

    Args:
        name: Of the run.
        steps: The last step.
        start: Steps that were done before.
    """

    def __init__(self, name: str, *, steps: int, start: int) -> None:
        self._name = name
        self._steps = steps
        self._start = start
        self._ranks: dict[int, Mapping[str, Any]] = {}
        self._newest: Mapping[str, Any] | None = None
        self._first: tuple[int, float] | None = None

    def series(self, record: Mapping[str, Any]) -> int | None:
        """Each rank has its own."""
        return record["rank"] if record["event"] == "partition" else None

    def note(self, record: Mapping[str, Any]) -> None:
        """See :meth:`Board.note`."""
        self._ranks[record["rank"]] = record
        self._first = self._first or (record["step"], time.perf_counter())

    def is_last(self, record: Mapping[str, Any]) -> bool:
        """See :meth:`Board.is_last`."""
        return record["step"] == self._steps

    def line(self, record: Mapping[str, Any]) -> str:
        """See :meth:`Board.line`."""
        return rank_line(record, self._steps, self._seconds_left())

    def event(self, record: Mapping[str, Any]) -> str | None:
        """See :meth:`Board.event`."""
        if record["event"] == "objective":
            self._newest = record
        return partition_event(record)

    def table(self) -> Any:
        """See :meth:`Board.table`."""
        from rich.console import Group
        from rich.table import Table

        left = clock(self._seconds_left())
        table = Table(title=f"{self._name} - {left} left", title_justify="left")
        for column in ("rank", "step", "loss", "loss of psi", "img/s", "busy", "psi age"):
            table.add_column(column, justify="right")
        for rank, record in sorted(self._ranks.items()):
            table.add_row(
                str(rank),
                f"{record['step']}/{self._steps}",
                _number(record["loss"]),
                _number(record["hyper_loss"]),
                _number(record["images_per_second"], ".1f"),
                _number(_busy(record), ".0%"),
                _number(record["psi_age"], ".2f"),
            )
        told = [partition_event(self._newest) or ""] if self._newest else []
        return Group(table, *told)

    def _seconds_left(self) -> float | None:
        done = min((record["step"] for record in self._ranks.values()), default=self._start)
        if self._first is None or done <= self._first[0]:
            return None
        seconds = time.perf_counter() - self._first[1]
        return seconds * (self._steps - done) / (done - self._first[0])


def progress_lines(config: PartitionConfig, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the newest line of each rank and the last events, for ``blockstep status``."""
    newest = {record["rank"]: record for record in records if record["event"] == "partition"}
    lines = [rank_line(one, config.train.steps, None) for _, one in sorted(newest.items())]
    events = [line for record in records if (line := partition_event(record)) is not None]
    return lines + events[-5:]


def rank_line(record: Mapping[str, Any], steps: int, left: float | None) -> str:
    """Return what a rank told as a line of fixed columns."""
    parts = [
        f"rank {record['rank']} {record['step']:>6}/{steps}",
        f"loss {_number(record['loss']):>7}",
        f"of psi {_number(record['hyper_loss']):>7}",
        f"{_number(record['images_per_second'], '.1f'):>8} img/s",
        f"busy {_number(_busy(record), '.0%')}",
    ]
    return " | ".join([*parts, f"left {clock(left)}"])


def partition_event(record: Mapping[str, Any]) -> str | None:
    """Return an event of a partitioned training as a sentence; None for other records."""
    if record["event"] != "objective":
        return event_line(record)
    accuracies = ", ".join(
        f"{split} accuracy {found['accuracy']:.2%}" for split, found in record["splits"].items()
    )
    words = psi_words(record["psi"])
    psi = f"; psi: {words}" if words else ""
    objective = record["objective"]
    likelihood = "" if objective is None else f"L_ML {objective:.2f} nats, "
    return f"step {record['step']}: {likelihood}{accuracies}{psi}"


def psi_words(course: Mapping[str, Any]) -> str:
    """Return what was found in few words; of long lists how far they reach."""
    told = []
    for name, value in list(course.items())[:MOST]:
        if not isinstance(value, list):
            told.append(f"{name} {value:.4g}")
        elif len(value) == 2 and not isinstance(value[0], list):
            told.append(f"{name} {value[0]:.4g} to {value[1]:.4g}")
        else:
            flat = [float(one) for one in leaves(value)]
            told.append(f"{name} of {len(flat)} numbers, {min(flat):.3g} to {max(flat):.3g}")
    more = len(course) - MOST
    return ", ".join([*told, f"and {more} more"] if more > 0 else told)


def _busy(record: Mapping[str, Any]) -> float | None:
    busy, wait = record["busy"], record["wait_in"]
    return None if busy is None or not busy + wait else busy / (busy + wait)


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)
