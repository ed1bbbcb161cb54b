"""A block of plain backpropagation whose batches go through it in micro-batches.

    x   +------------------- block k -------------------+  h
    --->| channels-last | layers (and classifier) | NCHW |--->   to block k + 1, for each of the
    <---|      NCHW     |       channels-last     |      |<---   micro-batches; their gradients
        +-----------------------------------------------+  dh   come back

The blocks together compute what one process computes that adds up the gradients of the same
micro-batches, with batch normalisation over each of them by itself. Who moves the tensors, and in
which order the micro-batches take their turns, is the matter of :mod:`.pipelining`.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from .block import Place
from .headless import HeadlessBlock
from .laps import Laps
from .message import Kind, Message, dense
from .seed import derive, set_seed

__all__ = ["PipelinedBlock"]

TRIED_ROWS = 2
"""Examples that are passed on before the first step, to learn what shapes the blocks hand on."""


class PipelinedBlock(HeadlessBlock):
    """A block that learns from the micro-batches of a batch.

    The first message of a run also carries what the block before makes of a few examples, in
    evaluation mode: from it each block knows the shapes and types that come and go. After that a
    message has the labels alone.

    Args:
        body: The layers of the block.
        head: The classifier, or the identity.
        place: Which block it is, and where it computes.
        microbatches: Equal parts of each batch.
        options: See :class:`HeadlessBlock`. ``train.compile``, ``train.chunk`` and float16 do not
            work with it.

    Attributes:
        part: What each micro-batch passes through.
        laps: Its seconds of computing.
        entry: An empty tensor (on ``meta``) like the input of a micro-batch.
        exit: The same of its output.
        trained_bytes: Bytes of activations and gradients that have left for training.
    """

    def __init__(
        self, body: nn.Module, head: nn.Module, *, place: Place, microbatches: int, **options: Any
    ) -> None:
        super().__init__(body, head, place=place, **options)
        self.microbatches = microbatches
        self.part = _Part(self)
        self.laps = Laps(place.device)
        self.entry: Tensor | None = None
        self.exit: Tensor | None = None
        self.trained_bytes = 0
        self._batch: Message | None = None
        self._step = 0
        self._loss = torch.zeros(())
        self._correct = torch.zeros(())

    def forward(self, message: Message) -> Message:
        """Take a batch; return the message for the next block, before anything is computed."""
        self._batch = message
        *given, y = message.tensors
        if self.entry is not None:
            return Message(Kind.BATCH, message.step, (dense(y),))
        tried = self._try(given[0][:TRIED_ROWS], rows=len(y))
        return Message(Kind.BATCH, message.step, (tried, dense(y)))

    def batch(self) -> tuple[Tensor | None, Tensor]:
        """Return the batch at hand: the first block's examples, None in the others; labels."""
        assert self._batch is not None
        *given, y = self._batch.tensors
        return given[0] if self.index == 1 else None, y

    @property
    def clip(self) -> float | None:
        """The largest norm of the network's gradient."""
        return self._config.clip

    def begin(self) -> None:
        """Get ready to learn from the batch at hand."""
        assert self._batch is not None
        self._step = self._batch.step
        for module in self.modules.values():
            module.train()
        self._rate = self._schedule.apply(self.optimizer, self._step)
        self.optimizer.zero_grad(set_to_none=True)
        device = self.place.device
        self._loss = torch.zeros((), device=device)
        self._correct = torch.zeros((), device=device, dtype=torch.int64)

    def seed_part(self, number: int) -> None:
        """Seed what dropout draws in a micro-batch, from 0: its turn does not matter."""
        parts = ("step", self._step, "stage", self.index, "part", number)
        set_seed(derive(self.place.seed, *parts), self.place.device)

    def compute_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a micro-batch; in the last block."""
        with self._autocast():
            loss = self._criterion(logits, labels)
        self._loss += loss.detach() / self.microbatches
        self._correct += (logits.detach().argmax(-1) == labels).sum()
        return loss

    def finish(self) -> None:
        """Update the weights: all gradients of the batch are there."""
        self.optimizer.step()
        assert self._batch is not None
        if self.place.last:
            self._meter.add(
                step=self._step,
                lr=self._rate,
                loss=self._loss,
                correct=self._correct,
                count=len(self._batch.tensors[-1]),
            )
        self.trained_bytes += self.microbatches * self._bytes_per_part()
        self._batch = None

    def step(self, message: Message) -> Message:
        """Learn alone, the first block from its examples and the others from zeros, to be timed.

        The micro-batches go forward and back one after the other; no error but that of the last
        block's loss is other than zero.
        """
        result = self.forward(message)
        self.begin()
        x, y = self.batch()
        for number, labels in enumerate(y.chunk(self.microbatches)):
            self.seed_part(number)
            output = self.part(self._alone(x, number))
            if self.place.last:
                (self.compute_loss(output, labels) / self.microbatches).backward()
            else:
                output.backward(torch.zeros_like(output))
        self.finish()
        return result

    def _alone(self, x: Tensor | None, number: int) -> Tensor:
        if x is not None:
            return x.chunk(self.microbatches)[number]
        return torch.zeros_like(cast(Tensor, self.entry), device=self.place.device).requires_grad_()

    def _try(self, x: Tensor, *, rows: int) -> Tensor:
        """Pass a few examples through, to know what a micro-batch of ``rows`` makes."""
        for module in self.modules.values():
            module.eval()
        with torch.no_grad():
            output = self.part(x)
        if not output.is_floating_point() or output.dim() == 0 or len(output) != len(x):
            raise RuntimeError(
                f"stage {self.index}: {len(x)} examples become a tensor of {output.dtype} with the "
                f"shape {tuple(output.shape)}; errors can only come back to floating-point numbers "
                f"with a row for each example: cut elsewhere"
            )
        share = rows // self.microbatches
        self.entry = _like(x, share, learns=self.index > 1)
        self.exit = _like(output, share, learns=True)
        return dense(output)

    def _bytes_per_part(self) -> int:
        assert self.entry is not None
        assert self.exit is not None
        back = self.entry.nbytes if self.index > 1 else 0
        return back + (0 if self.place.last else self.exit.nbytes)

    def run_part(self, x: Tensor) -> Tensor:
        """Compute the output of a micro-batch, the logits in the last block.

        Torch's pipelining sends no channels-last tensors, so their layout is changed on both
        sides; the computation pays for that.
        """
        if x.dim() == 4 and self._config.channels_last:
            x = _laid(x, torch.channels_last)
        with self._autocast():
            output = self.body(x)
            if self.place.last:
                return self.head(output)
        return _laid(output, torch.contiguous_format)


class _Part(nn.Module):
    """A block as the module that torch's pipelining knows.

    Args:
        block: The block.
    """

    def __init__(self, block: PipelinedBlock) -> None:
        super().__init__()
        self.modules_of_block = nn.ModuleDict(block.modules)
        self._run = block.run_part

    def forward(self, x: Tensor) -> Tensor:
        return self._run(x)


class _Laid(torch.autograd.Function):
    """Copies a tensor into another memory layout, and its gradient back into the former one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: torch.memory_format) -> Tensor:
        former = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if former else torch.contiguous_format
        return x.contiguous(memory_format=layout)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].contiguous(memory_format=ctx.layout), None


def _laid(x: Tensor, layout: torch.memory_format) -> Tensor:
    if x.is_contiguous(memory_format=layout):
        return x
    return cast(Tensor, _Laid.apply(x, layout))


def _like(x: Tensor, rows: int, *, learns: bool) -> Tensor:
    return torch.empty((rows, *x.shape[1:]), dtype=x.dtype, device="meta", requires_grad=learns)
