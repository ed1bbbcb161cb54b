"""Tests of `blockstep.launch.search.source`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import pytest
import torch
from blockstep.launch.config import AugmentConfig, DataConfig
from blockstep.launch.data import Data, load_data
from blockstep.launch.search.source import DataSource, Numbered
from torch import Tensor


class Endless:
    """Iterators over (n, n), and how often one was opened or closed."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed = 0

    def open_after(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        self.opened.append(start)
        return self._batches(start)

    def _batches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            for number in count(start + 1):
                yield torch.tensor(number), torch.tensor(number)
        finally:
            self.closed += 1


def test_numbers_that_follow_each_other_share_an_iterator():
    """1, 2, 3 open one; a jump closes it and opens another at the right place."""
    endless = Endless()
    batches = Numbered(endless.open_after)
    wanted = [1, 2, 3, 8, 9, 2, 2, 3]
    assert [int(batches.get(number)[0]) for number in wanted] == wanted
    assert endless.opened == [0, 7, 1, 1]
    assert endless.closed == 3


def test_an_iterator_that_fails_is_opened_again():
    """After an error the next number begins anew, instead of a generator that has ended."""

    class Failing(Endless):
        def _batches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
            yield from islice(super()._batches(start), 1)
            raise OSError("the disk is gone")

    batches = Numbered(Failing().open_after)
    batches.get(1)
    with pytest.raises(OSError, match="the disk is gone"):
        batches.get(2)
    assert int(batches.get(3)[0]) == 3


@pytest.fixture
def data() -> Data:
    """Digits, with augmentation."""
    config = DataConfig(augment=AugmentConfig(crop=1, flip=True))
    return load_data(config, seed=3, device=torch.device("cpu"))


def test_a_search_gets_augmented_training_and_plain_validation_batches(data: Data):
    """By number, from 1, as the data set has them."""
    source = DataSource(data, batch_size=20, validation_batch=30)
    for number in (1, 2, 7):
        x, y = source.training(number)
        expected = next(islice(data.train(batch_size=20), number - 1, None))
        assert torch.equal(x, expected[0])
        assert torch.equal(y, expected[1])
        x, y = source.validation(number)
        expected = next(islice(data.draw("validation", batch_size=30), number - 1, None))
        assert torch.equal(x, expected[0])
        assert torch.equal(y, expected[1])


def test_the_validation_split_is_whole(data: Data):
    """Once, in order, in batches of validation_batch at most."""
    source = DataSource(data, batch_size=20, validation_batch=70)
    batches = list(source.validation_split())
    assert [len(y) for _, y in batches] == [70, 70, 40]
    (whole,) = data.evaluation("validation", batch_size=180)
    assert torch.equal(torch.cat([x for x, _ in batches]), whole[0])
