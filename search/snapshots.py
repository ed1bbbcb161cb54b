"""The memory of weights that an outer step begins from (SEDONA, section 3.3, weight sampling).

pretraining    the N with the best validation accuracy stay
search         a sampled one goes a step; the result is added at the end, the oldest leaves
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..pipeline.seed import derive
from .descent import Point
from .relaxation import Relaxation

__all__ = ["Snapshot", "Snapshots", "restore_snapshot", "take_snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """Weights at one moment of a training; never changed once made.

    Attributes:
        number: Its number in the order in which they were made, from 1; no other has it.
        step: Training steps that were done.
        accuracy: On the validation split, when it was evaluated; NaN for what came later.
        point: Weights and momentum.
        buffers: Running statistics and the like.
    """

    number: int
    step: int
    accuracy: float
    point: Point
    buffers: list[Tensor]

    @property
    def finite(self) -> bool:
        """Whether the weights can be trained on."""
        return all(bool(weight.isfinite().all()) for weight in self.point.weights)

    def tensors(self) -> list[Tensor]:
        """Return everything but ``number`` as tensors, in a fixed order."""
        figures = torch.tensor([self.step, self.accuracy], dtype=torch.float64)
        return [figures, *self.point.weights, *self.point.momentum, *self.buffers]

    def with_tensors(self, number: int, tensors: Sequence[Tensor]) -> Snapshot:
        """Return a snapshot of what :meth:`tensors` of one with the same shapes returned."""
        figures, *rest = tensors
        count = len(self.point.weights)
        point = Point(list(rest[:count]), list(rest[count : 2 * count]))
        step, accuracy = figures.tolist()
        return Snapshot(number, int(step), accuracy, point, list(rest[2 * count :]))

    def state_dict(self) -> dict[str, Any]:
        """Return its content as tensors and plain values."""
        return {
            "number": self.number,
            "step": self.step,
            "accuracy": self.accuracy,
            "weights": self.point.weights,
            "momentum": self.point.momentum,
            "buffers": self.buffers,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Snapshot:
        """Make the snapshot that :meth:`state_dict` came from."""
        point = Point(list(state["weights"]), list(state["momentum"]))
        return cls(state["number"], state["step"], state["accuracy"], point, list(state["buffers"]))


def take_snapshot(
    relaxation: Relaxation, point: Point, *, number: int, step: int, accuracy: float
) -> Snapshot:
    """Copy where a training stands to the CPU.

    Args:
        relaxation: Its buffers are taken.
        point: The weights and momentum.
        number: The snapshot's number.
        step: Training steps that were done.
        accuracy: On the validation split; NaN if it was not evaluated.
    """
    weights, momentum = ([t.to("cpu") for t in ts] for ts in (point.weights, point.momentum))
    # On a CPU the weights are never changed in place; the buffers are.
    buffers = [buffer.detach().to("cpu", copy=True) for buffer in relaxation.buffers()]
    return Snapshot(number, step, accuracy, Point(weights, momentum), buffers)


def restore_snapshot(relaxation: Relaxation, snapshot: Snapshot, device: torch.device) -> Point:
    """Load the buffers of ``snapshot``, and return its weights and momentum on ``device``."""
    relaxation.load_buffers(snapshot.buffers)
    point = snapshot.point
    return Point(*([t.to(device) for t in ts] for ts in (point.weights, point.momentum)))


class Snapshots:
    """At most ``capacity`` snapshots, the oldest first.

    Args:
        capacity: N.
        members: Those that are already there.
    """

    def __init__(self, capacity: int, members: Iterable[Snapshot] = ()) -> None:
        self.capacity = capacity
        self._members = list(members)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._members)

    def __iter__(self) -> Iterator[Snapshot]:
        """Yield them, the oldest first."""
        return iter(self._members)

    def worthy(self, accuracy: float) -> bool:
        """Whether a snapshot with this validation accuracy would be kept in the pretraining."""
        if len(self) < self.capacity:
            return True
        return accuracy >= min(member.accuracy for member in self._members)

    def keep_best(self, snapshot: Snapshot) -> None:
        """Add one; if there are too many, the worst leaves, of equals the oldest."""
        self._members.append(snapshot)
        if len(self) > self.capacity:
            worst = min(self._members, key=lambda member: (member.accuracy, member.number))
            self._members.remove(worst)

    def replace_oldest(self, snapshot: Snapshot) -> None:
        """Add one; if there are too many, the oldest leaves."""
        self._members.append(snapshot)
        del self._members[: -self.capacity]

    def sample(self, count: int, *, seed: int, step: int) -> list[Snapshot]:
        """Draw with equal probability; different ones as long as there are enough.

        Args:
            count: How many.
            seed: The run's seed.
            step: The outer step.
        """
        numbers = random.Random(derive(seed, "snapshots", step))
        if count <= len(self):
            return numbers.sample(self._members, count)
        return numbers.choices(self._members, k=count)
