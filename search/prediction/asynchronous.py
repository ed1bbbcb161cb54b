"""Pipelines without a schedule, simulated: each stage works as soon as it has something to do.

Blocks with losses of their own (``feedback=False``)::

    take x -> compute and learn -> hand h on -> take ...

Features Replay and DDG (``feedback=True``); stage k of K learns from the error signal that the
stage behind it sent one step earlier, and from its step K - k on::

    take x -> compute h -> hand h on -> take the error signal -> learn -> hand on x's error signal

Two stages, forwards above, errors below; the links are those of :mod:`.link`::

    [ 1 ] ==link==> [ 2 ] ==link==> [ 3 ]
      <====link=====  <====link=====
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .clock import Clock, Process
from .link import Channel, Link, Room, Wire

__all__ = ["Course", "StageTimes", "Work", "simulate"]

WARM_UP = 4
"""The first steps fill the links: so many times the stages and the room of a link."""


@dataclass(frozen=True)
class Work:
    """What a stage has to do per step.

    Attributes:
        forward: Seconds until its output exists.
        learn: Seconds after that; without feedback, the output is handed on only then.
        out_bytes: Of a message to the stage behind it; the errors that come back are as large.
    """

    forward: float
    learn: float = 0.0
    out_bytes: float = 0.0

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.forward + self.learn


@dataclass(frozen=True)
class StageTimes:
    """How a stage spends a step on average, in seconds.

    Attributes:
        busy: Computing.
        wait_in: Waiting for an input, or for an error signal.
        wait_out: Waiting for room behind it.
    """

    busy: float
    wait_in: float
    wait_out: float


@dataclass(frozen=True)
class Course:
    """What a simulation found.

    Attributes:
        seconds: Per step, on average over the steps after the links have filled.
        stages: How each stage spends them.
        deepest: The most messages that ever waited in each link: the links forward, then those
            back.
        ends: When each step of the last stage ended.
    """

    seconds: float
    stages: tuple[StageTimes, ...]
    deepest: tuple[int, ...]
    ends: tuple[float, ...]


Factor = Callable[[int, int], float]
"""From stage and step (both from 0) to what its seconds are multiplied with."""


def _constant(stage: int, step: int) -> float:
    return 1.0


def simulate(
    stages: Sequence[Work],
    *,
    wires: Sequence[Wire | None],
    room: Room,
    feedback: bool = False,
    steps: int = 64,
    warmup: int | None = None,
    factor: Factor = _constant,
) -> Course:
    """Let the stages of a pipeline work for some steps.

    Args:
        stages: What each has to do.
        wires: Between each two neighbours; None where both are threads of one process.
        room: Of each link.
        feedback: Whether errors travel back.
        steps: Steps that count.
        warmup: Steps before those, in which the links fill; enough for that by default.
        factor: Makes a stage slower or faster in some steps.

    Raises:
        ValueError: There are not as many wires as pairs of neighbours.
    """
    if len(wires) != len(stages) - 1:
        raise ValueError(f"{len(stages)} stages have {len(stages) - 1} links, not {len(wires)}")
    if warmup is None:
        warmup = WARM_UP * len(stages) * (room.messages + 2)
    total = warmup + steps
    clock = Clock()
    pairs = list(zip(stages, wires, strict=False))
    ahead = [_link(f"link {k + 1}->{k + 2}", *pair, room) for k, pair in enumerate(pairs)]
    back = [_link(f"link {k + 2}->{k + 1}", *pair, room) for k, pair in enumerate(pairs)]
    used = [*ahead, *back] if feedback else ahead
    workers = [
        _Worker(clock, number, work, total, factor, delay=len(stages) - 1 - number)
        for number, work in enumerate(stages)
    ]
    for number, worker in enumerate(workers):
        worker.inlet = ahead[number - 1] if number else None
        worker.outlet = ahead[number] if number < len(ahead) else None
        if feedback:
            worker.errors_in = back[number] if number < len(back) else None
            worker.errors_out = back[number - 1] if number else None
        clock.start(f"stage {number + 1}", worker.run(feedback))
    for link in ahead:
        clock.start(link.name, link.carry(total))
    for number, link in enumerate(back if feedback else ()):
        clock.start(link.name, link.carry(max(0, total - workers[number + 1].delay)))
    clock.run()
    ends = workers[-1].ends
    begin = ends[warmup - 1] if warmup else 0.0
    return Course(
        (ends[-1] - begin) / steps,
        tuple(worker.times(warmup) for worker in workers),
        tuple(link.deepest for link in used),
        tuple(ends),
    )


def _link(name: str, work: Work, wire: Wire | None, room: Room) -> Link:
    if wire is None:
        return Link(name, size=work.out_bytes, room=room)
    return Channel(name, size=work.out_bytes, room=room, wire=wire)


class _Worker:
    """The loop of one stage.

    Args:
        clock: The time.
        number: The stage, from 0.
        work: What it has to do per step.
        steps: How many.
        factor: See :func:`simulate`.
        delay: Stages behind it; with feedback it first learns in the step after so many.
    """

    def __init__(
        self, clock: Clock, number: int, work: Work, steps: int, factor: Factor, *, delay: int
    ) -> None:
        self.inlet: Link | None = None
        self.outlet: Link | None = None
        self.errors_in: Link | None = None
        self.errors_out: Link | None = None
        self.delay = delay
        self.ends: list[float] = []
        self._clock = clock
        self._number = number
        self._work = work
        self._steps = steps
        self._factor = factor
        self._spent: list[dict[str, float]] = []

    def run(self, feedback: bool) -> Process:
        """Do all steps."""
        for step in range(self._steps):
            self._spent.append(dict.fromkeys(("busy", "wait_in", "wait_out"), 0.0))
            factor = self._factor(self._number, step)
            yield from self._timed("wait_in", _get(self.inlet))
            if feedback:
                yield from self._both_ways(step, factor)
            else:
                yield from self._timed("busy", _pass(self._work.seconds * factor))
                yield from self._timed("wait_out", _put(self.outlet))
            self.ends.append(self._clock.now)

    def times(self, warmup: int) -> StageTimes:
        """Return the means over the steps after ``warmup``."""
        spent = self._spent[warmup:]
        return StageTimes(
            **{key: sum(step[key] for step in spent) / len(spent) for key in spent[0]}
        )

    def _both_ways(self, step: int, factor: float) -> Process:
        yield from self._timed("busy", _pass(self._work.forward * factor))
        yield from self._timed("wait_out", _put(self.outlet))
        if step < self.delay:
            return
        yield from self._timed("wait_in", _get(self.errors_in))
        yield from self._timed("busy", _pass(self._work.learn * factor))
        yield from self._timed("wait_out", _put(self.errors_out))

    def _timed(self, what: str, process: Iterator) -> Process:
        begin = self._clock.now
        yield from process
        self._spent[-1][what] += self._clock.now - begin


def _pass(seconds: float) -> Process:
    yield seconds


def _get(link: Link | None) -> Process:
    if link is not None:
        yield from link.get()


def _put(link: Link | None) -> Process:
    if link is not None:
        yield from link.put()
