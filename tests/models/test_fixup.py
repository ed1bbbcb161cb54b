"""Residual networks without normalisation."""

from __future__ import annotations

import math

import pytest
import torch
from blockstep.models import layer_shapes, parameters
from blockstep.models.fixup import FixUpBlock, fixup_resnet
from blockstep.models.shortcut import PaddedShortcut


def test_layers_and_size() -> None:
    """Depth 6n + 2 has 3n blocks; the images are halved twice; the weights are those counted."""
    network = fixup_resnet(14, classes=10)
    shapes = [tuple(shape) for shape in layer_shapes(network, torch.zeros(2, 3, 32, 32))]
    assert shapes == [(16, 32, 32)] * 2 + [(32, 16, 16)] * 2 + [(64, 8, 8)] * 2
    convolutions = 27 * 16 + 9 * (4 * 256 + 512 + 3 * 1024 + 2048 + 3 * 4096)
    assert parameters(network.module) == convolutions + 6 * 5 + 2 + 65 * 10


def test_every_branch_begins_at_zero() -> None:
    """At first a block is its shortcut and the logits are 0 (Zhang et al., 2019)."""
    network = fixup_resnet(8, classes=10).module
    x = torch.rand(2, 16, 6, 6)
    assert torch.equal(network.get_submodule("blocks.0")(x), x)
    assert torch.equal(network(torch.rand(2, 3, 8, 8)), torch.zeros(2, 10))


def test_initial_deviations() -> None:
    """The first convolution of each block is scaled down by the root of the number of blocks."""
    torch.manual_seed(0)
    network = fixup_resnet(14, classes=10, width=4.0).module
    for index, channels in ((0, 64), (5, 256)):
        block = network.get_submodule(f"blocks.{index}")
        assert isinstance(block, FixUpBlock)
        expected = math.sqrt(2 / (9 * channels) / 6)
        assert block.conv1.weight.std().item() == pytest.approx(expected, rel=0.02)
    stem = network.get_parameter("conv1.weight").std().item()
    assert stem == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.05)


def test_the_shortcut_averages_and_pads() -> None:
    """Means of 2x2 pixels, the odd last one alone, and zeros as new channels."""
    x = torch.arange(9.0).view(1, 1, 3, 3)
    expected = torch.tensor([[2.0, 3.5], [6.5, 8.0]])
    assert torch.equal(PaddedShortcut(1, 2, 2)(x)[0], torch.stack([expected, torch.zeros(2, 2)]))
    assert PaddedShortcut(1, 1, 1)(x) is x


@pytest.mark.parametrize(
    ("depth", "width", "message"),
    [(9, 1.0, "no FixUp ResNet-9; known are 8 and 14"), (8, 0.01, "leaves 0 channels of 16")],
)
def test_what_cannot_be_made(depth: int, width: float, message: str) -> None:
    """The error names what would do."""
    with pytest.raises(ValueError, match=message):
        fixup_resnet(depth, classes=2, width=width)
