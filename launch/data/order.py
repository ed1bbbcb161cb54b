"""The order in which shuffled examples come.

step         1    2    3  |  4    5    6  |  7   ...
epoch             0       |       1       |  2
examples     permutation  |  a new one    |           what is left of an epoch after its
             of the epoch |  per epoch    |           last full batch is dropped
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...pipeline.seed import generator
from .error import DataError

__all__ = ["Order"]


class Order:
    """Which examples make up the batch of a step: a function of the seed and the step.

    Permutations are drawn on the CPU, so all devices agree.

    Args:
        examples: number of examples.
        batch_size: examples per batch.
        seed: the run's seed.
        key: the key that sets the batch size, for errors.
        split: the part that the examples are from, for errors.
        purpose: what the order is for; other purposes have other orders.

    Raises:
        DataError: the batch is larger than the part.
    """

    def __init__(
        self,
        examples: int,
        *,
        batch_size: int,
        seed: int,
        key: str = "train.batch_size",
        split: str = "training",
        purpose: Sequence[str] = ("data",),
    ) -> None:
        if not 1 <= batch_size <= examples:
            raise DataError(
                f"{key}={batch_size}: there are {examples} {split} examples; give a "
                f"batch size from 1 to {examples}"
            )
        self._examples = examples
        self._batch_size = batch_size
        self._seed = seed
        self._purpose = tuple(purpose)
        self._per_epoch = examples // batch_size
        self._epoch = -1
        self._permutation = torch.empty(0)

    def at(self, step: int) -> tuple[int, Tensor]:
        """The epoch, from 0, and the examples, int64 (batch_size,), of a step, from 1."""
        epoch, position = divmod(step - 1, self._per_epoch)
        if epoch != self._epoch:
            draw = generator(self._seed, *self._purpose, epoch)
            self._permutation = torch.randperm(self._examples, generator=draw)
            self._epoch = epoch
        begin = position * self._batch_size
        return epoch, self._permutation[begin : begin + self._batch_size]
