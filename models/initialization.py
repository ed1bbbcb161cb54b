"""Initial weights, the same for networks and heads (SEDONA's release)."""

from __future__ import annotations

from torch import nn

__all__ = ["ZeroLinear", "initialize"]


class ZeroLinear(nn.Linear):
    """A linear layer that begins at zero: at first it takes all classes for equally likely."""

    def reset_parameters(self) -> None:
        """Set weight and bias to zero."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def initialize(module: nn.Module) -> None:
    """Set initial weights: Kaiming-normal convolutions and linear layers, norms 1, biases 0.

    The weight of a :class:`ZeroLinear` is 0.

    Args:
        module: Everything in it is set; random numbers come from torch's generator.
    """
    for part in module.modules():
        if isinstance(part, ZeroLinear):
            nn.init.zeros_(part.weight)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, a=0.0, nonlinearity="leaky_relu")
        elif not isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            continue
        elif part.weight is not None:
            nn.init.ones_(part.weight)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
