"""Proportions and exact sizes."""

from __future__ import annotations

import pytest
from blockstep.models.partitioned import check_proportions, exact_sizes
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 5000), st.lists(st.integers(1, 50), min_size=1, max_size=12))
def test_sizes_are_exact(count: int, weights: list[int]) -> None:
    """They sum to the count; the first j together are within a half of their share."""
    shares = [weight / sum(weights) for weight in weights]
    sizes = exact_sizes(count, shares)
    assert sum(sizes) == count
    assert min(sizes) >= 0
    for j in range(len(shares)):
        assert abs(sum(sizes[:j]) - count * sum(shares[:j])) <= 0.5 + 1e-6


def test_the_mlp_of_the_toy() -> None:
    """30-256-256-2 in four equal parts, tensor by tensor."""
    tensors = [30 * 256, 256, 256 * 256, 256, 512, 2]
    sizes = [exact_sizes(count, [0.25] * 4) for count in tensors]
    assert [sum(own) for own in zip(*sizes, strict=True)] == [18560, 18561, 18561, 18560]


@pytest.mark.parametrize(
    ("proportions", "message"),
    [
        ([0.5, 0.4], r"sum to 0\.9, not to 1; divide each by 0\.9"),
        ([0.333, 0.333, 0.333], r"sum to 0\.999"),
        ([1.1, -0.1], "gives partition 2 -0.1; each has to be above 0"),
        ([1.0, 0.0], r"gives partition 2 0\.0"),
        ([float("nan")], "gives partition 1 nan"),
        ([], "has 0 entries; give 1 to 255"),
        ([1 / 256] * 256, "has 256 entries; give 1 to 255"),
    ],
)
def test_impossible_proportions(proportions: list[float], message: str) -> None:
    """Refused with the numbers."""
    with pytest.raises(ValueError, match=message):
        check_proportions(proportions)


def test_255_partitions() -> None:
    """As many as a byte can number but one."""
    assert len(check_proportions([1 / 255] * 255)) == 255
