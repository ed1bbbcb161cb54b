"""Tests of `blockstep.launch.pool`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from blockstep.launch.assembly import build_network
from blockstep.launch.compose import compose
from blockstep.launch.job import Objects, Task
from blockstep.launch.pool import candidates
from blockstep.launch.refusal import ConfigError
from blockstep.launch.search.relaxation import build_relaxation
from blockstep.models import Network, make_network
from torch import nn

TASK = Task("digits", 10, (1, 8, 8), "float32", {"train": 1257, "validation": 180, "test": 360})


@pytest.fixture(scope="module")
def network() -> Network:
    """Eight layers."""
    return make_network("resnet18", classes=10, in_channels=1, size=8, width=0.125)


def weights(network: Network, heads: list[Any], *, seed: int = 0) -> dict[tuple[int, str], Any]:
    """The state of each head after each layer."""
    found = {}
    for layer, row in enumerate(candidates(network, heads, TASK, seed), start=1):
        for name, head in zip(heads, row, strict=True):
            found[layer, str(name)] = head.state_dict()
    return found


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_a_head_does_not_depend_on_the_others(network: Network):
    """Another order of the pool, or a smaller pool, gives the same initial weights."""
    whole = weights(network, ["aux1", "aux2", "linear"])
    assert len(whole) == 7 * 3
    for heads in (["linear", "aux2", "aux1"], ["aux2"]):
        for key, state in weights(network, heads).items():
            assert same(state, whole[key])


def test_every_place_has_weights_of_its_own(network: Network):
    """The seed and the layer decide; torch's own generator has no part in it."""
    torch.manual_seed(1)
    first = weights(network, ["aux1"])
    torch.manual_seed(2)
    assert all(same(state, first[key]) for key, state in weights(network, ["aux1"]).items())
    other = weights(network, ["aux1"], seed=1)
    assert not any(same(state, other[key]) for key, state in first.items())
    assert not same(first[1, "aux1"], first[2, "aux1"])


class Picky(nn.Linear):
    """A head for eight channels and no more."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        if shape[0] > 8:
            raise ValueError(f"{shape[0]} channels are too many")
        super().__init__(shape[0] * shape[1] * shape[2], classes)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.flatten(1))


def test_a_head_that_does_not_fit_is_named_with_its_layer(network: Network):
    """The first layer with more than eight channels refuses it."""
    picky = {"_target_": f"{__name__}.Picky"}
    with pytest.raises(ConfigError) as refused:
        list(candidates(network, ["aux1", picky], TASK, 0))
    assert "Picky" in str(refused.value)
    assert "does not fit after layer 3, whose output is (16, 4, 4)" in str(refused.value)
    assert "16 channels are too many" in str(refused.value)


def test_the_relaxation_is_what_is_trained_later():
    """Its network has the weights that a training with the seed begins with."""
    words = ["preset=small", "search.heads=[aux1,aux4]", "model.width=0.125"]
    config = compose("search", words)
    network = build_network(config, Objects(), TASK)
    expected = build_network(compose("train", ["model.width=0.125"]), Objects(), TASK)
    relaxation = build_relaxation(config, network, TASK, device=torch.device("cpu"))
    assert (relaxation.depth, relaxation.candidates) == (8, 2)
    for ours, theirs in zip(relaxation.layers, expected.layers, strict=True):
        assert [p.shape for p in ours.buffers()] == [p.shape for p in theirs.buffers()]
    first = dict(zip(relaxation.names, relaxation.initial(), strict=True))
    for name, value in expected.layers[0].named_parameters():
        assert torch.equal(first[f"layers.0.{name}"], value)
    x = torch.randn(4, 1, 8, 8)
    relaxation.place(relaxation.initial())
    assert relaxation.logits(x).shape == (4, 10)
