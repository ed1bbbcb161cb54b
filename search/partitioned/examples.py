"""The training examples by number."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Examples", "TensorExamples"]


class Examples(Protocol):
    """What a partitioned training needs of a data set."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def batch(self, indices: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        """Return (x, y) on the training's device.

        Args:
            indices: int64 (B,) on the CPU.
            step: Of the training, for what is random in the preparation; None in evaluation.
        """
        ...


class TensorExamples:
    """Examples in memory.

    Args:
        x: (N, ...).
        y: int64 (N,).
        device: Where batches go, and where the examples are kept.

    Raises:
        ValueError: There is not one label per example.
    """

    def __init__(self, x: Tensor, y: Tensor, *, device: torch.device | str = "cpu") -> None:
        if y.dim() != 1 or len(x) != len(y):
            raise ValueError(
                f"x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}: give one label "
                "per example"
            )
        self._x = x.to(device)
        self._y = y.to(device)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._y)

    def batch(self, indices: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        """See :meth:`Examples.batch`."""
        indices = indices.to(self._x.device, non_blocking=True)
        return self._x.index_select(0, indices), self._y.index_select(0, indices)
