"""Random changes of a whole training batch at once, on its device.

bytes -> resized crop -> rotation -> crop and mirror -> cutout -> bytes
         (data.augment.resized_crop, rotation, crop, flip, cutout; those that are on)
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ...pipeline.seed import generator
from ..config import AugmentConfig
from .error import DataError
from .resampling import ResizedCrop, Rotation
from .window import Cutout, Shift

__all__ = ["Augmentation", "Change"]


class Change(Protocol):
    """One kind of random change."""

    def draw(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Draws the random numbers of a batch of this shape (B, C, H, W), on the CPU."""
        ...

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Changes the bytes (B, C, H, W) on their device as the drawn numbers say."""
        ...


class Augmentation:
    """The changes that are switched on.

    All random numbers are drawn on the CPU from the seed and the step, so the same step gets the
    same changes on every device and after every resume. Moved bytes are equal on all devices;
    interpolated ones can differ by one where a device rounds differently.

    Args:
        config: what is on.
        fill: bytes (C,) for cutout.
        seed: the run's seed.

    Raises:
        DataError: an impossible value.
    """

    def __init__(self, config: AugmentConfig, *, fill: Tensor, seed: int) -> None:
        _check(config)
        self._seed = seed
        self.changes: list[Change] = []
        if config.resized_crop:
            self.changes.append(ResizedCrop())
        if config.rotation:
            self.changes.append(Rotation(config.rotation))
        if config.crop or config.flip:
            self.changes.append(Shift(config.crop, flip=config.flip))
        if config.cutout:
            self.changes.append(Cutout(config.cutout, fill=fill))

    def __call__(self, x: Tensor, step: int) -> Tensor:
        """The changed images of a step.

        Args:
            x: bytes (B, C, H, W).
            step: from 1.
        """
        draws = generator(self._seed, "augment", step)
        for change in self.changes:
            x = change.apply(x, change.draw(x.shape, draws))
        return x


def _check(config: AugmentConfig) -> None:
    for key in ("crop", "cutout"):
        if getattr(config, key) < 0:
            raise DataError(
                f"data.augment.{key}={getattr(config, key)}: expected pixels, 0 for off"
            )
    if not 0 <= config.rotation <= 180:
        raise DataError(
            f"data.augment.rotation={config.rotation}: expected degrees from 0 (off) to 180"
        )
