"""A fully connected classifier: the smallest network that can be cut."""

from __future__ import annotations

from torch import Tensor, nn

from .initialization import initialize
from .network import Network

__all__ = ["MLP", "mlp"]


class MLP(nn.Module):
    """Hidden layers of linear, batch norm and ReLU, then a linear classifier.

    Args:
        inputs: Numbers per example, after flattening.
        hidden: Width of each hidden layer.
        classes: Number of classes.
    """

    def __init__(self, inputs: int, hidden: list[int], classes: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList()
        for outputs in hidden:
            self.hidden.append(
                nn.Sequential(
                    nn.Flatten(), nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()
                )
            )
            inputs = outputs
        self.classifier = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to logits (B, classes)."""
        for layer in self.hidden:
            x = layer(x)
        return self.classifier(x)


def mlp(
    *,
    classes: int,
    in_channels: int = 1,
    size: int = 32,
    hidden: int = 256,
    depth: int = 4,
    width: float = 1.0,
) -> Network:
    """Make a fully connected network with ``depth`` hidden layers.

    Args:
        classes: Number of classes.
        in_channels: Channels of the images.
        size: Height and width of the images in pixels; 1 for vectors of ``in_channels`` numbers.
        hidden: Width of each hidden layer.
        depth: Number of hidden layers.
        width: Factor of ``hidden``.

    Raises:
        ValueError: There is no hidden layer or no unit.
    """
    units = round(hidden * width)
    if depth < 1 or units < 1:
        raise ValueError(f"mlp needs a hidden layer and a unit, not depth={depth}, {units} units")
    module = MLP(in_channels * size * size, [units] * depth, classes)
    return Network("mlp", module, tuple(module.hidden), module.classifier, features=units)
