"""Random changes of images that only move or blank bytes: crops, flips and cutout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Cutout", "Shift"]


class Shift:
    """A random crop of the same size after padding with black, and a random mirror image.

    One gather does both: row i of an image comes from row ``i + dy``; column j from column
    ``j + dx``, or from ``W - 1 - j + dx`` where it is mirrored.

    Args:
        crop: pixels of padding on each side; 0: no crops.
        flip: mirror half of the images, left to right.
    """

    def __init__(self, crop: int, *, flip: bool) -> None:
        self.crop = crop
        self.flip = flip

    def draw(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """int64 (B, 3) on the CPU: dy and dx in -crop .. crop, and 1 where mirrored."""
        offsets = torch.randint(-self.crop, self.crop + 1, (shape[0], 2), generator=generator)
        mirrored = torch.randint(0, 2, (shape[0], 1), generator=generator) * int(self.flip)
        return torch.cat([offsets, mirrored], dim=1)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """The changed images.

        Args:
            x: bytes (B, C, H, W).
            drawn: what :meth:`draw` gave for them.
        """
        B, C, H, W = x.shape
        drawn = drawn.to(x.device)
        rows = torch.arange(H, device=x.device) + drawn[:, 0:1]
        columns = torch.arange(W, device=x.device)
        columns = torch.where(drawn[:, 2:3] == 1, W - 1 - columns, columns) + drawn[:, 1:2]
        padding = self.crop
        padded = F.pad(x, (padding,) * 4).view(B, C, -1)
        source = (rows + padding)[:, :, None] * (W + 2 * padding) + (columns + padding)[:, None]
        return padded.gather(2, source.view(B, 1, -1).expand(B, C, H * W)).view(B, C, H, W)


class Cutout:
    """A random square of each image is blanked, with the mean of the training images.

    The centre is any pixel, so the square may reach over the border: DeVries and Taylor, Improved
    Regularization of Convolutional Neural Networks with Cutout (2017), section 3.2. There the
    square is 0 after normalisation, which is the mean.

    Args:
        side: of the square, in pixels.
        fill: bytes (C,) to fill it with.
    """

    def __init__(self, side: int, *, fill: Tensor) -> None:
        self.side = side
        self._fill = fill

    def draw(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """int64 (B, 2) on the CPU: row and column of the centre."""
        draws = [torch.randint(0, side, (shape[0],), generator=generator) for side in shape[2:]]
        return torch.stack(draws, dim=1)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """The changed images.

        Args:
            x: bytes (B, C, H, W).
            drawn: what :meth:`draw` gave for them.
        """
        begin = drawn.to(x.device) - self.side // 2
        rows = torch.arange(x.shape[2], device=x.device) - begin[:, 0:1]
        columns = torch.arange(x.shape[3], device=x.device) - begin[:, 1:2]
        inside_rows = (rows >= 0) & (rows < self.side)
        inside_columns = (columns >= 0) & (columns < self.side)
        inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
        return torch.where(inside, self._fill.to(x.device)[:, None, None], x)
