"""What can be partitioned, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from blockstep.models import make_network
from blockstep.models.hyperparameters import ConcreteMask
from blockstep.models.partitioned import partition
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.models.partitioned.nets import norms
from tests.models.parts import SMALL, inputs, small


class Own(nn.Module):
    """A user's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4, 5))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5) to (B, 4)."""
        return x @ self.gain.T


class Tied(nn.Module):
    """A scale of a norm that is a weight as well."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.LayerNorm(3)
        self.b = nn.Linear(3, 3)
        self.b.bias = self.a.weight


def mixed() -> nn.Module:
    """Make a network of two types."""
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(Own()), r"parameter 0\.gain of a Own cannot be .*rules=\{Own: \{'gain'"),
        (nn.Sequential(nn.ConvTranspose2d(1, 1, 3)), r"parameter 0\.weight of a ConvTranspose2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.PReLU()), r"parameter 1\.weight of a PReLU"),
        (nn.LSTM(2, 2), "parameter weight_ih_l0 of a LSTM"),
        (
            parametrizations.weight_norm(nn.Linear(2, 2)),
            r"parametrizations\.weight\.original0 of a ParametrizationList",
        ),
        (nn.LazyLinear(3), "parameter weight has no shape yet"),
        (nn.Embedding(3, 2, sparse=True), "parameter weight .*its Embedding has sparse=True"),
        (nn.Embedding(3, 2, max_norm=1.0), r"its Embedding has max_norm=1\.0"),
        (nn.ReLU(), "ReLU has no weights to partition"),
        (nn.LayerNorm(3), "LayerNorm has no weights to partition"),
        (Tied(), "b.bias is a.weight as well, but as split there and as product here"),
        (mixed(), r"0\.weight is torch\.float32 on cpu and 1\.weight is torch\.float64"),
    ],
)
def test_what_cannot_be_partitioned_is_named(module: nn.Module, message: str) -> None:
    """With the name of the parameter and the class of its module."""
    with pytest.raises(ValueError, match=message):
        partition(module, [0.5, 0.5], seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"defaults": "none"}, "defaults='none'; valid are initial, zero, seeded"),
        ({"kind": "layer"}, "kind='layer'; valid are random, node"),
        (
            {"hyperparameters": ["body.9"]},
            r"hyperparameter body\.9 is no parameter.*body\.0\.weight",
        ),
        ({"rules": {Own: {"gain": "mean"}}}, r"Own\.gain is 'mean'; valid are split, product, sum"),
        (
            {"kind": "node", "rules": {nn.GroupNorm: {"weight": "split", "bias": "sum"}}},
            "GroupNorm",
        ),
    ],
)
def test_impossible_arguments(arguments: dict[str, Any], message: str) -> None:
    """Refused with what is valid."""
    with pytest.raises(ValueError, match=message):
        partition(norms(), [0.5, 0.5], seed=0, **arguments)


def test_a_transformer_needs_rules() -> None:
    """The zoo's is refused by the name of its positions; rules make it possible."""
    network = make_network("transformer", classes=2, size=6, width=0.125, vocabulary=9).module
    with pytest.raises(ValueError, match=r"parameter embedding\.positions of a Embedding"):
        partition(network, [0.5, 0.5], seed=0)
    own = type(network.get_submodule("embedding"))
    attention = dict.fromkeys(("in_proj_weight", "in_proj_bias"), "split")
    rules = {own: {"positions": "split"}, nn.MultiheadAttention: attention}
    made = partition(network, [0.5, 0.5], seed=0, rules=rules)
    x = torch.randint(0, 9, (2, 6))
    assert torch.equal(made(x), network(x))
    made(x, subnetwork=1, learning=1).sum().backward()
    assert all(value.grad is not None for value in made.parameters_of(1).values())


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"transformer"}))
def test_every_other_network_of_the_zoo(name: str) -> None:
    """It begins as the network it was; the partitions have all weights; partition 1 learns."""
    network = small(name).module
    made = partition(network, [0.6, 0.4], seed=0)
    x = inputs(name)
    assert torch.equal(made(x, subnetwork=1), network(x))
    weights = sum(p.numel() for p in network.parameters())
    assert sum(made.sizes) >= weights
    assert len(made.get_buffer("weights.assignment")) <= weights
    made(x, subnetwork=1, learning=1).logsumexp(1).sum().backward()
    assert all(value.grad is not None for value in made.parameters_of(1).values())


def test_the_stages_of_table_3() -> None:
    """The first two stages of WRN-20 as hyperparameters; what follows them partitioned."""
    network = small("wrn20").module
    layers = ["conv1", "stage1", "stage2"]
    made = partition(network, [0.1, 0.8, 0.1], seed=0, hyperparameters=layers)
    names = {name for name, _ in network.named_parameters()}
    early = {name for name in names if name.split(".")[0] in layers}
    assert set(made.hyperparameters()) == early
    assert set(made.parameters_of(2)) == names - early
    made(inputs("wrn20"), subnetwork=1, learning=()).sum().backward()
    assert all(value.grad is not None for value in made.hyperparameters().values())
    assert all(value.grad is None for value in made.partitions.parameters())


def test_hyperparameters_stay_whole() -> None:
    """Those of a Hyperparameter, and named layers; frozen parameters stay as they are."""
    network = nn.Sequential(ConcreteMask(4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    network[2].requires_grad_(False)
    made = partition(network, [0.5, 0.5], seed=0, hyperparameters=["1"])
    assert list(made.hyperparameters()) == ["0.mask", "1.weight", "1.bias"]
    assert list(made.parameters_of(1)) == ["3.weight", "3.bias"]
    assert sum(made.sizes) == 4 * 2 + 2
    assert all(
        torch.equal(value, network.get_parameter(name))
        for name, value in made.network.named_parameters()
    )


def test_the_module_itself_is_left_alone() -> None:
    """It is copied; training the partitions does not move it."""
    network = norms()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = partition(network, [0.5, 0.5], seed=0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
