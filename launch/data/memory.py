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
from .rotation import rotate

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

    @property
    def has_images(self) -> bool:
        """Whether the examples are images of bytes."""
        return len(self.shape) == 3 and self._parts["train"].x.dtype == torch.uint8

    def held(self, split: str) -> MemoryPart:
        """The examples of a split as they are held, on the device; images are bytes.

        Raises:
            DataError: there is no such split, or it is empty.
        """
        self._size(split)
        return self._parts[split]

    def prepare(self, x: Tensor, step: int | None) -> Tensor:
        """Makes inputs of a network from held examples.

        Args:
            x: some of those that :meth:`held` returns.
            step: seeds the augmentation of training; None: nothing is augmented.
        """
        preparation = self._preparation
        return preparation.evaluate(x) if step is None else preparation.train(x, step)

    def rotate(self, angles: Mapping[str, Tensor]) -> None:
        """Turns every image of some splits, once and for all.

        Args:
            angles: for each of the splits (N,) in radians; see :mod:`.rotation`.

        Raises:
            DataError: the examples are no images of bytes.
        """
        if not self.has_images:
            raise DataError(
                f"data set {self.name}: its examples have the shape {self.shape}; only images of "
                "bytes are turned"
            )
        for split, own in angles.items():
            part = self.held(split)
            self._parts[split] = MemoryPart(rotate(part.x, own), part.labels)

    def drop_split(self, split: str) -> None:
        """Removes a part that was added."""
        del self._parts[split], self.sizes[split]

    def _batches(self, selections: Iterable[Selection]) -> Iterator[tuple[Tensor, Tensor]]:
        for split, indices, _ in selections:
            part = self._parts[split]
            indices = indices.to(self._device, non_blocking=True)
            yield part.x.index_select(0, indices), part.labels.index_select(0, indices)


def _on(device: torch.device, part: MemoryPart) -> MemoryPart:
    return MemoryPart(part.x.to(device).contiguous(), part.labels.to(device))
