"""Tests of `blockstep.launch.data.window`, against one image at a time in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from blockstep.launch.data.window import Cutout, Shift
from torch import Tensor


def images(*shape: int, seed: int = 0) -> Tensor:
    """Noise without black, so that black pixels come from the border."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)


def shifted(image: np.ndarray, crop: int, dy: int, dx: int, mirrored: bool) -> np.ndarray:
    """Pad, cut out, mirror: the definition, one image (C, H, W) at a time."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (crop, crop), (crop, crop)))
    window = padded[:, crop + dy : crop + dy + height, crop + dx : crop + dx + width]
    return window[:, :, ::-1] if mirrored else window


def blanked(image: np.ndarray, side: int, row: int, column: int, fill: list[int]) -> np.ndarray:
    """Blank every pixel of the square, one by one."""
    image = image.copy()
    _, height, width = image.shape
    for y in range(row - side // 2, row - side // 2 + side):
        for x in range(column - side // 2, column - side // 2 + side):
            if 0 <= y < height and 0 <= x < width:
                image[:, y, x] = fill
    return image


@pytest.mark.parametrize("shape", [(64, 1, 8, 8), (64, 3, 7, 10)])
@pytest.mark.parametrize("crop", [0, 1, 4, 12])
@pytest.mark.parametrize("flip", [False, True])
def test_shifts_equal_padding_cutting_and_mirroring(shape: tuple[int, ...], crop: int, flip: bool):
    """Every image of a batch, bit for bit, also where the window leaves the image."""
    x = images(*shape)
    shift = Shift(crop, flip=flip)
    drawn = shift.draw(x.shape, torch.Generator().manual_seed(1))
    changed = shift.apply(x, drawn).numpy()
    for image, (dy, dx, mirrored), found in zip(x.numpy(), drawn.tolist(), changed, strict=True):
        np.testing.assert_array_equal(found, shifted(image, crop, dy, dx, bool(mirrored)))


def test_shifts_are_uniform():
    """All offsets from -crop to crop occur, equally often; half of the images are mirrored."""
    drawn = Shift(2, flip=True).draw(torch.Size([10_000, 1, 8, 8]), torch.Generator())
    for axis in (0, 1):
        counts = (drawn[:, axis] + 2).bincount(minlength=5)
        assert len(counts) == 5
        assert (counts - 2000).abs().max() < 200
    assert abs(int(drawn[:, 2].sum()) - 5000) < 200
    assert not Shift(2, flip=False).draw(torch.Size([99, 1, 8, 8]), torch.Generator())[:, 2].any()


@pytest.mark.parametrize("side", [1, 2, 5, 30])
def test_cutout_blanks_exactly_its_square(side: int):
    """Every image of a batch, bit for bit, also where the square leaves the image."""
    x = images(50, 3, 7, 9)
    cutout = Cutout(side, fill=torch.tensor([0, 100, 255], dtype=torch.uint8))
    drawn = cutout.draw(x.shape, torch.Generator().manual_seed(1))
    changed = cutout.apply(x, drawn)
    assert changed.dtype == torch.uint8
    for image, (row, column), found in zip(x.numpy(), drawn.tolist(), changed, strict=True):
        expected = blanked(image, side, row, column, [0, 100, 255])
        np.testing.assert_array_equal(found.numpy(), expected)


def test_centres_of_cutout_are_any_pixel():
    """Rows and columns have their own range."""
    fill = torch.zeros(1, dtype=torch.uint8)
    drawn = Cutout(3, fill=fill).draw(torch.Size([5000, 1, 4, 9]), torch.Generator())
    assert drawn[:, 0].unique().tolist() == [0, 1, 2, 3]
    assert drawn[:, 1].unique().tolist() == list(range(9))


def test_inputs_are_left_alone():
    """The data set itself is never changed."""
    x = images(4, 1, 8, 8)
    kept = x.clone()
    for change in (Shift(2, flip=True), Cutout(4, fill=torch.zeros(1, dtype=torch.uint8))):
        change.apply(x, change.draw(x.shape, torch.Generator()))
    assert torch.equal(x, kept)
