"""Affine changes of images, against independent computations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from blockstep.models.hyperparameters import (
    Affine,
    AffineGenerators,
    AffineRanges,
    Augerino,
    warp,
)
from scipy.linalg import expm
from scipy.ndimage import map_coordinates
from torch import Tensor

MAKERS: list[Callable[[], Affine]] = [
    AffineGenerators,
    AffineRanges,
    lambda: AffineRanges(symmetric=False),
    lambda: Augerino(initial=-1.0),
]


def same(make: Callable[[], Tensor], seed: int = 0) -> Tensor:
    """Call with the same random numbers."""
    torch.manual_seed(seed)
    return make()


def test_warp_samples_the_picture() -> None:
    """Bilinear, corners aligned, 0 outside: as scipy interpolates at the same coordinates."""
    x = torch.rand(2, 3, 7, 5, dtype=torch.float64)
    theta = torch.tensor(
        [[[0.8, -0.5, 0.1], [0.4, 1.2, -0.3]], [[1.0, 0, 0], [0, 1, 0.5]]]
    ).double()
    found = warp(x, theta)
    ys, xs = np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 5), indexing="ij")
    for image in range(2):
        a = theta[image].numpy()
        across = (a[0, 0] * xs + a[0, 1] * ys + a[0, 2] + 1) / 2 * 4
        down = (a[1, 0] * xs + a[1, 1] * ys + a[1, 2] + 1) / 2 * 6
        for channel in range(3):
            picture = x[image, channel].numpy()
            padded = np.pad(picture, 2)  # scipy cuts off between the last pixel and the outside
            expected = map_coordinates(padded, [down + 2, across + 2], order=1)
            np.testing.assert_allclose(found[image, channel].numpy(), expected, atol=1e-12)


def test_generators_are_the_exponential_of_their_sum() -> None:
    """By scipy's matrix exponential, with the numbers that the module drew."""
    change = AffineGenerators().double()
    p = np.array([0.3, -0.2, 1.5, 0.1, -0.4, 0.6])
    change.ranges.data = torch.from_numpy(p)
    found = same(lambda: change.draw(3)).detach().numpy()
    u = same(lambda: torch.rand(3, 6, dtype=torch.float64)).numpy() * 2 - 1
    for row in range(3):
        tx, ty, r, sx, sy, sh = u[row] * p
        expected = expm(np.array([[sx, sh - r, tx], [sh + r, sy, ty], [0, 0, 0]]))[:2]
        np.testing.assert_allclose(found[row], expected, atol=1e-12)


def test_rotations_end_at_half_a_turn() -> None:
    """A range beyond pi has no gradient and no effect."""
    one, two = AffineGenerators(), AffineGenerators()
    one.ranges.data[2], two.ranges.data[2] = 5.0, math.pi
    assert torch.equal(same(lambda: one.draw(4)), same(lambda: two.draw(4)))
    same(lambda: one.draw(4)).pow(2).sum().backward()
    assert one.ranges.grad is not None
    assert one.ranges.grad[2] == 0
    assert one.ranges.grad[0] != 0
    assert one.readable()["rotation"] == pytest.approx([math.pi])


def test_ranges_are_products_of_matrices() -> None:
    """Rotation times shears times scales, then the translation."""
    numbers = torch.tensor([[0.7, 1.2, 0.8, 0.3, -0.2, 0.1, -0.4], [0, 1, 1, 0, 0, 0, 0]]).double()
    found = AffineRanges.matrices(numbers)
    angle, sx, sy, shx, shy, tx, ty = numbers[0].tolist()
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.array([[1, shx], [shy, 1]]) @ np.diag([sx, sy])
    np.testing.assert_allclose(found[0].numpy(), np.c_[linear, [tx, ty]], atol=1e-12)
    np.testing.assert_allclose(found[1].numpy(), np.eye(3)[:2])


@pytest.mark.parametrize("symmetric", [True, False])
def test_ranges_are_kept(symmetric: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number is uniform between its ends; symmetric ones have one shear."""
    change = AffineRanges(symmetric=symmetric, radians=0.5, initial=0.2)
    numbers: list[Tensor] = []
    made = AffineRanges.matrices
    monkeypatch.setattr(change, "matrices", lambda drawn: numbers.append(drawn) or made(drawn))
    change.draw(4000)
    low, high = numbers[0].amin(0), numbers[0].amax(0)
    sizes = torch.tensor([0.5, 0.2, 0.2, 0.2, 0.0 if symmetric else 0.2, 0.2, 0.2])
    centre = torch.tensor([0, 1.0, 1, 0, 0, 0, 0])
    torch.testing.assert_close(low, centre - sizes, atol=0.01, rtol=0)
    torch.testing.assert_close(high, centre + sizes, atol=0.01, rtol=0)
    assert numbers[0].min() >= -0.5
    ends = change.readable()
    assert ends["rotation"] == pytest.approx([-0.5, 0.5])
    assert ends["scale_x"] == pytest.approx([0.8, 1.2])
    assert len(ends) == (6 if symmetric else 7)


def test_augerino_widths() -> None:
    """Softplus of the raw numbers, from minus to plus half of it; translations in tenths."""
    change = Augerino(initial=-5.0, rotation=1.0).double()
    found = same(lambda: change.draw(2)).detach().numpy()
    u = same(lambda: torch.rand(2, 6, dtype=torch.float64)).numpy() - 0.5
    raw = np.array([-5.0, -5, 1, -5, -5, -5])
    for row in range(2):
        tx, ty, r, scale, stretch, shear = u[row] * np.log1p(np.exp(raw))
        algebra = [[scale + stretch, shear - r, tx / 10], [shear + r, scale - stretch, ty / 10]]
        expected = expm(np.array([*algebra, [0, 0, 0]]))[:2]
        np.testing.assert_allclose(found[row], expected, atol=1e-7)
    assert change.readable()["rotation"] == pytest.approx([math.log1p(math.e)])


def test_augerinos_penalty() -> None:
    """Minus the norm of the widths; the safe one is 0, without gradient, once one is at 10."""
    change = Augerino(initial=0.0)
    width = math.log(2)
    assert change.penalty(0.01).item() == pytest.approx(-0.01 * width * math.sqrt(6))
    assert change.penalty(0.01, safe=True).item() == change.penalty(0.01).item()
    change.raw.data[3] = 10.0
    safe = change.penalty(0.01, safe=True)
    assert safe == 0
    safe.backward()
    assert change.raw.grad is not None
    assert not change.raw.grad.any()
    assert change.penalty(0.01) < -0.1


@pytest.mark.parametrize("make", MAKERS, ids=["generators", "symmetric", "ends", "augerino"])
def test_gradients_against_finite_differences(make: Callable[[], Affine]) -> None:
    """Of every range, through the interpolation, with fixed random numbers."""
    change = make().double()
    # A smooth picture: a bilinear one has kinks, where differences say nothing.
    axis = torch.linspace(-1, 1, 40, dtype=torch.float64)
    bump = torch.exp(-3 * ((axis[:, None] - 0.2) ** 2 + 2 * axis[None] ** 2))
    x = bump.expand(6, 1, 40, 40)
    weights = torch.rand(40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss() -> Tensor:
        return (same(lambda: change(x)) * weights).mean()

    loss().backward()
    for value in change.parameters():
        assert value.grad is not None
        for index in range(value.numel()):
            ends = []
            for step in (1e-5, -2e-5, 1e-5):
                value.data.view(-1)[index] += step
                ends.append(loss().item())
            expected = (ends[0] - ends[1]) / 2e-5
            assert value.grad.view(-1)[index].item() == pytest.approx(expected, rel=0.05, abs=2e-5)
        assert value.grad.abs().max() > 1e-4


@pytest.mark.parametrize("x", [torch.zeros(2, 5), torch.zeros(2, 1, 4, 4, dtype=torch.uint8)])
def test_only_images_are_changed(x: Tensor) -> None:
    """Anything else is refused with its type and shape."""
    with pytest.raises(ValueError, match=r"images \(B, C, H, W\) of floats, not for torch\.\w+ of"):
        AffineRanges()(x)
