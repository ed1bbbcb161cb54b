"""Tests of `blockstep.launch.data.box`."""

from __future__ import annotations

import random
from statistics import mean

import pytest
from blockstep.launch.data.box import DRAWS, random_box


@pytest.mark.parametrize(("width", "height"), [(64, 64), (500, 333), (40, 900)])
def test_boxes_lie_in_the_image_with_allowed_shapes(width: int, height: int):
    """Inside, 8 % to 100 % of the area where the image allows it, sides of 3:4 to 4:3."""
    draws = random.Random(0)
    for _ in range(500):
        left, top, w, h = random_box(width, height, draws.random)
        assert 0 <= left <= left + w <= width
        assert 0 <= top <= top + h <= height
        # Rounding to whole pixels moves both by up to one.
        assert (w - 1) / (h + 1) < 4 / 3
        assert (w + 1) / (h - 1) > 3 / 4
        assert (w + 1) * (h + 1) > 0.08 * width * height or min(width, height) == 40


def test_areas_and_places_are_uniform():
    """The mean area of a large image is 54 % of it, less what does not fit; boxes are centred."""
    draws = random.Random(1)
    boxes = [random_box(1000, 1000, draws.random) for _ in range(4000)]
    assert mean(w * h for _, _, w, h in boxes) / 1e6 == pytest.approx(0.49, abs=0.03)
    assert mean(left + w / 2 for left, _, w, _ in boxes) == pytest.approx(500, abs=8)
    assert mean(top + h / 2 for _, top, _, h in boxes) == pytest.approx(500, abs=8)


def test_the_middle_is_taken_where_nothing_fits():
    """Ten tries of the largest area fail; the largest allowed box in the middle remains."""
    assert random_box(300, 100, lambda: 0.999999) == (83, 0, 133, 100)
    assert random_box(100, 300, lambda: 0.999999) == (0, 83, 100, 133)


def test_a_box_never_needs_more_numbers_than_promised():
    """Worst case: nine tries fail and the last one fits."""
    numbers = iter([0.999999, 0.999999] * 9 + [0.0, 0.5, 0.5, 0.5])
    random_box(300, 100, numbers.__next__)
    assert next(numbers, None) is None
    assert DRAWS == 22
