"""How long the steps of a rank take, and what its members told since the last report."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

__all__ = ["Pace"]

WARM_UP = 10
"""Steps at the start that do not count for speed."""
KEPT = 2000
"""Steps whose times are kept for medians."""


class Pace:
    """Means since the last report, and the speed of the whole run."""

    def __init__(self) -> None:
        self._since: dict[int, list[tuple[float, float]]] = defaultdict(list)
        self._times: list[tuple[float, float, float]] = []
        self._kept: dict[str, deque[float]] = {
            name: deque(maxlen=KEPT) for name in ("busy", "wait")
        }
        self._done, self._counted, self._seconds = 0, 0, 0.0
        self._skip = False

    def add(self, seconds: float, figures: Mapping[str, Any], *, counts: bool = True) -> None:
        """Note a step.

        Args:
            seconds: Of all of it.
            figures: What the training told.
            counts: Whether it was nothing but a step, so that it counts for speed.
        """
        for member, loss in figures["losses"].items():
            self._since[member].append((loss, figures["accuracies"][member]))
        self._times.append((seconds, figures["busy"], figures["wait"]))
        self._done += 1
        if self._done > WARM_UP and counts and not self._skip:
            self._counted += 1
            self._seconds += seconds
            for name in self._kept:
                self._kept[name].append(figures[name])
        self._skip = False

    def pause(self) -> None:
        """Note an evaluation or a checkpoint: the next step finds cold caches."""
        self._skip = True

    def take(self) -> dict[int, dict[str, float]]:
        """Return the means of each member since this was last asked."""
        if not self._times:
            return {}
        seconds, busy, wait = (
            statistics.fmean(column) for column in zip(*self._times, strict=True)
        )
        found = {
            member: {
                "loss": statistics.fmean(loss for loss, _ in rows),
                "accuracy": statistics.fmean(accuracy for _, accuracy in rows),
                "seconds": seconds,
                "busy": busy,
                "wait_in": wait,
            }
            for member, rows in self._since.items()
        }
        self._since.clear()
        self._times.clear()
        return found

    def median(self, name: str) -> float | None:
        """Return the median seconds per step of ``busy`` or ``wait``; None if none counted."""
        return statistics.median(self._kept[name]) if self._kept[name] else None

    def images_per_second(self, batch_size: int) -> float | None:
        """Return the speed after the first steps; None if there were no more."""
        return self._counted * batch_size / self._seconds if self._seconds else None
