"""1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch

from ..config import DataConfig
from .error import DataError
from .part import MemoryPart, Parts
from .split import hold_out

__all__ = ["digits"]

TEST = 360
VALIDATION = 180
LEVEL = 15
"""Bytes per level: 0..16 becomes 0, 15, .. 240, which divides back without loss."""


def digits(config: DataConfig) -> Parts:
    """1,257 / 180 / 360 images (1, 8, 8) for training, validation and test.

    The parts are stratified and always the same.

    Args:
        config: not needed; there is nothing to find.
    """
    rows = torch.from_numpy(np.loadtxt(_file(), delimiter=",", dtype=np.uint8))
    images = rows[:, :-1].reshape(-1, 1, 8, 8)
    everything = MemoryPart(images * LEVEL, rows[:, -1].long())
    rest, test = hold_out(everything.labels, TEST)
    pool = everything.take(rest)
    train, validation = hold_out(pool.labels, VALIDATION)
    return Parts(
        "digits",
        classes=10,
        train=pool.take(train),
        validation=pool.take(validation),
        test=everything.take(test),
    )


def _file() -> Path:
    """Find the file without importing scikit-learn, which would take as long as torch does."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("data=digits comes with scikit-learn; install it: pip install scikit-learn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise DataError(f"{path} of scikit-learn is missing; install scikit-learn again")
    return path
