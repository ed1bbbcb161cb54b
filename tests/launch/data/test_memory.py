"""Tests of `blockstep.launch.data.memory` and of what all data sets share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

import pytest
import torch
from blockstep.launch.config import AugmentConfig, DataConfig
from blockstep.launch.data import Data, DataError, MemoryData, load_data
from blockstep.launch.data.part import MemoryPart
from torch import Tensor

ALL = AugmentConfig(crop=1, resized_crop=True, flip=True, rotation=10.0, cutout=2)


def digits(*, seed: int = 0, augment: AugmentConfig | None = None) -> MemoryData:
    """A data set of 1,257 images, 12 batches of 100 per epoch."""
    config = DataConfig(augment=augment or AugmentConfig())
    data = load_data(config, seed=seed, device=torch.device("cpu"))
    assert isinstance(data, MemoryData)
    return data


def same(ours: list[tuple[Tensor, Tensor]], theirs: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether all batches are equal bit for bit."""
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(x, v) and torch.equal(y, w) for (x, y), (v, w) in pairs)


def counted(batches: Iterable[tuple[Tensor, Tensor]]) -> Counter[bytes]:
    """How often each image occurs."""
    return Counter(image.numpy().tobytes() for x, _ in batches for image in x)


def test_it_is_a_data_set():
    """All that the rest of the project may use is there."""
    data: Data = digits()
    assert isinstance(data, Data)
    assert (data.name, data.classes, data.shape, data.notes) == ("digits", 10, (1, 8, 8), ())


@pytest.mark.parametrize("start", [1, 11, 12, 13, 30])
def test_a_resumed_iteration_is_the_tail_of_the_whole(start: int):
    """Bit for bit, with augmentation, before, at and after the end of an epoch."""
    whole = list(islice(digits(augment=ALL).train(batch_size=100), 34))
    tail = list(islice(digits(augment=ALL).train(batch_size=100, start=start), 34 - start))
    assert same(whole[start:], tail)


def test_iterations_do_not_disturb_each_other():
    """Two iterations and an evaluation in turns yield what each yields alone."""
    data = digits(augment=ALL)
    alone = list(islice(data.train(batch_size=50), 4))
    first, second = data.train(batch_size=50), data.train(batch_size=50, start=2)
    mixed = [next(first), next(second)]
    list(data.evaluation("test", batch_size=100))
    mixed += [next(first), next(second)]
    assert same(mixed, [alone[0], alone[2], alone[1], alone[3]])


def test_an_epoch_has_every_image_once():
    """12 full batches are 1,200 of the images, none of them twice."""
    data = digits()
    batches = list(islice(data.train(batch_size=100), 12))
    seen = counted(batches)
    assert all(len(x) == 100 for x, _ in batches)
    assert seen.total() == 1200
    assert seen <= counted(data.evaluation("train", batch_size=500))


def test_the_seed_of_the_run_decides_the_order():
    """Another seed, other batches; the same seed, the same."""
    first = list(islice(digits().train(batch_size=100), 2))
    assert same(first, list(islice(digits().train(batch_size=100), 2)))
    assert not same(first, list(islice(digits(seed=1).train(batch_size=100), 2)))


def test_an_evaluation_is_in_order_and_whole():
    """Any batch size gives the same examples; the last batch may be short."""
    data = digits(augment=ALL)
    small = list(data.evaluation("test", batch_size=100))
    (large,) = data.evaluation("test", batch_size=1000)
    assert [len(y) for _, y in small] == [100, 100, 100, 60]
    assert same([large], [(torch.cat([x for x, _ in small]), torch.cat([y for _, y in small]))])


def test_types_are_those_of_a_batch():
    """float32 images and int64 labels."""
    x, y = next(digits().train(batch_size=7))
    assert (x.dtype, x.shape, y.dtype, y.shape) == (torch.float32, (7, 1, 8, 8), torch.int64, (7,))


def test_a_batch_larger_than_the_data_is_refused_at_once():
    """Before the first batch is asked for, with both numbers."""
    with pytest.raises(DataError, match=r"train.batch_size=1258: there are 1257 training"):
        digits().train(batch_size=1258)


def test_a_split_that_is_not_there_is_refused_at_once(cpu: torch.device):
    """With those that are."""
    data = load_data(DataConfig(validation=0.0), seed=0, device=cpu)
    assert data.sizes["validation"] == 0
    with pytest.raises(DataError, match=r"digits: it has no validation part, only train, test"):
        data.evaluation("validation", batch_size=10)
    with pytest.raises(DataError, match=r"evaluate.batch_size=0"):
        data.evaluation("test", batch_size=0)


def test_the_example_is_always_the_same():
    """The first images without augmentation, repeated where there are too few."""
    data = digits(augment=ALL)
    x, y = data.example(1300)
    (first, labels) = next(data.evaluation("train", batch_size=43))
    assert x.shape == (1300, 1, 8, 8)
    assert torch.equal(x[:43], first)
    assert torch.equal(x[1257:], first)
    assert torch.equal(y[1257:], labels)


def test_a_limited_training_part_is_trained_on(cpu: torch.device):
    """data.train_examples counts, and no other images occur."""
    data = load_data(DataConfig(train_examples=50), seed=0, device=cpu)
    assert data.sizes["train"] == 50
    x, _ = next(data.train(batch_size=50))
    assert x.shape[0] == 50


def test_further_splits_can_be_evaluated():
    """Such as corrupted images; those that do not fit are refused."""
    data = digits()
    part = MemoryPart(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), torch.arange(5))
    data.add_split("fog-3", part)
    (batch,) = data.evaluation("fog-3", batch_size=9)
    assert batch[1].tolist() == [0, 1, 2, 3, 4]
    assert data.sizes["fog-3"] == 5
    with pytest.raises(DataError, match="has a fog-3 part already"):
        data.add_split("fog-3", part)
    with pytest.raises(DataError, match=r"\(3, 8, 8\), those of digits have \(1, 8, 8\)"):
        data.add_split("x", MemoryPart(torch.zeros(5, 3, 8, 8), torch.arange(5)))
    with pytest.raises(DataError, match="is 10, but the 10 classes"):
        data.add_split("x", MemoryPart(part.x, torch.arange(5) + 8))


def test_memory_holds_bytes():
    """A quarter of float32: the images stay uint8 until their batch is made."""
    data = digits()
    assert all(part.x.dtype == torch.uint8 for part in data._parts.values())


def test_images_are_padded_for_networks_that_need_more_pixels(cpu: torch.device):
    """data.size=32 puts 8 x 8 images into the middle and says so."""
    data = load_data(DataConfig(size=32, normalize=False), seed=0, device=cpu)
    small = load_data(DataConfig(normalize=False), seed=0, device=cpu)
    assert data.notes == ("images of 8 x 8 pixels are padded to 32 x 32",)
    x, _ = next(data.evaluation("test", batch_size=9))
    assert x.shape == (9, 1, 32, 32)
    inside = next(small.evaluation("test", batch_size=9))[0]
    assert torch.equal(x[:, :, 12:20, 12:20], inside)
    assert x.sum() == pytest.approx(float(inside.sum()))


def test_examples_are_picked_by_number():
    """In any order, repeated, of any split; a step augments them as it does in training."""
    config = DataConfig(augment=AugmentConfig(crop=2))
    data = load_data(config, seed=0, device=torch.device("cpu"))
    x, y = next(data.evaluation("test", batch_size=20))
    numbers = torch.tensor([7, 3, 3])
    picked = data.pick("test", numbers)
    assert torch.equal(picked[0], x[numbers])
    assert torch.equal(picked[1], y[numbers])
    first = data.pick("train", numbers, step=5)[0]
    assert torch.equal(first, data.pick("train", numbers, step=5)[0])
    assert not torch.equal(first, data.pick("train", numbers, step=6)[0])
    assert not torch.equal(first, data.pick("train", numbers)[0])
