"""Data sets whose examples are all held in memory, on the device that trains on them.

Images stay bytes there: a quarter of the memory of float32. A batch is gathered, augmented and
normalised on the device, without worker processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from .dataset import DataSet, Facts, Selection
from .error import DataError
from .labels import check_labels
from .part import MemoryPart
from .preparation import Preparation

__all__ = ["MemoryData"]


class MemoryData(DataSet[MemoryPart]):
    """A data set in memory; implements :class:`~.data.Data`.

    Args:
        parts: ``train``, ``test``, and ``validation`` where there is one.
        facts: what is known about the data set.
        preparation: from the examples to the inputs of a network.
        seed: the run's seed.
        device: where the examples are held.
    """

    def __init__(
        self,
        parts: Mapping[str, MemoryPart],
        facts: Facts,
        *,
        preparation: Preparation,
        seed: int,
        device: torch.device,
    ) -> None:
        held = {split: _on(device, part) for split, part in parts.items()}
        super().__init__(held, facts, preparation=preparation, seed=seed, device=device)

    def add_split(self, split: str, part: MemoryPart) -> None:
        """Adds a part to evaluate on, such as corrupted test images.

        Args:
            split: its name.
            part: examples of the same shape and classes.

        Raises:
            DataError: the name is taken, or the examples do not fit.
        """
        if self.sizes.get(split):
            raise DataError(f"data set {self.name}: it has a {split} part already")
        if tuple(part.x.shape[1:]) != self.shape:
            raise DataError(
                f"{split}: its examples have the shape {tuple(part.x.shape[1:])}, those of "
                f"{self.name} have {self.shape}"
            )
        check_labels(part.labels, self.classes, source=split)
        self._parts[split] = _on(self._device, part)
        self.sizes[split] = len(part)

    def _batches(self, selections: Iterable[Selection]) -> Iterator[tuple[Tensor, Tensor]]:
        for split, indices, _ in selections:
            part = self._parts[split]
            indices = indices.to(self._device, non_blocking=True)
            yield part.x.index_select(0, indices), part.labels.index_select(0, indices)


def _on(device: torch.device, part: MemoryPart) -> MemoryPart:
    return MemoryPart(part.x.to(device).contiguous(), part.labels.to(device))
