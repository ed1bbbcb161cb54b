"""What happens to a batch between the data set and the network, on the device."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..config import AugmentConfig
from .augmentation import Augmentation
from .error import DataError
from .part import Statistics

__all__ = ["ImagePreparation", "Normalization", "Preparation", "Unprepared"]


class Preparation(Protocol):
    """From what a data set holds to what a network takes."""

    def train(self, x: Tensor, step: int) -> Tensor:
        """The input of training step ``step``, from 1."""
        ...

    def evaluate(self, x: Tensor) -> Tensor:
        """The input of an evaluation; nothing random."""
        ...


class Normalization:
    """From bytes to float32 of mean 0 and variance 1 in each channel.

    Args:
        statistics: of the training images; None: the range [0, 1] is kept.
        device: where the images are.
    """

    def __init__(self, statistics: Statistics | None, *, device: torch.device) -> None:
        statistics = statistics or Statistics((0.0,), (1.0,))
        # A channel that is the same in all images is only shifted.
        std = [value or 1.0 for value in statistics.std]
        self._shift = _channels(statistics.mean, device)
        self._divisor = _channels(std, device)

    def __call__(self, x: Tensor) -> Tensor:
        """(x / 255 - mean) / std for bytes (B, C, H, W)."""
        return torch.sub(x, self._shift).div_(self._divisor)


class ImagePreparation:
    """Augments in training, then normalises.

    Args:
        augment: the augmentation of training images.
        statistics: of the training images; None where they are not known.
        normalize: whether to normalise; else the range is [0, 1].
        channels: of the images.
        seed: the run's seed.
        device: where the images are.
    """

    def __init__(
        self,
        augment: AugmentConfig,
        *,
        statistics: Statistics | None,
        normalize: bool,
        channels: int,
        seed: int,
        device: torch.device,
    ) -> None:
        mean = statistics.mean if statistics else (0.0,) * channels
        fill = torch.tensor([round(255 * value) for value in mean], dtype=torch.uint8)
        self.augmentation = Augmentation(augment, fill=fill.to(device), seed=seed)
        self._normalization = Normalization(statistics if normalize else None, device=device)

    def train(self, x: Tensor, step: int) -> Tensor:
        """See :class:`Preparation`."""
        return self._normalization(self.augmentation(x, step))

    def evaluate(self, x: Tensor) -> Tensor:
        """See :class:`Preparation`."""
        return self._normalization(x)


class Unprepared:
    """Inputs that are not images of bytes are taken as they are.

    Args:
        augment: must be off.

    Raises:
        DataError: an augmentation is on; it would change nothing.
    """

    def __init__(self, augment: AugmentConfig) -> None:
        on = [f"data.augment.{key}={value}" for key, value in vars(augment).items() if value]
        if on:
            raise DataError(
                f"{', '.join(on)}: only images of bytes (uint8, one channel first) are "
                "augmented, and these examples are none; switch it off or give bytes"
            )

    def train(self, x: Tensor, step: int) -> Tensor:
        """See :class:`Preparation`."""
        return x

    def evaluate(self, x: Tensor) -> Tensor:
        """See :class:`Preparation`."""
        return x


def _channels(values: tuple[float, ...] | list[float], device: torch.device) -> Tensor:
    return (torch.tensor(values, dtype=torch.float64) * 255).float().to(device)[:, None, None]
