"""Tests of `blockstep.launch.data.resampling`, against one image at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from blockstep.launch.data.resampling import ResizedCrop, Rotation
from torch import Tensor


def images(*shape: int) -> Tensor:
    """Noise."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator())


def pixel(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """The colour at a point between pixels, bilinear; black outside the image (C, H, W)."""
    _, height, width = image.shape
    top, left = math.floor(y), math.floor(x)
    colour = np.zeros(len(image))
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                colour += weight * image[:, row, column]
    return colour


def rotated(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turn an image (C, H, W) counter-clockwise around its centre, pixel by pixel."""
    _, height, width = image.shape
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    result = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            # Rows count downwards, so the point is turned back in a mirrored plane.
            dy, dx = row - centre_y, column - centre_x
            source_x = cosine * dx - sine * dy
            source_y = sine * dx + cosine * dy
            result[:, row, column] = pixel(image, centre_y + source_y, centre_x + source_x)
    return result


@pytest.mark.parametrize("shape", [(6, 1, 8, 8), (6, 3, 9, 14)])
def test_rotations_equal_the_rotation_of_each_pixel(shape: tuple[int, ...]):
    """Within the rounding to a byte, in square and oblong images."""
    x = images(*shape)
    angles = torch.tensor([0.0, 10.0, -33.3, 90.0, 180.0, -120.0])
    found = Rotation(180).apply(x, angles)
    assert found.dtype == torch.uint8
    for image, angle, result in zip(x.numpy(), angles.tolist(), found.numpy(), strict=True):
        assert np.abs(rotated(image, angle) - result).max() <= 0.51


def test_quarter_turns_are_exact():
    """Positive angles are counter-clockwise, as in torch.rot90; 0 changes nothing."""
    x = images(1, 3, 16, 16).expand(4, 3, 16, 16)
    found = Rotation(180).apply(x, torch.tensor([0.0, 90.0, 180.0, -90.0]))
    for turns in range(4):
        assert torch.equal(found[turns], torch.rot90(x[turns], turns, dims=(1, 2)))


def test_angles_are_uniform_and_bounded():
    """In [-20, 20], around 0."""
    drawn = Rotation(20.0).draw(torch.Size([10_000, 1, 2, 2]), torch.Generator())
    assert drawn.abs().max() <= 20
    assert abs(float(drawn.mean())) < 0.4
    assert float(drawn.std()) == pytest.approx(40 / math.sqrt(12), rel=0.03)


@pytest.mark.parametrize("shape", [(40, 3, 16, 16), (40, 1, 9, 14)])
def test_resized_crops_equal_cutting_and_resizing(shape: tuple[int, ...]):
    """Each box, cut out and interpolated to the full size by torch, within rounding."""
    x = images(*shape)
    crop = ResizedCrop()
    drawn = crop.draw(x.shape, torch.Generator().manual_seed(1))
    found = crop.apply(x, drawn)
    assert len(drawn.unique(dim=0)) > 30
    for image, (left, top, width, height), result in zip(x, drawn.tolist(), found, strict=True):
        box = image[None, :, top : top + height, left : left + width].float()
        expected = F.interpolate(box, shape[2:], mode="bilinear", align_corners=False)[0]
        assert (expected - result.float()).abs().max() <= 0.51
