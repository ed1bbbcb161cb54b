"""Residual networks without normalisation, by the initialisation FixUp.

Zhang, Dauphin and Ma, "Fixup Initialization: Residual Learning Without Normalization", 2019; three
stages of 16, 32 and 64 channels for small images. Depth 6n + 2 has n blocks per stage. Where an
image is halved, the shortcut averages 2x2 pixels and fills the new channels with zeros.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .initialization import ZeroLinear
from .network import Network
from .shortcut import PaddedShortcut

__all__ = ["FIXUP_DEPTHS", "Bias", "FixUpResNet", "Scale", "fixup_resnet"]

FIXUP_DEPTHS = (8, 14)


class Bias(nn.Module):
    """Adds one learned number, 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to (B, ...)."""
        return x + self.bias


class Scale(nn.Module):
    """Multiplies by one learned number, 1 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to (B, ...)."""
        return x * self.scale


class FixUpBlock(nn.Module):
    """Two 3x3 convolutions with a bias before and after each, and a scale."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bias1a = Bias()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bias1b = Bias()
        self.bias2a = Bias()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.scale = Scale()
        self.bias2b = Bias()
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = PaddedShortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        x = self.bias1a(x)
        h = self.relu(self.bias1b(self.conv1(x)))
        h = self.bias2b(self.scale(self.conv2(self.bias2a(h))))
        return self.relu(h + self.shortcut(x))


class FixUpResNet(nn.Module):
    """A residual network of depth 6n + 2.

    Args:
        depth: 8 or 14.
        classes: Number of classes.
        in_channels: Channels of the images.
        channels: Of the first stage; later ones have two and four times as many.
    """

    def __init__(self, depth: int, *, classes: int, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bias1 = Bias()
        self.relu = nn.ReLU(inplace=True)
        blocks = []
        inputs = channels
        for stage in range(3):
            for number in range((depth - 2) // 6):
                outputs = channels * 2**stage
                blocks.append(FixUpBlock(inputs, outputs, 2 if stage and not number else 1))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.bias2 = Bias()
        self.fc = ZeroLinear(inputs, classes)
        self._initialize(blocks)

    def _initialize(self, blocks: list[FixUpBlock]) -> None:
        """Every residual branch begins at zero and would move the output as much as any other."""
        convolutions = [block.conv1 for block in blocks]
        for convolution in (self.conv1, *convolutions):
            deviation = math.sqrt(2 / (9 * convolution.out_channels))
            if convolution is not self.conv1:
                deviation /= math.sqrt(len(blocks))
            nn.init.normal_(convolution.weight, std=deviation)
        for block in blocks:
            nn.init.zeros_(block.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to logits (B, classes)."""
        x = self.relu(self.bias1(self.conv1(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(self.bias2(self.flatten(self.pool(x))))


def fixup_resnet(depth: int, *, classes: int, in_channels: int = 3, width: float = 1.0) -> Network:
    """Make a FixUp ResNet that can be cut after each residual block.

    Args:
        depth: 8 or 14.
        classes: Number of classes.
        in_channels: Channels of the images, of any size.
        width: Factor of all channel counts.

    Raises:
        ValueError: The depth is unknown, or no channel is left.
    """
    if depth not in FIXUP_DEPTHS:
        raise ValueError(f"there is no FixUp ResNet-{depth}; known are 8 and 14")
    channels = round(16 * width)
    if channels < 1:
        raise ValueError(
            f"model.width={width} leaves {channels} channels of 16; give at least 1/16"
        )
    module = FixUpResNet(depth, classes=classes, in_channels=in_channels, channels=channels)
    first, *others = module.blocks
    return Network(
        f"fixup_resnet{depth}",
        module,
        (nn.Sequential(module.conv1, module.bias1, module.relu, first), *others),
        nn.Sequential(module.pool, module.flatten, module.bias2, module.fc),
        features=max(1, round(512 * width)),
        reduction=1,
    )
