"""Which examples each replica takes, against torch's own division."""

from __future__ import annotations

import torch
from blockstep.pipeline.shares import bounds, overlap
from hypothesis import given
from hypothesis import strategies as st

COUNTS = st.integers(0, 40)
REPLICAS = st.integers(1, 9)


@given(COUNTS, REPLICAS)
def test_shares_are_those_of_tensor_split(count: int, replicas: int) -> None:
    """Bounds cut a vector as torch.tensor_split does, whatever the numbers."""
    rows = torch.arange(count)
    found = [rows[begin:end].tolist() for begin, end in bounds(count, replicas)]
    assert found == [part.tolist() for part in torch.tensor_split(rows, replicas)]


@given(COUNTS, REPLICAS, REPLICAS)
def test_overlaps_hand_every_example_to_its_taker_once(count: int, before: int, after: int) -> None:
    """What all givers cut for a taker, in their order, is exactly the taker's share."""
    rows = list(range(count))
    taken: list[list[int]] = [[] for _ in range(after)]
    for begin, end in bounds(count, before):
        own = rows[begin:end]
        for taker, (first, last) in enumerate(overlap((begin, end), bounds(count, after))):
            taken[taker] += own[first:last]
    assert taken == [rows[begin:end] for begin, end in bounds(count, after)]
