"""The progress of a search: phase, step, loss, time left, and what it would decide now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...search.decoupling import head_name
from ...search.discretization import best_heads, cut_weights, discretize, ties
from ..view import Board, clock, event_line
from .config import SearchConfig

__all__ = ["SearchBoard", "progress_lines"]

PHASES = {"pretrain": "pretraining", "search": "search"}
BARS = "▁▂▃▄▅▆▇█"


class SearchBoard(Board):
    """The newest figures of each phase.

    Args:
        name: Of the run.
        config: The search.
    """

    def __init__(self, name: str, config: SearchConfig) -> None:
        self._name = name
        self._config = config
        self._newest: dict[str, Mapping[str, Any]] = {}
        self._first: dict[str, tuple[int, float]] = {}

    def series(self, record: Mapping[str, Any]) -> str | None:
        """Each phase has its own."""
        return record["event"] if record["event"] in PHASES else None

    def note(self, record: Mapping[str, Any]) -> None:
        """See :meth:`Board.note`."""
        self._newest[record["event"]] = record
        self._first.setdefault(record["event"], (record["step"], time.perf_counter()))

    def is_last(self, record: Mapping[str, Any]) -> bool:
        """See :meth:`Board.is_last`."""
        return record["step"] == record["steps"]

    def line(self, record: Mapping[str, Any]) -> str:
        """See :meth:`Board.line`."""
        return record_line(record, self._config, self._seconds_left(record))

    def event(self, record: Mapping[str, Any]) -> str | None:
        """See :meth:`Board.event`."""
        return search_event_line(record)

    def table(self) -> Any:
        """See :meth:`Board.table`."""
        from rich.console import Group
        from rich.table import Table

        record = self._newest.get("search") or self._newest.get("pretrain")
        left = clock(self._seconds_left(record) if record else None)
        phase = PHASES[record["event"]] if record else "search"
        table = Table(title=f"{self._name} - {left} of the {phase} left", title_justify="left")
        for column in ("phase", "step", "loss", "accuracy", "s/step"):
            table.add_column(column, justify="right")
        for event, newest in self._newest.items():
            table.add_row(
                PHASES[event],
                f"{newest['step']}/{newest['steps']}",
                _loss(newest),
                _percent(newest.get("accuracy")),
                _seconds(newest),
            )
        return Group(table, *self._found())

    def _found(self) -> list[str]:
        record = self._newest.get("search")
        if record is None:
            return []
        return [_bars(record["alpha"]), now(record, self._config)]

    def _seconds_left(self, record: Mapping[str, Any]) -> float | None:
        """Return the seconds until the end of the record's phase."""
        first, begin = self._first.get(record["event"], (0, 0.0))
        done = record["step"] - first
        if done <= 0:
            return None
        return (time.perf_counter() - begin) * (record["steps"] - record["step"]) / done


def progress_lines(config: SearchConfig, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the newest line of each phase and the last events, for ``blockstep status``."""
    newest = {record["event"]: record for record in records if record["event"] in PHASES}
    lines = []
    for record in newest.values():
        seconds = record.get("seconds")
        left = (record["steps"] - record["step"]) * seconds if seconds else None
        lines.append(record_line(record, config, left))
    events = [line for record in records if (line := search_event_line(record)) is not None]
    return lines + events[-5:]


def record_line(record: Mapping[str, Any], config: SearchConfig, left: float | None) -> str:
    """Return a record of either phase as a line of fixed columns."""
    phase, accuracy = PHASES[record["event"]], _percent(record.get("accuracy"))
    parts = [
        f"{phase:>11} {record['step']:>6}/{record['steps']}",
        f"loss {_loss(record)}",
        f"acc {accuracy:>6}",
        f"{_seconds(record):>6} s/step",
    ]
    if record["event"] == "search":
        parts.append(now(record, config))
        if record["skipped"]:
            parts.append(f"{record['skipped']} gradients skipped")
        if record["lost"]:
            parts.append(f"{record['lost']} steps undone")
    return " | ".join([*parts, f"left {clock(left)}"])


def now(record: Mapping[str, Any], config: SearchConfig) -> str:
    """Return what the search would decide after the record's step, for ``blocks``."""
    alpha, beta, heads = record["alpha"], record["beta"], config.search.heads
    found = discretize(alpha, beta, network="-", heads=heads, blocks=config.blocks)
    best = best_heads(beta)
    cuts = ", ".join(f"{cut} {head_name(heads[best[cut - 1]])}" for cut in found.cuts)
    tie = " (a tie)" if config.blocks in ties(alpha) else ""
    return f"K={config.blocks}: {cuts}{tie}"


def search_event_line(record: Mapping[str, Any]) -> str | None:
    """Return an event of a search as a sentence; None for other records."""
    if record["event"] == "profiled":
        return f"layers and heads timed: backpropagation takes {record['seconds']:.3g} s per step"
    return event_line(record)


def _bars(alpha: Sequence[Sequence[float]]) -> str:
    """Draw softmaxed alpha_1 of every layer, between the smallest and the largest."""
    weights = cut_weights(alpha)
    low, high = min(weights), max(weights)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    bars = "".join(BARS[round((weight - low) * scale)] for weight in weights)
    return f"softmaxed alpha of layers 1-{len(weights)}: {bars} ({low:.3f} to {high:.3f})"


def _loss(record: Mapping[str, Any]) -> str:
    return "-" if record["loss"] is None else f"{record['loss']:.4f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _seconds(record: Mapping[str, Any]) -> str:
    seconds = record.get("seconds")
    return "-" if seconds is None else f"{seconds:.3g}"
