"""Torch's own pipelines, driven by the messages of ours: GPipe, 1F1B and interleaved 1F1B.

    our links             feed == (x, y) ==> stage 1 == y ==> stage 2 == y ==> stage 3
    torch.distributed.                       stage 1 -- h --> stage 2 -- h --> stage 3
    pipelining                               stage 1 <- dh -- stage 2 <- dh -- stage 3

Only rank 0 has data. A stage hands the labels on before it takes part in torch's schedule, so all
ranks come to the same step by themselves, and markers (evaluations, checkpoints, the stop) reach
every stage after exactly the steps that came before them, as with any method. Activations and
gradients of training travel in torch's way, over a process group of their own; the examples of
evaluations travel over our links.

Interleaved 1F1B has two stages on each rank: stages 1 and 3 on rank 0, 2 and 4 on rank 1. Each has
links and a loop of its own, in a thread of its own. Its messages pass the stages in their order,
so the last stage of a rank is the last to have the labels: its thread runs the schedule for all of
them, and the others wait for it.

Why nothing waits for ever: order all phases by (step, labels before learning, stage). The labels
of a step wait for those of the stage before, and for room that the stage behind makes by taking
those of an earlier step. Learning waits for the labels of the step, and for other ranks' learning
of the same step, whose order is torch's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
)

from .link import Inlet, LinkClosedError, LocalLink, Outlet
from .message import Kind, Message
from .pipelined_block import PipelinedBlock
from .replicas import tells_of_lost_rank
from .timeline import StepTimes
from .worker import Worker

__all__ = ["PipelinedWorker", "Pipelining"]

Tell = Callable[[str], None]
"""Told what a worker does: ``busy`` or ``wait_in``."""

WRAPPED = ("failed to run forward", "Failed to run stage backward")
"""How torch introduces an error of a block, which is behind it as the cause."""


class Pipelining:
    """What the blocks of one rank have to do with torch's pipeline.

    Args:
        schedule: ``gpipe``, ``1f1b`` or ``interleaved_1f1b``.
        blocks: Those of this rank, in the order of the network; several only if interleaved.
        group: Of all ranks of the pipeline, in their order, and for nothing else.
    """

    def __init__(
        self, schedule: str, blocks: Sequence[PipelinedBlock], *, group: dist.ProcessGroup | None
    ) -> None:
        self._name = schedule
        self._blocks = blocks
        self.group = group
        self._schedule: Any = None
        self._tell: Tell = lambda state: None
        self.turns = [
            LocalLink(f"the schedule of stage {block.index}", max_messages=1, max_bytes=1)
            for block in blocks[:-1]
        ]

    def learn(self, block: PipelinedBlock, step: int, tell: Tell) -> float:
        """Let all blocks of the rank learn from their batches; return when they have.

        Every block's worker calls this. The last one's does the work for all.

        Args:
            block: Whose worker calls.
            step: The step.
            tell: Told what this worker does.

        Returns:
            Seconds that the block computed.

        Raises:
            LinkClosedError: Another rank is gone.
        """
        if block is self._blocks[-1]:
            self._tell = tell
            self._run()
            for turn in self.turns:
                turn.put(Message(Kind.BATCH, step))
        else:
            self.turns[self._blocks.index(block)].get()
        return block.laps.take()

    @contextmanager
    def computing(self, block: PipelinedBlock) -> Iterator[None]:
        """Count what ``block`` computes; all else in a step is waiting for other ranks."""
        self._tell("busy")
        with block.laps.lap():
            yield
        self._tell("wait_in")

    def _run(self) -> None:
        for block in self._blocks:
            with self.computing(block):
                block.begin()
        if self._schedule is None:
            self._schedule = self._make()
        x, _ = self._blocks[0].batch()
        _, y = self._blocks[-1].batch()
        target = y if self._blocks[-1].place.last else None
        with self._errors():
            self._schedule.step(*([] if x is None else [x]), target=target, return_outputs=False)
            self._clip()
        for block in self._blocks:
            with self.computing(block):
                block.finish()

    def _make(self) -> Any:
        """Make torch's schedule, which takes the mean of the micro-batches' gradients.

        With the shapes known on both sides of every stage, torch asks nobody for them, and runs
        nothing to find out.
        """
        stages = [_Stage(block, self) for block in self._blocks]
        microbatches = self._blocks[0].microbatches
        if self._name == "interleaved_1f1b":
            return ScheduleInterleaved1F1B(list(stages), microbatches, loss_fn=self._loss)
        kinds = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}
        return kinds[self._name](stages[0], microbatches, loss_fn=self._loss)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        last = self._blocks[-1]
        with self.computing(last):
            return last.compute_loss(logits, labels)

    def _clip(self) -> None:
        """Bound the norm of the gradient of the whole network, as one process would."""
        limit = self._blocks[0].clip
        if limit is None:
            return
        parameters = [one for block in self._blocks for one in block.parameters]
        gradients = [one.grad for one in parameters if one.grad is not None]
        square = torch.nn.utils.get_total_norm(gradients).square()
        dist.all_reduce(square, group=self.group)
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, square.sqrt())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Tell the end of another rank from an error of a block, and show the latter as it was."""
        try:
            yield
        except RuntimeError as error:
            if tells_of_lost_rank(error):
                label = f"stage {self._blocks[-1].index}"
                raise LinkClosedError(f"{label}: another rank is gone: {error}") from error
            cause = error.__cause__
            if cause is not None and any(text in str(error) for text in WRAPPED):
                raise cause from None
            raise


class _Stage(PipelineStage):
    """Torch's stage of one block, timed, and with the block's own random numbers.

    Args:
        block: The block; it has seen its first batch.
        crew: Counts its seconds.
    """

    def __init__(self, block: PipelinedBlock, crew: Pipelining) -> None:
        super().__init__(
            block.part,
            block.index - 1,
            block.place.blocks,
            block.place.device,
            input_args=block.entry,
            output_args=block.exit,
            group=crew.group,
        )
        self._block = block
        self._crew = crew

    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        with self._crew.computing(self._block):
            self._block.seed_part(fwd_chunk_id)
            return super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)

    def backward_one_chunk(self, *args: Any, **kwargs: Any) -> None:
        with self._crew.computing(self._block):
            super().backward_one_chunk(*args, **kwargs)


class PipelinedWorker(Worker):
    """Drives a stage of torch's pipeline; see :class:`Worker` for the other arguments.

    Waiting for other ranks within a step, the pipeline's bubble included, counts as waiting for
    input.

    Args:
        stage: What to train.
        inlet: Where its messages come from.
        outlet: Where its results go.
        pipelining: What all blocks of this rank share.
    """

    def __init__(
        self,
        stage: PipelinedBlock,
        inlet: Inlet,
        outlet: Outlet,
        *,
        pipelining: Pipelining,
        **options: Any,
    ) -> None:
        super().__init__(stage, inlet, outlet, **options)
        self._block = stage
        self._pipelining = pipelining
        self._entered = ExitStack()

    def _handle(self, message: Message) -> Message:
        if message.kind != Kind.BATCH:
            return super()._handle(message)
        self.last_batch = message
        self._entered.enter_context(self._around(message.step))
        return self._block.forward(message)

    def _end_step(self, times: StepTimes, depth: tuple[int, int]) -> None:
        """The labels are handed on: learn."""
        begin = time.perf_counter()
        self._tell("wait_in")
        with self._entered:
            busy = self._pipelining.learn(self._block, times.step, self._tell)
        waited = max(0.0, time.perf_counter() - begin - busy)
        both = replace(times, wait_in=times.wait_in + waited, busy=times.busy + busy)
        super()._end_step(both, depth)

    def _tell(self, state: str) -> None:
        self.activity.enter(state, time.perf_counter())
