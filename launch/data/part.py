"""A data set as it was read, before anything of the run is applied to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["Fetch", "Keys", "MemoryPart", "Part", "Parts", "Statistics", "StreamPart"]


@dataclass(frozen=True, eq=False)
class MemoryPart:
    """Examples that are held in memory.

    Attributes:
        x: (N, ...); images are bytes (N, C, H, W).
        labels: int64 (N,).
    """

    x: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> MemoryPart:
        """The examples at these indices, int64 (n,)."""
        return MemoryPart(self.x[indices], self.labels[indices])


class Fetch(Protocol):
    """Makes an example from its key, in a worker process; must be picklable and small."""

    def __call__(self, key: Any, number: int | None) -> tuple[Tensor, int]:
        """The example and its label.

        Args:
            key: one of the part's keys.
            number: seed of all randomness in training; None in evaluation.

        Raises:
            DataError: the example cannot be read.
        """
        ...


class Keys(Protocol):
    """Names the examples of a part to its fetch, each by a small picklable object."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class StreamPart:
    """Examples that are made when they are needed, by worker processes.

    Attributes:
        keys: (N,) what ``fetch`` needs to make each example; a key travels to a worker.
        labels: int64 (N,) for stratification; all 0 where they are not known beforehand.
        fetch: makes an example from its key.
    """

    keys: Keys
    labels: Tensor
    fetch: Fetch

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> StreamPart:
        """The examples at these indices, int64 (n,)."""
        return StreamPart(_Selected(self.keys, indices.numpy()), self.labels[indices], self.fetch)


Part = MemoryPart | StreamPart


class _Selected:
    """Some of the keys, without a copy of them."""

    def __init__(self, keys: Keys, indices: np.ndarray) -> None:
        self._keys = keys
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self._keys[int(self._indices[index])]


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each channel of the training images, in [0, 1].

    Attributes:
        mean: one number per channel.
        std: one number per channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor) -> Statistics:
        """Computes them over all images and pixels, from exact counts of the 256 values.

        Args:
            images: bytes (N, C, H, W).
        """
        values = torch.arange(256, dtype=torch.float64) / 255
        means, deviations = [], []
        for channel in images.transpose(0, 1):
            shares = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
            mean = (shares * values).sum()
            means.append(mean.item())
            deviations.append((shares * (values - mean) ** 2).sum().sqrt().item())
        return cls(tuple(means), tuple(deviations))


@dataclass(frozen=True, eq=False)
class Parts:
    """All parts of a data set.

    Attributes:
        name: of the data set.
        classes: number of classes.
        train: the training part, from which the validation part is drawn.
        test: the test part.
        validation: a validation part of the data set's own; None: drawn from ``train``.
        statistics: of its training images; None: computed where the images are in memory.
        size: height and width to which images are padded unless ``data.size`` is given; None:
            their own.
    """

    name: str
    classes: int
    train: Part
    test: Part
    validation: Part | None = None
    statistics: Statistics | None = None
    size: int | None = None
