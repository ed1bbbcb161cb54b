"""What all data sets of this room share: the order, the preparation, the splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from .error import DataError
from .few_classes import FewClasses, Subset
from .order import Order
from .part import Part, StreamPart
from .preparation import Preparation

__all__ = ["DataSet", "Facts", "Selection"]

P = TypeVar("P", bound=Part)

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Facts:
    """What is known about a data set besides its examples; see :class:`~.data.Data`.

    ``subset`` says how few classes a training batch has; None: it has all.
    """

    name: str
    classes: int
    shape: tuple[int, ...]
    notes: tuple[str, ...] = ()
    own_validation: bool = False
    subset: Subset | None = None


class Selection(NamedTuple):
    """The examples of one batch.

    Attributes:
        split: the part they are from.
        indices: int64 (B,).
        epoch: numbers the times that an example comes in training; None in evaluation.
    """

    split: str
    indices: Tensor
    epoch: int | None = None


class DataSet(ABC, Generic[P]):
    """Implements :class:`~.data.Data` for any way to get at the examples.

    Args:
        parts: ``train``, ``test``, and ``validation`` where there is one.
        facts: what is known about the data set.
        preparation: from the examples to the inputs of a network.
        seed: the run's seed.
        device: where batches go.
    """

    def __init__(
        self,
        parts: Mapping[str, P],
        facts: Facts,
        *,
        preparation: Preparation,
        seed: int,
        device: torch.device,
    ) -> None:
        self.name = facts.name
        self.classes = facts.classes
        self.shape = facts.shape
        self.notes = facts.notes
        self.own_validation = facts.own_validation
        self._subset = facts.subset
        self.sizes = {split: len(parts[split]) if split in parts else 0 for split in SPLITS}
        self._parts = dict(parts)
        self._preparation = preparation
        self._seed = seed
        self._device = device

    @abstractmethod
    def _batches(self, selections: Iterable[Selection]) -> Iterator[tuple[Tensor, Tensor]]:
        """The selected examples and labels, unprepared, on the device, in the same order."""

    def train(self, *, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """See :meth:`.data.Data.train`."""
        order = Order(self.sizes["train"], batch_size=batch_size, seed=self._seed)
        if self._subset is None:
            return self._training(order, start)
        if self.class_sizes("train") is None:
            raise DataError(
                f"data.classes_per_batch={self._subset.classes}: {self.name} tells the labels only "
                "with its items; give its Dataset an attribute targets with all labels, or leave "
                "the key out"
            )
        few = FewClasses(
            order,
            self._parts["train"].labels,
            subset=self._subset,
            batch_size=batch_size,
            seed=self._seed,
        )
        return self._training(few, start)

    def evaluation(self, split: str, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See :meth:`.data.Data.evaluation`."""
        size = self._size(split)
        if batch_size < 1:
            raise DataError(f"evaluate.batch_size={batch_size}: expected at least 1")
        return self._evaluation(split, torch.arange(size).split(batch_size))

    def draw(
        self, split: str, *, batch_size: int, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See :meth:`.data.Data.draw`."""
        order = Order(
            self._size(split),
            batch_size=batch_size,
            seed=self._seed,
            key="batch size",
            split=split,
            purpose=("draw", split),
        )
        return self._drawing(split, order, start)

    def pick(
        self, split: str, indices: Tensor, *, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`.data.Data.pick`."""
        self._size(split)
        x, y = next(self._batches([Selection(split, indices, step)]))
        if step is None:
            return self._preparation.evaluate(x), y
        return self._preparation.train(x, step), y

    def class_sizes(self, split: str) -> list[int] | None:
        """See :meth:`.data.Data.class_sizes`."""
        self._size(split)
        part = self._parts[split]
        if isinstance(part, StreamPart) and not part.labels.any():
            return None  # labels that are not known are all 0 there
        return part.labels.bincount(minlength=self.classes).tolist()

    def example(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """See :meth:`.data.Data.example`."""
        indices = torch.arange(batch_size) % self.sizes["train"]
        x, y = next(self._batches([Selection("train", indices)]))
        return self._preparation.evaluate(x), y

    def close(self) -> None:
        """See :meth:`.data.Data.close`."""

    def _size(self, split: str) -> int:
        size = self.sizes.get(split, 0)
        if not size:
            known = ", ".join(name for name, examples in self.sizes.items() if examples)
            raise DataError(f"data set {self.name}: it has no {split} part, only {known}")
        return size

    def _drawing(self, split: str, order: Order, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        selections = (Selection(split, order.at(number)[1]) for number in count(start + 1))
        for x, y in self._batches(selections):
            yield self._preparation.evaluate(x), y

    def _training(self, order: Order | FewClasses, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = self._batches(_selections(order, start))
        for step, (x, y) in zip(count(start + 1), batches, strict=False):
            yield self._preparation.train(x, step), y

    def _evaluation(self, split: str, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self._batches(Selection(split, indices) for indices in batches):
            yield self._preparation.evaluate(x), y


def _selections(order: Order | FewClasses, start: int) -> Iterator[Selection]:
    for step in count(start + 1):
        epoch, indices = order.at(step)
        yield Selection("train", indices, epoch)
