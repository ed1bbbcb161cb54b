"""Where a stage's time went: every step while few, aggregates afterwards, never without bound."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FIRST_STEPS", "LAST_STEPS", "StepTimes", "Timeline"]

FIRST_STEPS = 200
LAST_STEPS = 2000
MAX_AGGREGATES = 256
MAX_MARKS = 2000


@dataclass(frozen=True)
class StepTimes:
    """One turn of a worker's loop.

    Attributes:
        step: Training step.
        begin: When the worker began to look for its input (seconds, monotonic clock).
        wait_in: Seconds it waited for input.
        busy: Seconds it computed.
        wait_out: Seconds it waited for room.
        replay: Seconds it learned again, before it waited.
    """

    step: int
    begin: float
    wait_in: float
    busy: float
    wait_out: float
    replay: float = 0.0

    @property
    def seconds(self) -> float:
        """Length of the turn."""
        return self.replay + self.wait_in + self.busy + self.wait_out


@dataclass
class Aggregate:
    """Consecutive steps, added up."""

    first: int
    last: int
    begin: float
    wait_in: float = 0.0
    busy: float = 0.0
    wait_out: float = 0.0
    replay: float = 0.0

    @classmethod
    def of(cls, times: StepTimes) -> Aggregate:
        """Begin with one step."""
        parts = (times.wait_in, times.busy, times.wait_out, times.replay)
        return cls(times.step, times.step, times.begin, *parts)

    def absorb(self, other: Aggregate) -> None:
        """Add the steps that follow."""
        self.last = other.last
        self.wait_in += other.wait_in
        self.busy += other.busy
        self.wait_out += other.wait_out
        self.replay += other.replay


@dataclass(frozen=True)
class Mark:
    """A span that is not a step: an evaluation or a checkpoint."""

    name: str
    step: int
    begin: float
    seconds: float


@dataclass
class Timeline:
    """The spans of one stage: the first 200 steps, the last 2,000, and sums of those between."""

    first: list[StepTimes] = field(default_factory=list)
    last: deque[StepTimes] = field(default_factory=lambda: deque(maxlen=LAST_STEPS))
    aggregates: list[Aggregate] = field(default_factory=list)
    marks: deque[Mark] = field(default_factory=lambda: deque(maxlen=MAX_MARKS))
    _width: int = 1

    def add(self, times: StepTimes) -> None:
        """Note one step."""
        if len(self.first) < FIRST_STEPS:
            self.first.append(times)
            return
        if len(self.last) == LAST_STEPS:
            self._aggregate(self.last[0])
        self.last.append(times)

    def mark(self, name: str, *, step: int, begin: float, seconds: float) -> None:
        """Note an evaluation or a checkpoint."""
        self.marks.append(Mark(name, step, begin, seconds))

    def median_busy(self, *, skip: int = 10) -> float | None:
        """Return the median seconds of computing per step, of the steps still kept.

        Args:
            skip: First steps to leave out: they warm up.
        """
        times = [times.busy for times in self._kept() if times.step > skip]
        return statistics.median(times) if times else None

    def mean_waits(self, *, skip: int = 10) -> tuple[float | None, float | None]:
        """Return the mean seconds per step of waiting for input and for room, likewise."""
        kept = [times for times in self._kept() if times.step > skip]
        if not kept:
            return None, None
        wait_in = sum(times.wait_in for times in kept) / len(kept)
        wait_out = sum(times.wait_out for times in kept) / len(kept)
        return wait_in, wait_out

    def events(self, stage: int, *, replica: int = 1) -> list[dict[str, Any]]:
        """Return the spans as complete events of the Chrome trace format (microseconds).

        A stage is a process there, and each of its replicas a thread, from 0.
        """
        events: list[dict[str, Any]] = []

        def span(name: str, begin: float, seconds: float, step: Any) -> None:
            if seconds > 0:
                events.append(
                    {
                        "name": name,
                        "ph": "X",
                        "ts": round(begin * 1e6, 1),
                        "dur": round(seconds * 1e6, 1),
                        "pid": stage,
                        "tid": replica - 1,
                        "args": {"step": step},
                    }
                )

        for part in (*self.aggregates, *self._kept()):
            step = part.step if isinstance(part, StepTimes) else f"{part.first}-{part.last}"
            begin = part.begin
            for name in ("replay", "wait_in", "busy", "wait_out"):
                seconds = getattr(part, name)
                span(name, begin, seconds, step)
                begin += seconds
        for mark in self.marks:
            span(mark.name, mark.begin, mark.seconds, mark.step)
        return sorted(events, key=lambda event: event["ts"])

    def _kept(self) -> Iterator[StepTimes]:
        yield from self.first
        yield from self.last

    def _aggregate(self, times: StepTimes) -> None:
        """Add a step to the sums; when there are too many sums, join them two by two."""
        newest = self.aggregates[-1] if self.aggregates else None
        if newest is not None and newest.last - newest.first + 1 < self._width:
            newest.absorb(Aggregate.of(times))
            return
        if len(self.aggregates) == MAX_AGGREGATES:
            for left, right in zip(self.aggregates[::2], self.aggregates[1::2], strict=True):
                left.absorb(right)
            self.aggregates = self.aggregates[::2]
            self._width *= 2
        self.aggregates.append(Aggregate.of(times))
