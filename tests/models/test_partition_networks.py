"""The other networks of the partitioning paper: MLP with GELU, MNIST-CNN, WRN, ResNet-9."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from blockstep.models import layer_shapes, make_network, parameters
from torch import nn

from tests.models.parts import SMALL, inputs, small

NAMES = ("mlp_gelu", "mnist_cnn", "fixup_resnet14", "wrn20", "wrn50", "resnet9")


@pytest.mark.parametrize("name", NAMES)
def test_the_layers_in_turn_are_the_network(name: str) -> None:
    """Cut anywhere, nothing is lost between the layers."""
    network = small(name)
    for parameter in network.module.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    x = h = inputs(name)
    for layer in network.layers:
        h = layer(h)
    torch.testing.assert_close(network.classifier(h), network.module(x))


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("mlp_gelu", 1, 30 * 256 + 256 + 256 * 256 + 256 + 256 * 2 + 2),
        (
            "mnist_cnn",
            28,
            30 * 25 * 20 + 20 + 20 * 25 * 50 + 50 + 2450 * 500 + 500 + 25050 + 51 * 2,
        ),
        (
            "resnet9",
            32,
            9 * (30 * 64 + 2**13 + 2 * 2**14 + 2**15 + 2**17 + 2 * 2**18) + 4480 + 1024,
        ),
    ],
)
def test_sizes(name: str, size: int, count: int) -> None:
    """As many weights as counted by hand."""
    network = make_network(name, classes=2, in_channels=30, size=size)
    assert parameters(network.module) == count


@pytest.mark.parametrize(("depth", "blocks"), [(20, 9), (50, 24)])
def test_wrn(depth: int, blocks: int) -> None:
    """Three stages; WRN-20's first two are 13 convolutions (Table 3); two groups everywhere."""
    network = make_network(f"wrn{depth}", classes=10, size=16)
    shapes = [tuple(shape) for shape in layer_shapes(network, torch.zeros(2, 3, 16, 16))]
    third = blocks // 3
    assert shapes == [(16, 16, 16)] * third + [(32, 8, 8)] * third + [(64, 4, 4)] * third
    early = [part for layer in network.layers[: 2 * third] for part in layer.modules()]
    convolutions = sum(isinstance(part, nn.Conv2d) for part in early)
    assert convolutions == 1 + 4 * third
    norms = [part for part in network.module.modules() if isinstance(part, nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == {2}


def test_the_mlp_has_no_normalisation() -> None:
    """Two layers of 256 units with GELU; examples do not influence each other."""
    network = make_network("mlp_gelu", classes=2, in_channels=30, size=1).module
    x = torch.randn(4, 30)
    torch.testing.assert_close(network(x)[:2], network(x[:2]))
    kinds = [type(part) for part in network.modules() if not list(part.children())]
    assert kinds == [nn.Flatten, nn.Linear, nn.GELU] * 2 + [nn.Linear]


@pytest.mark.parametrize("name", ["mnist_cnn", "resnet9"])
def test_dropout(name: str) -> None:
    """``dropout`` reaches every dropout of the network."""
    network = make_network(name, classes=2, dropout=0.3, **SMALL[name])
    rates = [part.p for part in network.module.modules() if isinstance(part, nn.Dropout)]
    assert rates == [0.3] * (4 if name == "mnist_cnn" else 2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wrn20", {"width": 0.07}, "leaves 1 channels of 16; group normalisation needs an even"),
        ("resnet9", {"groups": 3}, "64 channels of 64, which cannot be divided into groups=3"),
        ("mlp_gelu", {"depth": 0}, "mlp_gelu needs a hidden layer"),
    ],
)
def test_what_cannot_be_made(name: str, options: dict[str, Any], message: str) -> None:
    """The error has the numbers."""
    with pytest.raises(ValueError, match=message):
        make_network(name, classes=2, **options)
