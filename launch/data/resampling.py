"""Random changes of images that compute new pixels from old ones: rotations, resized crops.

Both interpolate bilinearly in float32 and round back to bytes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .box import DRAWS, random_box

__all__ = ["ResizedCrop", "Rotation"]


class Rotation:
    """A random rotation around the centre; what comes from outside the image is black.

    Args:
        degrees: the angle is uniform in [-degrees, degrees]; positive is counter-clockwise.
    """

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def draw(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """float32 (B,) on the CPU: angles in degrees."""
        return (torch.rand(shape[0], generator=generator) * 2 - 1) * self.degrees

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """The changed images.

        Args:
            x: bytes (B, C, H, W).
            drawn: what :meth:`draw` gave for them.
        """
        B, C, H, W = x.shape
        # On the CPU: sines differ between devices in the last bits.
        angle = drawn.double() * (math.pi / 180)
        cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        # affine_grid measures in halves of the image, so other axes enter with H / W.
        x_row = torch.stack([cosine, -sine * H / W, zero], dim=1)
        y_row = torch.stack([sine * W / H, cosine, zero], dim=1)
        theta = torch.stack([x_row, y_row], dim=1).float().to(x.device)
        grid = F.affine_grid(theta, [B, C, H, W], align_corners=False)
        return _sample(x, grid, padding="zeros")


class ResizedCrop:
    """A random box of each image, resized to the full size."""

    def draw(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """int64 (B, 4) on the CPU: left, top, width and height of the boxes."""
        numbers = torch.rand(shape[0], DRAWS, generator=generator).tolist()
        height, width = shape[2:]
        return torch.tensor([random_box(width, height, iter(row).__next__) for row in numbers])

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """The changed images.

        Args:
            x: bytes (B, C, H, W).
            drawn: what :meth:`draw` gave for them.
        """
        B, _, H, W = x.shape
        left, top, width, height = drawn.to(x.device).unbind(1)
        rows = _positions(top, height, H)[:, :, None].expand(B, H, W)
        columns = _positions(left, width, W)[:, None, :].expand(B, H, W)
        return _sample(x, torch.stack([columns, rows], dim=3), padding="border")


def _positions(begin: Tensor, length: Tensor, size: int) -> Tensor:
    """Where the pixels of a side come from, float32 (B, size), in the units of ``grid_sample``.

    Positions stay inside the box, so that nothing around it shines through, as if it had been cut
    out first.
    """
    begin, length = begin[:, None], length[:, None]
    pixel = (torch.arange(size, device=begin.device) + 0.5) * length / size - 0.5
    pixel = begin + torch.minimum(pixel.clamp(min=0), length - 1)
    return (2 * pixel + 1) / size - 1


def _sample(x: Tensor, grid: Tensor, *, padding: str) -> Tensor:
    images = F.grid_sample(x.float(), grid, padding_mode=padding, align_corners=False)
    return images.round_().clamp_(0, 255).to(torch.uint8)
