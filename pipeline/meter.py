"""The loss and accuracy of a stage's steps, and the guard against losses that are not finite.

On a CPU a loss is a number at once. On a GPU reading it would stall the host, so the numbers of a
step are copied to pinned memory behind an event and read when that event has passed; markers and
reports read all that is outstanding.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from .stage import NonFiniteLossError

__all__ = ["LossMeter"]


@dataclass(frozen=True)
class _Entry:
    step: int
    lr: float
    count: int
    numbers: Tensor
    arrived: torch.cuda.Event | None


class LossMeter:
    """Means of loss and accuracy since they were last asked for.

    Args:
        label: What errors call the stage, e.g. ``"stage 2"``.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._pending: deque[_Entry] = deque()
        self._loss = 0.0
        self._correct = 0.0
        self._examples = 0
        self._lr = math.nan

    def add(self, *, step: int, lr: float, loss: Tensor, correct: Tensor, count: int) -> None:
        """Note one step.

        Args:
            step: Training step, from 1.
            lr: Its learning rate.
            loss: Mean loss over the batch, a scalar.
            correct: Number of examples classified correctly, a scalar.
            count: Examples in the batch.

        Raises:
            NonFiniteLossError: This or an earlier loss is not finite.
        """
        numbers = torch.stack([loss.detach().float(), correct.detach().float()])
        arrived = None
        if numbers.is_cuda:
            numbers = numbers.to("cpu", non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._pending.append(_Entry(step, lr, count, numbers, arrived))
        self._read(wait=False)

    def check(self) -> None:
        """Read everything outstanding; raise if a loss is not finite."""
        self._read(wait=True)

    def means(self) -> dict[str, float]:
        """Return mean ``loss``, ``accuracy`` and the last ``lr`` since the last call."""
        self._read(wait=True)
        examples = max(1, self._examples)
        means = {
            "loss": self._loss / examples,
            "accuracy": self._correct / examples,
            "lr": self._lr,
        }
        self._loss = self._correct = 0.0
        self._examples = 0
        return means

    def _read(self, *, wait: bool) -> None:
        while self._pending:
            entry = self._pending[0]
            if entry.arrived is not None:
                if not wait and not entry.arrived.query():
                    return
                entry.arrived.synchronize()
            self._pending.popleft()
            loss, correct = entry.numbers.tolist()
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"{self._label}: the loss of step {entry.step} is {loss} at learning rate "
                    f"{entry.lr:g}. Lower train.lr, add train.warmup or set train.clip=1.0; "
                    "the last good checkpoint is kept"
                )
            self._loss += loss * entry.count
            self._correct += correct
            self._examples += entry.count
            self._lr = entry.lr
