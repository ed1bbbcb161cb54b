"""Pre-activation wide residual networks with group normalisation in two groups.

Zagoruyko and Komodakis, "Wide Residual Networks", 2016; He et al., "Identity Mappings in Deep
Residual Networks", 2016. Three stages of 16, 32 and 64 channels times the width; depth 6n + 2 has
n blocks per stage. Shortcuts have no weights, so WRN-20's first two stages are 13 convolutions, as
in Mlodozeniec et al. (ICLR 2023), Table 3.
"""

from __future__ import annotations

from torch import Tensor, nn

from .initialization import initialize
from .network import Network
from .shortcut import PaddedShortcut

__all__ = ["WRN_DEPTHS", "GroupNormWideResNet", "wrn"]

WRN_DEPTHS = (20, 50)
GROUPS = 2


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class PreActivationBlock(nn.Module):
    """Twice group norm, ReLU and a 3x3 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = _convolution(inputs, outputs, stride)
        self.norm2 = nn.GroupNorm(GROUPS, outputs)
        self.conv2 = _convolution(outputs, outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = PaddedShortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        h = self.conv1(self.relu(self.norm1(x)))
        return self.conv2(self.relu(self.norm2(h))) + self.shortcut(x)


class GroupNormWideResNet(nn.Module):
    """A pre-activation residual network of depth 6n + 2.

    Args:
        depth: 20 or 50.
        classes: Number of classes.
        in_channels: Channels of the images.
        channels: Of the first stage; later ones have two and four times as many.
    """

    def __init__(self, depth: int, *, classes: int, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, channels)
        inputs = channels
        for stage in range(3):
            blocks = []
            for number in range((depth - 2) // 6):
                outputs = channels * 2**stage
                stride = 2 if stage and not number else 1
                blocks.append(PreActivationBlock(inputs, outputs, stride))
                inputs = outputs
            self.add_module(f"stage{stage + 1}", nn.Sequential(*blocks))
        self.norm = nn.GroupNorm(GROUPS, inputs)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(inputs, classes)
        initialize(self)

    def residual_blocks(self) -> list[nn.Module]:
        """Return all residual blocks in order."""
        stages = [self.get_submodule(f"stage{stage}") for stage in (1, 2, 3)]
        return [block for stage in stages for block in stage.children()]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to logits (B, classes)."""
        x = self.conv1(x)
        for block in self.residual_blocks():
            x = block(x)
        return self.fc(self.flatten(self.pool(self.relu(self.norm(x)))))


def wrn(depth: int, *, classes: int, in_channels: int = 3, width: float = 1.0) -> Network:
    """Make a wide ResNet that can be cut after each residual block.

    Args:
        depth: 20 or 50.
        classes: Number of classes.
        in_channels: Channels of the images, of any size.
        width: D, the factor of all channel counts.

    Raises:
        ValueError: The depth is unknown, or the channels cannot be divided into two groups.
    """
    if depth not in WRN_DEPTHS:
        raise ValueError(f"there is no WRN-{depth}; known are 20 and 50")
    channels = round(16 * width)
    if channels < GROUPS or channels % GROUPS:
        raise ValueError(
            f"model.width={width} leaves {channels} channels of 16; group normalisation needs an "
            "even number of at least 2"
        )
    module = GroupNormWideResNet(depth, classes=classes, in_channels=in_channels, channels=channels)
    first, *others = module.residual_blocks()
    return Network(
        f"wrn{depth}",
        module,
        (nn.Sequential(module.conv1, first), *others),
        nn.Sequential(module.norm, module.relu, module.pool, module.flatten, module.fc),
        features=max(1, round(512 * width)),
        reduction=1,
    )
