"""The part of an image that is cut out at random and resized to the full size.

Random resized crops of the Inception networks: Szegedy et al., Going deeper with convolutions
(CVPR 2015), section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["DRAWS", "random_box"]

AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
TRIES = 10

DRAWS = 2 * TRIES + 2
"""How many random numbers one box needs at most."""


def random_box(width: int, height: int, uniform: Callable[[], float]) -> tuple[int, int, int, int]:
    """Draws a box of 8 % to 100 % of the image's area, its sides in a ratio of 3:4 to 4:3.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        uniform: draws a number from [0, 1).

    Returns:
        Left, top, width and height of the box. Where ten tries do not fit into the image, it is
        the largest box of an allowed ratio, in the middle.
    """
    for _ in range(TRIES):
        area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * uniform())
        low, high = math.log(RATIO[0]), math.log(RATIO[1])
        ratio = math.exp(low + (high - low) * uniform())
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(uniform() * (width - box_width + 1))
            top = int(uniform() * (height - box_height + 1))
            return left, top, box_width, box_height
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    box_width = min(width, max(1, round(height * ratio)))
    box_height = min(height, max(1, round(width / ratio)))
    return (width - box_width) // 2, (height - box_height) // 2, box_width, box_height
