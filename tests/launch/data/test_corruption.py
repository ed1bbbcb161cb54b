"""Tests of `blockstep.launch.data.corruption`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blockstep.launch.data import DataError
from blockstep.launch.data.corruption import CORRUPTIONS, read_corruption

ROWS = 50_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """CIFAR-10-C with one corruption; few of its pixels are not 0, so the file stays small."""
    images = np.lib.format.open_memmap(
        tmp_path / "fog.npy", mode="w+", dtype=np.uint8, shape=(ROWS, 32, 32, 3)
    )
    for severity in range(1, 6):
        images[(severity - 1) * 10_000 + 7, 4, 5] = [severity, 10 * severity, 100]
    images.flush()
    np.save(tmp_path / "labels.npy", np.tile(np.arange(10_000) % 10, 5).astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_severity_is_its_slice(folder: Path, severity: int):
    """10,000 images from the right place, channels first, with their labels."""
    part = read_corruption(folder, "fog", severity=severity, classes=10)
    assert part.x.shape == (10_000, 3, 32, 32)
    assert part.x[7, :, 4, 5].tolist() == [severity, 10 * severity, 100]
    assert part.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_the_benchmark_has_fifteen_corruptions():
    """Their number is published, and no name is there twice."""
    assert len(set(CORRUPTIONS)) == 15


def test_wrong_files_are_refused(folder: Path):
    """Severity, missing files, other shapes, pickles, labels outside and truncated files."""
    with pytest.raises(DataError, match="severity 6: expected 1 to 5"):
        read_corruption(folder, "fog", severity=6, classes=10)
    with pytest.raises(DataError, match=r"snow.npy: cannot be read"):
        read_corruption(folder, "snow", severity=1, classes=10)
    np.save(folder / "small.npy", np.zeros((5, 32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=r"\(50000, 32, 32, 3\).*found \(5, 32, 32, 3\) and uint8"):
        read_corruption(folder, "small", severity=1, classes=10)
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        read_corruption(folder, "objects", severity=1, classes=10)
    with pytest.raises(DataError, match="is 5, but the 5 classes"):
        read_corruption(folder, "fog", severity=1, classes=5)
    with (folder / "fog.npy").open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(DataError, match=r"fog.npy: cannot be read as an array"):
        read_corruption(folder, "fog", severity=1, classes=10)
