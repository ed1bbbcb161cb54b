"""The published decouplings, against what is known of them from elsewhere."""

from __future__ import annotations

import pytest
from blockstep.models import HeadSpec, make_network
from blockstep.search import PUBLISHED, DecouplingError, published

MOST = {"resnet152": 17, "resnet101": 17, "resnet50": 16, "vgg19": 16}


@pytest.mark.parametrize(
    ("network", "cuts", "heads"),
    [
        ("resnet101", (7, 11, 12), (4, 4, 4)),
        ("resnet152", (11, 13, 17), (4, 4, 4)),
        ("resnet50", (10, 11, 12), (4, 4, 4)),
        ("vgg19", (6, 13, 14), (4, 1, 1)),
        ("resnet101", (7, 11, 12, 22, 25, 27, 28), (4,) * 7),
        ("resnet152", (11, 13, 17, 19, 22, 23, 25), (4, 4, 4, 3, 2, 4, 2)),
        ("vgg19", (6, 8, 11, 12, 13, 14, 15), (4, 1, 2, 1, 1, 1, 1)),
        ("resnet50", tuple(range(9, 16)), (1, 4, 4, 4, 4, 1, 4)),
        ("resnet101", (7,), (4,)),
        ("resnet152", (11,), (4,)),
    ],
)
def test_splits_that_the_paper_trained(network: str, cuts: tuple[int, ...], heads: tuple[int, ...]):
    """Cuts and heads of K = 2, 4 and 8, which the released weights confirm."""
    found = published(network, len(cuts) + 1)
    assert (found.network, found.cuts) == (network, cuts)
    assert found.heads == tuple(f"aux{head}" for head in heads)


@pytest.mark.parametrize("network", PUBLISHED)
def test_each_number_of_blocks_adds_one_cut(network: str):
    """K + 1 blocks have the cuts of K blocks and the next layer of the ranking, same heads."""
    before: dict[int, HeadSpec] = {}
    for blocks in range(2, MOST[network] + 1):
        found = published(network, blocks)
        now = dict(zip(found.cuts, found.heads, strict=True))
        assert found.ranking is not None
        assert set(now) == set(found.ranking[: blocks - 1])
        assert before.items() <= now.items()
        before = now


def test_tables_that_rank_every_layer():
    """ResNet-50 and VGG-19 can be cut after each of their layers."""
    for network in ("resnet50", "vgg19"):
        assert published(network, 16).cuts == tuple(range(1, 16))


@pytest.mark.parametrize("network", PUBLISHED)
def test_layers_are_counted_as_our_networks_do(network: str):
    """A published decoupling fits the network of its name."""
    made = make_network(network, classes=10, in_channels=3, size=32, width=0.0625)
    published(network, 4).check(made.name, len(made.layers))


@pytest.mark.parametrize("network", PUBLISHED)
def test_the_table_has_an_end(network: str):
    """More blocks than the table ranks, or fewer than two, are refused with both numbers."""
    most = MOST[network]
    for blocks in (-1, 0, 1, most + 1):
        with pytest.raises(DecouplingError, match=f"blocks={blocks}, .*between 2 and {most}"):
            published(network, blocks)


def test_unknown_networks_list_the_known():
    """There is no table for ResNet-18."""
    with pytest.raises(
        DecouplingError, match="'resnet18' was published; there are resnet101, resnet152, resnet50"
    ):
        published("resnet18", 4)
