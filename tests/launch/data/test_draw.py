"""Tests of drawing shuffled batches of a part, from memory and from worker processes."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from blockstep.launch.config import AugmentConfig, DataConfig
from blockstep.launch.data import Data, DataError, data_from, load_data
from torch import Tensor
from torch.utils.data import Dataset

CPU = torch.device("cpu")
ALL = AugmentConfig(crop=1, flip=True, rotation=10.0, cutout=2)


class Images(Dataset):
    """30 images of three classes, each image full of its number."""

    def __init__(self) -> None:
        self.targets = [index % 3 for index in range(30)]

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((1, 8, 8), index, dtype=torch.uint8), index % 3


class Unlabelled(Images):
    """Tells its labels only with its items."""

    def __init__(self) -> None:
        self.classes = 3


def streamed(part: Dataset | None = None, *, seed: int = 0, validation: float = 0.4) -> Data:
    """A data set that is read item by item, in this process."""
    config = DataConfig(validation=validation, workers=0, augment=ALL, normalize=False)
    parts = SimpleNamespace(train=part or Images(), test=Images())
    return data_from(parts, config, seed=seed, device=CPU, name="images")


def held(*, seed: int = 0) -> Data:
    """A data set in memory: digits with every augmentation."""
    return load_data(DataConfig(augment=ALL), seed=seed, device=CPU)


def same(ours: list[tuple[Tensor, Tensor]], theirs: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether all batches are equal bit for bit."""
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(x, v) and torch.equal(y, w) for (x, y), (v, w) in pairs)


@pytest.mark.parametrize("make", [held, streamed])
def test_a_batch_is_a_function_of_its_number(make):
    """Any start gives the tail of the whole, bit for bit, over the end of an epoch."""
    whole = list(islice(make().draw("validation", batch_size=5), 40))
    for start in (1, 2, 35, 36, 39):
        tail = list(islice(make().draw("validation", batch_size=5, start=start), 40 - start))
        assert same(whole[start:], tail)


@pytest.mark.parametrize("make", [held, streamed])
def test_the_seed_and_the_part_decide(make):
    """Another seed and another part have other batches; training does not disturb them."""
    data = make()
    (first,) = islice(data.draw("validation", batch_size=10), 1)
    next(data.train(batch_size=10))
    assert same([first], list(islice(data.draw("validation", batch_size=10), 1)))
    assert not same([first], list(islice(make(seed=1).draw("validation", batch_size=10), 1)))
    assert not same([first], list(islice(data.draw("train", batch_size=10), 1)))


def test_an_epoch_has_every_example_once_and_unchanged():
    """12 validation images in batches of 4: all of them after three, none augmented."""
    data = streamed()
    expected = torch.cat([x for x, _ in data.evaluation("validation", batch_size=12)])
    drawn = list(islice(data.draw("validation", batch_size=4), 6))
    for epoch in (drawn[:3], drawn[3:]):
        found = torch.cat([x for x, _ in epoch])
        order = found[:, 0, 0, 0].argsort()
        assert torch.equal(found[order], expected[expected[:, 0, 0, 0].argsort()])
    assert not same(drawn[:3], drawn[3:])
    assert all(int(x[0, 0, 0, 0] * 255 + 0.5) % 3 == int(y[0]) for x, y in drawn)


@pytest.mark.parametrize("make", [held, streamed])
def test_what_cannot_be_drawn_is_refused_at_once(make):
    """A part that is not there, and a batch larger than the part, with both numbers."""
    data = make()
    with pytest.raises(DataError, match="it has no holdout part, only train, validation, test"):
        data.draw("holdout", batch_size=1)
    size = data.sizes["validation"]
    with pytest.raises(DataError, match=rf"{size + 1}: there are {size} validation examples"):
        data.draw("validation", batch_size=size + 1)


def test_class_sizes_count_the_labels():
    """Per split; None for a Dataset that does not tell its labels beforehand."""
    data = streamed()
    assert data.class_sizes("validation") == [4, 4, 4]
    assert data.class_sizes("train") == [6, 6, 6]
    digits = held()
    for split in ("train", "validation"):
        sizes = digits.class_sizes(split)
        assert sizes is not None
        assert len(sizes) == 10
        assert sum(sizes) == digits.sizes[split]
    assert streamed(Unlabelled()).class_sizes("validation") is None
    with pytest.raises(DataError, match="it has no validation part"):
        streamed(validation=0.0).class_sizes("validation")


def test_a_validation_part_of_its_own_is_told():
    """digits brings one; of other data sets a share is held out."""
    assert held().own_validation
    assert not streamed().own_validation
    assert not load_data(DataConfig(validation=0.0), seed=0, device=CPU).own_validation
