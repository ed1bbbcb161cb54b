"""VGG-19 with batch norm, of any width (Simonyan and Zisserman, 2015).

Layers are the sixteen convolutions with batch norm and ReLU; a max-pool belongs to the layer that
follows it, and the last one to the classifier (SEDONA, appendix D.1 and its release).
"""

from __future__ import annotations

from torch import Tensor, nn

from .initialization import initialize
from .network import Network

__all__ = ["VGG", "vgg19"]

CHANNELS = (64, 64, 128, 128, 256, 256, 256, 256, *(512,) * 8)
POOLED_BEFORE = (3, 5, 9, 13)
"""Layers, from 1, that begin with a max-pool."""

MIN_SIZE = 32


class VGG(nn.Module):
    """VGG-19.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images, at least 32.
        width: Factor of all channel counts.
        dropout: Probability in the classifier; the paper of SEDONA uses none.
    """

    def __init__(
        self, *, classes: int, in_channels: int, size: int, width: float, dropout: float
    ) -> None:
        super().__init__()
        self.features = nn.ModuleList()
        inputs = in_channels
        for number, channels in enumerate(CHANNELS, start=1):
            outputs = round(channels * width)
            parts: list[nn.Module] = [nn.MaxPool2d(2)] if number in POOLED_BEFORE else []
            parts += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            self.features.append(nn.Sequential(*parts))
            inputs = outputs
        hidden = round(4096 * width)
        side = size // 32
        self.classifier = nn.Sequential(
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(inputs * side * side, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, size, size) to logits (B, classes)."""
        for layer in self.features:
            x = layer(x)
        return self.classifier(x)


def vgg19(
    *,
    classes: int,
    in_channels: int = 3,
    size: int = 32,
    width: float = 1.0,
    dropout: float = 0.0,
) -> Network:
    """Make a VGG-19 that can be cut after each convolution.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images in pixels.
        width: Factor of all channel counts; each is rounded to a whole number, half to even.
        dropout: Probability of dropout in the classifier.

    Raises:
        ValueError: The images are smaller than 32 pixels, or no channel is left.
    """
    if size < MIN_SIZE:
        raise ValueError(
            f"vgg19 halves its images five times and needs at least {MIN_SIZE} pixels, not "
            f"{size}; add data.size={MIN_SIZE}"
        )
    if round(64 * width) < 1:
        raise ValueError(f"model.width={width} leaves no channel of 64; give at least 1/64")
    module = VGG(classes=classes, in_channels=in_channels, size=size, width=width, dropout=dropout)
    return Network(
        "vgg19",
        module,
        tuple(module.features),
        module.classifier,
        features=max(1, round(2048 * width)),
    )
