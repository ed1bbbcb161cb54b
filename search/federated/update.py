"""What one client sends to the server, and the mean of what all sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.partitioned import PartitionedModule

__all__ = ["Means", "Update"]


@dataclass(frozen=True, eq=False)
class Update:
    """What a client learned in a round, on the CPU.

    Attributes:
        chunk: k, of the client.
        deltas: For partitions k and later: new less old values, as ``values_of`` lists them.
        psi: The gradient of each hyperparameter; empty where the client has none to give.
        loss: The mean loss of the last subnetwork while it learned.
        judged: The loss whose gradient ``psi`` is; nan without.
    """

    chunk: int
    deltas: dict[int, list[Tensor]]
    psi: list[Tensor]
    loss: float
    judged: float

    @property
    def nbytes(self) -> int:
        """What is uploaded: the two losses, which are for the eye, are not counted."""
        deltas = sum(one.nbytes for own in self.deltas.values() for one in own)
        return deltas + sum(one.nbytes for one in self.psi)

    def tensors(self) -> list[Tensor]:
        """Return all of it, for other processes."""
        deltas = [one for own in self.deltas.values() for one in own]
        facts = torch.tensor([self.loss, self.judged], dtype=torch.float64)
        return [*deltas, *self.psi, facts]

    @classmethod
    def read(cls, tensors: Sequence[Tensor], like: Update) -> Update:
        """Read what :meth:`tensors` of an update of the same shapes returned."""
        left = iter(tensors)
        deltas = {number: [next(left) for _ in own] for number, own in like.deltas.items()}
        psi = [next(left) for _ in like.psi]
        loss, judged = next(left).tolist()
        return cls(like.chunk, deltas, psi, loss, judged)

    @classmethod
    def empty(cls, model: PartitionedModule, chunk: int, *, judges: bool) -> Update:
        """Return one without content: the shapes of what a client of a chunk sends."""
        deltas = {
            number: [torch.empty_like(value, device="cpu") for value in model.values_of(number)]
            for number in range(chunk, len(model) + 1)
        }
        hyper = model.hyperparameters().values() if judges else ()
        psi = [torch.empty_like(value, device="cpu") for value in hyper]
        return cls(chunk, deltas, psi, 0.0, 0.0)


class Means:
    """Adds up updates in the order in which they come.

    A partition's mean is over the clients that learned it, the hyperparameters' over those that
    judged them.
    """

    def __init__(self) -> None:
        self._sums: dict[int, list[Tensor]] = {}
        self._counts: dict[int, int] = {}
        self._losses: list[float] = []
        self._judged: list[float] = []

    def add(self, update: Update) -> None:
        """Take an update."""
        for number, deltas in update.deltas.items():
            self._add(number, deltas)
        self._losses.append(update.loss)
        if update.psi:
            self._add(0, update.psi)
            self._judged.append(update.judged)

    def _add(self, key: int, tensors: Sequence[Tensor]) -> None:
        if key not in self._sums:
            self._sums[key] = [tensor.clone() for tensor in tensors]
        else:
            for total, tensor in zip(self._sums[key], tensors, strict=True):
                total.add_(tensor)
        self._counts[key] = self._counts.get(key, 0) + 1

    def deltas(self) -> dict[int, list[Tensor]]:
        """Return the mean of every partition that somebody learned."""
        return {key: self._mean(key) for key in sorted(self._sums) if key}

    def psi(self) -> list[Tensor]:
        """Return the mean gradient of each hyperparameter; empty if nobody judged."""
        return self._mean(0) if 0 in self._sums else []

    def _mean(self, key: int) -> list[Tensor]:
        return [total / self._counts[key] for total in self._sums[key]]

    @property
    def loss(self) -> float | None:
        """The mean of the clients' losses; None if there was no client."""
        return sum(self._losses) / len(self._losses) if self._losses else None

    @property
    def judged(self) -> float | None:
        """The mean of the losses that judged the hyperparameters; None if none did."""
        return sum(self._judged) / len(self._judged) if self._judged else None
