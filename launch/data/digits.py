"""1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998).
"""

from __future__ import annotations

from typing import Any

import torch

from ..config import DataConfig
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
    from sklearn.datasets import load_digits

    content: Any = load_digits()
    images = torch.from_numpy(content.images)[:, None]
    everything = MemoryPart(
        (images * LEVEL).to(torch.uint8), torch.from_numpy(content.target).long()
    )
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
