"""How many of something each partition gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

__all__ = ["MAX_PARTITIONS", "check_proportions", "exact_sizes"]

MAX_PARTITIONS = 255
"""An assignment is one byte per weight."""

TOLERANCE = 1e-6


def check_proportions(proportions: Sequence[float], *, of: str = "proportions") -> list[float]:
    """Return the proportions as floats.

    Args:
        proportions: One positive number per partition; they sum to one.
        of: What they are called, for errors.

    Raises:
        ValueError: There are none or more than 255, one is not positive, or they do not sum to one.
    """
    shares = [float(share) for share in proportions]
    if not 1 <= len(shares) <= MAX_PARTITIONS:
        raise ValueError(
            f"{of} has {len(shares)} entries; give 1 to {MAX_PARTITIONS}, because the partition of "
            "a weight is stored in one byte"
        )
    for number, share in enumerate(shares, start=1):
        if not share > 0:
            raise ValueError(f"{of} gives partition {number} {share}; each has to be above 0")
    total = math.fsum(shares)
    if not abs(total - 1) <= TOLERANCE:
        raise ValueError(
            f"{of}={shares} sum to {total:.6g}, not to 1; divide each by {total:.6g}, or give "
            "fractions such as 1/3 in full precision"
        )
    return shares


def exact_sizes(count: int, proportions: Sequence[float]) -> list[int]:
    """Divide ``count`` things, so that the first j partitions together are off by at most a half.

    Args:
        count: How many there are.
        proportions: One positive number per partition; they sum to one.

    Returns:
        One number per partition, with sum ``count``; some are 0 where there are few things.
    """
    ends = [0, *(min(count, round(count * share)) for share in accumulate(proportions))]
    ends[-1] = count
    return [end - begin for begin, end in pairwise(ends)]
