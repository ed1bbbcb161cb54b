"""Where a search takes its batches from: a data set, asked by number."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from ..data import Data

__all__ = ["DataSource", "Numbered"]

Batch = tuple[Tensor, Tensor]


class Numbered:
    """Batches by number, on top of iterators without end.

    An iterator is used as long as the numbers follow each other, and opened again where they do
    not. Ranks that share the samples of an outer step skip the batches of the others.

    Args:
        open_after: Makes an iterator that begins with the batch after that of a number.
    """

    def __init__(self, open_after: Callable[[int], Iterator[Batch]]) -> None:
        self._open_after = open_after
        self._batches: Iterator[Batch] = iter(())
        self._next = 0

    def get(self, number: int) -> Batch:
        """Return batch ``number``, from 1."""
        if number != self._next:
            # What is read ahead by workers is of no use; a generator gives them back.
            close = getattr(self._batches, "close", None)
            if close is not None:
                close()
            self._batches = self._open_after(number - 1)
        self._next = 0  # after an error nothing follows
        batch = next(self._batches)
        self._next = number + 1
        return batch


class DataSource:
    """A data set as a `SearchSource`.

    Args:
        data: The data set, with a validation part.
        batch_size: Examples of a training batch.
        validation_batch: Examples of a validation batch.
    """

    def __init__(self, data: Data, *, batch_size: int, validation_batch: int) -> None:
        self._data = data
        self._validation_batch = validation_batch
        self._training = Numbered(lambda start: data.train(batch_size=batch_size, start=start))
        self._validation = Numbered(
            lambda start: data.draw("validation", batch_size=validation_batch, start=start)
        )

    def training(self, number: int) -> Batch:
        """Return a training batch, augmented."""
        return self._training.get(number)

    def validation(self, number: int) -> Batch:
        """Return a shuffled batch of the validation part, not augmented."""
        return self._validation.get(number)

    def validation_split(self) -> Iterator[Batch]:
        """Yield the whole validation part once, in order."""
        return self._data.evaluation("validation", batch_size=self._validation_batch)
