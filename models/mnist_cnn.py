"""The convolutional network for MNIST of Schwoebel et al. (2021) and Mlodozeniec et al. (2023).

5x5 convolution of 20 channels - pool - 5x5 of 50 - pool - 500 - 50 - classes
"""

from __future__ import annotations

from torch import Tensor, nn

from .network import Network

__all__ = ["MNIST_CNN_MIN_SIZE", "MnistCNN", "mnist_cnn"]

MNIST_CNN_MIN_SIZE = 4
"""Twice the image is halved."""


class MnistCNN(nn.Module):
    """Two convolutions and two hidden layers, each with ReLU and dropout.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images.
        width: Factor of all widths.
        dropout: Probability after each layer.
    """

    def __init__(
        self, *, classes: int, in_channels: int, size: int, width: float, dropout: float
    ) -> None:
        super().__init__()
        first, second, third, fourth = (max(1, round(n * width)) for n in (20, 50, 500, 50))
        self.hidden = nn.ModuleList(
            nn.Sequential(*parts, nn.Dropout(dropout))
            for parts in (
                (nn.Conv2d(in_channels, first, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
                (nn.Conv2d(first, second, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
                (nn.Flatten(), nn.Linear(second * (size // 4) ** 2, third), nn.ReLU()),
                (nn.Linear(third, fourth), nn.ReLU()),
            )
        )
        self.classifier = nn.Linear(fourth, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, size, size) to logits (B, classes)."""
        for layer in self.hidden:
            x = layer(x)
        return self.classifier(x)


def mnist_cnn(
    *,
    classes: int,
    in_channels: int = 1,
    size: int = 32,
    dropout: float = 0.0,
    width: float = 1.0,
) -> Network:
    """Make the network; it can be cut after each of its four hidden layers.

    Its initial weights are torch's own.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images in pixels.
        dropout: Probability after each hidden layer.
        width: Factor of all widths.

    Raises:
        ValueError: The images are too small.
    """
    if size < MNIST_CNN_MIN_SIZE:
        raise ValueError(
            f"mnist_cnn needs images of at least {MNIST_CNN_MIN_SIZE} pixels, not {size}"
        )
    module = MnistCNN(
        classes=classes, in_channels=in_channels, size=size, width=width, dropout=dropout
    )
    return Network(
        "mnist_cnn",
        module,
        tuple(module.hidden),
        module.classifier,
        features=max(1, round(500 * width)),
        reduction=1,
    )
