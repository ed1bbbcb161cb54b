"""A shortcut without weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PaddedShortcut"]


class PaddedShortcut(nn.Module):
    """The input itself; averaged over 2x2 pixels for a stride of 2, with zeros as new channels.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the result, at least as many.
        stride: 1 or 2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self._added = outputs - inputs
        # An odd last row is averaged alone, as a strided convolution with padding keeps it.
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        x = self.pool(x)
        return F.pad(x, (0, 0, 0, 0, 0, self._added)) if self._added else x
