"""What the rest of the project sees of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Data"]


@runtime_checkable
class Data(Protocol):
    """A data set that yields batches on the device.

    A batch is ``(x, y)``: x float32 (B, C, H, W) for images, else as the data set has it, and
    y int64 (B,).

    Attributes:
        name: of the data set.
        classes: number of classes; labels are 0 .. classes - 1.
        shape: of one example, without the batch dimension.
        sizes: number of examples of train, validation and test; 0 where there is no validation.
        own_validation: whether the validation part is one that the data set brings, so that the
            share ``data.validation`` has no effect.
        notes: what a user should know before the start, one sentence each, such as padding.
    """

    name: str
    classes: int
    shape: tuple[int, ...]
    sizes: dict[str, int]
    own_validation: bool
    notes: tuple[str, ...]

    def train(self, *, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields training batches without end; the first is that of step ``start + 1``.

        The batch of step n is a function of the seed and n alone.

        Raises:
            DataError: the batch is larger than the training part, or the part has not the
                classes and examples that ``data.classes_per_batch`` needs.
        """
        ...

    def evaluation(self, split: str, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the examples of a split once, in order; the last batch may be short.

        Raises:
            DataError: there is no such split, or it is empty.
        """
        ...

    def draw(
        self, split: str, *, batch_size: int, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields shuffled batches of a split without end and without augmentation.

        The first is number ``start + 1``. Batch n is a function of the seed, the split and n
        alone, and has nothing to do with the order of the training batches.

        Raises:
            DataError: there is no such split, or the batch is larger than it.
        """
        ...

    def pick(
        self, split: str, indices: Tensor, *, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the examples of a split with these numbers, int64 (B,).

        Args:
            split: the part.
            indices: from 0 to the size of the split - 1, in any order, also repeated.
            step: augments them as in this training step; None: not at all.

        Raises:
            DataError: there is no such split, or it is empty.
        """
        ...

    def class_sizes(self, split: str) -> list[int] | None:
        """How many examples of each class a split has; None where that is not known beforehand.

        Raises:
            DataError: there is no such split, or it is empty.
        """
        ...

    def example(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Always the same batch, for shapes and timing: the first training examples, repeated
        where there are too few."""
        ...

    def close(self) -> None:
        """Ends worker processes; the data set cannot be used afterwards."""
        ...
