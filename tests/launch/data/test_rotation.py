"""Tests of `blockstep.launch.data.rotation`."""

from __future__ import annotations

import math

import pytest
import torch
from blockstep.launch.data.rotation import AT_ONCE, draw_angles, rotate


@pytest.mark.parametrize("turns", [0, 1, 2, 3, -1])
def test_quarter_turns_move_pixels(turns: int) -> None:
    """Exactly, as torch.rot90 does; positive angles turn clockwise."""
    images = torch.randint(0, 256, (3, 2, 9, 9), dtype=torch.uint8)
    turned = rotate(images, torch.full((3,), turns * math.pi / 2))
    assert turned.dtype == torch.uint8
    assert torch.equal(turned, torch.rot90(images, -turns, (2, 3)))


def test_each_image_has_its_angle() -> None:
    """Whatever else is turned with it, and however many there are."""
    images = torch.rand(AT_ONCE + 3, 1, 4, 4)
    angles = draw_angles(len(images), "train")
    turned = rotate(images, angles)
    for place in (0, 7, AT_ONCE - 1, AT_ONCE, AT_ONCE + 2):
        alone = rotate(images[place : place + 1], angles[place : place + 1])
        torch.testing.assert_close(turned[place], alone[0])


def test_a_point_moves_as_geometry_says() -> None:
    """Also on an oblong image, whose pixels stay square."""
    image = torch.zeros(1, 1, 21, 31)
    image[0, 0, 10, 15 + 8] = 1.0  # eight pixels to the right of the centre
    angle = math.radians(36.87)  # a triangle with the sides 3, 4 and 5
    turned = rotate(image, torch.tensor([angle]))[0, 0]
    rows, columns = torch.meshgrid(torch.arange(21.0), torch.arange(31.0), indexing="ij")
    down, right = (turned * rows).sum() / turned.sum(), (turned * columns).sum() / turned.sum()
    assert right.item() == pytest.approx(15 + 6.4, abs=0.1)
    assert down.item() == pytest.approx(10 + 4.8, abs=0.1)


def test_angles_belong_to_the_data() -> None:
    """The same every time, over the whole circle, others in another part."""
    angles = draw_angles(5000, "train")
    assert torch.equal(angles, draw_angles(5000, "train"))
    assert not torch.equal(angles, draw_angles(5000, "test"))
    assert angles.abs().max() <= math.pi
    assert angles.mean().abs() < 0.1
    assert angles.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.03)
    assert draw_angles(100, "train", largest=0.5).abs().max() <= 0.5


def test_what_is_no_image() -> None:
    """Refused with both shapes."""
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and angles of shape \(2,\)"):
        rotate(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="one angle for each"):
        rotate(torch.zeros(2, 1, 4, 4), torch.zeros(3))
