"""ResNet-18/34/50/101/152, version 1.5 (stride on the 3x3 convolution), of any width.

He et al., "Deep Residual Learning for Image Recognition", 2016. Layers are the residual blocks;
the stem belongs to layer 1 (SEDONA, appendix D.1). Parameters have torchvision's names. WRN-50-2
(Zagoruyko and Komodakis, 2016) is ResNet-50 with twice as many channels inside each bottleneck.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from .initialization import initialize
from .network import Network

__all__ = ["DEPTHS", "ResNet", "resnet", "wide_resnet50"]

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; of ResNet-18 and 34."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, planes, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        h = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(h)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions; of ResNet-50, 101 and 152."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, inside: int = 1) -> None:
        super().__init__()
        outputs = planes * self.expansion
        inner = planes * inside
        self.conv1 = _convolution(inputs, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = _convolution(inner, inner, 3, stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = _convolution(inner, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, 4 planes, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.relu(self.bn2(self.conv2(h)))
        return self.relu(self.bn3(self.conv3(h)) + shortcut)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """A residual network.

    Args:
        depth: 18, 34, 50, 101 or 152.
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images; it decides the stem.
        width: Factor of all channel counts.
        inside: Further factor of the channels inside bottlenecks.
    """

    def __init__(
        self,
        depth: int,
        *,
        classes: int,
        in_channels: int,
        size: int,
        width: float,
        inside: int = 1,
    ) -> None:
        super().__init__()
        kind: Callable[[int, int, int], BasicBlock | Bottleneck]
        kind = BasicBlock if depth < 50 else partial(Bottleneck, inside=inside)
        expansion = BasicBlock.expansion if depth < 50 else Bottleneck.expansion
        channels = round(64 * width)
        kernel, stride = (3, 1) if size < 64 else (7, 2)
        self.conv1 = _convolution(in_channels, channels, kernel, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        # Only where the image is still large after the stem (SEDONA's release and appendix D.1).
        pooled = size >= 64 and -(-size // stride) > 32
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if pooled else nn.Identity()
        inputs = channels
        for stage, count in enumerate(DEPTHS[depth]):
            planes = round(64 * width) * 2**stage
            blocks = []
            for number in range(count):
                step = 2 if stage > 0 and number == 0 else 1
                blocks.append(kind(inputs, planes, step))
                inputs = planes * expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(inputs, classes)
        initialize(self)

    def residual_blocks(self) -> list[nn.Module]:
        """Return all residual blocks in order."""
        return [
            block
            for stage in range(1, 5)
            for block in self.get_submodule(f"layer{stage}").children()
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, size, size) to logits (B, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for block in self.residual_blocks():
            x = block(x)
        return self.fc(self.flatten(self.avgpool(x)))


def resnet(
    depth: int, *, classes: int, in_channels: int = 3, size: int = 32, width: float = 1.0
) -> Network:
    """Make a ResNet that can be cut after each residual block.

    The stem follows the size of the images: below 64 pixels a 3x3 convolution, from 64 a 7x7 of
    stride 2, with a max-pool where more than 32 pixels are left.

    Args:
        depth: 18, 34, 50, 101 or 152.
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images in pixels.
        width: Factor of all channel counts; 64 times it is rounded to a whole number, half to even,
            and every other count is a multiple of that one.

    Raises:
        ValueError: The depth is unknown, or no channel is left.
    """
    if depth not in DEPTHS:
        raise ValueError(f"there is no ResNet-{depth}; known are {', '.join(map(str, DEPTHS))}")
    if round(64 * width) < 1:
        raise ValueError(
            f"model.width={width} leaves {round(64 * width)} channels of 64; give at least 1/64"
        )
    module = ResNet(depth, classes=classes, in_channels=in_channels, size=size, width=width)
    return _network(f"resnet{depth}", module, width, 1 if depth < 50 else 4)


def wide_resnet50(
    *, classes: int, in_channels: int = 3, size: int = 32, width: float = 1.0
) -> Network:
    """Make WRN-50-2, which can be cut after each residual block.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images in pixels; the stem follows it as in ResNet-50.
        width: Factor of all channel counts, as in ResNet-50.

    Raises:
        ValueError: No channel is left.
    """
    if round(64 * width) < 1:
        raise ValueError(
            f"model.width={width} leaves {round(64 * width)} channels of 64; give at least 1/64"
        )
    module = ResNet(50, classes=classes, in_channels=in_channels, size=size, width=width, inside=2)
    return _network("wrn50-2", module, width, 4)


def _network(name: str, module: ResNet, width: float, reduction: int) -> Network:
    first, *others = module.residual_blocks()
    stem = nn.Sequential(module.conv1, module.bn1, module.relu, module.maxpool, first)
    return Network(
        name,
        module,
        (stem, *others),
        nn.Sequential(module.avgpool, module.flatten, module.fc),
        features=max(1, round(2048 * width)),
        reduction=reduction,
    )
