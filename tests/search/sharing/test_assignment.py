"""Algorithm 1, held against connected components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from blockstep.search.sharing.assignment import assign_groups
from hypothesis import given
from hypothesis import strategies as st

Pairs = Mapping[tuple[int, int], float]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[int], Pairs]:
    """Draw items and the similarities of some of their pairs, ties among them."""
    count = draw(st.integers(1, 7))
    pairs = [(one, other) for one in range(count) for other in range(one)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    values = st.sampled_from([-1.0, -0.3, 0.0, 0.1, 0.5, 0.5001, 0.9, 1.0])
    return list(range(count)), {pair: draw(values) for pair in chosen}


def components(items: Sequence[int], pairs: Pairs, threshold: float) -> list[tuple[int, ...]]:
    """Return the connected components of the pairs above a threshold, by walking."""
    found, seen = [], set()
    for item in items:
        reached, border = set(), {item} - seen
        while border:
            reached |= border
            near = {(one, other) for (one, other), psi in pairs.items() if psi > threshold}
            border = {b for a, b in (*near, *((o, i) for i, o in near)) if a in border} - reached
        seen |= reached
        if reached:
            found.append(tuple(sorted(reached)))
    return found


def test_two_pairs_are_merged_by_a_third() -> None:
    """The chain a-b .9, c-d .8, b-c .7 at .5 is one group; the public code leaves d alone."""
    pairs = {("a", "b"): 0.9, ("c", "d"): 0.8, ("b", "c"): 0.7}
    assert assign_groups("abcd", pairs, threshold=0.5) == [("a", "b", "c", "d")]
    assert assign_groups("abcd", pairs, threshold=0.75) == [("a", "b"), ("c", "d")]
    assert assign_groups("abcd", pairs, threshold=0.9) == [("a",), ("b",), ("c",), ("d",)]


@given(graphs(), st.sampled_from([-1.0, 0.0, 0.1, 0.5, 0.95]))
def test_groups_are_connected_components(graph: tuple[list[int], Pairs], threshold: float) -> None:
    """Of the pairs strictly above the threshold, whatever the order of equal ones."""
    items, pairs = graph
    assert assign_groups(items, pairs, threshold=threshold) == components(items, pairs, threshold)


@given(graphs(), st.integers(1, 4), st.sampled_from([None, 0.0, 0.5]))
def test_a_number_of_groups(
    graph: tuple[list[int], Pairs], groups: int, threshold: float | None
) -> None:
    """Alone it gives that many where the pairs allow; with a threshold, never more than either."""
    items, pairs = graph
    found = assign_groups(items, pairs, threshold=threshold, groups=groups)
    assert sorted(item for group in found for item in group) == items
    fewest = len(components(items, pairs, -2.0))
    most = len(items) if threshold is None else len(components(items, pairs, threshold))
    assert len(found) == min(most, max(groups, fewest))


@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(graph: tuple[list[int], Pairs], random: object) -> None:
    """A queue gives the same groups however it was filled."""
    items, pairs = graph
    shuffled = list(pairs.items())
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    expected = assign_groups(items, pairs, threshold=0.1)
    assert assign_groups(items, dict(shuffled), threshold=0.1) == expected


def test_what_cannot_be_grouped() -> None:
    """No rule, repeated or unknown items, and similarities that are no numbers."""
    with pytest.raises(ValueError, match="threshold of similarity, or a number of groups"):
        assign_groups([1, 2], {(1, 2): 0.5})
    with pytest.raises(ValueError, match="groups=0"):
        assign_groups([1, 2], {(1, 2): 0.5}, groups=0)
    with pytest.raises(ValueError, match="2 items are given, but only 1 different"):
        assign_groups([1, 1], {}, threshold=0)
    with pytest.raises(ValueError, match="pair 1, 3 is not of two of the 2 items"):
        assign_groups([1, 2], {(1, 3): 0.5}, threshold=0)
    with pytest.raises(ValueError, match="similarity of 1 and 2 is nan"):
        assign_groups([1, 2], {(1, 2): float("nan")}, threshold=0)
