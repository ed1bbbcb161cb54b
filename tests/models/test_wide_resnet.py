"""Wide ResNets: their sizes as published, and their blocks."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import make_network, parameters
from torch import Tensor, nn

from tests.models.parts import small


@pytest.mark.parametrize(
    ("name", "classes", "size", "count"),
    [
        ("wrn28-10", 10, 32, 36_479_194),  # 36.5M in the paper's Table 4
        ("wrn40-4", 10, 32, 8_949_210),  # 8.9M there
        ("wrn16-8", 10, 32, 10_961_370),  # 11.0M there
        ("wrn50-2", 1000, 224, 68_883_240),  # torchvision's wide_resnet50_2
        ("mobilenetv2", 1000, 224, 3_504_872),  # torchvision's mobilenet_v2
        ("mobilenetv2", 10, 32, 2_236_682),
    ],
)
def test_published_sizes(name: str, classes: int, size: int, count: int) -> None:
    """The numbers of parameters are those of the papers, to the last one."""
    with torch.device("meta"):
        network = make_network(name, classes=classes, size=size)
    assert parameters(network.module) == count


def test_the_members_of_the_multi_depth_ensemble() -> None:
    """Heads 141,200, norms 29,696 and 34.8M weights of convolutions, for 100 classes."""
    heads = norms = weights = 0
    for name in ("wrn28-7", "wrn28-4", "wrn16-7", "wrn16-4"):
        with torch.device("meta"):
            module = make_network(name, classes=100).module
        for part in module.modules():
            count = sum(one.numel() for one in part.parameters(recurse=False))
            heads += count if isinstance(part, nn.Linear) else 0
            norms += count if isinstance(part, nn.BatchNorm2d) else 0
            weights += count if isinstance(part, nn.Conv2d) else 0
    assert (heads, norms) == (141_200, 29_696)
    assert weights == pytest.approx(34.8e6, abs=0.05e6)


def test_a_block_by_hand() -> None:
    """Pre-activation: a shortcut with weights sees the normalized input, an identity does not."""
    network = small("wrn16-4")
    block = network.layers[2]
    names = dict(block.named_parameters())
    x = torch.randn(2, 8, 8, 8)

    def normed(h: Tensor, name: str) -> Tensor:
        mean, variance = h.mean((0, 2, 3)), h.var((0, 2, 3), unbiased=False)
        h = (h - mean.view(-1, 1, 1)) / (variance.view(-1, 1, 1) + 1e-5).sqrt()
        weight, bias = names[f"{name}.weight"], names[f"{name}.bias"]
        return (h * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)).relu()

    h = normed(x, "bn1")
    kept = nn.functional.conv2d(h, names["shortcut.weight"], stride=2)
    h = nn.functional.conv2d(h, names["conv1.weight"], stride=2, padding=1)
    h = nn.functional.conv2d(normed(h, "bn2"), names["conv2.weight"], padding=1)
    assert torch.allclose(block(x), h + kept, atol=1e-5)
    assert network.layers[3].shortcut is None


def test_depths_that_do_not_exist() -> None:
    """The error names the depths that there are."""
    with pytest.raises(ValueError, match=r"no wrn27-4: the depth is 6n \+ 4"):
        make_network("wrn27-4", classes=2)
    with pytest.raises(ValueError, match=r"width=0\.01 leaves no channel"):
        make_network("wrn28-4", classes=2, width=0.01)
    with pytest.raises(ValueError, match=r"width=0\.0 leaves no channel"):
        make_network("mobilenetv2", classes=2, width=0.0)


def test_small_images_keep_their_size_in_a_mobilenet() -> None:
    """Strides 2, 2, 2 for 32 pixels instead of five halvings for 224."""
    with torch.device("meta"):
        for size, side in ((32, 4), (224, 7)):
            network = make_network("mobilenetv2", classes=10, size=size)
            h = torch.empty(1, 3, size, size)
            for layer in network.layers:
                h = layer(h)
            assert h.shape == (1, 1280, side, side)
