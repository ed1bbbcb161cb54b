"""Fully connected classifiers: the smallest networks that can be cut."""

from __future__ import annotations

from torch import Tensor, nn

from .initialization import initialize
from .network import Network

__all__ = ["MLP", "GeluMLP", "mlp", "mlp_gelu"]


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


class GeluMLP(nn.Module):
    """Hidden layers of linear and GELU, then a linear classifier; without normalisation.

    Weights begin Kaiming-uniform, biases at 0.

    Args:
        inputs: Numbers per example, after flattening.
        hidden: Width of each hidden layer.
        classes: Number of classes.
    """

    def __init__(self, inputs: int, hidden: list[int], classes: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList()
        for outputs in hidden:
            self.hidden.append(nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs), nn.GELU()))
            inputs = outputs
        self.classifier = nn.Linear(inputs, classes)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.kaiming_uniform_(part.weight, nonlinearity="relu")
                nn.init.zeros_(part.bias)

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
    units = _units("mlp", hidden, depth, width)
    module = MLP(in_channels * size * size, [units] * depth, classes)
    return Network("mlp", module, tuple(module.hidden), module.classifier, features=units)


def mlp_gelu(
    *,
    classes: int,
    in_channels: int = 1,
    size: int = 32,
    hidden: int = 256,
    depth: int = 2,
    width: float = 1.0,
) -> Network:
    """Make the fully connected network of the input-selection task, without normalisation.

    Mlodozeniec et al. (ICLR 2023), appendix I.3.

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
    units = _units("mlp_gelu", hidden, depth, width)
    module = GeluMLP(in_channels * size * size, [units] * depth, classes)
    return Network("mlp_gelu", module, tuple(module.hidden), module.classifier, features=units)


def _units(name: str, hidden: int, depth: int, width: float) -> int:
    units = round(hidden * width)
    if depth < 1 or units < 1:
        raise ValueError(
            f"{name} needs a hidden layer and a unit, not depth={depth}, {units} units"
        )
    return units
