"""Dividing ranks over blocks, against all ways to do so."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from blockstep.search import best_replicas
from hypothesis import given
from hypothesis import strategies as st

SECONDS = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=4)


def divisions(blocks: int, ranks: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to give each of the blocks at least one rank, all together ``ranks``."""
    for cuts in itertools.combinations(range(1, ranks), blocks - 1):
        ends = (0, *cuts, ranks)
        yield tuple(b - a for a, b in itertools.pairwise(ends))


def slowest(seconds: Sequence[float], replicas: Sequence[int]) -> float:
    """Return the time of the slowest stage."""
    return max(time / count for time, count in zip(seconds, replicas, strict=True))


@given(SECONDS, st.integers(0, 6))
def test_no_other_division_has_a_faster_slowest_stage(seconds: list[float], more: int) -> None:
    """All ranks are used, and the slowest stage is as fast as the best of all divisions."""
    ranks = len(seconds) + more
    found = best_replicas(seconds, ranks)
    assert sum(found) == ranks
    assert min(found) >= 1
    best = min(slowest(seconds, other) for other in divisions(len(seconds), ranks))
    assert slowest(seconds, found) == best


@pytest.mark.parametrize(
    ("seconds", "ranks", "expected"),
    [
        ([1.0], 3, (3,)),
        ([3.0, 1.0], 4, (3, 1)),
        ([1.0, 1.0], 3, (2, 1)),
        ([1.0, 5.0, 2.0], 3, (1, 1, 1)),
        ([1.0, 5.0, 2.0], 8, (1, 5, 2)),
        ([0.0, 0.0], 4, (3, 1)),
    ],
)
def test_divisions_that_are_plain(seconds: list[float], ranks: int, expected: tuple[int]) -> None:
    """Ranks in the proportion of the times; of equal stages the first one gets more."""
    assert best_replicas(seconds, ranks) == expected


def test_too_few_ranks_are_refused_with_both_numbers() -> None:
    """Every block needs a rank."""
    with pytest.raises(ValueError, match="2 ranks for 3 blocks"):
        best_replicas([1.0, 1.0, 1.0], 2)
