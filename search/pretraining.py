"""The pretraining of a search: weights with alpha = beta = 0, and the best of them on the way.

SEDONA (Pyeon et al., ICLR 2021), section 3.3 and appendix E.1. Alpha = 0 does not mean
backpropagation: softmax gives each layer half of the local error and half of the backpropagated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ..pipeline.optimization import OptimizationConfig, Schedule
from ..pipeline.seed import derive, set_seed
from .descent import Descent, Point
from .mixed_gradient import Choices, mixed_gradient
from .relaxation import Relaxation
from .snapshots import Snapshot, Snapshots, take_snapshot

__all__ = ["Pretraining", "SearchSource"]


class SearchSource(Protocol):
    """Where a search takes its batches from, on the device that computes; numbers begin at 1."""

    def training(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a training batch, augmented."""
        ...

    def validation(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a batch of the validation split for the outer loss, not augmented."""
        ...

    def validation_split(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the whole validation split once, in batches."""
        ...


class Pretraining:
    """Trains the relaxation with equal shares, and remembers its best weights.

    Args:
        relaxation: The network and its heads.
        source: The data.
        optimization: The ``train.*`` keys.
        every: Steps between validations; each may add a snapshot.
        capacity: How many snapshots to keep. With 0 steps, the initial weights are the only one.
        seed: The run's seed.

    Attributes:
        step: Steps done.
        snapshots: The best so far.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        source: SearchSource,
        *,
        optimization: OptimizationConfig,
        every: int,
        capacity: int,
        seed: int,
    ) -> None:
        self.step = 0
        self.snapshots = Snapshots(capacity)
        self._relaxation = relaxation
        self._source = source
        self._steps = optimization.steps
        self._every = every
        self._seed = seed
        self._schedule = Schedule(optimization)
        self._descent = Descent(optimization.momentum, optimization.weight_decay)
        weights = relaxation.initial()
        self._point = Point(weights, [torch.zeros_like(weight) for weight in weights])
        self._choices = Choices(*relaxation.equal_choices())
        self._made = 0
        if self._steps == 0:
            self._remember(math.nan)

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self._steps

    def advance(self) -> dict[str, Any]:
        """Do one step and return its record: losses per layer, and accuracy if it was measured."""
        self.step += 1
        rate = self._schedule.lr(self.step)
        x, y = self._source.training(self.step)
        set_seed(derive(self._seed, "pretraining", self.step), x.device)
        gradients, losses = mixed_gradient(
            self._relaxation, self._point.weights, x, y, self._choices
        )
        self._point = self._descent.step(self._point, gradients, rate)
        accuracy = None
        if self.step % self._every == 0:
            accuracy = self._evaluate()
            if self.snapshots.worthy(accuracy):
                self._remember(accuracy)
        return {
            "phase": "pretrain",
            "step": self.step,
            "steps": self._steps,
            "lr": rate,
            "losses": losses.tolist(),
            "loss": float(losses[-1]),
            "accuracy": accuracy,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return where it stands, without the snapshots."""
        return {
            "step": self.step,
            "made": self._made,
            "weights": self._point.weights,
            "momentum": self._point.momentum,
            "buffers": self._relaxation.buffers(),
        }

    def load_state_dict(self, state: Mapping[str, Any], snapshots: Snapshots) -> None:
        """Continue from ``state`` with the memory that belongs to it."""
        self.snapshots = snapshots
        self.step, self._made = state["step"], state["made"]
        device = self._choices.alpha.device
        weights, momentum = ([t.to(device) for t in state[key]] for key in ("weights", "momentum"))
        self._point = Point(weights, momentum)
        self._relaxation.load_buffers(state["buffers"])

    def _evaluate(self) -> float:
        """Return the classifier's accuracy on the validation split."""
        relaxation = self._relaxation
        relaxation.place(self._point.weights)
        relaxation.train(False)
        correct = examples = 0
        with torch.no_grad():
            for x, y in self._source.validation_split():
                correct += int((relaxation.logits(x).argmax(-1) == y).sum())
                examples += len(y)
        relaxation.train()
        return correct / examples

    def snapshot(self, *, accuracy: float) -> Snapshot:
        """Return the weights at hand as a snapshot with the next number."""
        return take_snapshot(
            self._relaxation,
            self._point,
            number=self._made + 1,
            step=self.step,
            accuracy=accuracy,
        )

    def _remember(self, accuracy: float) -> None:
        self.snapshots.keep_best(self.snapshot(accuracy=accuracy))
        self._made += 1
