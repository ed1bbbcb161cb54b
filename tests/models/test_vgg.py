"""VGG-19 with batch norm."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import layer_shapes, parameters
from blockstep.models.vgg import vgg19
from torch import nn

M = "M"
PLAN = [64, 64, M, 128, 128, M, *[256] * 4, M, *[512] * 4, M, *[512] * 4, M]


def test_layers_and_shapes() -> None:
    """Sixteen layers; a pool belongs to the layer after it, the fifth to the classifier."""
    with torch.device("meta"):
        network = vgg19(classes=10)
        shapes = layer_shapes(network, torch.empty(2, 3, 32, 32))
    side, expected = 32, []
    for entry in PLAN:
        if entry == "M":
            side //= 2
        else:
            expected.append((int(entry), side, side))
    assert [tuple(shape) for shape in shapes] == expected
    assert isinstance(network.classifier, nn.Sequential)
    assert isinstance(network.classifier[0], nn.MaxPool2d)
    starts = [next(iter(layer.children())) for layer in network.layers]
    pooled = [number for number, part in enumerate(starts, 1) if isinstance(part, nn.MaxPool2d)]
    assert pooled == [3, 5, 9, 13]
    assert (network.name, network.features, network.reduction) == ("vgg19", 2048, 4)


@pytest.mark.parametrize(("width", "size"), [(1.0, 32), (0.25, 64), (0.25, 50)])
def test_parameters_from_the_plan(width: float, size: int) -> None:
    """Convolutions, two numbers per channel of norms, and an MLP of 4096 * width."""
    with torch.device("meta"):
        module = vgg19(classes=10, in_channels=1, width=width, size=size).module
    total, channels, side = 0, 1, size
    for entry in PLAN:
        if entry == "M":
            side //= 2
            continue
        outputs = int(int(entry) * width)
        total += channels * outputs * 9 + 2 * outputs
        channels = outputs
    hidden, flat = int(4096 * width), channels * side * side
    total += (flat + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * 10
    assert parameters(module) == total


def test_dropout_is_off_unless_asked() -> None:
    """By default the paper's; with dropout only the classifier of a training network draws."""
    x = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    plain = vgg19(classes=4, width=0.0625)
    assert torch.equal(plain.classifier(h := plain.body(1, 16)(x)), plain.classifier(h))
    dropping = vgg19(classes=4, width=0.0625, dropout=0.5)
    assert not torch.equal(dropping.classifier(h), dropping.classifier(h))
    dropping.module.eval()
    assert torch.equal(dropping.classifier(h), dropping.classifier(h))


@pytest.mark.parametrize("size", [8, 28, 31])
def test_small_images_are_refused(size: int) -> None:
    """The error has the size and the smallest that works."""
    with pytest.raises(ValueError, match=f"at least 32 pixels, not {size}"):
        vgg19(classes=10, size=size)


def test_a_width_without_channels_is_refused() -> None:
    """The error has the width and the smallest that works."""
    with pytest.raises(ValueError, match=r"width=0\.005.*1/64"):
        vgg19(classes=10, width=0.005)
