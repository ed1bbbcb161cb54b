"""Labels that do not overlap, as near as possible to what they name."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["spread"]


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Return places at least ``gap`` apart with the smallest sum of squared distances.

    Subtracting ``gap`` times its rank from each place leaves an ascending sequence to fit: the
    isotonic regression, found by joining neighbours that are out of order into their mean.

    Args:
        wanted: Where the labels would stand, in any order.
        gap: Between neighbours; smaller if there is not enough room.
        low: The first place possible.
        high: The last place possible.
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    pools: list[tuple[float, int]] = []
    for rank, place in enumerate(order):
        pools.append((wanted[place] - rank * gap, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, count), (other, more) = pools[-2:]
            pools[-2:] = [((mean * count + other * more) / (count + more), count + more)]
    fitted = [mean for mean, count in pools for _ in range(count)]
    last = high - (len(wanted) - 1) * gap
    places = [0.0] * len(wanted)
    for rank, (place, value) in enumerate(zip(order, fitted, strict=True)):
        places[place] = min(max(value, low), last) + rank * gap
    return places
