"""A block without a loss of its own: it learns from the errors of the block behind it.

Its head is the classifier in the last block, and the identity in all others, which have neither a
loss nor an accuracy. How the errors reach it is the matter of those who derive from it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .block import Block, Examination, Place
from .message import Kind, Message, dense
from .replicas import OneReplica
from .stage import NonFiniteLossError

__all__ = ["HeadlessBlock"]


class HeadlessBlock(Block):
    """A block of a network whose only loss is that of the last block.

    Args:
        body: The layers of the block.
        head: The classifier, or the identity.
        place: Which block it is, and where it computes.
        options: See :class:`Block`; ``criterion`` is the loss of the last block, and a stage has
            one replica: errors go from one rank to one rank.
    """

    def __init__(self, body: nn.Module, head: nn.Module, *, place: Place, **options: Any) -> None:
        super().__init__(body, head, place=place, **options)
        self._rate = 0.0
        if not place.last:
            self._examination = Unexamined()

    def evaluate(self, message: Message) -> Message:
        """See :meth:`Block.evaluate`; a block without a head only passes the examples on."""
        if self.place.last or message.kind != Kind.SAMPLE:
            return super().evaluate(message)
        x, y = message.tensors
        self.body.eval()
        with torch.no_grad(), self._autocast():
            h = self.body(self._arrange(x))
        return Message(Kind.SAMPLE, message.step, (dense(h), dense(y)))

    def progress(self) -> dict[str, Any]:
        """See :meth:`~blockstep.pipeline.stage.Stage.progress`."""
        if self.place.last:
            return super().progress()
        return {"loss": None, "accuracy": None, "lr": self._rate}

    def check(self) -> None:
        """See :meth:`~blockstep.pipeline.stage.Stage.check`; without a loss, of the weights."""
        super().check()
        if self.place.last:
            return
        if not all(bool(parameter.isfinite().all()) for parameter in self.parameters):
            raise NonFiniteLossError(
                f"stage {self.index}: a weight is nan or infinite: the error signals exploded. "
                "Lower train.lr, add train.warmup or set train.clip=1.0; the last good checkpoint "
                "is kept"
            )


class Unexamined(Examination):
    """The evaluation of a block without a head: there is nothing to tell."""

    def __init__(self) -> None:
        super().__init__({}, OneReplica())

    def end(self, step: int) -> None:
        """Tell so."""
        self.result = {
            "step": step,
            "split": self._split,
            "loss": None,
            "accuracy": None,
            "ensemble_accuracy": None,
            "metrics": {},
        }
