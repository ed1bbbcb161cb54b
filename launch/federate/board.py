"""The progress of a federation: round, loss, accuracy, bytes, and what it has learned so far."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..view import Board, clock, event_line
from .config import FederateConfig

__all__ = ["FederateBoard", "mebibytes", "progress_lines", "psi_lines"]


class FederateBoard(Board):
    """The newest figures.

    Args:
        name: Of the run.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._newest: Mapping[str, Any] | None = None
        self._first: tuple[int, float] | None = None
        self._accuracies: dict[str, float] = {}

    def series(self, record: Mapping[str, Any]) -> str | None:
        """Rounds are one; all else are events."""
        return "round" if record["event"] == "round" else None

    def note(self, record: Mapping[str, Any]) -> None:
        """See :meth:`Board.note`."""
        self._newest = record
        self._first = self._first or (record["step"], time.perf_counter())

    def is_last(self, record: Mapping[str, Any]) -> bool:
        """See :meth:`Board.is_last`."""
        return record["step"] == record["steps"]

    def line(self, record: Mapping[str, Any]) -> str:
        """See :meth:`Board.line`."""
        return round_line(record, self._left(record))

    def event(self, record: Mapping[str, Any]) -> str | None:
        """See :meth:`Board.event`."""
        if record["event"] == "evaluation":
            self._accuracies[record["split"]] = record["accuracies"][-1]
        return federate_event(record)

    def table(self) -> Any:
        """See :meth:`Board.table`."""
        from rich.console import Group
        from rich.table import Table

        record = self._newest
        left = clock(self._left(record) if record else None)
        table = Table(title=f"{self._name} - {left} left", title_justify="left")
        for column in ("round", "loss", "psi loss", "clients", "lost", "up", "down", "s/round"):
            table.add_column(column, justify="right")
        if record is None:
            return table
        table.add_row(
            f"{record['step']}/{record['steps']}",
            _loss(record["loss"]),
            _loss(record["psi_loss"]),
            str(record["clients"]),
            str(record["lost"]),
            mebibytes(record["bytes_up"]),
            mebibytes(record["bytes_down"]),
            f"{record['seconds']:.3g}",
        )
        told = [f"{split} accuracy {value:.2%}" for split, value in self._accuracies.items()]
        return Group(table, *told, *psi_lines(record["psi"]))

    def _left(self, record: Mapping[str, Any]) -> float | None:
        first, begin = self._first or (0, 0.0)
        done = record["step"] - first
        if done <= 0:
            return None
        return (time.perf_counter() - begin) * (record["steps"] - record["step"]) / done


def progress_lines(config: FederateConfig, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the newest round, what was learned, and the last events, for ``blockstep status``."""
    rounds = [record for record in records if record["event"] == "round"]
    lines = []
    if rounds:
        newest = rounds[-1]
        left = (newest["steps"] - newest["step"]) * newest["seconds"]
        lines = [round_line(newest, left), *psi_lines(newest["psi"])]
    events = [line for record in records if (line := federate_event(record)) is not None]
    return lines + events[-5:]


def round_line(record: Mapping[str, Any], left: float | None) -> str:
    """Return a record as a line of fixed columns."""
    lost = f", {record['lost']} lost" if record["lost"] else ""
    parts = [
        f"round {record['step']:>5}/{record['steps']}",
        f"loss {_loss(record['loss'])}",
        f"psi loss {_loss(record['psi_loss'])}",
        f"{record['clients']} clients{lost}",
        f"up {mebibytes(record['bytes_up'])}, down {mebibytes(record['bytes_down'])}",
        f"{record['seconds']:.3g} s/round",
        f"left {clock(left)}",
    ]
    return " | ".join(parts)


def federate_event(record: Mapping[str, Any]) -> str | None:
    """Return an event of a federation as a sentence; None for other records."""
    if record["event"] == "evaluation":
        accuracy = record["accuracies"][-1]
        return f"round {record['step']}: {record['split']} accuracy {accuracy:.2%}"
    return event_line(record)


def mebibytes(count: float) -> str:
    """Return bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def psi_lines(psi: Mapping[str, Sequence[float]]) -> list[str]:
    """Return a line for each module with what was learned in it.

    Args:
        psi: Numbers under ``MODULE/NAME``.
    """
    modules: dict[str, list[str]] = {}
    for key, numbers in psi.items():
        module, _, name = key.rpartition("/")
        told = " to ".join(f"{value:.3g}" for value in numbers)
        modules.setdefault(module, []).append(f"{name} {told}")
    return [f"{module}: {', '.join(parts)}" for module, parts in modules.items()]


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
