"""MobileNetV2 (Sandler et al., 2018): inverted residuals with depthwise convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from .initialization import initialize
from .network import Network

__all__ = ["MobileNetV2", "mobilenetv2"]

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks and stride of each stage: Table 2 of the paper."""


def _channels(full: int, width: float) -> int:
    """Return a multiple of 8 near ``full * width``, and at most 10 % below it."""
    wanted = full * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, a norm and a ReLU6."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """1x1 to more channels, 3x3 depthwise, 1x1 to few; a shortcut where the shape is kept."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        parts: list[nn.Module] = [] if expansion == 1 else [_convolution(inputs, hidden, 1)]
        parts += [
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*parts)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """The network; its parameters are named as torchvision names them.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images; it decides the first strides.
        width: Factor of all channel counts.
    """

    def __init__(self, *, classes: int, in_channels: int, size: int, width: float) -> None:
        super().__init__()
        small = size < 64
        inputs = _channels(32, width)
        parts: list[nn.Module] = [_convolution(in_channels, inputs, 3, 1 if small else 2)]
        for stage, (expansion, channels, count, stride) in enumerate(STAGES):
            outputs = _channels(channels, width)
            for number in range(count):
                step = stride if number == 0 and not (small and stage == 1) else 1
                parts.append(InvertedResidual(inputs, outputs, step, expansion))
                inputs = outputs
        last = _channels(1280, max(1.0, width))
        parts.append(_convolution(inputs, last, 1))
        self.features = nn.Sequential(*parts)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(last, classes))
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to logits (B, classes)."""
        return self.classifier(self.avgpool(self.features(x)))


def mobilenetv2(
    *, classes: int, in_channels: int = 3, size: int = 32, width: float = 1.0
) -> Network:
    """Make a MobileNetV2 that can be cut after each inverted residual and after its last conv.

    For images below 64 pixels the stem and the second stage keep the size.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images in pixels.
        width: Factor of all channel counts, which become multiples of 8; the last one, 1280, is
            never less.

    Raises:
        ValueError: The width is not positive.
    """
    if width <= 0:
        raise ValueError(f"model.width={width} leaves no channel; give a positive width")
    module = MobileNetV2(classes=classes, in_channels=in_channels, size=size, width=width)
    stem, first, *others = module.features
    return Network(
        "mobilenetv2",
        module,
        (nn.Sequential(stem, first), *others),
        nn.Sequential(module.avgpool, module.classifier),
        features=_channels(1280, width),
    )
