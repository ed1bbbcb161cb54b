"""Training batches that hold examples of few classes.

step          1    2    3   ...  until  |  until + 1  ...
classes       drawn anew per batch      |  all
examples      drawn among theirs        |  as they would have come anyway; see :mod:`.order`

The similarity loss of PredSim compares the examples of a batch with each other; with few classes
there are more pairs of the same class among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...pipeline.seed import generator
from .error import DataError
from .order import Order

__all__ = ["FewClasses", "Subset"]


@dataclass(frozen=True)
class Subset:
    """How few classes a batch has; ``data.classes_per_batch`` and ``data.classes_until``.

    Attributes:
        classes: A batch holds examples of at most so many.
        until: The last step for which that holds; None: always.
    """

    classes: int
    until: int | None = None

    def __str__(self) -> str:
        """Say it in a sentence."""
        until = "" if self.until is None else f" until step {self.until}"
        return f"training batches hold examples of at most {self.classes} classes{until}"


class FewClasses:
    """Which examples make up the batch of a step: a function of the seed and the step.

    Every set of so many classes is equally likely, and so is every set of examples among those
    of the drawn classes; no example comes twice in a batch. Classes without an example are none.

    Args:
        order: the batches after the last step with few classes.
        labels: int64 (N,).
        subset: how few classes.
        batch_size: examples per batch.
        seed: the run's seed.

    Raises:
        DataError: there are not so many classes, or the smallest of them together have not enough
            examples for a batch.
    """

    def __init__(
        self, order: Order, labels: Tensor, *, subset: Subset, batch_size: int, seed: int
    ) -> None:
        labels = labels.cpu()
        sizes = labels.bincount()
        sizes = sizes[sizes > 0]
        if subset.classes > len(sizes):
            raise DataError(
                f"data.classes_per_batch={subset.classes}: the training part has examples of "
                f"{len(sizes)} classes; give a number from 1 to {len(sizes)}, or null for all"
            )
        least = int(sizes.sort().values[: subset.classes].sum())
        if batch_size > least:
            raise DataError(
                f"data.classes_per_batch={subset.classes}: the smallest {subset.classes} classes "
                f"have {least} training examples together, too few for "
                f"train.batch_size={batch_size}; give more classes or a smaller batch"
            )
        self._order = order
        self._subset = subset
        self._batch_size = batch_size
        self._seed = seed
        self._members = labels.argsort(stable=True).split(sizes.tolist())

    def at(self, step: int) -> tuple[int, Tensor]:
        """The epoch and the examples, int64 (batch_size,), of a step, from 1.

        An example may come again with any step, so each is an epoch of its own, counted
        downwards from -1.
        """
        subset = self._subset
        if subset.until is not None and step > subset.until:
            return self._order.at(step)
        draw = generator(self._seed, "classes", step)
        classes = torch.randperm(len(self._members), generator=draw)[: subset.classes]
        examples = torch.cat([self._members[place] for place in classes.tolist()])
        return -step, examples[torch.randperm(len(examples), generator=draw)[: self._batch_size]]
