"""Tests of `blockstep.launch.data.mnist`."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blockstep.launch.config import AugmentConfig, DataConfig
from blockstep.launch.data import DataError, load_data
from blockstep.launch.data.mnist import FASHION_MNIST_STATISTICS, fashion_mnist, mnist
from blockstep.launch.data.part import MemoryPart, Statistics

DEBIAN = Path("/usr/share/datasets/fashion-mnist")

needs_fashion_mnist = pytest.mark.skipif(
    not (DEBIAN / "train-images-idx3-ubyte.gz").exists(),
    reason=f"no Fashion-MNIST under {DEBIAN} (Debian: dataset-fashion-mnist)",
)


@pytest.mark.parametrize("compressed", [True, False])
def test_the_four_files_become_two_parts(write: Any, tmp_path: Path, compressed: bool):
    """Images and labels of both parts, from compressed and from plain files."""
    write.mnist(tmp_path, compressed=compressed)
    parts = mnist(DataConfig(root=str(tmp_path)))
    assert isinstance(parts.train, MemoryPart)
    expected = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(parts.train.x[:, 0].numpy(), expected)
    assert parts.train.labels.tolist() == [index % 10 for index in range(40)]
    assert len(parts.test) == 20


@pytest.mark.parametrize("layout", ["MNIST/raw", "mnist", ""])
def test_usual_layouts_are_found(write: Any, tmp_path: Path, layout: str):
    """data.root may be the folder of the files or the one that torchvision was given."""
    write.mnist(tmp_path / layout)
    assert len(mnist(DataConfig(root=str(tmp_path))).train) == 40


def test_images_are_padded_to_32(write: Any, tmp_path: Path, cpu: torch.device):
    """Two black pixels on each side, said in a note; data.size=28 keeps them as they are."""
    write.mnist(tmp_path)
    config = DataConfig(name="mnist", root=str(tmp_path), normalize=False)
    data = load_data(config, seed=0, device=cpu)
    assert data.shape == (1, 32, 32)
    assert data.notes == ("images of 28 x 28 pixels are padded to 32 x 32",)
    x, _ = next(data.evaluation("test", batch_size=20))
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[2:30, 2:30] = True
    assert (x[..., ~inside] == 0).all()
    config.size = 28
    plain = load_data(config, seed=0, device=cpu)
    assert plain.notes == ()
    assert torch.equal(next(plain.evaluation("test", batch_size=20))[0], x[:, :, 2:30, 2:30])


def test_a_size_that_would_shrink_is_refused(write: Any, tmp_path: Path, cpu: torch.device):
    """Images are padded, never cut; both sizes are in the message."""
    write.mnist(tmp_path)
    config = DataConfig(name="mnist", root=str(tmp_path), size=20)
    with pytest.raises(DataError, match=r"data.size=20: .* 28 x 28 .* at least 28"):
        load_data(config, seed=0, device=cpu)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1", np.zeros(39, np.uint8), "expected 40 bytes, one label per image"),
        ("train-labels-idx1", np.full(40, 10, np.uint8), "example 0 .* is 10, but the 10 classes"),
        ("train-labels-idx1", np.zeros(40, np.int32), "found 40 of type int32"),
        ("train-images-idx3", np.zeros((40, 27, 28), np.uint8), r"shape \(N, 28, 28\)"),
        ("train-images-idx3", np.zeros((40, 28), np.uint8), "expected 3 dimensions"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    write: Any, tmp_path: Path, name: str, array: np.ndarray, message: str
):
    """The message names the file."""
    write.mnist(tmp_path)
    (tmp_path / f"{name}-ubyte.gz").write_bytes(gzip.compress(write.idx(array)))
    with pytest.raises(DataError, match=message) as caught:
        mnist(DataConfig(root=str(tmp_path)))
    assert name in str(caught.value)


@needs_fashion_mnist
def test_fashion_mnist_of_debian_is_found_and_whole():
    """The real files without any key: 60,000 and 10,000 images, each class equally often."""
    parts = fashion_mnist(DataConfig(download=False))
    assert isinstance(parts.train, MemoryPart)
    assert parts.train.x.shape == (60_000, 1, 28, 28)
    assert parts.train.labels.bincount().tolist() == [6000] * 10
    assert parts.test.labels.bincount().tolist() == [1000] * 10
    assert parts.train.labels[:5].tolist() == [9, 0, 0, 3, 0]


@needs_fashion_mnist
def test_the_constants_of_fashion_mnist_are_its_statistics():
    """Mean and standard deviation to four digits, counted by numpy over the real images."""
    train = fashion_mnist(DataConfig(download=False)).train
    assert isinstance(train, MemoryPart)
    pixels = train.x.numpy().astype(np.float64) / 255
    assert FASHION_MNIST_STATISTICS.mean == (round(pixels.mean(), 4),)
    assert FASHION_MNIST_STATISTICS.std == (round(pixels.std(), 4),)
    computed = Statistics.of(train.x)
    assert computed.mean[0] == pytest.approx(pixels.mean(), rel=1e-9)
    assert computed.std[0] == pytest.approx(pixels.std(), rel=1e-9)


@needs_fashion_mnist
def test_fashion_mnist_trains_in_batches(cpu: torch.device):
    """54,000 / 6,000 / 10,000, stratified, as normalised batches of augmented images."""
    config = DataConfig(name="fashion_mnist", augment=AugmentConfig(crop=4, flip=True))
    data = load_data(config, seed=0, device=cpu)
    assert data.sizes == {"train": 54_000, "validation": 6_000, "test": 10_000}
    labels = torch.cat([y for _, y in data.evaluation("validation", batch_size=1000)])
    assert labels.bincount().tolist() == [600] * 10
    x, y = next(data.train(batch_size=128))
    assert x.shape == (128, 1, 32, 32)
    assert y.dtype == torch.int64
    black = (0 - 0.2860) / 0.3530
    assert x.min() == pytest.approx(black, abs=1e-6)
