"""A knapsack with one number to choose for each kind of item, by dynamic programming."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["best_levels"]

STEPS = 20_000
"""Into how many steps a budget is divided at most; sizes are rounded up to steps."""


def best_levels(
    sizes: Sequence[int], values: Sequence[Sequence[float]], budget: int, *, steps: int = STEPS
) -> list[int]:
    """Choose how many of each kind to take, at least one, for the largest sum of values.

    Args:
        sizes: Of one item of each kind.
        values: Of taking 1, 2, ... items of each kind; its length is the most that may be taken.
        budget: What all items may have together; one of each kind fits.
        steps: Into how many the budget is divided at most. Where the sizes are multiples of one
            that divides it into fewer, the choice is the best there is; otherwise the best for a
            budget smaller by at most a step for each kind, filled up one item after the other.

    Returns:
        The number for each kind.
    """
    left = budget - sum(sizes)
    unit = max(math.gcd(*sizes), -(-left // steps), 1)
    room = left // unit
    value = np.zeros(room + 1)
    choices = []
    for size, worth in zip(sizes, values, strict=True):
        best, chosen = np.full(room + 1, -np.inf), np.zeros(room + 1, dtype=np.int32)
        for extra in range(len(worth)):
            weight = -(-extra * size // unit)
            if weight > room:
                break
            offered = value[: room + 1 - weight] + worth[extra]
            better = offered > best[weight:]
            best[weight:][better] = offered[better]
            chosen[weight:][better] = extra
        value = best
        choices.append(chosen)
    counts, at = [], room
    for size, chosen in zip(reversed(sizes), reversed(choices), strict=True):
        extra = int(chosen[at])
        at -= -(-extra * size // unit)
        counts.append(1 + extra)
    counts.reverse()
    return _filled(counts, sizes, values, budget)


def _filled(
    counts: list[int], sizes: Sequence[int], values: Sequence[Sequence[float]], budget: int
) -> list[int]:
    """Add what still fits, the item that is worth most for its size first."""
    left = budget - sum(size * count for size, count in zip(sizes, counts, strict=True))

    def gain(kind: int) -> float:
        worth = values[kind]
        return (worth[counts[kind]] - worth[counts[kind] - 1]) / sizes[kind]

    while True:
        fits = [
            kind
            for kind, size in enumerate(sizes)
            if size <= left and counts[kind] < len(values[kind])
        ]
        if not fits:
            return counts
        kind = max(fits, key=gain)
        counts[kind] += 1
        left -= sizes[kind]
