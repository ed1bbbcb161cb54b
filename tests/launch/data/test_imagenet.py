"""Tests of `blockstep.launch.data.imagenet` and of `blockstep.launch.data.stream`."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.config import AugmentConfig, DataConfig
from blockstep.launch.data import Data, DataError, StreamData, load_data
from torch import Tensor

Batches = list[tuple[Tensor, Tensor]]

CLASSES = 3
PER_CLASS = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as those of ImageNet: 18 training and 6 test images of different sizes."""
    from PIL import Image

    root = tmp_path_factory.mktemp("imagenet")
    draws = torch.Generator().manual_seed(0)
    for split, count in (("train", PER_CLASS), ("val", 2)):
        for label in range(CLASSES):
            folder = root / split / f"n{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = torch.randint(20, 60, (2,), generator=draws).tolist()
                pixels = torch.randint(
                    0, 256, (height, width, 3), dtype=torch.uint8, generator=draws
                )
                Image.fromarray(pixels.numpy()).save(folder / f"n{label}_{index}.JPEG")
    return root


def load(root: Path, *, workers: int = 0, seed: int = 0, validation: float = 0.2) -> StreamData:
    """The data set with its usual augmentation, as 16 x 16 pixels."""
    config = DataConfig(
        name="imagenet",
        root=str(root),
        size=16,
        workers=workers,
        validation=validation,
        augment=AugmentConfig(resized_crop=True, flip=True),
    )
    data = load_data(config, seed=seed, device=torch.device("cpu"))
    assert isinstance(data, StreamData)
    return data


def same(ours: Batches, theirs: Batches) -> bool:
    """Whether all batches are equal bit for bit."""
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(x, v) and torch.equal(y, w) for (x, y), (v, w) in pairs)


def test_folders_become_batches(root: Path):
    """Sizes, classes and normalised squares of the asked size."""
    data: Data = load(root)
    assert isinstance(data, Data)
    assert data.sizes == {"train": 14, "validation": 4, "test": 6}
    assert (data.classes, data.shape) == (3, (3, 16, 16))
    x, y = next(data.train(batch_size=5))
    assert (x.shape, x.dtype, y.dtype) == ((5, 3, 16, 16), torch.float32, torch.int64)
    labels = torch.cat([y for _, y in data.evaluation("test", batch_size=4)])
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_size_is_224_by_default(root: Path, cpu: torch.device):
    """As ImageNet's networks expect."""
    data = load_data(DataConfig(name="imagenet", root=str(root)), seed=0, device=cpu)
    assert data.shape == (3, 224, 224)


@pytest.mark.parametrize("start", [1, 2, 3, 7])
def test_a_resumed_iteration_is_the_tail_of_the_whole(root: Path, start: int):
    """Bit for bit, boxes included, over the ends of epochs of 2 batches."""
    whole = list(islice(load(root).train(batch_size=5), 9))
    tail = list(islice(load(root).train(batch_size=5, start=start), 9 - start))
    assert same(whole[start:], tail)


def test_boxes_change_with_the_epoch_and_the_seed_not_with_the_batch_size(root: Path):
    """An example of an epoch is cut out the same way in whatever batch it is."""
    data = load(root, validation=0.0)
    key = data._parts["train"].keys[4]
    numbers = {
        (epoch, seed): load(root, seed=seed)._number(epoch, 4)
        for epoch in (0, 1)
        for seed in (0, 1)
    }
    assert len(set(numbers.values())) == 4
    images = {data._fetches["train"](key, n)[0].numpy().tobytes() for n in numbers.values()}
    assert len(images) == 4


def test_evaluation_is_not_random(root: Path):
    """Twice the same, in order, without boxes."""
    data = load(root, seed=0)
    once = list(data.evaluation("train", batch_size=4))
    assert same(once, list(load(root, seed=1).evaluation("train", batch_size=4)))


def test_workers_change_nothing(root: Path):
    """Two processes yield the batches of none, bit for bit, through training, evaluation, an
    iteration that was given up, and a resume; closing ends them."""
    alone, helped = load(root), load(root, workers=2)
    before = len(multiprocessing.active_children())

    def run(data: StreamData) -> Iterator[tuple[Tensor, Tensor]]:
        training = data.train(batch_size=5)
        yield from islice(training, 5)
        yield from data.evaluation("test", batch_size=4)
        yield from islice(training, 2)
        del training
        yield from islice(data.train(batch_size=5, start=3), 3)
        yield from islice(data.evaluation("validation", batch_size=3), 1)
        yield from data.evaluation("validation", batch_size=3)
        yield data.example(20)

    assert same(list(run(alone)), list(run(helped)))
    # One crew for training and one for evaluation served all of these iterations.
    assert len(multiprocessing.active_children()) - before == 4
    helped.close()
    deadline = time.monotonic() + 20
    while len(multiprocessing.active_children()) > before:
        assert time.monotonic() < deadline, "workers are still alive"
        time.sleep(0.05)
    with pytest.raises(DataError, match="has been closed"):
        next(helped.train(batch_size=5))


def test_torch_s_own_generator_is_not_used(root: Path):
    """Loading examples draws nothing that dropout would miss."""
    state = torch.get_rng_state()
    next(load(root).train(batch_size=5))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupted_image_is_named(write: Any, tmp_path: Path, workers: int):
    """In a worker as well, and as one short message without the worker's traceback."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            write.image(tmp_path / split / name / "1.JPEG", (20, 20))
            write.image(tmp_path / split / name / "2.JPEG", (20, 20))
    broken = tmp_path / "train" / "b" / "2.JPEG"
    broken.write_bytes(broken.read_bytes()[:300])
    data = load(tmp_path, workers=workers, validation=0.0)
    with pytest.raises(DataError) as caught:
        next(data.train(batch_size=4))
    assert str(caught.value).startswith(f"{broken}: not a sound JPEG or PNG image")
    assert "Traceback" not in str(caught.value)
    data.close()


def test_what_travels_to_workers_is_small(root: Path):
    """The paths of a million images stay behind; a worker gets how to decode, and keys."""
    assert len(pickle.dumps(load(root)._fetches)) < 500


def test_different_classes_are_refused(write: Any, tmp_path: Path):
    """A class that only one of the folders has."""
    for name in ("train/a", "train/b", "val/a", "val/c"):
        write.image(tmp_path / name / "1.JPEG", (20, 20))
    with pytest.raises(DataError, match=r"val: it has 2 classes, expected 2; .* is b"):
        load(tmp_path)


def test_missing_folders_say_what_to_do(no_usual_places: Path, tmp_path: Path):
    """ImageNet cannot be downloaded; the message says which folders to make."""
    with pytest.raises(DataError, match=r"without an account.\nPut the folders train/WNID"):
        load(tmp_path)
