"""Cuts without measurement."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import pytest
from blockstep.search import DecouplingError, random_split, uniform
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("layers", "blocks", "cuts"),
    [
        (33, 2, (16,)),
        (33, 4, (8, 16, 24)),
        (33, 8, (4, 8, 12, 16, 20, 24, 28)),
        (50, 2, (25,)),
        (50, 4, (12, 25, 37)),
        (50, 8, (6, 12, 18, 25, 31, 37, 43)),
        (16, 4, (4, 8, 12)),
        (16, 1, ()),
        (16, 16, tuple(range(1, 16))),
    ],
)
def test_uniform_splits_of_the_paper(layers: int, blocks: int, cuts: tuple[int, ...]):
    """The baseline's cuts of ResNet-101, ResNet-152, ResNet-50 and VGG-19."""
    assert uniform(layers, blocks) == cuts


@pytest.mark.parametrize("layers", [1, 2, 7, 16, 33, 50, 200])
def test_uniform_follows_the_formula(layers: int):
    """The baseline's int(linspace(-1, L - 1, K + 1))[1:-1] + 1, in exact numbers."""
    for blocks in range(1, layers + 1):
        points = [-1 + Fraction(layers * k, blocks) for k in range(1, blocks)]
        assert uniform(layers, blocks) == tuple(int(point) + 1 for point in points)


def test_uniform_blocks_differ_by_one_layer_at_most():
    """No block is empty, for every number of layers up to 200 and every number of blocks."""
    for layers in range(1, 201):
        for blocks in range(1, layers + 1):
            ends = (0, *uniform(layers, blocks), layers)
            sizes = {end - start for start, end in itertools.pairwise(ends)}
            assert sizes <= {layers // blocks, -(-layers // blocks)}


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))), st.data())
def test_random_splits_have_no_empty_block(sizes: tuple[int, int], data: st.DataObject):
    """K - 1 different cuts between the layers, in order, the same for the same seed."""
    layers, blocks = sizes
    seed = data.draw(st.integers(0, 2**63 - 1))
    cuts = random_split(layers, blocks, seed=seed)
    assert len(cuts) == blocks - 1
    assert all(before < after for before, after in itertools.pairwise((0, *cuts, layers)))
    assert random_split(layers, blocks, seed=seed) == cuts


def test_every_set_of_cuts_is_equally_likely():
    """Over 4,000 seeds each of the 10 sets comes up about 400 times (5 standard deviations)."""
    counts = Counter(random_split(6, 3, seed=seed) for seed in range(4000))
    assert set(counts) == set(itertools.combinations(range(1, 6), 2))
    assert all(abs(count - 400) < 5 * (4000 * 0.1 * 0.9) ** 0.5 for count in counts.values())


def test_random_splits_never_change():
    """A run that is repeated with another Python, on another machine, is cut alike."""
    assert random_split(33, 4, seed=0) == (8, 15, 30)


@pytest.mark.parametrize("blocks", [-1, 0, 17])
def test_impossible_numbers_of_blocks_are_refused(blocks: int):
    """The error has both numbers and what would be possible."""
    message = f"blocks={blocks}, but the network has 16 layers.* between 1 and 16"
    with pytest.raises(DecouplingError, match=message):
        uniform(16, blocks)
    with pytest.raises(DecouplingError, match=message):
        random_split(16, blocks, seed=0)
