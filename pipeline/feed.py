"""What the first stage takes its messages from: batches, and the markers between them.

    BATCH 1 .. BATCH 500  EVALUATE SAMPLE .. SAMPLE EVALUATED  CHECKPOINT  BATCH 501 ..  STOP

The whole run is decided here and travels through the stages in order, so every stage evaluates,
writes and stops at the same step although no two are at the same step at the same moment. Where
the first stage has several replicas, each has a feed that makes the same batches and takes its
share of them.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .message import Kind, Message
from .shares import bounds

__all__ = ["Agenda", "BatchSource", "Feed", "Stop", "StopRequest"]


class BatchSource(Protocol):
    """Where batches come from; a data set is one."""

    def train(self, *, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (x, y) without end; the first is that of step ``start + 1``."""
        ...

    def evaluation(self, split: str, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (x, y) over ``split`` once, in order."""
        ...


class StopRequest:
    """Asks a running feed to stop after the step at hand; safe to set from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def due(self, step: int) -> bool:
        """Whether the run ends after ``step``, which is done."""
        return self.is_set()


class Stop(Protocol):
    """Says when a run ends before its last step."""

    def due(self, step: int) -> bool:
        """Whether the run ends after ``step``, which is done. Asked before each step."""
        ...


@dataclass(frozen=True)
class Agenda:
    """When what happens.

    Attributes:
        start: Steps that are already done.
        steps: The last step.
        batch_size: Examples per training step.
        evaluate_every: Steps between evaluations; 0 for only the last.
        evaluate_batch_size: Examples per batch of an evaluation.
        splits: What is evaluated on the way.
        final_splits: What is evaluated after the last step.
        checkpoint_every: Steps between checkpoints; 0 for only the last.
        checkpoint_evaluated: Whether each evaluation is followed by a checkpoint, so that the
            best can be kept.
    """

    start: int
    steps: int
    batch_size: int
    evaluate_every: int = 0
    evaluate_batch_size: int = 256
    splits: Sequence[str] = ()
    final_splits: Sequence[str] = ()
    checkpoint_every: int = 0
    checkpoint_evaluated: bool = False

    def splits_at(self, step: int) -> Sequence[str]:
        """Return what is evaluated after ``step``."""
        if step == self.steps:
            return self.final_splits
        return self.splits if self.evaluate_every and step % self.evaluate_every == 0 else ()

    def checkpoint_at(self, step: int) -> bool:
        """Whether a checkpoint follows ``step``."""
        if step == self.steps or (self.checkpoint_evaluated and self.splits_at(step)):
            return True
        return bool(self.checkpoint_every) and step % self.checkpoint_every == 0


class Feed:
    """The inlet of the first stage.

    Args:
        source: The data.
        agenda: When what happens.
        stop: Ends the run early, with a checkpoint.
        replica: Which replica of the first stage this is, from 1: it gets its share of each batch.
        replicas: How many the first stage has.
    """

    def __init__(
        self,
        source: BatchSource,
        agenda: Agenda,
        *,
        stop: Stop,
        replica: int = 1,
        replicas: int = 1,
    ) -> None:
        self._source = source
        self._agenda = agenda
        self._stop = stop
        self._replica = replica
        self._replicas = replicas
        self._messages = self._generate()

    def get(self) -> Message:
        """See :meth:`~blockstep.pipeline.link.Inlet.get`."""
        return next(self._messages)

    def waits(self) -> bool:
        """The data are always there."""
        return False

    def depth(self) -> tuple[int, int]:
        """Nothing waits: a batch is made when it is asked for."""
        return 0, 0

    def close(self) -> None:
        """Make no more batches."""
        self._messages.close()

    def _generate(self) -> Generator[Message]:
        agenda = self._agenda
        step = agenda.start
        saved = agenda.start or None
        batches = self._source.train(batch_size=agenda.batch_size, start=step)
        while step < agenda.steps and not self._stop.due(step):
            x, y = next(batches)
            step += 1
            yield self._share(Kind.BATCH, step, x, y)
            if self._stop.due(step) and step < agenda.steps:
                break
            for split in agenda.splits_at(step):
                yield from self._evaluation(split, step)
            if agenda.checkpoint_at(step):
                saved = step
                yield Message(Kind.CHECKPOINT, step)
        if step < agenda.steps and step != saved:
            yield Message(Kind.CHECKPOINT, step)
        yield Message(Kind.STOP, step)

    def _evaluation(self, split: str, step: int) -> Iterator[Message]:
        yield Message(Kind.EVALUATE, step, text=split)
        for x, y in self._source.evaluation(split, batch_size=self._agenda.evaluate_batch_size):
            yield self._share(Kind.SAMPLE, step, x, y)
        yield Message(Kind.EVALUATED, step, text=split)

    def _share(self, kind: Kind, step: int, x: Tensor, y: Tensor) -> Message:
        """Make a message of this replica's examples."""
        if self._replicas == 1:
            return Message(kind, step, (x, y))
        begin, end = bounds(len(y), self._replicas)[self._replica - 1]
        return Message(kind, step, (x[begin:end], y[begin:end]), total=len(y))
