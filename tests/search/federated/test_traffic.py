"""The upload check of Table 4, and what rounding changes."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import make_network
from blockstep.models.partitioned import partition
from blockstep.search.federated import Traffic, assign_chunks, nominal_share, plain_bytes
from torch import nn

from tests.search.federated.parts import network


@pytest.mark.parametrize(
    ("shares", "expected"), [([0.7, 0.2, 0.1], 0.77), ([0.9, 0.1], 0.91), ([1.0], 1.0)]
)
def test_the_upload_of_table_4(shares: list[float], expected: float) -> None:
    """77 % and 91 %: exactly, where every tensor divides by ten and clients follow the ratio."""
    module = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    model = partition(module, shares, seed=0)
    chunks = assign_chunks(100, shares, exactly=True, seed=0)
    counts = [chunks.count(number) for number in range(1, len(shares) + 1)]
    traffic = Traffic.of(model, plain=plain_bytes(module), judging=[False] * len(shares))
    assert nominal_share(shares) == pytest.approx(expected, abs=1e-12)
    assert traffic.share(counts) == expected
    assert traffic.down == plain_bytes(module) == 4 * (600 + 30 + 300 + 10)


@pytest.mark.parametrize(
    ("name", "shares", "expected"),
    [("mnist_cnn", [0.7, 0.2, 0.1], 0.77), ("resnet9", [0.9, 0.1], 0.91)],
)
def test_the_networks_of_table_4(name: str, shares: list[float], expected: float) -> None:
    """Rounding, and a scale and a bias per partition, change less than a part in a thousand."""
    channels = 1 if name == "mnist_cnn" else 3
    torch.manual_seed(0)
    module = make_network(name, classes=10, in_channels=channels, size=32).module
    model = partition(module, shares, seed=0)
    counts = [round(100 * share) for share in shares]
    traffic = Traffic.of(model, plain=plain_bytes(module), judging=[False] * len(shares))
    found = traffic.share(counts)
    assert found == pytest.approx(expected, rel=1e-3)
    sizes = [sum(v.numel() for v in model.values_of(k)) for k in range(1, len(shares) + 1)]
    mean = sum(n * sum(sizes[k:]) for k, n in enumerate(counts)) / 100
    everything = sum(p.numel() for p in module.parameters())
    assert found == pytest.approx(mean / everything, rel=1e-12)


def test_psi_is_counted_beside_the_weights() -> None:
    """Down to all; up from those that judge; it is no part of the comparison."""
    module = network()
    model = partition(module, [0.5, 0.3, 0.2], seed=0)
    psi = sum(one.nbytes for one in model.hyperparameters().values())
    weights = sum(one.nbytes for one in module.parameters()) - psi
    assert psi == 4 * 7
    assert plain_bytes(module) == weights
    traffic = Traffic.of(model, plain=weights, judging=[False, True, True])
    assert traffic.down == sum(traffic.partitions) + psi
    assert traffic.up(1) == sum(traffic.partitions)
    assert traffic.up(3) == traffic.partitions[2] + psi
    # The layer's scale and bias, ten numbers each, exist once per partition.
    assert sum(traffic.partitions) == weights + 2 * 20 * 4
