"""Learning from errors that travel back: a stage with two phases, and the loop that drives it.

          wait_in              busy                 wait_out
    inlet.get() ------> stage.forward(message) ------> outlet.put(h)              first phase
                                                                |
     back.put(gradient of x) <------ stage.learn(step) <------ signals.get()      second phase
          wait_out                        busy                    wait_in

Stage k hands its output on before it learns, so stage k + 1 never waits for k's learning. With K
stages, stage k learns in step t from the batch of step t - d, d = K - k, by the error signal that
stage k + 1 sent in its step t - 1::

    step           t=1    2      3      4      5       K = 3
    stage 1 (d=2)  F1     F2     F3 L1  F4 L2  F5 L3   Fi: forward of batch i
                              /      /      /          Li: learning from batch i
    stage 2 (d=1)  F1     F2 L1  F3 L2  F4 L3  F5 L4   / : an error signal
                       /      /      /      /
    stage 3 (d=0)  F1 L1  F2 L2  F3 L3  F4 L4  F5 L5

In the first d steps stage k only passes batches on. The learning rate follows the step t, so these
steps use up their part of the schedule.

Why nothing waits for ever, although links now run in both directions: order all phases by (step,
forward before learning, stage). The forward of stage k in step t waits for input, which is the
forward of k - 1 in t, and for room, which k + 1 makes by taking the input of an earlier step. Its
learning waits for the learning of k + 1 in step t - 1, and for room, which k - 1 makes by its
learning in step t at the latest. Whoever waits, waits for something earlier in that order, so no
circle can close - with room for a single message in every link, and whichever runs first. Taking
turns is that order itself, but for phases that do not depend on each other. No direction shares a
communicator with another one, and a link's threads send and receive beside the loop.

A checkpoint after step n keeps what the next steps need: each stage first takes the error signal
of step n, which is on its way, into its state. A stop does the same, so no message is left behind.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Protocol

import torch

from .link import Inlet, Outlet
from .message import Kind, Message
from .stage import Stage
from .timeline import StepTimes
from .worker import RemoteError, Stopwatch, Worker

__all__ = ["FeedbackStage", "FeedbackWorker", "NoSignals"]


class FeedbackStage(Stage, Protocol):
    """A stage that hands its output on first, and learns from an error that comes back.

    Attributes:
        delay: Steps between the forward pass of a batch and learning from it, d above.
    """

    delay: int

    def forward(self, message: Message) -> Message:
        """Take a ``BATCH`` and return what the next stage gets."""
        ...

    def awaits(self, step: int) -> bool:
        """Whether the error signal that the next stage sends in ``step`` is still to come."""
        ...

    def receive(self, signal: Message) -> None:
        """Keep an ``ERROR_SIGNAL`` until it is learned from; until then it is part of the state."""
        ...

    def learn(self, step: int) -> Message | None:
        """Learn in ``step``.

        Returns:
            The ``ERROR_SIGNAL`` for the stage before; None where there is none, or nothing to
            tell it yet.
        """
        ...


class NoSignals:
    """What the last stage gets its error signals from: it has its own loss and asks for none."""

    def get(self) -> Message:
        """Fail."""
        raise RuntimeError("the last stage waits for an error signal; it has none to wait for")

    def waits(self) -> bool:
        """Nothing will come."""
        return False

    def depth(self) -> tuple[int, int]:
        """Nothing waits."""
        return 0, 0

    def close(self) -> None:
        """Do nothing."""


class FeedbackWorker(Worker):
    """Drives a stage with two phases; see :class:`Worker` for the other arguments.

    A step's times are those of both phases: waiting for the error signal counts as waiting for
    input, waiting for room in the link back as waiting for room.

    Args:
        stage: What to train.
        inlet: Where its messages come from.
        outlet: Where its results go.
        signals: Where its error signals come from.
        back: Where the error signals for the stage before go.
        device: Where the stage computes.
    """

    def __init__(
        self,
        stage: FeedbackStage,
        inlet: Inlet,
        outlet: Outlet,
        *,
        signals: Inlet,
        back: Outlet,
        device: torch.device,
        **options: Any,
    ) -> None:
        super().__init__(stage, inlet, outlet, device=device, **options)
        self._feedback = stage
        self._signals = signals
        self._back = back
        self._learning = Stopwatch(device)
        self._around_both = ExitStack()

    def _handle(self, message: Message) -> Message:
        if message.kind == Kind.BATCH:
            self.last_batch = message
            self._around_both.enter_context(self._around(message.step))
            return self._feedback.forward(message)
        if message.kind in (Kind.CHECKPOINT, Kind.STOP):
            self._take_signal(message.step)
        result = super()._handle(message)
        if message.kind == Kind.STOP:
            self._back.put(Message(Kind.STOP, message.step))
        return result

    def _end_step(self, times: StepTimes, depth: tuple[int, int]) -> None:
        """The output is handed on: learn, and hand the error on."""
        begin = time.perf_counter()
        self._take_signal(times.step - 1)
        taken = time.perf_counter()
        self.activity.enter("busy", taken)
        self._learning.start()
        with self._around_both:
            signal = self._feedback.learn(times.step)
        busy = self._learning.stop()
        learned = time.perf_counter()
        self.activity.enter("wait_out", learned)
        if signal is not None:
            self._back.put(signal)
        both = replace(
            times,
            wait_in=times.wait_in + taken - begin,
            busy=times.busy + busy,
            wait_out=times.wait_out + time.perf_counter() - learned,
        )
        super()._end_step(both, depth)

    def _take_signal(self, step: int) -> None:
        """Give the stage the error signal of ``step`` if it has still to come."""
        if not self._feedback.awaits(step):
            return
        self.activity.enter("wait_in", time.perf_counter())
        signal = self._signals.get()
        if signal.kind == Kind.ERROR:
            raise RemoteError(signal.text)
        self._feedback.receive(signal)
        self.activity.enter("busy", time.perf_counter())
