"""The ablations of Table 4: what stays learned, what is drawn, and how evenly."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import pytest
from blockstep.search import Decoupling, DecouplingError, published
from blockstep.search.ablation import random_cuts, random_heads
from blockstep.search.discretization import discretize

POOL = ("aux1", "aux2", "aux3")
BETA = [[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
LEARNED = ("aux2", "aux1", "aux3", "aux2", "aux1")
ALPHA = [[0.0, 0.0], [3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]
FOUND = discretize(ALPHA, BETA, network="net", heads=POOL, blocks=3)


def test_random_cuts_have_the_learned_heads():
    """As many blocks as before, and after each layer the head of its largest beta."""
    for seed in range(50):
        drawn = random_cuts(FOUND, seed=seed)
        assert (drawn.network, drawn.layers, drawn.blocks) == ("net", 6, 3)
        assert drawn.heads == tuple(LEARNED[cut - 1] for cut in drawn.cuts)


def test_every_set_of_cuts_is_equally_likely():
    """Over 4,000 seeds each of the 10 sets comes up about 400 times (5 standard deviations)."""
    counts = Counter(random_cuts(FOUND, seed=seed).cuts for seed in range(4000))
    assert set(counts) == set(itertools.combinations(range(1, 6), 2))
    assert all(abs(count - 400) < 5 * (4000 * 0.1 * 0.9) ** 0.5 for count in counts.values())


def test_random_heads_keep_the_learned_cuts():
    """Over 3,600 seeds each of the 9 pairs of heads comes up about 400 times."""
    drawn = [random_heads(FOUND, seed=seed) for seed in range(3600)]
    assert {one.cuts for one in drawn} == {FOUND.cuts}
    counts = Counter(one.heads for one in drawn)
    assert set(counts) == set(itertools.product(POOL, repeat=2))
    assert all(abs(count - 400) < 5 * (3600 * 8 / 81) ** 0.5 for count in counts.values())


def test_the_draws_never_change():
    """A run that is repeated with another Python, on another machine, is the same."""
    assert [random_cuts(FOUND, seed=seed).cuts for seed in range(3)] == [(2, 3), (1, 2), (1, 3)]
    heads = [random_heads(FOUND, seed=seed).heads for seed in range(3)]
    assert heads == [("aux3", "aux2"), ("aux3", "aux2"), ("aux2", "aux2")]


def test_nothing_learned_is_left_beside():
    """Another number of blocks would have the learned cuts: it must not be offered."""
    for drawn in (random_cuts(FOUND, seed=0), random_heads(FOUND, seed=0)):
        assert drawn == Decoupling("net", 6, drawn.cuts, drawn.heads)
        with pytest.raises(DecouplingError, match="blocks=2"):
            drawn.for_blocks(2)


def test_another_pool_can_be_given():
    """Published tables name no pool."""
    table = published("resnet101", 4)
    drawn = random_heads(table, ("mlp_sr",), seed=0)
    assert (drawn.cuts, drawn.heads) == ((7, 11, 12), ("mlp_sr",) * 3)
    with pytest.raises(DecouplingError, match="no pool of heads to draw from"):
        random_heads(table, seed=0)


def test_random_cuts_need_every_layer_s_head():
    """What a search learned is needed in full; the error says how much of it is there."""
    with pytest.raises(DecouplingError, match="0 rows of beta and 0 heads"):
        random_cuts(published("resnet101", 4), seed=0)
    short = dataclasses.replace(FOUND, beta=FOUND.beta[:2] if FOUND.beta else None)
    with pytest.raises(DecouplingError, match=r"2 rows of beta and 3 heads .* of 5 layers"):
        random_cuts(short, seed=0)
