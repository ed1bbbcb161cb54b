"""Running statistics of batch norm, one set per subnetwork."""

from __future__ import annotations

import copy

import torch
from blockstep.models.partitioned import partition
from torch import nn

from tests.models.partitioned.nets import THIRDS, images, jitter


def network() -> nn.Module:
    """Make a network with batch norm."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )


def test_each_subnetwork_counts_its_own() -> None:
    """A training call of subnetwork k counts there, as the network itself would."""
    made = partition(network(), THIRDS, seed=0)
    jitter(made)
    plain = copy.deepcopy(network())
    plain.load_state_dict(made.subnetwork_state(2))
    for _ in range(2):
        assert torch.equal(made(images(), subnetwork=2, learning=2), plain(images()))
    state, expected = made.subnetwork_state(2), plain.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert state["1.num_batches_tracked"] == 2
    for k in (1, 3):
        untouched = made.subnetwork_state(k)
        assert untouched["1.num_batches_tracked"] == 0
        assert torch.equal(untouched["1.running_mean"], torch.zeros(4))
    made.eval()
    plain.eval()
    assert torch.equal(made(images(), subnetwork=2), plain(images()))


def test_a_hyperparameter_step_counts_nothing() -> None:
    """It sees a chunk that the subnetwork must not know, and still uses the batch's statistics."""
    made = partition(network(), THIRDS, seed=0)
    before = made.subnetwork_state(1)
    logits = made(images(), subnetwork=1, learning=())
    assert torch.equal(logits, made(images(), subnetwork=1, learning=1))
    made = partition(network(), THIRDS, seed=0)
    made(images(), subnetwork=1, learning=())
    after = made.subnetwork_state(1)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_they_are_saved() -> None:
    """A state_dict has those of all subnetworks, and so has a copy that lost its versions."""
    made, other = (partition(network(), THIRDS, seed=0) for _ in range(2))
    made(images(), subnetwork=3, learning=3)
    other.load_state_dict({name: value.clone() for name, value in made.state_dict().items()})
    assert torch.equal(
        other.subnetwork_state(3)["1.running_mean"], made.subnetwork_state(3)["1.running_mean"]
    )
    assert other.subnetwork_state(3)["1.running_mean"].any()
