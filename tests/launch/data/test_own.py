"""Tests of `blockstep.launch.data.own`."""

from __future__ import annotations

import importlib
import random
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from blockstep.launch.config import AugmentConfig, DataConfig
from blockstep.launch.data import Data, DataError, MemoryData, StreamData, data_from
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

CPU = torch.device("cpu")
LABELS = torch.arange(40) % 4


class Noisy(Dataset):
    """Adds noise to its items, as data sets with an augmentation of their own do."""

    def __init__(self, count: int = 40, *, targets: bool = True) -> None:
        self.count = count
        if targets:
            self.targets = [index % 4 for index in range(count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.rand(2) + random.random() + float(np.random.rand())
        return torch.full((2,), float(index)) + noise / 10, index % 4


class Bytes(Noisy):
    """Has images of bytes."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((3, 8, 8), index, dtype=torch.uint8), index % 4


def made(train: Any, test: Any = None, *, config: DataConfig | None = None, **more: Any) -> Data:
    """The data from an object with these attributes."""
    parts = SimpleNamespace(train=train, test=train if test is None else test, **more)
    return data_from(parts, config, seed=0, device=CPU, name="mine")


def test_float_vectors_stay_as_they_are():
    """float32 without normalisation; float64 and float16 become float32."""
    for dtype in (torch.float32, torch.float64, torch.float16):
        x = torch.arange(80.0).view(40, 2).to(dtype)
        data = made((x, LABELS), config=DataConfig(validation=0.0))
        assert isinstance(data, MemoryData)
        assert (data.name, data.classes, data.shape) == ("mine", 4, (2,))
        found, labels = next(data.evaluation("train", batch_size=40))
        assert found.dtype == torch.float32
        assert torch.equal(found, x.float())
        assert torch.equal(labels, LABELS)


def test_tokens_stay_integers():
    """int64 (B, T), from any integer type; bytes in rows are tokens too."""
    for dtype in (torch.int64, torch.int32, torch.uint8):
        x = torch.arange(200).view(40, 5).to(dtype)
        found, _ = next(made((x, LABELS)).train(batch_size=8))
        assert found.dtype == torch.int64
        assert found.shape == (8, 5)


@pytest.mark.parametrize("shape", [(40, 3, 8, 8), (40, 8, 8)])
def test_images_of_bytes_are_treated_as_images(shape: tuple[int, ...]):
    """Normalised by statistics of their own, augmented, padded; grey ones get a channel."""
    x = torch.randint(0, 256, shape, dtype=torch.uint8)
    config = DataConfig(size=12, validation=0.0, augment=AugmentConfig(flip=True))
    data = made((x.numpy(), LABELS.numpy()), config=config)
    channels = shape[1] if len(shape) == 4 else 1
    assert data.shape == (channels, 12, 12)
    assert data.notes == ("images of 8 x 8 pixels are padded to 12 x 12",)
    found, _ = next(data.evaluation("train", batch_size=40))
    inside = found[:, :, 2:10, 2:10]
    assert inside.mean().abs() < 1e-5
    assert inside.std(correction=0) == pytest.approx(1, abs=0.02)


def test_given_statistics_are_used():
    """mean and std of the object, in [0, 1]."""
    x = torch.full((40, 1, 4, 4), 51, dtype=torch.uint8)
    data = made((x, LABELS), mean=[0.1], std=[0.5])
    assert next(data.train(batch_size=2))[0].flatten().tolist() == pytest.approx([0.2] * 32)


def test_a_mapping_and_a_tensor_dataset_do_as_well():
    """Keys instead of attributes; a TensorDataset is held in memory."""
    x = torch.randn(40, 2)
    parts = {"train": TensorDataset(x, LABELS), "test": (x[:5], LABELS[:5])}
    data = data_from(parts, seed=0, device=CPU)
    assert isinstance(data, MemoryData)
    assert data.sizes == {"train": 36, "validation": 4, "test": 5}


def test_an_own_validation_part_is_used():
    """Nothing is drawn from the training part."""
    x = torch.randn(40, 2)
    data = made((x, LABELS), validation=(x[:7], LABELS[:7]))
    assert data.sizes == {"train": 40, "validation": 7, "test": 40}


@pytest.mark.parametrize("classes", [10, [str(number) for number in range(10)]])
def test_classes_may_be_given(classes: Any):
    """As a number or as names; otherwise they are counted."""
    x = torch.randn(40, 2)
    assert made((x, LABELS), classes=classes).classes == 10
    with pytest.raises(DataError, match="is 2, but the 2 classes"):
        made((x, LABELS), classes=2)


def test_datasets_are_resumable_although_they_draw_random_numbers():
    """Items that use torch, random and numpy are the same for the same seed and step."""
    config = DataConfig(workers=0)
    whole = list(islice(made(Noisy(), config=config).train(batch_size=10), 9))
    random.seed(5)
    torch.manual_seed(5)
    states = random.getstate(), torch.get_rng_state()
    tail = list(islice(made(Noisy(), config=config).train(batch_size=10, start=4), 5))
    assert all(torch.equal(x, v) for (x, _), (v, _) in zip(whole[4:], tail, strict=True))
    assert states[0] == random.getstate()
    assert torch.equal(states[1], torch.get_rng_state())
    # Epochs of 3 batches; an item, its number plus noise, has another noise in each of them.
    values = {float(row[0]) for x, _ in whole for row in x}
    items = {int(value) for value in values}
    assert len(values) >= 2 * len(items)


ITEMS = """
import random, numpy, torch

class Items(torch.utils.data.Dataset):
    targets = [0, 1] * 10

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.rand(2) + random.random() + float(numpy.random.rand()) + index, index % 2
"""


def test_datasets_are_read_by_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A process of its own gives the same batches."""
    (tmp_path / "users_own_items.py").write_text(ITEMS)
    monkeypatch.syspath_prepend(str(tmp_path))
    items = importlib.import_module("users_own_items").Items()
    alone = list(islice(made(items, config=DataConfig(workers=0)).train(batch_size=9), 3))
    data = made(items, config=DataConfig(workers=1))
    assert isinstance(data, StreamData)
    helped = list(islice(data.train(batch_size=9), 3))
    data.close()
    assert all(torch.equal(x, v) for (x, _), (v, _) in zip(alone, helped, strict=True))


def test_datasets_of_bytes_are_images():
    """Augmented and scaled to [0, 1] on the device; the split is stratified by their targets."""
    config = DataConfig(workers=0, augment=AugmentConfig(flip=True))
    data = made(Bytes(), config=config)
    x, _ = next(data.evaluation("validation", batch_size=9))
    assert data.shape == (3, 8, 8)
    assert x.dtype == torch.float32
    assert ((x * 255) == (x * 255).round()).all()
    labels = [y for _, y in data.evaluation("validation", batch_size=9)]
    assert torch.cat(labels).bincount().tolist() == [1, 1, 1, 1]


@pytest.mark.filterwarnings("ignore:Got pickle error")
def test_a_dataset_that_cannot_travel_is_explained():
    """A local class cannot be pickled; without workers it can be used."""

    class Local(Noisy):
        """Unknown to other processes."""

    with pytest.raises(DataError, match=r"cannot be sent to worker processes.*data.workers=0"):
        next(made(Local(), config=DataConfig(workers=1)).train(batch_size=9))
    next(made(Local(), config=DataConfig(workers=0)).train(batch_size=9))


class Wrong(Noisy):
    """Gives one wrong item."""

    def __init__(self, item: Any) -> None:
        super().__init__()
        self.item = item

    def __getitem__(self, index: int) -> Any:
        return self.item if index == 39 else (torch.zeros(2), 0)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(2), "test, item 39: expected a pair"),
        ((torch.zeros(2), 0.5), "expected one integer as label, found 0.5"),
        ((torch.zeros(2), 4), "is 4, but the 4 classes"),
        ((torch.zeros(3), 0), r"different shapes: \[\(2,\), \(3,\)\]"),
        (("text", 0), "item 39: expected tensors or arrays of numbers"),
    ],
)
def test_wrong_items_are_named(item: Any, message: str):
    """Data set, part, item and what is wrong."""
    data = made(Noisy(), Wrong(item), config=DataConfig(workers=0))
    with pytest.raises(DataError, match=message):
        list(data.evaluation("test", batch_size=40))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (None, "mine: it has no train part"),
        (7, "mine, train: expected two tensors .* found int"),
        ((torch.zeros(40, 2), LABELS[:5]), r"x of shape \(40, 2\) and y of shape \(5,\)"),
        ((torch.zeros(40), LABELS), r"one label per example, found x of shape \(40,\)"),
        ((torch.zeros(40, 2), LABELS.float()), "expected integer labels"),
        ((torch.zeros(40, 2, dtype=torch.complex64), LABELS), "inputs of type torch.complex64"),
        ((torch.zeros(40, 8, 8, 3, dtype=torch.uint8), LABELS), r"permute them to \(C, H, W\)"),
        ((torch.zeros(40, 3, 8, 8, dtype=torch.int64), LABELS), "give images as uint8 or float32"),
        ((torch.zeros(40, 2), LABELS - 1), "is -1, but the"),
        ((["a"] * 40, LABELS), "expected tensors or arrays of numbers"),
    ],
)
def test_wrong_parts_are_explained(train: Any, message: str):
    """Data set, part, what was found and what to give."""
    with pytest.raises(DataError, match=message):
        made(train, (torch.zeros(5, 2), LABELS[:5]))


def test_keys_that_do_not_fit_are_refused():
    """Sizes of what is no image, augmentations of vectors, mixed and unlabelled parts."""
    x = torch.randn(40, 2)
    with pytest.raises(DataError, match=r"data.size=32: the examples are no images"):
        made((x, LABELS), config=DataConfig(size=32))
    with pytest.raises(DataError, match=r"data.size=32: mine is a Dataset"):
        made(Noisy(), config=DataConfig(size=32))
    with pytest.raises(DataError, match=r"data.augment.crop=2: only images of bytes"):
        made((x, LABELS), config=DataConfig(augment=AugmentConfig(crop=2)))
    with pytest.raises(DataError, match="train, validation are tensors and test are Datasets"):
        made((x, LABELS), Noisy())
    with pytest.raises(DataError, match="how many classes"):
        made(Noisy(targets=False))
    with pytest.raises(DataError, match=r"test part has examples of shape \(3,\)"):
        made((x, LABELS), (torch.zeros(4, 3), LABELS[:4]))
