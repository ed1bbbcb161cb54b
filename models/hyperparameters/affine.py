"""Random affine changes of images whose ranges are learned.

Each image of a batch gets a change of its own; u is uniform and has no gradient, so the ranges get
one through the bilinear interpolation. Coordinates are those of torch's ``affine_grid``: -1 to 1
over the centres of the first and the last pixel; what is outside is 0.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hyperparameter import Hyperparameter

__all__ = ["Affine", "AffineGenerators", "AffineRanges", "warp"]


def warp(x: Tensor, theta: Tensor) -> Tensor:
    """Change images.

    Args:
        x: (B, C, H, W).
        theta: (B, 2, 3), from coordinates of the result to those of ``x``.
    """
    grid = F.affine_grid(theta, list(x.shape), align_corners=True)
    return F.grid_sample(x, grid.to(x.dtype), padding_mode="zeros", align_corners=True)


class Affine(Hyperparameter):
    """Changes each image of a batch at random, in training and in evaluation alike."""

    @abstractmethod
    def draw(self, count: int) -> Tensor:
        """Draw changes from torch's generator: (count, 2, 3)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape.

        Raises:
            ValueError: It is given something else than images.
        """
        if x.dim() != 4 or not x.is_floating_point():
            raise ValueError(
                f"affine changes are for images (B, C, H, W) of floats, not for {x.dtype} of shape "
                f"{tuple(x.shape)}"
            )
        return warp(x, self.draw(len(x)))


def _uniform(count: int, ranges: Tensor) -> Tensor:
    """(count, numbers) in [-1, 1)."""
    shape = (count, ranges.shape[-1])
    return torch.rand(shape, device=ranges.device, dtype=ranges.dtype) * 2 - 1


GENERATORS = (
    ((0, 0, 1), (0, 0, 0), (0, 0, 0)),  # translation along x
    ((0, 0, 0), (0, 0, 1), (0, 0, 0)),  # translation along y
    ((0, -1, 0), (1, 0, 0), (0, 0, 0)),  # rotation
    ((1, 0, 0), (0, 0, 0), (0, 0, 0)),  # scaling along x
    ((0, 0, 0), (0, 1, 0), (0, 0, 0)),  # scaling along y
    ((0, 1, 0), (1, 0, 0), (0, 0, 0)),  # shear
)


class AffineGenerators(Affine):
    """T = exp(sum_i u_i p_i G_i), u uniform in [-1, 1]^6 (Immer et al., 2022).

    The sign of p says nothing. At p = 0 its gradient is 0 on average, so it begins above.

    Args:
        initial: All six numbers at first.
    """

    NAMES = ("translate_x", "translate_y", "rotation", "scale_x", "scale_y", "shear")

    def __init__(self, *, initial: float = 0.05) -> None:
        super().__init__()
        self.ranges = nn.Parameter(torch.full((6,), float(initial)))
        self.register_buffer("generators", torch.tensor(GENERATORS).float(), persistent=False)

    def draw(self, count: int) -> Tensor:
        """See :meth:`Affine.draw`."""
        rotation = self.ranges[2:3].clamp(-math.pi, math.pi)  # a full turn is all there is
        ranges = torch.cat([self.ranges[:2], rotation, self.ranges[3:]])
        weights = _uniform(count, ranges) * ranges
        algebra = torch.einsum("bi,ijk->bjk", weights, self.get_buffer("generators"))
        return torch.matrix_exp(algebra)[:, :2]

    def readable(self) -> dict[str, list[float]]:
        """Return the size of each range; the rotation in radians."""
        sizes = self.ranges.detach().abs().tolist()
        return {
            name: [min(size, math.pi) if name == "rotation" else size]
            for name, size in zip(self.NAMES, sizes, strict=True)
        }


class AffineRanges(Affine):
    """Uniform angle, scales, shears and translations (Schwoebel et al., 2021).

    The image is scaled along its axes, sheared, rotated and moved. ``symmetric`` learns six largest
    sizes around no change: rotation, scale_x, scale_y, shear, translate_x, translate_y, with one
    shear, along x. Else the lower and the upper end of seven numbers are learned, with two shears.

    Args:
        symmetric: Which of the two.
        radians: Rotations at first, to either side.
        initial: All other changes at first, to either side.
    """

    NAMES = ("rotation", "scale_x", "scale_y", "shear_x", "shear_y", "translate_x", "translate_y")
    CENTRES = (0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    SHEAR_Y = 4

    def __init__(
        self, *, symmetric: bool = True, radians: float = 0.05, initial: float = 0.05
    ) -> None:
        super().__init__()
        self.symmetric = symmetric
        centre = torch.tensor(self.CENTRES)
        sizes = torch.tensor([radians] + [initial] * 6)
        self.register_buffer("centre", centre, persistent=False)
        if symmetric:
            kept = [index for index in range(7) if index != self.SHEAR_Y]
            self.sizes = nn.Parameter(sizes[kept])
        else:
            self.low = nn.Parameter(centre - sizes)
            self.high = nn.Parameter(centre + sizes)

    def draw(self, count: int) -> Tensor:
        """See :meth:`Affine.draw`."""
        if self.symmetric:
            sizes = self.sizes
            four = self.SHEAR_Y
            padded = torch.cat([sizes[:four], torch.zeros_like(sizes[:1]), sizes[four:]])
            numbers = self.get_buffer("centre") + _uniform(count, padded) * padded
        else:
            share = (_uniform(count, self.low) + 1) / 2
            numbers = self.low + share * (self.high - self.low)
        return self.matrices(numbers)

    @staticmethod
    def matrices(numbers: Tensor) -> Tensor:
        """Return (B, 2, 3) for (B, 7), in the order of ``NAMES``."""
        angle, scale_x, scale_y, shear_x, shear_y, move_x, move_y = numbers.unbind(-1)
        cosine, sine = angle.cos(), angle.sin()
        return torch.stack(
            [
                scale_x * cosine - shear_y * scale_x * sine,
                shear_x * scale_y * cosine - scale_y * sine,
                move_x,
                scale_x * sine + shear_y * scale_x * cosine,
                shear_x * scale_y * sine + scale_y * cosine,
                move_y,
            ],
            dim=-1,
        ).view(-1, 2, 3)

    def readable(self) -> dict[str, list[float]]:
        """Return the lower and the upper end of each number; the rotation in radians."""
        if not self.symmetric:
            ends = torch.stack([self.low.detach(), self.high.detach()], dim=1)
            return dict(zip(self.NAMES, ends.tolist(), strict=True))
        names = [name for index, name in enumerate(self.NAMES) if index != self.SHEAR_Y]
        centres = [one for index, one in enumerate(self.CENTRES) if index != self.SHEAR_Y]
        sizes = self.sizes.detach().abs().tolist()
        return {
            name: [centre - size, centre + size]
            for name, centre, size in zip(names, centres, sizes, strict=True)
        }
