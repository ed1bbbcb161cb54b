"""DGL's auxiliary head MLP-SR (Belilovsky et al., ICML 2020, section 4): pool first, then learn."""

from __future__ import annotations

from torch import nn

__all__ = ["mlp_sr"]

CONVOLUTIONS = 3
HIDDEN_LAYERS = 3


def mlp_sr(*, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Make the head: resolution / 4, three 1x1 convolutions, pool to 2x2, a 3-hidden-layer MLP.

    Args:
        shape: (C, H, W) of the block's output.
        classes: Number of classes.
    """
    channels, height, width = shape
    small = (-(-height // 4), -(-width // 4))
    smaller = (min(small[0], 2), min(small[1], 2))
    parts: list[nn.Module] = [nn.AdaptiveAvgPool2d(small)]
    for _ in range(CONVOLUTIONS):
        convolution = nn.Conv2d(channels, channels, 1, bias=False)
        parts += [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    wide = channels * smaller[0] * smaller[1]
    parts += [nn.AdaptiveAvgPool2d(smaller), nn.Flatten()]
    for _ in range(HIDDEN_LAYERS):
        parts += [nn.Linear(wide, wide), nn.BatchNorm1d(wide), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts, nn.Linear(wide, classes))
