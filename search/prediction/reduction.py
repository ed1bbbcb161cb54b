"""Data parallelism: how long replicas take to agree on their gradients, and when that shows.

    backward of   layer L    layer L-1   ...   layer 1    update
                  |          |                 |          ^
    gradients     [ bucket 1 ]   [ bucket 2 ]  [ bucket 3 ]
    network                  == 1 ==  ==== 2 ====  ==== 3 ====   what sticks out is waited for

Torch's DistributedDataParallel sends a bucket of gradients as soon as backward has passed it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .link import Wire

__all__ = ["FIRST_BUCKET", "LATER_BUCKETS", "Piece", "parallel_seconds", "ring_seconds"]

FIRST_BUCKET = 1 << 20
LATER_BUCKETS = 25 << 20
"""Bytes of gradients that are sent together: torch's defaults."""


@dataclass(frozen=True)
class Piece:
    """A part of backward.

    Attributes:
        seconds: It takes.
        nbytes: Gradients that exist after it.
    """

    seconds: float
    nbytes: float


def ring_seconds(nbytes: float, replicas: int, wire: Wire) -> float:
    """Return how long a ring all-reduce takes: 2 (r - 1) messages of a share of 1 / r each.

    Args:
        nbytes: Of the gradients of one replica.
        replicas: r; one has nobody to agree with.
        wire: From each replica to the next.
    """
    if replicas == 1 or not nbytes:
        return 0.0
    return 2 * (replicas - 1) * wire.seconds(nbytes / replicas)


def parallel_seconds(
    forward: float,
    backward: Sequence[Piece],
    update: float,
    *,
    replicas: int,
    wire: Wire,
    overlap: float = 1.0,
) -> float:
    """Return the seconds of a step that replicas do together, each with its part of the batch.

    Args:
        forward: Seconds of a replica's forward pass.
        backward: In the order in which it is computed: last layer first.
        update: Seconds of the optimizer.
        replicas: How many.
        wire: From each replica to the next.
        overlap: 1 if the network works while backward computes, 0 if it begins after it; between
            them, so much of the difference is gained.
    """
    now = forward
    free = 0.0
    waiting = together = 0.0
    for nbytes, seconds in _buckets(backward):
        now += seconds
        if nbytes:
            needed = ring_seconds(nbytes, replicas, wire)
            free = max(free, now) + needed
            waiting += needed
    together = max(now, free)
    apart = now + waiting
    return overlap * together + (1 - overlap) * apart + update


def _buckets(pieces: Sequence[Piece]) -> Iterator[tuple[float, float]]:
    """Yield the bytes of each bucket, and the seconds of backward since the one before."""
    limit, nbytes, seconds = FIRST_BUCKET, 0.0, 0.0
    for piece in pieces:
        nbytes += piece.nbytes
        seconds += piece.seconds
        if nbytes >= limit:
            yield nbytes, seconds
            limit, nbytes, seconds = LATER_BUCKETS, 0.0, 0.0
    if nbytes or not math.isclose(seconds, 0.0):
        yield nbytes, seconds
