"""Discretization: the ranking against the published tables, and what counts as a tie."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path

import pytest
import torch
from blockstep.search import PUBLISHED, Decoupling, DecouplingError, published
from blockstep.search.discretization import (
    TIE,
    best_heads,
    cut_weights,
    discretize,
    head_weights,
    margins,
    ranking,
    ties,
)
from blockstep.search.jsonfile import MAX_BYTES
from hypothesis import given
from hypothesis import strategies as st

POOL = ("aux1", "aux2", "aux3", "aux4")
LAYERS = {"resnet152": 50, "resnet101": 33, "resnet50": 16, "vgg19": 16}
VALUES = st.floats(-30, 30, width=32)
ALPHAS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20)


def zeros(layers: int) -> list[list[float]]:
    """Return a beta that prefers nothing."""
    return [[0.0] * len(POOL) for _ in range(layers - 1)]


def of_weights(weights: list[float]) -> list[tuple[float, float]]:
    """Return an alpha whose softmaxed alpha_1 are ``weights``."""
    return [(math.log(weight / (1 - weight)), 0.0) for weight in weights]


# --- Ranking and margins ------------------------------------------------------------------------


@pytest.mark.parametrize("network", PUBLISHED)
def test_alphas_in_published_order_give_the_published_cuts(network: str):
    """Whatever the values, layers sorted as in the tables make the tables' cuts and heads."""
    layers = LAYERS[network]
    most = min(layers, 17)
    table = published(network, most)
    assert table.ranking is not None
    rest = [layer for layer in range(1, layers) if layer not in table.ranking]
    order = [*table.ranking, *rest]
    numbers = random.Random(network)
    leads = sorted((numbers.gauss(0, 3) for _ in order), reverse=True)
    shifts = [numbers.gauss(0, 5) for _ in order]
    alpha = torch.zeros(layers - 1, 2)
    beta = torch.tensor([[numbers.random() for _ in POOL] for _ in range(layers - 1)])
    for layer, lead, shift in zip(order, leads, shifts, strict=True):
        alpha[layer - 1] = torch.tensor([shift + lead, shift])
    for cut, head in zip(table.cuts, table.heads, strict=True):
        beta[cut - 1, POOL.index(str(head))] += 1.0
    found = discretize(alpha, beta, network=network, heads=POOL, blocks=4)
    assert found.ranking is not None
    assert found.ranking[: len(table.ranking)] == table.ranking
    for blocks in range(2, most + 1):
        one, other = found.for_blocks(blocks), published(network, blocks)
        assert (one.cuts, one.heads) == (other.cuts, other.heads)


@given(ALPHAS)
def test_the_ranking_sorts_the_softmax_in_float64(alpha: list[tuple[float, float]]):
    """Softmaxed alpha_1, computed by torch, never rises along the ranking; all layers are there."""
    order = ranking(alpha)
    assert sorted(order) == list(range(1, len(alpha) + 1))
    softmaxed = torch.tensor(alpha, dtype=torch.float64).softmax(1)[:, 0]
    assert torch.tensor(cut_weights(alpha)).tolist() == pytest.approx(softmaxed.tolist())
    ranked = [float(softmaxed[layer - 1]) for layer in order]
    assert all(before >= after - 1e-15 for before, after in itertools.pairwise(ranked))
    told = margins(alpha)
    assert len(told) == len(alpha) - 1
    steps = [before - after for before, after in itertools.pairwise(ranked)]
    assert told == pytest.approx(steps, abs=1e-14)
    assert min(told, default=0.0) >= 0


def test_equal_layers_are_ranked_by_place():
    """Only the difference of the two values counts, and of equals the first layer is first."""
    assert ranking([(1.0, 0.0), (3.0, 1.0), (5.0, 4.0), (2.0, 0.0)]) == (2, 4, 1, 3)
    assert ranking(torch.zeros(5, 2)) == (1, 2, 3, 4, 5)


def test_saturated_layers_are_still_told_apart():
    """Where the softmax rounds to 1 in float32 and even in float64, the difference decides."""
    alpha = torch.tensor([[25.0, -25.0], [30.0, -30.0], [20.0, -20.0]])
    assert len(set(cut_weights(alpha))) == 1
    assert ranking(alpha) == (2, 1, 3)
    # In float32 1e8 and 1e8 - 1 are the same number; in float64 they are not.
    assert ranking([(1e8 - 1, 0.0), (1e8, 0.0)]) == (2, 1)


def test_large_values_do_not_overflow():
    """Softmax of a difference of 2000 is 1 or 0."""
    assert cut_weights([(1000.0, -1000.0), (-1000.0, 1000.0)]) == (1.0, 0.0)


def test_the_first_of_equal_heads_is_taken():
    """Argmax of beta for each layer."""
    beta = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.5, 0.5], [-3.0, -2.0, -1.0]])
    assert best_heads(beta) == (0, 1, 2)


def test_the_weights_of_heads_are_the_softmax_of_beta():
    """Each layer's sum to 1, also of values whose exponential overflows."""
    beta = torch.tensor([[0.0, 0.5, -1.0], [2.0, 2.0, 2.0], [-3.0, 0.0, 9.0]], dtype=torch.float64)
    expected = beta.softmax(-1)
    torch.testing.assert_close(torch.tensor(head_weights(beta), dtype=torch.float64), expected)
    assert head_weights([[1000.0, -1000.0], [-1000.0, -1000.0]]) == ((1.0, 0.0), (0.5, 0.5))
    with pytest.raises(DecouplingError, match="not finite"):
        head_weights([[0.0, float("nan")]])


# --- Discretization -----------------------------------------------------------------------------


def test_the_result_holds_what_was_learned():
    """Alpha and beta exactly, the pool, and cuts and heads for every number of blocks."""
    alpha = torch.tensor([[0.1, 0.2], [0.7, -0.3], [0.3, 0.0]])
    beta = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.5, 0.25]])
    head = {"_target_": "package.Head"}
    found = discretize(alpha, beta, network="net", heads=("aux1", head), blocks=3)
    assert (found.network, found.layers) == ("net", 4)
    assert (found.cuts, found.heads) == ((2, 3), ("aux1", "aux1"))
    assert (found.pool, found.ranking) == (("aux1", head), (2, 3, 1))
    assert found.alpha == tuple(map(tuple, alpha.tolist()))
    assert found.beta == tuple(map(tuple, beta.tolist()))
    assert found.margins == margins(alpha)
    assert found.by_blocks == {
        2: {"cuts": (2,), "heads": ("aux1",)},
        3: {"cuts": (2, 3), "heads": ("aux1", "aux1")},
        4: {"cuts": (1, 2, 3), "heads": (head, "aux1", "aux1")},
    }
    assert Decoupling.from_json(found.to_json()) == found


def test_one_block_has_no_cut():
    """The whole network is a possible answer, and so is one of a single layer."""
    alpha = torch.zeros(2, 2)
    assert discretize(alpha, zeros(3), network="n", heads=POOL, blocks=1).bounds() == [(1, 3)]
    assert discretize([], [], network="n", heads=POOL, blocks=1).layers == 1


def test_the_deepest_published_network_fits_a_file(tmp_path: Path):
    """ResNet-152 with heads of long arguments: every number of blocks, far below 1 MiB."""
    pool = tuple({"_target_": "my_package.heads.SmallHead", "width": w} for w in range(4))
    found = discretize(torch.randn(49, 2), torch.randn(49, 4), network="n", heads=pool, blocks=16)
    found.save(tmp_path / "decoupling.json")
    read = Decoupling.load(tmp_path / "decoupling.json")
    assert read == found
    assert set(read.by_blocks or ()) == set(range(2, 51))
    assert (tmp_path / "decoupling.json").stat().st_size < MAX_BYTES // 2


def test_what_does_not_fit_a_file_is_left_out_from_the_end(tmp_path: Path):
    """A file that nobody can read would lose the search: the largest numbers of blocks go."""
    pool = ({"_target_": "package.Head", "text": "x" * 3000},)
    found = discretize(torch.randn(49, 2), torch.zeros(49, 1), network="n", heads=pool, blocks=45)
    found.save(tmp_path / "decoupling.json")
    known = sorted(found.by_blocks or ())
    assert known == list(range(2, known[-1] + 1))
    assert 10 < known[-1] < 50
    assert Decoupling.load(tmp_path / "decoupling.json").blocks == 45
    # One more would have been too much: its heads alone have more bytes than are left.
    size = len(json.dumps(json.loads(found.to_json()), indent=1))
    assert size + (known[-1] + 1) * 3000 > MAX_BYTES


@pytest.mark.parametrize(
    ("alpha", "beta", "blocks", "message"),
    [
        ([[0.0, 1.0, 2.0]], [[0.0] * 4], 2, r"alpha\[0\] has 3 values, but there must be 2"),
        ([[0.0, 0.0]], [[0.0] * 3], 2, r"beta\[0\] has 3 values, but there must be 4"),
        ([[0.0, 0.0]], [[0.0] * 4] * 2, 2, "alpha has 1 rows and beta has 2"),
        ([[0.0, math.nan]], [[0.0] * 4], 2, r"alpha\[0\]=\[0.0, nan\] is not finite"),
        ([[0.0, 0.0]], [[0.0, 0.0, 0.0, math.inf]], 2, r"beta\[0\]=.*is not finite"),
        ([[0.0, 0.0]], [[0.0] * 4], 3, "blocks=3, but the network has 2 layers"),
    ],
)
def test_what_does_not_fit_is_refused(
    alpha: list[list[float]], beta: list[list[float]], blocks: int, message: str
):
    """The error has the row and both numbers."""
    with pytest.raises(DecouplingError, match=message):
        discretize(alpha, beta, network="net", heads=POOL, blocks=blocks)


def test_rows_of_beta_are_alike():
    """Without a pool, the first row says how many heads there are."""
    with pytest.raises(DecouplingError, match=r"beta\[1\] has 1 values, but there must be 2"):
        best_heads([[0.0, 1.0], [0.0]])
    with pytest.raises(DecouplingError, match=r"beta\[0\] has 0 values, but there must be some"):
        best_heads([[]])


# --- Ties ---------------------------------------------------------------------------------------


def test_only_the_margin_that_decides_makes_a_tie():
    """Near layers that are both chosen, or both not, leave no doubt."""
    alpha = of_weights([0.9, 0.8996, 0.5, 0.4998, 0.1])
    found = ties(alpha)
    assert set(found) == {2, 4}
    assert str(found[2]) == "K=2: the cut after 1 is ahead of 2 by 0.0004: a tie"
    assert (found[2].cuts, found[2].rivals) == ((1,), (2,))
    assert found[2].margin == pytest.approx(0.0004)
    assert str(found[4]) == "K=4: the cut after 3 is ahead of 4 by 0.0002: a tie"


def test_all_layers_that_a_tie_involves_are_told():
    """Chosen ones near the best that is not, and others near the last that is."""
    found = ties(of_weights([0.2, 0.5004, 0.5, 0.7, 0.5008, 0.4993]))
    assert (found[4].cuts, found[4].rivals) == ((5, 2), (3,))
    assert (found[5].cuts, found[5].rivals) == ((3,), (6,))
    assert str(found[4]) == ("K=4: the cut after 2 is ahead of 3 by 0.0004: a tie (of 5, 2 with 3)")


def test_equal_layers_are_level():
    """A search that learned nothing says so for every number of blocks but the last."""
    found = ties(torch.zeros(4, 2))
    assert set(found) == {2, 3, 4}
    assert str(found[3]) == "K=3: the cut after 2 is level with 3: a tie (of 1, 2 with 3, 4)"


@given(ALPHAS)
def test_ties_agree_with_the_margins(alpha: list[tuple[float, float]]):
    """K blocks are a tie if margin K - 2, counted from 0, is small; all layers is never one."""
    told = margins(alpha)
    found = ties(alpha)
    assert set(found) == {place + 2 for place, margin in enumerate(told) if margin < TIE}
    for blocks, tie in found.items():
        assert set(tie.cuts) <= set(ranking(alpha)[: blocks - 1])
        assert not set(tie.rivals) & set(ranking(alpha)[: blocks - 1])
        assert tie.cuts
        assert tie.rivals
