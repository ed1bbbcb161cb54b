"""Initial weights, the same for networks and heads (SEDONA's release)."""

from __future__ import annotations

from torch import nn

__all__ = ["initialize"]


def initialize(module: nn.Module) -> None:
    """Set initial weights: Kaiming-normal convolutions and linear layers, norms 1, biases 0.

    Args:
        module: Everything in it is set; random numbers come from torch's generator.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, a=0.0, nonlinearity="leaky_relu")
        elif not isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            continue
        elif part.weight is not None:
            nn.init.ones_(part.weight)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
