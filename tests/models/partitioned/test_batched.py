"""Several subnetworks in one batch of a network that is partitioned by nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from blockstep.models.fixup import Bias, Scale
from blockstep.models.partitioned import PartitionedModule, partition
from torch import Tensor, nn

from tests.models.partitioned.nets import THIRDS, fixup, images, jitter, norms

KS = torch.tensor([2, 1, 3, 3, 2, 1, 1])
Y = torch.tensor([0, 2, 1, 1, 0, 0, 2])


def tokens() -> nn.Module:
    """Make a network with an embedding, a 1d convolution and FixUp scalars."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(11, 6, padding_idx=0),
        nn.Linear(6, 9),
        Scale(),
        nn.Conv1d(5, 4, 3, padding=1, padding_mode="circular"),
        Bias(),
        nn.InstanceNorm1d(4, affine=True),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


CASES: list[tuple[Callable[[], nn.Module], Tensor]] = [
    (norms, images(7).double()),
    (fixup, images(7).double()),
    (tokens, torch.randint(0, 11, (7, 5), generator=torch.Generator().manual_seed(0))),
]


def made_of(make: Callable[[], nn.Module]) -> PartitionedModule:
    """Partition a network by nodes, with zero defaults."""
    made = partition(make(), THIRDS, seed=0, kind="node", defaults="zero").double()
    jitter(made)
    return made


@pytest.mark.parametrize(("make", "x"), CASES, ids=["norms", "fixup", "tokens"])
def test_one_pass_is_a_pass_per_subnetwork(make: Callable[[], nn.Module], x: Tensor) -> None:
    """The same logits, and to each partition the gradient of its own examples alone."""
    made = made_of(make)
    logits = made.batched(x, KS)
    F.cross_entropy(logits, Y, reduction="sum").backward()
    found = {name: value.grad for name, value in made.named_parameters()}
    made.zero_grad(set_to_none=True)
    for k in (1, 2, 3):
        expected = made(x[k == KS], subnetwork=k, learning=k)
        torch.testing.assert_close(logits[k == KS], expected)
        F.cross_entropy(expected, Y[k == KS], reduction="sum").backward()
    for name, value in made.named_parameters():
        torch.testing.assert_close(found[name], value.grad, msg=name)
    assert torch.equal(made(x, subnetwork=2), made(x, subnetwork=2))  # nothing stayed patched


def test_inputs_get_the_gradient_of_their_subnetwork() -> None:
    """What comes before the partitioned network can learn through one pass."""
    made = made_of(norms)
    x = images(7).double().requires_grad_()
    made.batched(x, KS, learning=False).sum().backward()
    assert all(value.grad is None for value in made.parameters())
    (expected,) = torch.autograd.grad(
        torch.stack([made(x, subnetwork=k, learning=())[k == KS].sum() for k in (1, 2, 3)]).sum(), x
    )
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "random", "defaults": "zero"}, "need kind='node' and defaults='zero'"),
        ({"kind": "node", "defaults": "initial"}, "need kind='node' and defaults='zero'"),
    ],
)
def test_random_partitions_cannot(options: dict[str, Any], message: str) -> None:
    """Nor can other defaults than 0."""
    with pytest.raises(ValueError, match=message):
        partition(norms(), THIRDS, seed=0, **options).batched(images(), torch.ones(4).long())


def test_batch_norm_cannot() -> None:
    """Its examples depend on each other; it is named."""
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))
    made = partition(network, THIRDS, seed=0, kind="node", defaults="zero")
    with pytest.raises(ValueError, match="a BatchNorm2d cannot take several subnetworks"):
        made.batched(images(), torch.tensor([1, 2, 3, 1]))


def test_unknown_subnetworks_are_refused() -> None:
    """By number."""
    with pytest.raises(ValueError, match="no subnetwork or partition 4"):
        made_of(norms).batched(images().double(), torch.tensor([1, 2, 3, 4]))


def test_a_layer_whose_rows_are_no_examples_is_refused() -> None:
    """A reshaping that mixes examples would mix subnetworks."""
    network = nn.Sequential(nn.Linear(6, 6), nn.Flatten(0, 1), nn.Linear(6, 3))
    made = partition(network, THIRDS, seed=0, kind="node", defaults="zero")
    with pytest.raises(ValueError, match="a Linear got 8 rows for 4 examples"):
        made.batched(torch.randn(4, 2, 6), torch.tensor([1, 2, 3, 1]))


def test_outputs_names_the_last_layer() -> None:
    """Its weights are given out one by one; those of the others by unit."""
    network = nn.ModuleDict({"fc": nn.Linear(8, 4), "body": nn.Linear(5, 8)})
    made = partition(network, [0.5, 0.5], seed=0, kind="node", outputs="fc")
    last, _, body, bias = made.weights.assigned()
    assert (body == body[:, :1]).all()
    assert torch.equal(body[:, 0], bias)
    assert not (last == last[:, :1]).all()
    assert body[:, 0].sum() == 4
