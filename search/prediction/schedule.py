"""What each rank of a synchronous pipeline does, in order: GPipe, 1F1B and interleaved 1F1B.

    K = 2 stages, n = 4 micro-batches; F forward, B backward, . idle (the bubble)

    gpipe      F1 F2 F3 F4 .  .  B1 B2 B3 B4      keeps all micro-batches' activations
               .  F1 F2 F3 F4 B1 B2 B3 B4 .
    1f1b       F1 F2 .  B1 F3 B2 F4 B3 .  B4      keeps those of at most K
               .  F1 B1 F2 B2 F3 B3 F4 B4 .

The orders of ``torch.distributed.pipelining`` (2.13), with its habits of communication: GPipe
waits for what it has sent only after all of its forwards and all of its backwards; 1F1B begins a
computation once its receive and the send before it are both done; the interleaved schedule posts
receives ahead of time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

__all__ = ["SCHEDULES", "Action", "Program", "Step", "chunks_per_rank", "most_alive", "program"]


class Action(Enum):
    """One thing that a rank does for a micro-batch of a stage."""

    FORWARD = "forward"
    BACKWARD = "backward"
    SEND_FORWARD = "send activations"
    SEND_BACKWARD = "send gradients"
    RECEIVE_FORWARD = "receive activations"
    RECEIVE_BACKWARD = "receive gradients"
    WAIT_FORWARD = "wait until its activations have left"
    WAIT_BACKWARD = "wait until its gradients have left"


@dataclass(frozen=True)
class Step:
    """An entry of a rank's program.

    Attributes:
        action: What is done.
        stage: Of which stage, from 0.
        part: For which micro-batch, from 0.
    """

    action: Action
    stage: int
    part: int


Program = tuple[Step, ...]
"""What one rank does in one training step, in order."""


def chunks_per_rank(schedule: str) -> int:
    """Return how many stages each rank has."""
    return 2 if schedule == "interleaved_1f1b" else 1


def program(schedule: str, rank: int, *, ranks: int, parts: int) -> Program:
    """Return what a rank does in one training step.

    The first stage receives no activations, the last no gradients.

    Args:
        schedule: One of :data:`SCHEDULES`.
        rank: From 0. Its stages are rank, rank + ranks, ...
        ranks: How many there are.
        parts: Micro-batches.

    Raises:
        ValueError: There is no such schedule, or it cannot have so many micro-batches.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule {schedule!r}: must be one of {', '.join(SCHEDULES)}")
    least = 1 if schedule == "gpipe" else ranks
    if parts < least or (schedule == "interleaved_1f1b" and parts % ranks):
        wanted = f"at least {least}" if schedule != "interleaved_1f1b" else f"a multiple of {ranks}"
        raise ValueError(f"{schedule} over {ranks} ranks has {wanted} micro-batches, not {parts}")
    last = ranks * chunks_per_rank(schedule) - 1
    steps = SCHEDULES[schedule](rank, ranks, parts)
    return tuple(step for step in steps if _exists(step, last))


def most_alive(steps: Program, sizes: Mapping[int, float]) -> float:
    """Return the most bytes that the micro-batches between forward and backward keep at a time.

    Args:
        steps: A rank's program.
        sizes: For each of its stages, bytes that autograd keeps for a micro-batch.
    """
    alive = most = 0.0
    for step in steps:
        if step.action == Action.FORWARD:
            alive += sizes[step.stage]
            most = max(most, alive)
        elif step.action == Action.BACKWARD:
            alive -= sizes[step.stage]
    return most


def _exists(step: Step, last: int) -> bool:
    """Whether the stage has the neighbour that an action needs."""
    before = (Action.RECEIVE_FORWARD, Action.SEND_BACKWARD, Action.WAIT_BACKWARD)
    behind = (Action.RECEIVE_BACKWARD, Action.SEND_FORWARD, Action.WAIT_FORWARD)
    if step.action in before:
        return step.stage > 0
    return step.action not in behind or step.stage < last


def _gpipe(rank: int, ranks: int, parts: int) -> list[Step]:
    steps = []
    for way in ("FORWARD", "BACKWARD"):
        for part in range(parts):
            for what in (f"RECEIVE_{way}", way, f"SEND_{way}"):
                steps.append(Step(Action[what], rank, part))
        steps += [Step(Action[f"WAIT_{way}"], rank, part) for part in range(parts)]
    return steps


def _one_forward_one_backward(rank: int, ranks: int, parts: int) -> list[Step]:
    """Return the order of Narayanan et al. (PipeDream-Flush), as torch fuses sends and receives."""
    ahead = min(parts, ranks - rank)
    steps = []
    for part in range(ahead):
        steps += [Step(Action.RECEIVE_FORWARD, rank, part), Step(Action.FORWARD, rank, part)]
        if part:
            steps.append(Step(Action.WAIT_FORWARD, rank, part - 1))
        steps.append(Step(Action.SEND_FORWARD, rank, part))
    for part in range(parts):
        steady = part <= parts - ahead
        steps.append(Step(Action.RECEIVE_BACKWARD, rank, part))
        if steady:
            steps.append(Step(Action.WAIT_FORWARD, rank, ahead - 1 + part))
        steps.append(Step(Action.BACKWARD, rank, part))
        if part and not steady:
            steps.append(Step(Action.WAIT_BACKWARD, rank, part - 1))
        steps.append(Step(Action.SEND_BACKWARD, rank, part))
        after = ahead + part
        if after < parts:
            steps += [
                Step(Action.RECEIVE_FORWARD, rank, after),
                Step(Action.WAIT_BACKWARD, rank, part),
                Step(Action.FORWARD, rank, after),
                Step(Action.SEND_FORWARD, rank, after),
            ]
    return [*steps, Step(Action.WAIT_BACKWARD, rank, parts - 1)]


def _interleaved(rank: int, ranks: int, parts: int) -> list[Step]:
    """Return the order of Narayanan et al. (2021), section 2.2, with two stages per rank."""
    chunks = chunks_per_rank("interleaved_1f1b")
    total = chunks * parts

    def of(way: str, number: int) -> list[Step]:
        """Return what the ``number``-th forward or backward of this rank is."""
        turn, place = divmod(number, ranks * chunks)
        chunk, offset = divmod(place, ranks)
        chunk = chunk if way == "FORWARD" else chunks - 1 - chunk
        stage, part = chunk * ranks + rank, turn * ranks + offset
        return [Step(Action[what], stage, part) for what in (f"RECEIVE_{way}", way, f"SEND_{way}")]

    ahead = min(total, (chunks - 1) * ranks + 2 * (ranks - 1 - rank))
    steps = []
    for number in range(total):
        steps += of("FORWARD", number)
        if number >= ahead:
            steps += of("BACKWARD", number - ahead)
    for number in range(total - ahead, total):
        steps += of("BACKWARD", number)
    return steps


SCHEDULES: Mapping[str, Callable[[int, int, int], list[Step]]] = {
    "gpipe": _gpipe,
    "1f1b": _one_forward_one_backward,
    "interleaved_1f1b": _interleaved,
}
"""From rank, ranks and micro-batches to the rank's program."""
