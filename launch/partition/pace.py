"""How fast a rank's steps follow each other, and how much of that it waits."""

from __future__ import annotations

import time
from collections.abc import Sequence

__all__ = ["Pace"]

WARM_UP_STEPS = 10
"""Steps at the start that do not count: memory is found, links fill."""


class Pace:
    """Seconds of the steps of one rank, without evaluations and checkpoints.

    Args:
        start: Steps that were done before.
    """

    def __init__(self, start: int) -> None:
        self._first = start + WARM_UP_STEPS
        self._last, self._used = time.perf_counter(), time.process_time()
        self._waited = 0.0
        # Steps, seconds, seconds of them waited, and seconds of processors.
        self._total = [0, 0.0, 0.0, 0.0]
        self._since = [0, 0.0, 0.0, 0.0]

    def step(self, step: int, waited: float) -> None:
        """Note the end of a step.

        Args:
            step: Its number.
            waited: All seconds that this rank has waited so far.
        """
        now, used = time.perf_counter(), time.process_time()
        row = (1, now - self._last, waited - self._waited, used - self._used)
        self._last, self._used, self._waited = now, used, waited
        _add(self._since, row)
        if step > self._first:
            _add(self._total, row)

    def resume(self, waited: float) -> None:
        """Note that what has passed since the last step, and was waited in it, is of no step."""
        self._last, self._used = time.perf_counter(), time.process_time()
        self._waited = waited

    def interval(self, batch_size: int) -> dict[str, float | None]:
        """Return the speed since the last call."""
        figures = _figures(self._since, batch_size)
        self._since = [0, 0.0, 0.0, 0.0]
        return figures

    def totals(self, batch_size: int) -> dict[str, float | None]:
        """Return the speed after the warm-up; null where nothing was measured.

        ``cpu`` are the seconds that processors worked per step, whatever else the machine did.
        """
        steps, used = self._total[0], self._total[3]
        return {**_figures(self._total, batch_size), "cpu": used / steps if steps else None}


def _add(sums: list[float], row: Sequence[float]) -> None:
    for place, value in enumerate(row):
        sums[place] += value


def _figures(sums: list[float], batch_size: int) -> dict[str, float | None]:
    steps, seconds, waited, _ = sums
    if not steps or not seconds:
        return {"images_per_second": None, "busy": None, "wait_in": None}
    return {
        "images_per_second": steps * batch_size / seconds,
        "busy": (seconds - waited) / steps,
        "wait_in": waited / steps,
    }
