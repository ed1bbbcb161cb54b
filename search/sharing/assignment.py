"""Algorithm 1 of the SuperWeights supplement: groups from similarities by a priority queue."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

__all__ = ["assign_groups"]

T = TypeVar("T", bound=Hashable)


def assign_groups(
    items: Sequence[T],
    similarities: Mapping[tuple[T, T], float],
    *,
    threshold: float | None = None,
    groups: int | None = None,
) -> list[tuple[T, ...]]:
    """Group items that are similar, directly or through others.

    Pairs are taken from the most similar one on. One that is more similar than the threshold
    merges the groups of its two items. With a number of groups, pairs go on merging until there
    are that few, be they similar or not; with both, whichever merges more.

    Args:
        items: What is grouped, each once.
        similarities: Of pairs of items; a pair that is not there never merges by itself.
        threshold: Pairs above it merge; None: only ``groups`` decides.
        groups: The most groups there may be; None: only the threshold decides.

    Returns:
        The groups in the order of their first items, each in the order of the items.

    Raises:
        ValueError: Neither is given, a similarity is no number, or a pair is not of the items.
    """
    if threshold is None and groups is None:
        raise ValueError("give a threshold of similarity, or a number of groups, or both")
    if groups is not None and groups < 1:
        raise ValueError(f"groups={groups}: there is at least one group")
    place = {item: number for number, item in enumerate(items)}
    _check(place, similarities, len(items))
    queue = [
        (-psi, place[one], place[other], one, other) for (one, other), psi in similarities.items()
    ]
    heapq.heapify(queue)
    group_of: dict[T, list[T]] = {}
    left = len(items)
    while queue:
        negative, _, _, one, other = heapq.heappop(queue)
        similar = threshold is not None and -negative > threshold
        if similar or (groups is not None and left > groups):
            left -= _join(group_of, one, other)
    for item in items:  # what no pair has grouped stays alone
        group_of.setdefault(item, [item])
    found = {id(group): group for group in group_of.values()}.values()
    ordered = [tuple(sorted(group, key=place.__getitem__)) for group in found]
    return sorted(ordered, key=lambda group: place[group[0]])


def _check(place: Mapping[T, int], similarities: Mapping[tuple[T, T], float], count: int) -> None:
    if len(place) < count:
        raise ValueError(f"{count} items are given, but only {len(place)} different ones")
    for (one, other), psi in similarities.items():
        if one not in place or other not in place or one == other:
            raise ValueError(f"the pair {one!r}, {other!r} is not of two of the {count} items")
        if not math.isfinite(psi):
            raise ValueError(f"the similarity of {one!r} and {other!r} is {psi}, not a number")


def _join(group_of: dict[T, list[T]], one: T, other: T) -> int:
    """Merge the groups of two items; return by how many there are fewer, 0 or 1."""
    first, second = group_of.get(one), group_of.get(other)
    if first is None and second is None:
        group_of[one] = group_of[other] = [one, other]
    elif first is None or second is None:
        group, item = (second, one) if first is None else (first, other)
        assert group is not None
        group.append(item)
        group_of[item] = group
    elif first is second:
        return 0
    else:
        first += second
        group_of.update(dict.fromkeys(second, first))
    return 1
