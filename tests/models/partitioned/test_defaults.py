"""What stands where a subnetwork has no weights."""

from __future__ import annotations

import pytest
import torch
from blockstep.models.partitioned import PartitionedModule, partition
from torch import nn

from tests.models.partitioned.nets import THIRDS, fixup, images, norms


def kept(made: PartitionedModule) -> int:
    """Count the numbers that the defaults add to a checkpoint."""
    state = made.state_dict()
    return sum(value.numel() for name, value in state.items() if "defaults" in name)


def test_memory() -> None:
    """Initial values are kept for later partitions alone; zeros and seeds keep nothing."""
    for name, expected in (("initial", 0.5), ("zero", 0), ("seeded", 0)):
        made = partition(norms(), THIRDS, seed=0, defaults=name)
        weights = len(made.get_buffer("weights.assignment"))
        assert kept(made) == pytest.approx(expected * weights, abs=3)


def test_zero_defaults_are_zero() -> None:
    """The weights of later partitions are 0 in a subnetwork; the whole network is as it was."""
    original = norms()
    made = partition(original, THIRDS, seed=0, defaults="zero")
    assert torch.equal(made(images()), original(images()))
    tensors = made.tensors(1)
    later = made.weights.assigned()[0] > 0
    assert not tensors["body.0.weight"][later].any()
    assert tensors["body.0.weight"][~later].all()


def test_seeded_defaults_are_the_initial_values() -> None:
    """Drawn again they are the same; they have the deviation of their tensor; zeros stay zeros."""
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(50, 80), nn.Linear(80, 3))
    nn.init.zeros_(original.get_parameter("1.weight"))
    nn.init.constant_(original.get_parameter("0.bias"), 0.7)
    made = partition(original, [0.5, 0.5], seed=4, defaults="seeded")
    x = torch.randn(5, 50)
    assert torch.equal(made(x, subnetwork=1), made(x, subnetwork=2))
    tensors = {name: value.clone() for name, value in made.tensors(2).items()}
    assert not tensors["1.weight"].any()
    assert torch.equal(tensors["0.bias"], original.get_parameter("0.bias"))
    later, weight = made.weights.assigned()[0] == 1, original.get_parameter("0.weight")
    ours, theirs = tensors["0.weight"][later], weight[later]
    assert not torch.equal(ours, theirs)
    assert ours.std().item() == pytest.approx(weight.std().item(), rel=0.05)
    assert torch.equal(tensors["0.weight"][~later], weight[~later])
    other = partition(original, [0.5, 0.5], seed=5, defaults="seeded")
    assert not torch.equal(other.tensors(2)["0.weight"], tensors["0.weight"])


@pytest.mark.parametrize("name", ["initial", "seeded"])
def test_trained_values_do_not_become_defaults(name: str) -> None:
    """Whatever partition 2 learns, subnetwork 1 stays."""
    made = partition(fixup(), [0.5, 0.5], seed=0, defaults=name)
    first = made(images(), subnetwork=1)
    made(images(), subnetwork=2)
    with torch.no_grad():
        for value in made.parameters_of(2).values():
            value.add_(1)
    assert not torch.equal(made(images(), subnetwork=2), first)
    assert torch.equal(made(images(), subnetwork=1), first)
