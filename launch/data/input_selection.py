"""Thirty inputs of which the first fifteen tell the class (Lyle et al., 2020).

    y = 0 or 1, equally likely;    x_1 .. x_15 = y + e,    x_16 .. x_30 = e,    e standard normal

Which inputs to use is a hyperparameter that the training likelihood cannot find: it takes all.
"""

from __future__ import annotations

import torch

from ...pipeline.seed import generator
from ..config import DataConfig
from .part import MemoryPart, Parts

__all__ = ["INFORMATIVE", "INPUTS", "input_selection"]

INPUTS = 30
INFORMATIVE = 15
TRAIN = 3000
TEST = 1000


def input_selection(config: DataConfig, seed: int) -> Parts:
    """3,000 / 1,000 vectors (30,) for training and test, drawn anew for every seed.

    Args:
        config: not needed; there is nothing to find.
        seed: the run's seed.
    """
    return Parts(
        "input_selection",
        classes=2,
        train=_draw(TRAIN, seed, "train"),
        test=_draw(TEST, seed, "test"),
    )


def _draw(count: int, seed: int, split: str) -> MemoryPart:
    chance = generator(seed, "input_selection", split)
    labels = torch.randint(0, 2, (count,), generator=chance)
    x = torch.randn(count, INPUTS, generator=chance)
    x[:, :INFORMATIVE] += labels[:, None]
    return MemoryPart(x, labels)
