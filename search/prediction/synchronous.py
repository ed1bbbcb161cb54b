"""Pipelines that follow a schedule, simulated: micro-batches forward and back, then one update.

A message leaves when it was sent and, where receives are posted only when they are needed, when
its receiver has come to it; so travelling shows as waiting on both sides. Messages between the
same two ranks travel one after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .clock import Clock, Process
from .link import Wire
from .schedule import Action, Step, chunks_per_rank, program

__all__ = ["Flushed", "Part", "follow"]

WARM_UP = 2
"""Training steps before those that count: the ranks begin together, but do not end together."""

_ARRIVALS = {
    Action.RECEIVE_FORWARD: (Action.SEND_FORWARD, -1),
    Action.RECEIVE_BACKWARD: (Action.SEND_BACKWARD, 1),
    Action.WAIT_FORWARD: (Action.SEND_FORWARD, 0),
    Action.WAIT_BACKWARD: (Action.SEND_BACKWARD, 0),
}
"""Which send an action waits for, and of which stage relative to its own."""


@dataclass(frozen=True)
class Part:
    """What a stage costs.

    Attributes:
        forward: Seconds per micro-batch.
        backward: Likewise.
        update: Seconds per step after the last micro-batch.
        out_bytes: Of its output for a micro-batch, and of the gradient that comes back.
    """

    forward: float
    backward: float
    update: float = 0.0
    out_bytes: float = 0.0


@dataclass(frozen=True)
class Flushed:
    """What a simulation found.

    Attributes:
        seconds: Per training step.
        busy: For each rank, seconds per step in which it computes.
    """

    seconds: float
    busy: tuple[float, ...]


def follow(
    schedule: str, stages: Sequence[Part], *, parts: int, wire: Wire, steps: int = 4
) -> Flushed:
    """Let ranks follow a schedule for some training steps.

    Args:
        schedule: ``gpipe``, ``1f1b`` or ``interleaved_1f1b``.
        stages: What each costs; the interleaved schedule has two per rank.
        parts: Micro-batches.
        wire: Between each two ranks.
        steps: Training steps that count.

    Raises:
        ValueError: The stages cannot be divided over ranks, or the schedule cannot have so many
            micro-batches.
    """
    chunks = chunks_per_rank(schedule)
    if len(stages) % chunks:
        raise ValueError(f"{schedule} has {chunks} stages per rank, so not {len(stages)} in all")
    ranks = len(stages) // chunks
    run = _Run(schedule, stages, ranks, parts, wire, WARM_UP + steps)
    ends = run.ends()
    seconds = (ends[-1] - ends[WARM_UP - 1]) / steps
    busy = [sum(map(_busy(parts), stages[rank::ranks])) for rank in range(ranks)]
    return Flushed(seconds, tuple(busy))


def _busy(parts: int):
    return lambda stage: parts * (stage.forward + stage.backward) + stage.update


class _Run:
    """The ranks with what lies between them."""

    def __init__(
        self, schedule: str, stages: Sequence[Part], ranks: int, parts: int, wire: Wire, steps: int
    ) -> None:
        self._schedule, self._stages, self._ranks = schedule, stages, ranks
        self._parts, self._wire, self._steps = parts, wire, steps
        # Receives that wait where they stand are posted there; others long before.
        self._meets = schedule != "interleaved_1f1b"
        self._clock = Clock()
        self._sent: defaultdict[tuple[int, int], list[tuple[Step, int]]] = defaultdict(list)
        self._wanted: set[tuple[Step, int]] = set()
        self._arrived: set[tuple[Step, int]] = set()
        self._ends = [[0.0] * steps for _ in range(ranks)]

    def ends(self) -> list[float]:
        """Return when each training step was over on all ranks."""
        programs = [
            program(self._schedule, rank, ranks=self._ranks, parts=self._parts)
            for rank in range(self._ranks)
        ]
        counts: defaultdict[tuple[int, int], int] = defaultdict(int)
        for steps in programs:
            for step in steps:
                if step.action in (Action.SEND_FORWARD, Action.SEND_BACKWARD):
                    counts[self._way(step)] += self._steps
        for rank, steps in enumerate(programs):
            self._clock.start(f"rank {rank}", self._rank(rank, steps))
        for way, count in counts.items():
            self._clock.start(f"wire {way[0]}->{way[1]}", self._carry(way, count))
        self._clock.run()
        return [max(times) for times in zip(*self._ends, strict=True)]

    def _way(self, sent: Step) -> tuple[int, int]:
        """Return from which rank to which a message goes."""
        target = sent.stage + (1 if sent.action == Action.SEND_FORWARD else -1)
        return sent.stage % self._ranks, target % self._ranks

    def _rank(self, rank: int, steps: Sequence[Step]) -> Process:
        own = self._stages[rank :: self._ranks]
        for turn in range(self._steps):
            for step in steps:
                stage = self._stages[step.stage]
                if step.action == Action.FORWARD:
                    yield stage.forward
                elif step.action == Action.BACKWARD:
                    yield stage.backward
                elif step.action in (Action.SEND_FORWARD, Action.SEND_BACKWARD):
                    self._sent[self._way(step)].append((step, turn))
                else:
                    send, offset = _ARRIVALS[step.action]
                    message = Step(send, step.stage + offset, step.part), turn
                    if offset:
                        self._wanted.add(message)
                    yield lambda message=message: message in self._arrived
            yield sum(stage.update for stage in own)
            self._ends[rank][turn] = self._clock.now

    def _carry(self, way: tuple[int, int], count: int) -> Process:
        queue = self._sent[way]
        for number in range(count):
            yield lambda number=number: len(queue) > number
            message = queue[number]
            if self._meets:
                yield lambda message=message: message in self._wanted
            yield self._wire.seconds(self._size(message[0]))
            self._arrived.add(message)

    def _size(self, sent: Step) -> float:
        """A gradient is as large as the output that it belongs to."""
        back = 0 if sent.action == Action.SEND_FORWARD else 1
        return self._stages[sent.stage - back].out_bytes
