"""What a relaxation is made of, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import network_of
from blockstep.search.relaxation import Relaxation
from torch import nn

from .relaxed import CLASSES, batch, make_network, make_relaxation


def test_every_trainable_weight_belongs_to_one_layer_or_its_heads() -> None:
    """Each once, in order, with a name that says where."""
    relaxation = make_relaxation(depth=4)
    indices = [
        index
        for layer, heads in zip(relaxation.layer_weights, relaxation.head_weights, strict=True)
        for index in (*layer, *heads)
    ]
    assert indices == list(range(len(relaxation.names)))
    assert len(set(relaxation.names)) == len(relaxation.names)
    first = relaxation.layer_weights[1].start
    assert relaxation.names[first].startswith("layers.1.")
    assert relaxation.names[relaxation.head_weights[1].start].startswith("heads.1.0.")


def test_placed_weights_are_computed_with() -> None:
    """Weights are put in, not copied."""
    relaxation = make_relaxation()
    x = batch(1).x
    weights = relaxation.initial()
    before = relaxation.logits(x)
    relaxation.place([torch.zeros_like(weight) for weight in weights])
    assert not torch.equal(relaxation.logits(x), before)
    relaxation.place(weights)
    assert torch.equal(relaxation.logits(x), before)


def test_the_network_that_was_given_is_not_touched() -> None:
    """A search works on a copy."""
    network = make_network()
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    pool = [[nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))]] * 3
    relaxation = Relaxation(network, pool, criterion=nn.CrossEntropyLoss())
    relaxation.place([torch.zeros_like(weight) for weight in relaxation.initial()])
    relaxation.logits(torch.randn(4, 2, 6, 6))
    for name, value in network.module.state_dict().items():
        assert torch.equal(value, before[name])


def test_mixture_weighs_the_logits() -> None:
    """Eq. 3, with weights of which one is all."""
    relaxation = make_relaxation()
    a = relaxation.layers[0](batch(1).x)
    one_hot = torch.tensor([[0.0, 1.0]] * 3, dtype=torch.float64)
    torch.testing.assert_close(relaxation.mixed(0, a, one_hot), relaxation.heads[0][1](a))
    halves = torch.full((3, 2), 0.5, dtype=torch.float64)
    mean = (relaxation.heads[0][0](a) + relaxation.heads[0][1](a)) / 2
    torch.testing.assert_close(relaxation.mixed(0, a, halves), mean)


def test_frozen_weights_are_left_out() -> None:
    """They are computed with and never change."""
    network = make_network()
    network.layers[0][0].weight.requires_grad_(False)  # pyright: ignore
    pool = [[nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES))] for _ in range(3)]
    for heads in pool:
        heads[0](torch.randn(2, 4, 6, 6))
    relaxation = Relaxation(network, pool, criterion=nn.CrossEntropyLoss())
    assert "layers.0.0.weight" not in relaxation.names


@pytest.mark.parametrize(
    ("depth", "pool", "told"),
    [
        (2, 1, "needs at least 3"),
        (4, 2, "the pool has heads for 2"),
        (4, 0, "at least one, for the first 3 layers"),
    ],
)
def test_impossible_pools_are_refused(depth: int, pool: int, told: str) -> None:
    """With the number of layers and of heads."""
    network = network_of(nn.Sequential(*(nn.Linear(2, 2) for _ in range(depth))), name="tiny")
    heads = [[nn.Linear(2, 2)]] * pool if pool else [[]] * (depth - 1)
    with pytest.raises(ValueError, match=told):
        Relaxation(network, heads, criterion=nn.CrossEntropyLoss())


def test_a_network_without_weights_is_refused() -> None:
    """There would be nothing to search with."""
    network = network_of(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.ReLU()), name="empty")
    with pytest.raises(ValueError, match="empty has no weights to train"):
        Relaxation(network, [[nn.Identity()]] * 2, criterion=nn.CrossEntropyLoss())
