"""Tests of `blockstep.launch.data.cifar`."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blockstep.launch.config import DataConfig
from blockstep.launch.data import DataError, load_data
from blockstep.launch.data.cifar import CIFAR10, CIFAR100, cifar10, cifar100
from blockstep.launch.data.part import MemoryPart

PER_BATCH = 20


def batch(seed: int, *, count: int = PER_BATCH, key: bytes = b"labels") -> dict[bytes, Any]:
    """The content of one batch file."""
    noise = np.random.default_rng(seed)
    return {
        b"data": noise.integers(0, 256, (count, 3072), dtype=np.uint8),
        key: [index % 10 for index in range(count)],
        b"filenames": [f"{index}.png".encode() for index in range(count)],
    }


def cifar10_files(write: Any) -> dict[str, bytes]:
    """The files of an archive of CIFAR-10, as Python 2 wrote them."""
    names = [*CIFAR10.train, CIFAR10.test]
    files = {
        f"{CIFAR10.folder}/{name}": write.python2(batch(seed)) for seed, name in enumerate(names)
    }
    return files | {f"{CIFAR10.folder}/readme.html": b"<html>"}


def test_the_archive_of_cifar_10_is_read(write: Any, tmp_path: Path):
    """Five training batches in order, and each image as red, green and blue planes."""
    write.tar_gz(tmp_path / "cifar-10-python.tar.gz", cifar10_files(write))
    parts = cifar10(DataConfig(root=str(tmp_path)))
    assert isinstance(parts.train, MemoryPart)
    assert isinstance(parts.test, MemoryPart)
    assert parts.train.x.shape == (5 * PER_BATCH, 3, 32, 32)
    pixels = batch(3)[b"data"][7]  # image 67 is the eighth of the fourth batch
    assert parts.train.x[67, 1, 2, 3] == pixels[1024 + 2 * 32 + 3]
    assert parts.train.labels[67] == 7
    np.testing.assert_array_equal(parts.test.x.flatten(1).numpy(), batch(5)[b"data"])


def test_the_unpacked_folder_is_the_same(write: Any, tmp_path: Path):
    """data.root may name the folder around the files, or the folder itself."""
    archive = write.tar_gz(tmp_path / "cifar-10-python.tar.gz", cifar10_files(write))
    packed = cifar10(DataConfig(root=str(tmp_path)))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    for root in (tmp_path / "unpacked", tmp_path / "unpacked" / CIFAR10.folder):
        unpacked = cifar10(DataConfig(root=str(root)))
        assert isinstance(unpacked.train, MemoryPart)
        assert isinstance(packed.train, MemoryPart)
        assert torch.equal(unpacked.train.x, packed.train.x)
        assert torch.equal(unpacked.test.labels, packed.test.labels)


def test_cifar_100_has_its_fine_labels(write: Any, tmp_path: Path):
    """100 classes, from the fine labels and not the coarse ones."""
    files = {}
    for seed, name in enumerate(("train", "test")):
        content = batch(seed, count=200, key=b"coarse_labels")
        content[b"fine_labels"] = [index % 100 for index in range(200)]
        files[f"{CIFAR100.folder}/{name}"] = write.python2(content)
    write.tar_gz(tmp_path / "cifar-100-python.tar.gz", files)
    parts = cifar100(DataConfig(root=str(tmp_path)))
    assert parts.classes == 100
    assert parts.train.labels.tolist() == [*range(100), *range(100)]


def test_cifar_becomes_batches(write: Any, tmp_path: Path, cpu: torch.device):
    """From the archive to a normalised batch: (byte / 255 - mean) / std of each channel."""
    write.tar_gz(tmp_path / "cifar-10-python.tar.gz", cifar10_files(write))
    data = load_data(DataConfig(name="cifar10", root=str(tmp_path)), seed=0, device=cpu)
    assert data.sizes == {"train": 90, "validation": 10, "test": 20}
    assert data.shape == (3, 32, 32)
    x, y = next(data.evaluation("test", batch_size=8))
    bytes_of_first = batch(5)[b"data"][0].reshape(3, 32, 32)
    green = (bytes_of_first[1] / 255 - 0.4822) / 0.2435
    np.testing.assert_allclose(x[0, 1].numpy(), green, atol=1e-5)
    assert y.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("packed", [True, False])
def test_a_malicious_batch_runs_nothing(write: Any, tmp_path: Path, packed: bool):
    """Neither in the archive nor in the folder is anything that a pickle names called."""
    files = cifar10_files(write)
    trace = tmp_path / "was here"
    content = batch(0) | {b"batch_label": Malicious(f"touch '{trace}'")}
    files[f"{CIFAR10.folder}/data_batch_2"] = write.python2(content)
    if packed:
        write.tar_gz(tmp_path / "cifar-10-python.tar.gz", files)
    else:
        for name, raw in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=r"data_batch_2: the pickle asks for posix.system"):
        cifar10(DataConfig(root=str(tmp_path)))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"labels": [10] * PER_BATCH}, r"label of example 0 .* is 10, but the 10 classes"),
        ({b"labels": [-1] * PER_BATCH}, "is -1"),
        ({b"labels": [1] * 3}, "expected 20 labels, one per image, found 3"),
        ({b"labels": [0.5] * PER_BATCH}, "expected a list of integers"),
        ({b"labels": [2**70] * PER_BATCH}, "no 64-bit integer"),
        ({b"labels": "text"}, "expected a list of integers"),
        ({b"data": np.zeros((PER_BATCH, 3000), np.uint8)}, "expected 3072 bytes per image"),
        ({b"data": np.zeros((PER_BATCH, 3072), np.int32)}, "expected 'data' to be bytes"),
        ({b"data": [1, 2]}, "expected 'data' to be bytes"),
    ],
)
def test_wrong_content_is_named(write: Any, tmp_path: Path, change: dict[bytes, Any], message: str):
    """The message names the file inside and what is wrong in it."""
    files = cifar10_files(write)
    files[f"{CIFAR10.folder}/test_batch"] = write.python2(batch(0) | change)
    write.tar_gz(tmp_path / "cifar-10-python.tar.gz", files)
    with pytest.raises(DataError, match=message) as caught:
        cifar10(DataConfig(root=str(tmp_path)))
    assert "cifar-10-python.tar.gz: test_batch" in str(caught.value)
