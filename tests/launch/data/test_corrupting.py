"""Tests of `blockstep.launch.data.corrupting`."""

from __future__ import annotations

import pytest
import torch
from blockstep.launch.data.corrupting import OWN_CORRUPTIONS, corrupt
from blockstep.launch.data.error import DataError
from torch import Tensor


def images(channels: int) -> Tensor:
    """Bright disks on a dark ground, of sizes that differ."""
    line = torch.arange(16) - 8
    distance = line[:, None] ** 2 + line**2
    disks = [40 + 150 * (distance < size) for size in (10, 30, 50, 70)]
    return torch.stack(disks)[:, None].repeat(1, channels, 1, 1).to(torch.uint8)


def distance(one: Tensor, other: Tensor) -> float:
    """Mean absolute difference of bytes."""
    return float((one.float() - other.float()).abs().mean())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", OWN_CORRUPTIONS)
def test_images_stay_images_and_change_more_with_severity(kind: str, channels: int):
    """Bytes of the same shape, the same for the same seed; the originals stay as they are."""
    clean = images(channels)
    before = clean.clone()
    mild, severe = (corrupt(clean, kind, severity=one, seed=3) for one in (1, 5))
    assert (severe.dtype, severe.shape) == (torch.uint8, clean.shape)
    assert torch.equal(severe, corrupt(clean, kind, severity=5, seed=3))
    assert torch.equal(clean, before)
    assert distance(severe, clean) > 0
    assert distance(mild, clean) <= distance(severe, clean)


def test_noise_has_the_deviation_of_its_severity():
    """Gaussian noise of 0.08 at severity 3, on grey that clips nothing."""
    grey = torch.full((8, 1, 32, 32), 128, dtype=torch.uint8)
    noisy = corrupt(grey, "gaussian_noise", severity=3, seed=0).double() / 255
    assert float(noisy.std()) == pytest.approx(0.08, rel=0.05)
    other = corrupt(grey, "gaussian_noise", severity=3, seed=1).double() / 255
    assert not torch.equal(noisy, other)


def test_brightness_and_contrast():
    """One adds to the value, the other draws channels to their means."""
    clean = images(3)
    bright = corrupt(clean, "brightness", severity=2, seed=0)
    assert distance(bright, clean) == pytest.approx(0.10 * 255, abs=1)
    flat = corrupt(clean, "contrast", severity=3, seed=0)
    assert float(flat[1].double().std()) == pytest.approx(
        0.4 * float(clean[1].double().std()), rel=0.05
    )


def test_a_blur_keeps_what_is_uniform():
    """The border repeats, so nothing darkens there."""
    grey = torch.full((1, 1, 12, 12), 90, dtype=torch.uint8)
    for kind in ("gaussian_blur", "defocus_blur", "zoom_blur", "pixelate", "contrast"):
        assert torch.equal(corrupt(grey, kind, severity=5, seed=0), grey), kind


def test_what_cannot_be_corrupted_is_refused():
    """Unknown kinds, severities, and examples that are no images."""
    with pytest.raises(DataError, match="corruption 'fog': expected one of gaussian_noise"):
        corrupt(images(1), "fog", severity=1, seed=0)
    with pytest.raises(DataError, match="severity 6: expected 1 to 5"):
        corrupt(images(1), "contrast", severity=6, seed=0)
    with pytest.raises(DataError, match=r"shape \(5,\) and type torch.float32"):
        corrupt(torch.zeros(2, 5), "contrast", severity=1, seed=0)
