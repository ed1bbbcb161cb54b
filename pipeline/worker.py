"""The loop of one rank: take from the link, step the stage, put on the link.

          wait_in             busy              wait_out
    inlet.get() -----> stage.step(message) -----> outlet.put(result) --+
        ^                                                              |
        +--------------------------------------------------------------+

Markers take the same road: an evaluation, a checkpoint or a stop reaches a stage after exactly
the steps that came before it. A stage with a ring learns again while its link is empty, instead
of waiting; see :mod:`.replay`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from .link import Inlet, Outlet
from .message import Kind, Message
from .recorder import Recorder
from .replay import NoReplay
from .stage import Stage
from .timeline import StepTimes

__all__ = ["Activity", "RemoteError", "Save", "Stopwatch", "Worker"]

Save = Callable[[int, Stage], None]
"""Writes a stage's shard of the checkpoint after a step, and says so to whoever commits it."""


class RemoteError(RuntimeError):
    """Another stage failed; its own report has the cause."""


@dataclass
class Activity:
    """What a worker does at the moment; read by its watchdog from another thread.

    Attributes:
        state: ``starting``, ``wait_in``, ``busy``, ``wait_replicas``, ``wait_out`` or ``done``.
        step: The step it does that for.
        since: Since when (monotonic clock).
        turns: Messages handled so far.
    """

    state: str = "starting"
    step: int = 0
    since: float = 0.0
    turns: int = 0

    def enter(self, state: str, now: float, step: int | None = None) -> None:
        """Note a change."""
        self.state = state
        self.since = now
        if step is not None:
            self.step = step


class Stopwatch:
    """Seconds that a device computes.

    On a CPU these are the seconds that passed. On a GPU the host only enqueues, so a step lies
    between two events; waiting for the step before keeps the host one step ahead and no more.

    Args:
        device: Where the stage computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._begin = 0.0
        self._event: torch.cuda.Event | None = None

    def start(self) -> None:
        """A step begins."""
        self._begin = time.perf_counter()
        if self._device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)
            self._event.record(torch.cuda.current_stream(self._device))

    def stop(self) -> float:
        """A step ends.

        Returns:
            On a CPU its seconds, on a GPU the seconds of the step before.
        """
        if self._event is None:
            return time.perf_counter() - self._begin
        end = torch.cuda.Event(enable_timing=True)
        end.record(torch.cuda.current_stream(self._device))
        self._events.append((self._event, end))
        if len(self._events) < 2:
            return time.perf_counter() - self._begin
        first, last = self._events.pop(0)
        last.synchronize()
        return first.elapsed_time(last) / 1e3


class Worker:
    """Drives one stage between two links until a stop passes.

    Args:
        stage: What to train.
        inlet: Where its messages come from.
        outlet: Where its results go.
        recorder: Collects its times.
        save: Writes its part of a checkpoint.
        evaluated: Called with the results when an evaluation has passed.
        device: Where the stage computes.
        activity: Shared with the watchdog.
        replay: Lets the stage learn again while the link is empty; None: it waits.
        around: Entered around all that is learned from a batch, with the newest step's number: a
            profiler, a delay.
    """

    def __init__(
        self,
        stage: Stage,
        inlet: Inlet,
        outlet: Outlet,
        *,
        recorder: Recorder,
        save: Save,
        evaluated: Callable[[dict[str, Any]], None],
        device: torch.device,
        activity: Activity | None = None,
        replay: NoReplay | None = None,
        around: Callable[[int], AbstractContextManager[Any]] = lambda step: nullcontext(),
    ) -> None:
        self.stage = stage
        self.activity = activity or Activity()
        self._inlet = inlet
        self._outlet = outlet
        self.recorder = recorder
        self.last_batch: Message | None = None
        self._save = save
        self._evaluated = evaluated
        self._stopwatch = Stopwatch(device)
        self._replay = replay or NoReplay()
        self._replay_stopwatch = Stopwatch(device)
        self._around = around
        self._evaluation_began = 0.0

    def run(self) -> int:
        """Work until a stop has passed.

        Returns:
            The last step.

        Raises:
            LinkClosedError: A neighbour is gone.
            RemoteError: A stage before this one failed.
            NonFiniteLossError: The stage's loss is not finite.
        """
        while True:
            message = self.turn()
            if message.kind == Kind.STOP:
                self.activity.enter("done", time.perf_counter())
                return message.step

    def turn(self) -> Message:
        """Take one message, handle it, hand on the result; return what was taken."""
        begin = time.perf_counter()
        self.activity.enter("wait_in", begin)
        replay = self._learn_again()
        message = self._inlet.get()
        self._replay.note(message)
        depth = self._inlet.depth()
        taken = time.perf_counter()
        self.activity.enter("busy", taken, message.step)
        self._stopwatch.start()
        result = self._handle(message)
        if message.total:
            result = replace(result, total=message.total)
        busy = self._stopwatch.stop() if message.kind == Kind.BATCH else 0.0
        handled = time.perf_counter()
        self.activity.enter("wait_out", handled)
        self._outlet.put(result)
        self.activity.turns += 1
        if message.kind == Kind.BATCH:
            wait_in, wait_out = taken - begin - replay, time.perf_counter() - handled
            times = StepTimes(message.step, begin, wait_in, busy, wait_out, replay=replay)
            self._end_step(times, depth)
        return message

    def _learn_again(self) -> float:
        """Learn from what the stage has had while the link is empty; return the seconds.

        To the watchdog the stage waits for input: so it does, however busily.
        """
        begin = end = time.perf_counter()
        while self._replay.due():
            # On a GPU this also keeps the host from running ahead.
            self._replay_stopwatch.start()
            with self._around(self.activity.step):
                self._replay.learn()
            self._replay_stopwatch.stop()
            end = time.perf_counter()
        return end - begin

    def _end_step(self, times: StepTimes, depth: tuple[int, int]) -> None:
        """A step's result is handed on: note where its time went."""
        self.recorder.step(times, depth=depth)

    def _handle(self, message: Message) -> Message:
        if message.kind == Kind.BATCH:
            self.last_batch = message
            with self._around(message.step):
                return self.stage.step(message)
        if message.kind in (Kind.EVALUATE, Kind.SAMPLE, Kind.EVALUATED):
            return self._evaluate(message)
        if message.kind == Kind.CHECKPOINT:
            self._checkpoint(message.step)
        elif message.kind == Kind.ERROR:
            raise RemoteError(message.text)
        elif message.kind == Kind.STOP:
            self.stage.check()
        return message

    def _evaluate(self, message: Message) -> Message:
        if message.kind == Kind.EVALUATE:
            self._evaluation_began = time.perf_counter()
        result = self.stage.evaluate(message)
        if message.kind == Kind.EVALUATED:
            seconds = time.perf_counter() - self._evaluation_began
            self.recorder.mark(
                "evaluate", step=message.step, begin=self._evaluation_began, seconds=seconds
            )
            self._evaluated({**self.stage.evaluation(), "seconds": seconds})
        return result

    def _checkpoint(self, step: int) -> None:
        self.stage.check()
        begin = time.perf_counter()
        self._save(step, self.stage)
        self.recorder.mark(
            "checkpoint", step=step, begin=begin, seconds=time.perf_counter() - begin
        )
