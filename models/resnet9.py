"""ResNet-9, the fast network for CIFAR-10 (Page, "How to Train Your ResNet", 2018), without batch
norm: with group normalisation, whose statistics do not depend on the batch.

Mlodozeniec et al. (ICLR 2023), section J.2, train it in a federation, with dropout between the two
convolutions of each residual block.
"""

from __future__ import annotations

from torch import Tensor, nn

from .initialization import initialize
from .network import Network

__all__ = ["RESNET9_MIN_SIZE", "ResNet9", "resnet9"]

RESNET9_MIN_SIZE = 8
"""Three times the image is halved."""


def _convolution(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(groups, outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two convolutions of the same width, and the input."""

    def __init__(self, channels: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, groups)
        self.dropout = nn.Dropout(dropout)
        self.second = _convolution(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return x + self.second(self.dropout(self.first(x)))


class Damped(nn.Module):
    """Logits times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(B, classes) to the same shape."""
        return x * self.factor


class ResNet9(nn.Sequential):
    """Four layers, two of them with a residual block, and a classifier.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        channels: Of the first layer; later ones have two, four and eight times as many.
        groups: Of the normalisation; they divide the channels.
        dropout: Probability in the residual blocks.
    """

    def __init__(
        self, *, classes: int, in_channels: int, channels: int, groups: int, dropout: float
    ) -> None:
        one, two, four, eight = (channels * factor for factor in (1, 2, 4, 8))
        super().__init__()
        self.prep = _convolution(in_channels, one, groups)
        self.layer1 = nn.Sequential(
            _convolution(one, two, groups), nn.MaxPool2d(2), Residual(two, groups, dropout)
        )
        self.layer2 = nn.Sequential(_convolution(two, four, groups), nn.MaxPool2d(2))
        self.layer3 = nn.Sequential(
            _convolution(four, eight, groups), nn.MaxPool2d(2), Residual(eight, groups, dropout)
        )
        self.classifier = nn.Sequential(
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(eight, classes, bias=False),
            Damped(0.125),
        )
        initialize(self)


def resnet9(
    *,
    classes: int,
    in_channels: int = 3,
    size: int = 32,
    groups: int = 2,
    dropout: float = 0.0,
    width: float = 1.0,
) -> Network:
    """Make a ResNet-9 that can be cut after each of its four layers.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images in pixels.
        groups: Of the normalisation.
        dropout: Probability between the convolutions of a residual block.
        width: Factor of all channel counts.

    Raises:
        ValueError: The images are too small, or the groups do not divide the channels.
    """
    if size < RESNET9_MIN_SIZE:
        raise ValueError(f"resnet9 needs images of at least {RESNET9_MIN_SIZE} pixels, not {size}")
    channels = round(64 * width)
    if channels < 1 or groups < 1 or channels % groups:
        raise ValueError(
            f"model.width={width} leaves {channels} channels of 64, which cannot be divided into "
            f"groups={groups}"
        )
    module = ResNet9(
        classes=classes, in_channels=in_channels, channels=channels, groups=groups, dropout=dropout
    )
    *layers, classifier = module
    return Network(
        "resnet9",
        module,
        tuple(layers),
        classifier,
        features=max(1, round(512 * width)),
        reduction=1,
    )
