"""Networks and heads that tests of `blockstep.models` share; named by ``_target_`` in some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from blockstep.models import Network, make_network
from blockstep.models.zoo import WIDE
from torch import Tensor, nn

SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {"width": 0.0625, "in_channels": 1, "size": 8},
    "resnet34": {"width": 0.0625, "in_channels": 1, "size": 8},
    "resnet50": {"width": 0.0625, "in_channels": 3, "size": 66},
    "resnet101": {"width": 0.0625, "in_channels": 3, "size": 8},
    "resnet152": {"width": 0.0625, "in_channels": 3, "size": 8},
    "vgg19": {"width": 0.0625, "in_channels": 3, "size": 32},
    "mlp": {"width": 0.125, "in_channels": 1, "size": 8},
    "mlp_gelu": {"width": 0.125, "in_channels": 1, "size": 8},
    "mnist_cnn": {"width": 0.25, "in_channels": 1, "size": 9},
    "fixup_resnet8": {"width": 0.25, "in_channels": 3, "size": 9},
    "fixup_resnet14": {"width": 0.25, "in_channels": 1, "size": 8},
    "wrn20": {"width": 0.25, "in_channels": 3, "size": 9},
    "wrn50": {"width": 0.125, "in_channels": 1, "size": 8},
    "resnet9": {"width": 0.0625, "in_channels": 3, "size": 9},
    "mobilenetv2": {"width": 0.25, "in_channels": 3, "size": 16},
    **{f"wrn{depth}-{k}": {"width": 0.125, "in_channels": 3, "size": 8} for depth, k in WIDE},
    "wrn50-2": {"width": 0.0625, "in_channels": 3, "size": 8},
    "transformer": {"width": 0.125, "in_channels": 1, "size": 6, "vocabulary": 11},
}
"""Every network of the zoo, small; ResNet-50 with the stem of large images."""


def small(name: str, *, classes: int = 5) -> Network:
    """Make a small network of this name, always with the same weights."""
    torch.manual_seed(0)
    return make_network(name, classes=classes, **SMALL[name])


def inputs(name: str, *, batch: int = 3) -> Tensor:
    """Make a batch for ``small(name)``."""
    torch.manual_seed(1)
    size, channels = SMALL[name]["size"], SMALL[name]["in_channels"]
    if name == "transformer":
        return torch.randint(0, SMALL[name]["vocabulary"], (batch, size))
    return torch.randn(batch, channels, size, size)


class UserHead(nn.Module):
    """A user's head that takes both offers and an argument of its own."""

    def __init__(self, shape: Sequence[int], classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.frozen = nn.BatchNorm1d(shape[0]).eval()
        self.fc = nn.Linear(shape[0], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, classes)."""
        return self.scale * self.fc(self.frozen(x.mean((2, 3))))


class PlainHead(nn.Sequential):
    """A user's head that takes no offers."""

    def __init__(self, outputs: int = 7) -> None:
        super().__init__(nn.Flatten(), nn.LazyLinear(outputs))


class PairHead(nn.Module):
    """A user's head that returns something else than logits."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, ...) to a pair."""
        return x, x


def not_a_module(shape: Sequence[int]) -> int:
    """Make something that is no head."""
    return len(shape)
