"""Budgets: the paper's configurations, the optimum, and what is refused or remarked."""

from __future__ import annotations

import itertools

import pytest
from blockstep.models.superweight import (
    BudgetError,
    allocate,
    best,
    demands,
    depth_bins,
    greedy,
    minimum,
)
from blockstep.models.superweight.allocation import Demand, _values
from blockstep.models.superweight.knapsack import best_levels
from blockstep.models.superweight.recipe import coefficient_rows
from hypothesis import given
from hypothesis import strategies as st

from tests.models.superweight.parts import meta_uses, uses_with

HOMOGENEOUS = ("wrn28-10",) * 4
MULTI_DEPTH = ("wrn28-7", "wrn28-4", "wrn16-7", "wrn16-4")
MULTI_WIDTH = ("wrn28-7", "wrn28-4", "wrn28-3")
HETEROGENEOUS = ("wrn34-8", "wrn28-12", "wrn28-10", "wrn28-8")
MILLION = 1_000_000

TABLE = {
    1: (3.89, {7: 6.99, 36.5: 31.13, 120: 31.13}),
    2: (4.81, {7: 6.99, 36.5: 36.35, 120: 38.50}),
    3: (5.04, {7: 6.99, 36.5: 36.35, 120: 40.34}),
    4: (8.73, {36.5: 36.48, 120: 69.83}),
    8: (13.57, {36.5: 36.47, 120: 108.54}),
    14: (19.61, {36.5: 36.49, 120: 119.95}),
    28: (36.45, {36.5: 36.49, 120: 119.99}),
}
"""4 x WRN-28-10 by the public code: bins, the minimum, and what a budget gives; in millions."""


@pytest.mark.parametrize("bins", TABLE)
def test_the_greedy_allocator_gives_what_the_public_code_gives(bins: int) -> None:
    """Except that it refuses what the public code exceeds."""
    least, given_by = TABLE[bins]
    uses = meta_uses(*HOMOGENEOUS)
    sharing = depth_bins(uses, bins)
    assert minimum(demands(sharing, uses)) / MILLION == pytest.approx(least, abs=0.005)
    for budget, templates in given_by.items():
        found = allocate(sharing, uses, int(budget * MILLION), allocator="greedy")
        assert found.templates / MILLION == pytest.approx(templates, abs=0.01)
        assert found.templates <= found.budget
    if 7 not in given_by:
        with pytest.raises(BudgetError, match=r"7,000,000 is too small: .* at least \d"):
            allocate(sharing, uses, 7 * MILLION, allocator="greedy")


def test_four_bins_have_thirteen_slots() -> None:
    """As the public code has 13 banks, with 4 to 8 templates for 36.5M."""
    uses = meta_uses(*HOMOGENEOUS)
    counts = allocate(depth_bins(uses), uses, 36_500_000, allocator="greedy").counts
    flat = [count for cluster in counts for count in cluster]
    assert (len(flat), min(flat), max(flat)) == (13, 4, 8)


@pytest.mark.parametrize(("names", "expected"), [(MULTI_DEPTH, 1_670), (MULTI_WIDTH, 2_308)])
def test_the_coefficients_of_the_public_code(names: tuple[str, ...], expected: int) -> None:
    """18M templates, and as many coefficients as its own run counts."""
    uses = meta_uses(*names)
    sharing = depth_bins(uses)
    found = allocate(sharing, uses, 18 * MILLION, allocator="greedy")
    assert found.templates / MILLION == pytest.approx(18, abs=0.003)
    rows = coefficient_rows(sharing.ordered(uses), uses)
    counts = [count for cluster in found.counts for count in cluster]
    assert sum(len(row) * n for row, n in zip(rows.values(), counts, strict=True)) == expected


@pytest.mark.parametrize(
    ("names", "bins", "budget", "nesting"),
    [
        *((HOMOGENEOUS, bins, budget, "chain") for bins in (1, 2) for budget in (7, 15)),
        *((HOMOGENEOUS, bins, budget, "chain") for bins in (1, 4, 14) for budget in (36.5, 120)),
        (HETEROGENEOUS, 1, 7, "union"),
        (HETEROGENEOUS, 1, 15, "chain"),
        (HETEROGENEOUS, 4, 15, "union"),
        *((HETEROGENEOUS, bins, 36.5, "chain") for bins in (1, 4, 8)),
        (MULTI_DEPTH, 4, 18, "chain"),
        (MULTI_WIDTH, 4, 18, "chain"),
        (("mobilenetv2", "wrn28-5"), 4, 8, "chain"),
        (("wrn50-2",), 4, 20, "chain"),
        (("resnet50",), 4, 40, "chain"),
        (("vgg19",), 4, 10, "chain"),
    ],
)
def test_the_best_allocation_uses_the_budget(
    names: tuple[str, ...], bins: int, budget: float, nesting: str
) -> None:
    """At least 0.97 of it, never more, in the supplement's configurations and others."""
    uses = meta_uses(*names)
    found = allocate(depth_bins(uses, bins, nesting=nesting), uses, int(budget * MILLION))
    assert 0.97 * found.budget <= found.templates <= found.budget


def test_a_budget_above_the_members_own_size() -> None:
    """Four WRN-28-10 have 145.8M; 160M are used up."""
    uses = meta_uses(*HOMOGENEOUS)
    found = allocate(depth_bins(uses), uses, 160 * MILLION)
    assert 0.97 * 160 * MILLION <= found.templates <= 160 * MILLION


def test_members_get_two_templates_where_they_fit() -> None:
    """36.5M in four bins: no slot has only one, so members differ everywhere."""
    uses = meta_uses(*HOMOGENEOUS)
    found = allocate(depth_bins(uses), uses, 36_500_000)
    assert min(map(min, found.counts)) >= 2
    assert found.remarks == ()


def objective(slots: list[Demand], counts: list[int]) -> float:
    """Return what the best allocation maximizes."""
    return sum(_values(slot, count)[-1] for slot, count in zip(slots, counts, strict=True))


@pytest.mark.parametrize("budget", [9, 15, 36.5, 60])
def test_the_best_is_better_than_the_greedy_one(budget: float) -> None:
    """By its own objective, at equal budgets and caps."""
    uses = meta_uses(*HOMOGENEOUS)
    slots = demands(depth_bins(uses), uses)
    weights = int(budget * MILLION)
    ours, theirs = best(slots, weights, 8), greedy(slots, weights, 8)
    assert objective(slots, ours) > objective(slots, theirs)


ITEMS = st.lists(
    st.tuples(st.integers(1, 7), st.lists(st.floats(0, 9), min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


@given(ITEMS, st.integers(0, 30))
def test_the_knapsack_is_the_best_of_all_choices(
    items: list[tuple[int, list[float]]], extra: int
) -> None:
    """Against all combinations; more of a kind are worth more."""
    sizes = [size for size, _ in items]
    values = [list(itertools.accumulate(gains)) for _, gains in items]
    budget = sum(sizes) + extra
    counts = best_levels(sizes, values, budget)

    def weight(choice: tuple[int, ...]) -> int:
        return sum(s * n for s, n in zip(sizes, choice, strict=True))

    def worth(choice: tuple[int, ...]) -> float:
        return sum(v[n - 1] for v, n in zip(values, choice, strict=True))

    choices = itertools.product(*(range(1, len(v) + 1) for v in values))
    most = max(worth(choice) for choice in choices if weight(choice) <= budget)
    assert weight(tuple(counts)) <= budget
    assert worth(tuple(counts)) == pytest.approx(most)


@given(ITEMS, st.integers(0, 30))
def test_coarse_steps_never_exceed_the_budget(
    items: list[tuple[int, list[float]]], extra: int
) -> None:
    """And leave no room for another item of a kind that may have more."""
    sizes = [size for size, _ in items]
    values = [list(itertools.accumulate(gains)) for _, gains in items]
    budget = sum(sizes) + extra
    counts = best_levels(sizes, values, budget, steps=3)
    left = budget - sum(s * n for s, n in zip(sizes, counts, strict=True))
    assert left >= 0
    assert all(size > left for size, v, n in zip(sizes, values, counts, strict=True) if n < len(v))


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=6),
    st.integers(1, 4000),
    st.sampled_from(["best", "greedy"]),
    st.sampled_from([None, 1, 3]),
)
def test_no_allocation_exceeds_its_budget(
    shapes: list[tuple[int, int]], budget: int, allocator: str, cap: int | None
) -> None:
    """It is refused, with the minimum, or kept; and no slot has more than the cap."""
    uses = uses_with(shapes)
    sharing = depth_bins(uses, 1)
    least = minimum(demands(sharing, uses))
    own = sum(use.numel for use in uses)
    if not least <= budget <= 16 * own:
        message = f"at least {least:,}" if budget < least else f"16 times the {own:,}"
        with pytest.raises(BudgetError, match=message):
            allocate(sharing, uses, budget, allocator=allocator, cap=cap)
        return
    found = allocate(sharing, uses, budget, allocator=allocator, cap=cap)
    assert found.templates <= budget
    assert min(map(min, found.counts)) >= 1
    assert cap is None or max(map(max, found.counts)) <= cap


def test_what_is_remarked() -> None:
    """One template for several members, with their share; and a budget that stays unused."""
    uses = uses_with([(4, 4), (4, 4)])
    sharing = depth_bins(uses, 1)
    (remark,) = allocate(sharing, uses, 145).remarks
    assert remark.startswith("slot 0 of cluster 0 got one template: 100 % of the weights differ")
    (remark,) = allocate(sharing, uses, 4_000, allocator="greedy").remarks
    assert "1,152 of 4,000 weights, as no slot takes more than 8" in remark
    assert "a larger cap or more clusters" in remark
    assert allocate(sharing, uses, 4_000).remarks == ()


def test_what_is_refused() -> None:
    """An unknown allocator, an impossible cap; another nesting is offered where it needs less."""
    uses = uses_with([(4, 4), (3, 8), (8, 4)])
    sharing = depth_bins(uses, 1)
    with pytest.raises(ValueError, match="allocator='bset': valid are best, greedy"):
        allocate(sharing, uses, 1000, allocator="bset")
    with pytest.raises(BudgetError, match=r"more than 16 times the 648 weights"):
        allocate(sharing, uses, 16 * 648 + 1)
    assert allocate(sharing, uses, 16 * 648, cap=10**9).templates > 0.97 * 16 * 648
    with pytest.raises(ValueError, match="cap=0"):
        allocate(sharing, uses, 1000, cap=0)
    with pytest.raises(BudgetError, match=r"or nesting=union, which needs 396"):
        allocate(sharing, uses, 300)
