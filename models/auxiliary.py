"""The auxiliary heads Aux 1-4 of SEDONA (Table 9 and appendix D.2), and our extension of them.

    images   pw -> dw/2 -> [InvRes] -> [InvRes x1.5 /2] -> [InvRes] -> pw F -> pool -> FC
    vectors  linear ->     [MLP]    -> [MLP x1.5]       -> [MLP]    -> F            -> FC
    tokens   the same as vectors for each token, then the mean over the tokens     -> FC

The paper has images only. Aux i has i - 1 of the bracketed parts. Its N_c is the width of the
bottleneck, C // reduction, as the parameter counts of its Table 1 show.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["image_aux", "token_aux", "vector_aux"]

EXPANSION = 4


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, depthwise 3x3, project; added to its input where both fit."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * EXPANSION
        self.expand = nn.Sequential(*_pointwise(inputs, hidden))
        self.depthwise = nn.Sequential(*_depthwise(hidden, stride))
        self.project = nn.Sequential(
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        h = self.project(self.depthwise(self.expand(x)))
        return x + h if self.adds else h


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def image_aux(
    number: int, *, shape: tuple[int, int, int], classes: int, features: int, reduction: int
) -> nn.Sequential:
    """Make Aux ``number`` for images.

    Args:
        number: 1 to 4.
        shape: (C, H, W) of the block's output.
        classes: Number of classes.
        features: Channels F before the pooling.
        reduction: N_c = C // reduction.
    """
    channels, height, width = shape
    narrow = max(1, channels // reduction)
    wide = narrow + narrow // 2
    # The second stride needs something left to halve.
    stride = 2 if min(-(-height // 2), -(-width // 2)) >= 2 else 1
    parts: list[nn.Module] = [*_pointwise(channels, narrow), *_depthwise(narrow, 2)]
    residuals = [(narrow, narrow, 1), (narrow, wide, stride), (wide, wide, 1)][: number - 1]
    parts += [InvertedResidual(*residual) for residual in residuals]
    last = residuals[-1][1] if residuals else narrow
    parts += _pointwise(last, features)
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)]
    return nn.Sequential(*parts)


class InvertedMlp(nn.Module):
    """The counterpart of an inverted residual block where there is no image: expand, project."""

    def __init__(self, inputs: int, outputs: int, norm: type[nn.Module]) -> None:
        super().__init__()
        hidden = inputs * EXPANSION
        self.expand = nn.Sequential(nn.Linear(inputs, hidden), norm(hidden), nn.ReLU())
        self.project = nn.Sequential(nn.Linear(hidden, outputs), norm(outputs))
        self.adds = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        h = self.project(self.expand(x))
        return x + h if self.adds else h


class TokenMean(nn.Module):
    """The mean over the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, C)."""
        return x.mean(1)


def _mlp_aux(
    number: int, channels: int, features: int, reduction: int, norm: type[nn.Module]
) -> list[nn.Module]:
    narrow = max(1, channels // reduction)
    wide = narrow + narrow // 2
    residuals = [(narrow, narrow), (narrow, wide), (wide, wide)][: number - 1]
    last = residuals[-1][1] if residuals else narrow
    return [
        nn.Linear(channels, narrow),
        norm(narrow),
        nn.ReLU(),
        *(InvertedMlp(*residual, norm) for residual in residuals),
        nn.Linear(last, features),
        norm(features),
        nn.ReLU(),
    ]


def vector_aux(
    number: int, *, channels: int, classes: int, features: int, reduction: int
) -> nn.Sequential:
    """Make the counterpart of Aux ``number`` for vectors (B, C), with batch norm."""
    parts = _mlp_aux(number, channels, features, reduction, nn.BatchNorm1d)
    return nn.Sequential(*parts, nn.Linear(features, classes))


def token_aux(
    number: int, *, channels: int, classes: int, features: int, reduction: int
) -> nn.Sequential:
    """Make the counterpart of Aux ``number`` for tokens (B, T, C), with layer norm."""
    parts = _mlp_aux(number, channels, features, reduction, nn.LayerNorm)
    return nn.Sequential(nn.LayerNorm(channels), *parts, TokenMean(), nn.Linear(features, classes))
