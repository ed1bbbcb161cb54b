"""Learning again while the link is empty: DGL's replay buffer, on the running pipeline.

                          the newest batches
                     +--------------------------+
        [1]   +----->|  ring   b9  b8  b7  b6   |------+
              |      +--------------------------+      | [3] the link is empty:
              |                                        v     the least used, of those the newest
    link ===> take a message ------------------> stage learns -----> link
                                    [2]                        what came by [2] only

[1] Every batch that is taken goes into the ring, in the place of the oldest one.
[2] A message in the link comes first, always: no marker is ever overtaken.
[3] While there is none, the stage learns from the ring instead of waiting. A fresh batch counts
    as used once. One that was used as often as is allowed is passed over; if none is left, the
    stage waits. Behind a marker it waits too, until the next batch: what an evaluation measures
    is one state of the stage, and its checkpoint writes the same.

This is Algorithm 2 of Decoupled Greedy Learning (Belilovsky et al., ICML 2020) with one
difference. There, in a simulation that draws which stage works next, a stage hands on the outputs
of replayed batches too. Here each batch passes each link once and in order, so that steps, markers
and the bounds of the links mean what they mean without replay; only the stage itself learns more
often. The learning rate of a replayed batch is that of the newest batch taken.

When a link is empty is a matter of time, so a run with replay has no equal: neither another
runtime nor a resumed run, whose rings begin empty, ends at the same weights.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .link import Inlet
from .message import Kind, Message
from .stage import Stage
from .timeline import StepTimes

__all__ = ["InPlaceInputError", "NoReplay", "Replay", "ReplayStage", "Replayed", "Ring"]


class InPlaceInputError(RuntimeError):
    """A stage changed the batch that it is to learn from again."""


class ReplayStage(Stage, Protocol):
    """A stage that learns from its messages alone, as often as they are given to it."""

    def again(self, message: Message, *, use: int) -> None:
        """Learn once more from a ``BATCH``, at the learning rate of the newest one.

        Args:
            message: The batch, as it was taken.
            use: How often it has been learned from, with this time: at least 2. Random numbers
                depend on it.
        """
        ...


class Replayed(NamedTuple):
    """A batch that is due.

    Attributes:
        message: As it was taken.
        use: How often it has been learned from, with this time.
        age: Steps between the newest batch and this one.
    """

    message: Message
    use: int
    age: int


@dataclass
class _Kept:
    message: Message
    versions: list[int]
    uses: int = 1


class Ring:
    """The newest batches of a link. It keeps the tensors where they are: a GPU's on the GPU.

    Args:
        batches: How many it keeps, M.
        reuse: How often one may be learned from again; None: without limit.
    """

    def __init__(self, batches: int, *, reuse: int | None = None) -> None:
        self._kept: deque[_Kept] = deque(maxlen=batches)
        self._reuse = reuse

    def keep(self, message: Message) -> None:
        """Put a fresh batch in the place of the oldest one; it counts as used once."""
        self._kept.append(_Kept(message, _versions(message)))

    def ready(self) -> bool:
        """Whether any batch may be learned from again."""
        return any(map(self._allowed, self._kept))

    def take(self) -> Replayed:
        """Return the least used batch, of several the newest, and count the use.

        Raises:
            InPlaceInputError: Its tensors are not what they were.
        """
        newest_first = filter(self._allowed, reversed(self._kept))
        kept = min(newest_first, key=lambda kept: kept.uses)
        if _versions(kept.message) != kept.versions:
            raise InPlaceInputError(
                f"the batch of step {kept.message.step} was changed in place by learning from it, "
                "so it cannot be learned from again; make the block's first operation out of "
                "place (e.g. ReLU(inplace=False)), cut elsewhere, or leave replay.batches out"
            )
        kept.uses += 1
        age = self._kept[-1].message.step - kept.message.step
        return Replayed(kept.message, kept.uses, age)

    def _allowed(self, kept: _Kept) -> bool:
        return self._reuse is None or kept.uses <= self._reuse


def _versions(message: Message) -> list[int]:
    return [tensor._version for tensor in message.tensors]


class NoReplay:
    """What a stage without a ring has: it waits while its link is empty."""

    def note(self, message: Message) -> None:
        """Hear what was taken from the link."""

    def due(self) -> bool:
        """Return whether to learn again now instead of waiting for the link."""
        return False

    def learn(self) -> None:
        """Learn again from one batch; only when it is due."""
        raise RuntimeError("there is nothing to learn from again")

    def progress(self, times: Sequence[StepTimes]) -> dict[str, Any]:
        """Return what to report of an interval, and begin the next one.

        Args:
            times: Of the steps of the interval.
        """
        return {}

    def summary(self) -> dict[str, Any]:
        """Return what to report of the whole run."""
        return {"replayed": 0, "replay_staleness": None}


class Replay(NoReplay):
    """Lets a stage learn from its ring while its link is empty.

    Args:
        stage: The stage.
        inlet: The link into it.
        ring: What it keeps of that.
    """

    def __init__(self, stage: ReplayStage, inlet: Inlet, ring: Ring) -> None:
        self._stage = stage
        self._inlet = inlet
        self._ring = ring
        self._between_batches = False
        self._interval = _Tally()
        self._whole = _Tally()

    def note(self, message: Message) -> None:
        """See :meth:`NoReplay.note`. ([1] above)"""
        self._between_batches = message.kind == Kind.BATCH
        if self._between_batches:
            self._ring.keep(message)

    def due(self) -> bool:
        """See :meth:`NoReplay.due`. ([2] above)"""
        return self._between_batches and self._ring.ready() and self._inlet.waits()

    def learn(self) -> None:
        """See :meth:`NoReplay.learn`. ([3] above)"""
        replayed = self._ring.take()
        self._stage.again(replayed.message, use=replayed.use)
        for tally in (self._interval, self._whole):
            tally.count += 1
            tally.age += replayed.age

    def progress(self, times: Sequence[StepTimes]) -> dict[str, Any]:
        """See :meth:`NoReplay.progress`.

        ``replayed`` are the batches that were learned from again, ``replay_staleness`` their mean
        age in steps (null if there were none), ``replay`` the seconds that took, per step.
        """
        told = {**self._interval.told(), "replay": sum(t.replay for t in times) / len(times)}
        self._interval = _Tally()
        return told

    def summary(self) -> dict[str, Any]:
        """See :meth:`NoReplay.summary`; the names are those of :meth:`progress`."""
        return self._whole.told()


@dataclass
class _Tally:
    count: int = 0
    age: int = 0

    def told(self) -> dict[str, Any]:
        staleness = self.age / self.count if self.count else None
        return {"replayed": self.count, "replay_staleness": staleness}
