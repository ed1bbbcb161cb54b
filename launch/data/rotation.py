"""Images that are each turned once, by an angle of their own that never changes.

    RotMNIST, RotCIFAR-10, ...:  angle ~ U[-pi, pi], training, validation and test alike

(Mlodozeniec et al., ICLR 2023, appendices I and J.2). The angles belong to the data, not to the
run: they are drawn by a fixed seed, so runs with different seeds see the same images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...pipeline.seed import generator

__all__ = ["SEED", "draw_angles", "rotate"]

SEED = 0

AT_ONCE = 2048
"""Images that are turned at a time: the grid of each is eight times as large as its bytes."""


def draw_angles(count: int, split: str, *, largest: float = math.pi, seed: int = SEED) -> Tensor:
    """Draws an angle for each image of a part.

    Args:
        count: number of images.
        split: the part; each has angles of its own.
        largest: to either side, in radians.
        seed: of the draw.

    Returns:
        float32 (count,) on the CPU, uniform in [-largest, largest).
    """
    share = torch.rand(count, generator=generator(seed, "rotation", split))
    return (2 * share - 1) * largest


def rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Turns each image about its centre; what comes in from outside is 0.

    Args:
        images: (N, C, H, W), bytes or floats. Bytes are rounded.
        angles: (N,) in radians; positive turns clockwise, as the image is seen.

    Returns:
        A new tensor of the same shape and type, interpolated bilinearly.

    Raises:
        ValueError: these are no images, or there is not one angle for each.
    """
    if images.dim() != 4 or angles.shape != images.shape[:1]:
        raise ValueError(
            f"images of shape {tuple(images.shape)} and angles of shape {tuple(angles.shape)}: "
            "give images (N, C, H, W) and one angle for each"
        )
    result = torch.empty_like(images)
    for first in range(0, len(images), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        result[part] = _turned(images[part], angles[part].to(images.device))
    return result


def _turned(images: Tensor, angles: Tensor) -> Tensor:
    exact = images if images.is_floating_point() else images.float()
    height, width = images.shape[2:]
    # The grid runs from -1 to 1 along both axes: on an oblong image these are different lengths.
    ratio = max(1, height - 1) / max(1, width - 1)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    theta = torch.stack([cosine, sine * ratio, zero, -sine / ratio, cosine, zero], dim=-1)
    grid = F.affine_grid(
        theta.view(-1, 2, 3).to(exact.dtype), list(exact.shape), align_corners=True
    )
    found = F.grid_sample(exact, grid, padding_mode="zeros", align_corners=True)
    return found if images.is_floating_point() else found.round().clamp(0, 255).to(images.dtype)
