"""ResNets, version 1.5."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import layer_shapes, network_of, parameters
from blockstep.models.resnet import resnet
from torch import Tensor, nn
from torch.nn import functional as F

PUBLISHED = {
    18: (8, 11_689_512),
    34: (16, 21_797_672),
    50: (16, 25_557_032),
    101: (33, 44_549_160),
    152: (50, 60_192_808),
}
"""Layers (SEDONA, appendix D.1) and parameters with 1,000 classes."""


@pytest.mark.parametrize("depth", PUBLISHED)
def test_published_sizes(depth: int) -> None:
    """The layers that SEDONA counts, and the parameters of the published networks."""
    with torch.device("meta"):
        network = resnet(depth, classes=1000, size=224)
    assert (len(network.layers), parameters(network.module)) == PUBLISHED[depth]
    assert network.name == f"resnet{depth}"
    assert (network.features, network.reduction) == (2048, 1 if depth < 50 else 4)


def test_torchvisions_names() -> None:
    """The names under which published weights are stored."""
    with torch.device("meta"):
        keys = set(resnet(50, classes=10).module.state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{key}" for key in norm)}
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        for number in range(count):
            prefix = f"layer{stage}.{number}"
            for index in (1, 2, 3):
                expected.add(f"{prefix}.conv{index}.weight")
                expected |= {f"{prefix}.bn{index}.{key}" for key in norm}
            if number == 0:
                expected.add(f"{prefix}.downsample.0.weight")
                expected |= {f"{prefix}.downsample.1.{key}" for key in norm}
    assert keys == expected


def by_hand(state: dict[str, Tensor], x: Tensor, counts: tuple[int, ...], *, large: bool) -> Tensor:
    """Compute a bottleneck ResNet v1.5 in evaluation mode from its weights."""

    def norm(h: Tensor, key: str) -> Tensor:
        mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        return F.batch_norm(h, mean, variance, state[f"{key}.weight"], state[f"{key}.bias"])

    def conv(h: Tensor, key: str, stride: int = 1) -> Tensor:
        weight = state[f"{key}.weight"]
        return F.conv2d(h, weight, stride=stride, padding=weight.shape[-1] // 2)

    h = norm(conv(x, "conv1", 2 if large else 1), "bn1").relu()
    h = F.max_pool2d(h, 3, 2, 1) if large else h
    for stage, count in enumerate(counts, start=1):
        for number in range(count):
            key, stride = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            shortcut = h
            if number == 0:
                shortcut = norm(conv(h, f"{key}.downsample.0", stride), f"{key}.downsample.1")
            h = norm(conv(h, f"{key}.conv1"), f"{key}.bn1").relu()
            h = norm(conv(h, f"{key}.conv2", stride), f"{key}.bn2").relu()
            h = (norm(conv(h, f"{key}.conv3"), f"{key}.bn3") + shortcut).relu()
    return h.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("size", [16, 66])
def test_the_forward_pass_by_hand(size: int) -> None:
    """An independent implementation with the same weights gives the same logits."""
    torch.manual_seed(0)
    module = resnet(50, classes=4, size=size, width=0.0625).module
    module(torch.randn(8, 3, size, size))  # running statistics that matter
    module.eval()
    x = torch.randn(2, 3, size, size)
    expected = by_hand(module.state_dict(), x, (3, 4, 6, 3), large=size >= 64)
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(
    ("size", "kernel", "side"),
    [(8, 3, 8), (32, 3, 32), (63, 3, 63), (64, 7, 32), (65, 7, 17), (96, 7, 24), (224, 7, 56)],
)
def test_the_stem_follows_the_size(size: int, kernel: int, side: int) -> None:
    """Below 64 pixels 3x3, from 64 on 7x7 / 2; pooled only if more than 32 pixels are left."""
    with torch.device("meta"):
        network = resnet(18, classes=2, size=size, width=0.1)
        shape = layer_shapes(network, torch.empty(2, 3, size, size))[0]
    module = network.module
    assert isinstance(module.conv1, nn.Conv2d)
    assert module.conv1.kernel_size == (kernel, kernel)
    assert tuple(shape[1:]) == (side, side)


@pytest.mark.parametrize("depth", [18, 50])
def test_the_stride_is_on_the_first_3x3(depth: int) -> None:
    """Version 1.5: of a stage's first block only the 3x3 (and the shortcut) halve the image."""
    with torch.device("meta"):
        module = resnet(depth, classes=2, width=0.1).module
    strided = {
        key
        for key, part in module.named_modules()
        if isinstance(part, nn.Conv2d) and part.stride == (2, 2)
    }
    first = "conv1" if depth == 18 else "conv2"
    assert strided == {
        f"layer{stage}.0.{part}" for stage in (2, 3, 4) for part in (first, "downsample.0")
    }


@pytest.mark.parametrize(("width", "stem"), [(0.25, 16), (1.0, 64), (0.01, 1), (1.5, 96)])
def test_the_width_scales_every_channel_count(width: float, stem: int) -> None:
    """64 * width is rounded; all else are multiples of it."""
    with torch.device("meta"):
        network = resnet(50, classes=3, width=width)
        shapes = layer_shapes(network, torch.empty(2, 3, 32, 32))
    expected = [4 * stem] * 3 + [8 * stem] * 4 + [16 * stem] * 6 + [32 * stem] * 3
    assert [shape[0] for shape in shapes] == expected
    assert network.features == max(1, round(2048 * width))


@pytest.mark.parametrize("width", [0.0, 0.001, -1.0])
def test_a_width_without_channels_is_refused(width: float) -> None:
    """The error has the width and the smallest that works."""
    with pytest.raises(ValueError, match=rf"width={width}.*1/64"):
        resnet(18, classes=2, width=width)


def test_an_unknown_depth_is_refused() -> None:
    """The error lists the depths there are."""
    with pytest.raises(ValueError, match=r"ResNet-20.*18, 34, 50, 101, 152"):
        resnet(20, classes=2)


def test_the_module_itself_is_no_sequential() -> None:
    """A ResNet's module carries no list of layers: its Network does."""
    with pytest.raises(ValueError, match="layers is missing"):
        network_of(resnet(18, classes=2, width=0.1).module)
