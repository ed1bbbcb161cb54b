"""CIFAR-10-C and CIFAR-100-C: the test images of CIFAR under common corruptions.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations (ICLR 2019). One npy file per corruption holds the 10,000 test images five times,
from severity 1 to 5; ``labels.npy`` holds their labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .error import DataError
from .labels import check_labels
from .part import MemoryPart

__all__ = ["CORRUPTIONS", "read_corruption"]

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 corruptions of the benchmark. The published folders hold four more, which can be read
by their names."""

IMAGES = 10_000
SEVERITIES = 5


def read_corruption(
    folder: str | Path, corruption: str, *, severity: int, classes: int
) -> MemoryPart:
    """The 10,000 images of one corruption at one severity.

    Args:
        folder: with the npy files.
        corruption: name of a file, without ``.npy``.
        severity: 1 to 5.
        classes: 10 or 100.

    Returns:
        Bytes (10,000, 3, 32, 32) with labels, in the order of the test part.

    Raises:
        DataError: a file is missing, damaged or of another shape.
    """
    if not 1 <= severity <= SEVERITIES:
        raise DataError(f"severity {severity}: expected 1 to {SEVERITIES}")
    rows = IMAGES * SEVERITIES
    images = _mapped(Path(folder) / f"{corruption}.npy", (rows, 32, 32, 3), ("uint8",))
    labels = _mapped(Path(folder) / "labels.npy", (rows,), ("uint8", "int32", "int64"))
    chosen = slice((severity - 1) * IMAGES, severity * IMAGES)
    numbers = torch.from_numpy(labels[chosen].astype(np.int64))
    check_labels(numbers, classes, source=str(Path(folder) / "labels.npy"))
    pixels = np.ascontiguousarray(images[chosen].transpose(0, 3, 1, 2))
    return MemoryPart(torch.from_numpy(pixels), numbers)


def _mapped(path: Path, shape: tuple[int, ...], types: tuple[str, ...]) -> np.ndarray:
    """The array in a file, mapped: only what is used is read, and pickles never are.

    Args:
        path: the file.
        shape: that it must have.
        types: numpy's names of the types that it may have.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as an array of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: expected one array in the npy format")
    if array.shape != shape or array.dtype.name not in types:
        raise DataError(
            f"{path}: expected the shape {shape} and the type {' or '.join(types)}, found "
            f"{array.shape} and {array.dtype}"
        )
    return array
