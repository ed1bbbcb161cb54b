"""Balanced cuts: the dynamic programme against trying everything."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import pytest
from blockstep.search import (
    DecouplingError,
    Profile,
    ProfileError,
    balanced_cuts,
    best_cuts,
    predicted,
)
from blockstep.search.decoupling import NO_HEAD
from hypothesis import given
from hypothesis import strategies as st

Cost = Callable[[int, int], float]


def costs_of(layers: int, blocks: int, cost: Cost) -> list[tuple[float, float, tuple[int, ...]]]:
    """Try everything: largest cost, sum of squares and cuts of each possible choice."""
    tried = []
    for cuts in itertools.combinations(range(1, layers), blocks - 1):
        ends = (0, *cuts, layers)
        costs = [cost(start + 1, end) for start, end in itertools.pairwise(ends)]
        tried.append((max(costs), sum(one * one for one in costs), cuts))
    return tried


def table(layers: int, numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Cost]:
    """Draw a cost for each possible block."""
    blocks = [(a, b) for a in range(1, layers + 1) for b in range(a, layers + 1)]
    drawn = st.lists(numbers, min_size=len(blocks), max_size=len(blocks))
    return drawn.map(lambda costs: lambda a, b: dict(zip(blocks, costs, strict=True))[a, b])


SIZES = st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(SIZES, st.data())
def test_nothing_is_better(sizes: tuple[int, int], data: st.DataObject):
    """Few different whole numbers: ties are frequent, and broken as they should be."""
    layers, blocks = sizes
    cost = data.draw(table(layers, st.integers(0, 4).map(float)))
    assert best_cuts(layers, blocks, cost) == min(costs_of(layers, blocks, cost))[2]


@given(SIZES, st.data())
def test_impossible_blocks_are_avoided(sizes: tuple[int, int], data: st.DataObject):
    """Infinite costs are only in the result when nothing else is possible: then it is refused."""
    layers, blocks = sizes
    cost = data.draw(table(layers, st.sampled_from([1.0, 2.0, math.inf])))
    best = min(costs_of(layers, blocks, cost))
    if best[0] == math.inf:
        with pytest.raises(DecouplingError, match=f"{layers} layers make {blocks} possible"):
            best_cuts(layers, blocks, cost)
    else:
        assert best_cuts(layers, blocks, cost) == best[2]


@given(SIZES, st.data())
def test_the_slowest_block_is_the_fastest_possible(sizes: tuple[int, int], data: st.DataObject):
    """With any positive numbers the largest cost is the smallest that there is."""
    layers, blocks = sizes
    cost = data.draw(table(layers, st.floats(0, 1e6)))
    cuts = best_cuts(layers, blocks, cost)
    tried = {one[2]: one for one in costs_of(layers, blocks, cost)}
    assert tried[cuts][0] == min(one[0] for one in tried.values())


def test_equal_layers_are_cut_evenly():
    """Among splits with the same slowest block the others are as even as can be."""
    cuts = best_cuts(7, 3, lambda first, last: float(last - first + 1))
    assert cuts == (2, 4)
    # One slow layer fixes the maximum; the rest is still divided well.
    weights = [100, 1, 1, 1, 1, 1, 1, 1, 1]
    cuts = best_cuts(9, 3, lambda first, last: float(sum(weights[first - 1 : last])))
    assert cuts == (1, 5)


def test_each_possible_block_is_asked_for_once():
    """A cost may be slow to find; blocks that leave none for the others are not asked for."""
    asked: list[tuple[int, int]] = []

    def cost(first: int, last: int) -> float:
        asked.append((first, last))
        return 1.0

    best_cuts(6, 3, cost)
    possible = {
        (start + 1, end)
        for cuts in itertools.combinations(range(1, 6), 2)
        for start, end in itertools.pairwise((0, *cuts, 6))
    }
    assert len(asked) == len(set(asked))
    assert set(asked) == possible


def test_large_networks_take_no_time():
    """200 layers in 100 blocks are found by counting, not by trying 10^58 choices."""
    cuts = best_cuts(200, 100, lambda first, last: float(last - first + 1))
    assert cuts == tuple(range(2, 200, 2))


def test_costs_must_be_numbers():
    """A nan would make comparisons meaningless; the block is named."""
    with pytest.raises(ValueError, match="cost of layers 1-2 is nan"):
        best_cuts(3, 2, lambda first, last: math.nan if (first, last) == (1, 2) else 1.0)


@pytest.mark.parametrize("blocks", [-1, 0, 4])
def test_impossible_numbers_of_blocks_are_refused(blocks: int):
    """The error has both numbers."""
    with pytest.raises(DecouplingError, match=f"blocks={blocks}, but the network has 3 layers"):
        best_cuts(3, blocks, lambda first, last: 1.0)


# --- With a profile -------------------------------------------------------------------------------


def profile(
    inner: tuple[float, ...],
    heads: tuple[tuple[float | None, ...], ...],
    *,
    parameters: tuple[int, ...] | None = None,
    classifier_parameters: int = 1,
) -> Profile:
    """Return a profile in which only forward, backward and heads take time."""
    layers = len(inner)
    return Profile(
        network="net",
        layers=layers,
        batch_size=8,
        device="cpu",
        threads=1,
        heads=tuple(f"aux{number}" for number in range(1, len(heads) + 1)),
        forward=(0.0,) * layers,
        inner=inner,
        entry=tuple(seconds / 2 for seconds in inner),
        update=(0.0,) * layers,
        head_seconds=heads,
        head_update=tuple(tuple(None if one is None else 0.0 for one in row) for row in heads),
        classifier_seconds=1.0,
        classifier_update=0.0,
        boundary_bytes=(0,) * layers,
        parameters=parameters or (1,) * layers,
        classifier_parameters=classifier_parameters,
    )


def test_heads_count():
    """A costly head where the layers alone would be balanced moves the cut."""
    layers = (2.0, 2.0, 2.0, 2.0)
    light, heavy = (1.0, 1.0, 1.0), (1.0, 9.0, 1.0)
    both = profile(layers, (light, heavy))
    assert balanced_cuts(both, 2, "aux1") == (2,)
    assert predicted(both, (2,), "aux1") == [1.0 + 2.0 + 1.0, 1.0 + 2.0 + 1.0]
    assert balanced_cuts(both, 2, "aux2") == (1,)
    assert predicted(both, (1,), "aux2") == [1.0 + 1.0, 1.0 + 2.0 + 2.0 + 1.0]
    assert predicted(both, (2,), "aux2") == [1.0 + 2.0 + 9.0, 1.0 + 2.0 + 1.0]


def test_one_block_needs_no_head():
    """The whole network with its classifier is one block, whatever was measured."""
    whole = profile((2.0, 2.0), ())
    assert balanced_cuts(whole, 1, "aux1") == ()
    assert predicted(whole, (), "aux1") == [1.0 + 2.0 + 1.0]


def test_no_cut_where_the_head_does_not_fit():
    """A head for images is not put on vectors, even if that would be faster."""
    mixed = profile((1.0, 1.0, 8.0, 1.0, 1.0), ((1.0, 1.0, None, None),))
    assert balanced_cuts(mixed, 2, "aux1") == (2,)
    assert balanced_cuts(mixed, 3, "aux1") == (1, 2)
    with pytest.raises(DecouplingError, match=r"blocks=4: net has no cuts .*'aux1' fits"):
        balanced_cuts(mixed, 4, "aux1")
    with pytest.raises(ProfileError, match="'aux1' does not fit the output of layer 3"):
        predicted(mixed, (3,), "aux1")


def test_the_last_block_can_train():
    """Without a classifier, layers without parameters do not make a block of their own."""
    layers = (1.0, 1.0, 50.0, 50.0)
    head = ((1.0, 1.0, 1.0),)
    silent = profile(layers, head, parameters=(1, 1, 0, 0), classifier_parameters=0)
    assert balanced_cuts(silent, 2, "aux1") == (1,)
    assert balanced_cuts(profile(layers, head, parameters=(1, 1, 0, 0)), 2, "aux1") == (2,)


def test_unmeasured_heads_and_impossible_cuts_are_refused():
    """The error lists what was measured; cuts are checked as in a decoupling."""
    small = profile((1.0, 1.0), ((1.0,),))
    with pytest.raises(ProfileError, match=r"'aux4' was not measured, only \['aux1'\]"):
        balanced_cuts(small, 2, "aux4")
    with pytest.raises(DecouplingError, match="after layer 2, but 'net' has 2 layers"):
        predicted(small, (2,), "aux1")
    with pytest.raises(DecouplingError, match="blocks=3, but the network has 2 layers"):
        balanced_cuts(small, 3, "aux1")


def test_blocks_without_losses_of_their_own_need_no_head():
    """Errors come from the block after: each block but the first has to pass them on."""
    costs = profile((4.0, 2.0, 2.0, 2.0), ())
    assert balanced_cuts(costs, 2, NO_HEAD) == (2,)
    assert predicted(costs, (2,), NO_HEAD) == [2.0 + 2.0, 2.0 + 2.0 + 1.0]
    assert predicted(costs, (), NO_HEAD) == [2.0 + 2.0 + 2.0 + 2.0 + 1.0]


def test_a_second_pass_moves_the_cut_forward():
    """Features Replay passes each batch twice in all blocks but the last, which get less work."""
    costs = dataclasses.replace(profile((2.0,) * 6, ()), forward=(1.5,) * 6)
    assert balanced_cuts(costs, 2, NO_HEAD) == (3,)
    assert balanced_cuts(costs, 2, NO_HEAD, replays=True) == (2,)
    plain, replaying = (
        predicted(costs, (2,), NO_HEAD, replays=replays) for replays in (False, True)
    )
    assert replaying == [plain[0] + 3.0, plain[1]]
    headed = profile((2.0,) * 6, ((1.0,) * 5,))
    assert predicted(headed, (2,), "aux1", replays=True) == predicted(headed, (2,), "aux1")


def test_a_block_without_a_head_can_train():
    """Layers without parameters are no block of their own where no head has any either."""
    silent = profile((1.0, 9.0, 1.0, 1.0), ((1.0, 1.0, 1.0),), parameters=(1, 0, 1, 1))
    assert balanced_cuts(silent, 3, "aux1") == (1, 2)
    assert balanced_cuts(silent, 3, NO_HEAD) == (2, 3)
    with pytest.raises(DecouplingError, match="no cuts that leave every block parameters"):
        balanced_cuts(silent, 4, NO_HEAD)
