"""The examples of an ensemble's training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from torch import Tensor

from ..data import Data

__all__ = ["EnsembleSource"]


class EnsembleSource:
    """A data set as `blockstep.search.sharing.plan.Source`.

    Args:
        data: The data set; batches are on the device.
        batch_size: Examples per step.
        tick: Called at each batch, so that an epoch between two steps is not taken for a hang.
    """

    def __init__(
        self, data: Data, *, batch_size: int, tick: Callable[[], None] = lambda: None
    ) -> None:
        self._data, self._batch_size, self._tick = data, batch_size, tick

    def train(self, *, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See :meth:`Source.train`."""
        for batch in self._data.train(batch_size=self._batch_size, start=start):
            self._tick()
            yield batch

    def epoch(self, *, start: int) -> Iterable[Tensor]:
        """See :meth:`Source.epoch`."""
        count = max(1, self._data.sizes["train"] // self._batch_size)
        drawn = self._data.draw("train", batch_size=self._batch_size, start=start)
        for x, _ in islice(drawn, count):
            self._tick()
            yield x

    def inputs(self, split: str, *, batch_size: int) -> Iterator[Tensor]:
        """Yield the inputs of a split in order."""
        for x, _ in self._data.evaluation(split, batch_size=batch_size):
            self._tick()
            yield x
