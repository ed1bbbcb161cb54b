"""Which examples of a batch each of several replicas of a stage takes.

    8 examples, 3 replicas      | 0 1 2 | 3 4 5 | 6 7 |

A batch is cut into runs of neighbours, the longer ones first, so that every rank works out what
every other one has from two numbers: the examples of the batch and the replicas of the stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

__all__ = ["bounds", "overlap"]


def bounds(count: int, replicas: int) -> list[tuple[int, int]]:
    """Return the first example, and the one after the last, of each replica.

    Sizes differ by one at most; those that are larger come first, as in ``torch.tensor_split``.

    Args:
        count: Examples of the batch.
        replicas: How many share them, at least 1.
    """
    size, more = divmod(count, replicas)
    ends = [number * size + min(number, more) for number in range(replicas + 1)]
    return list(itertools.pairwise(ends))


def overlap(own: tuple[int, int], others: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return which of one's own examples each of the others takes, counted from one's first.

    Args:
        own: Bounds in the batch.
        others: Bounds in the batch of each of the others.

    Returns:
        Bounds in one's own part; equal ones where nothing is taken.
    """
    first, after = own
    parts = []
    for begin, end in others:
        begin, end = max(begin, first), min(end, after)
        parts.append((begin - first, end - first) if begin < end else (0, 0))
    return parts
