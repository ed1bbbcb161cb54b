"""The progress of an ensemble: a line and a row of the table for each member."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..view import Board, clock, event_line
from .config import SuperWeightConfig

__all__ = ["EnsembleBoard", "progress_lines"]

PHASES = {"first": "learning what to share", "main": "training"}


class EnsembleBoard(Board):
    """The newest figures of every member, and the time that is left.

    Args:
        name: Of the run.
        names: The members.
        steps: The last step.
    """

    def __init__(self, name: str, names: Sequence[str], *, steps: int) -> None:
        self._name, self._names, self._steps = name, names, steps
        self._newest: dict[int, Mapping[str, Any]] = {}
        self._first: tuple[int, float] | None = None

    def series(self, record: Mapping[str, Any]) -> int | None:
        """Each member has its own."""
        return record["stage"] if record["event"] == "train" else None

    def note(self, record: Mapping[str, Any]) -> None:
        """See :meth:`Board.note`."""
        self._newest[record["stage"]] = record
        if self._first is None:
            self._first = (record["step"], time.perf_counter())

    def is_last(self, record: Mapping[str, Any]) -> bool:
        """See :meth:`Board.is_last`."""
        return record["step"] == self._steps

    def line(self, record: Mapping[str, Any]) -> str:
        """See :meth:`Board.line`."""
        left = clock(self._seconds_left(record))
        return f"{member_line(record, self._names, self._steps)} | left {left}"

    def event(self, record: Mapping[str, Any]) -> str | None:
        """See :meth:`Board.event`."""
        return ensemble_line(record)

    def table(self) -> Any:
        """See :meth:`Board.table`."""
        from rich.table import Table

        newest = max(self._newest.values(), key=lambda one: one["step"], default=None)
        left = clock(self._seconds_left(newest) if newest else None)
        table = Table(title=f"{self._name} - {left} left", title_justify="left")
        for column in ("member", "phase", "step", "loss", "accuracy", "img/s"):
            table.add_column(column, justify="right")
        for member, record in sorted(self._newest.items()):
            table.add_row(
                f"{member} {_named(member, self._names)}",
                PHASES[record["phase"]],
                f"{record['step']}/{self._steps}",
                f"{record['loss']:.4f}",
                f"{record['accuracy']:.2%}",
                f"{record['images_per_second']:.1f}",
            )
        return table

    def _seconds_left(self, record: Mapping[str, Any]) -> float | None:
        if self._first is None or record["step"] <= self._first[0]:
            return None
        seconds, done = time.perf_counter() - self._first[1], record["step"] - self._first[0]
        return seconds * (self._steps - record["step"]) / done


def progress_lines(config: SuperWeightConfig, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the newest line of each member and the last events, for ``blockstep status``."""
    newest = {record["stage"]: record for record in records if record["event"] == "train"}
    lines = [member_line(record, (), None) for _, record in sorted(newest.items())]
    events = [line for record in records if (line := ensemble_line(record)) is not None]
    return lines + events[-5:]


def member_line(record: Mapping[str, Any], names: Sequence[str], steps: int | None) -> str:
    """Return a record of a member as a line of fixed columns."""
    last = "" if steps is None else f"/{steps}"
    name = f" {_named(record['stage'], names)}" if names else ""
    return " | ".join(
        [
            f"member {record['stage']}{name}",
            f"{PHASES[record['phase']]} {record['step']:>6}{last}",
            f"loss {record['loss']:.4f}",
            f"acc {record['accuracy']:>6.2%}",
            f"{record['images_per_second']:.1f} img/s",
        ]
    )


def ensemble_line(record: Mapping[str, Any]) -> str | None:
    """Return an event of an ensemble as a sentence; None for what is not told."""
    event = record["event"]
    if event == "evaluation":
        members = ", ".join(f"{one:.2%}" for one in record["accuracies"])
        return (
            f"step {record['step']}: {record['split']} accuracy of the ensemble "
            f"{record['ensemble_accuracy']:.2%}, NLL {record['nll']:.4f}, ECE {record['ece']:.2%} "
            f"(members {members})"
        )
    if event == "shared":
        tau = "undivided" if record["tau"] is None else f"tau {record['tau']:g}"
        return (
            f"step {record['step']}: {record['before']} clusters became {record['clusters']} "
            f"({tau}); all begins anew"
        )
    if event == "unshared":
        return (
            f"step {record['step']}: {record['weights']} weights have {record['groups']} sets of "
            "coefficients from now on"
        )
    return event_line(record)


def _named(member: int, names: Sequence[str]) -> str:
    return names[member - 1] if member <= len(names) else ""
