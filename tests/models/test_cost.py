"""Parameters and work, held against SEDONA's Table 1."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from blockstep.models import Network, flops, macs_thop, make_head, make_network, parameters
from torch import Tensor, nn

TABLE_1 = {
    "aux1": (6.38, 1.02),
    "aux2": (7.59, 1.35),
    "aux3": (9.68, 1.43),
    "aux4": (12.37, 1.68),
    "mlp_sr": (129.33, 1.34),
}
"""Parameters and FLOPs of a head in % of ResNet-101, as printed in SEDONA's Table 1."""

MULTIPLY_ADDS = {"aux1": 1.016, "aux2": 1.351, "aux3": 1.430, "aux4": 1.675, "mlp_sr": 1.343}
"""The same without the norms; differs in MLP-SR's last digit."""


@cache
def resnet101() -> tuple[Network, Tensor]:
    """Make ResNet-101 and an image of ImageNet's size, without memory."""
    with torch.device("meta"):
        network = make_network("resnet101", classes=1000, size=224)
        return network, torch.empty(1, 3, 224, 224)


def head(name: str) -> tuple[nn.Module, Tensor]:
    """Make a head for a layer in the middle of ResNet-101, and its input."""
    with torch.device("meta"):
        made = make_head(name, shape=(1024, 14, 14), classes=1000, features=2048, reduction=4)
        return made, torch.empty(1, 1024, 14, 14)


def test_resnet_101() -> None:
    """44,549,160 parameters; 7.8014 G multiply-adds, 7.8339 G with the norms."""
    network, x = resnet101()
    assert parameters(network.module) == 44_549_160
    assert flops(network.module, x) / 2e9 == pytest.approx(7.8014, abs=5e-5)
    assert macs_thop(network.module, x) / 1e9 == pytest.approx(7.8339, abs=5e-5)


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1(name: str) -> None:
    """To the printed decimals, where Aux 4's 12.375 % is cut off rather than rounded."""
    network, x = resnet101()
    module, h = head(name)
    share = 100 * parameters(module) / parameters(network.module)
    work = 100 * macs_thop(module, h) / macs_thop(network.module, x)
    assert share == pytest.approx(TABLE_1[name][0], abs=0.0051)
    assert round(work, 2) == TABLE_1[name][1]
    bare = 100 * flops(module, h) / flops(network.module, x)
    assert bare == pytest.approx(MULTIPLY_ADDS[name], abs=5e-4)


def test_work_by_hand() -> None:
    """A convolution, a norm and a linear layer, counted on paper; the batch counts."""
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, groups=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(200, 7)
    )
    x = torch.randn(2, 3, 5, 5)
    multiply_adds = 2 * (8 * 25 * 27 + 200 * 7)
    assert flops(module, x) == 2 * multiply_adds
    assert macs_thop(module, x) == multiply_adds + 2 * (2 * 8 * 25)
    assert parameters(module) == 8 * 27 + 8 + 16 + 200 * 7 + 7


def test_attention_is_counted() -> None:
    """An encoder block: four projections, two products of attention, and the feed-forward."""
    network = make_network("transformer", classes=3, size=16)
    tokens, channels = 16, 128
    linear = tokens * channels * channels * (4 + 8)
    products = 2 * tokens * tokens * channels
    x = torch.randn(1, tokens, channels)
    assert flops(network.layers[1], x) == 2 * (linear + products)
    assert torch.backends.mha.get_fastpath_enabled()


def test_counting_leaves_no_trace() -> None:
    """Modes, running statistics and hooks are as before."""
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout().eval())
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm1d)
    macs_thop(module, torch.randn(3, 4))
    assert [part.training for part in module] == [True, True, False]
    assert norm.num_batches_tracked == 0
    assert not norm._forward_hooks
