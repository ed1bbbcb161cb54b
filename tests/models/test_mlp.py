"""The fully connected network."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import layer_shapes, parameters
from blockstep.models.mlp import mlp


def test_layers() -> None:
    """Each hidden layer is a layer; the classifier follows."""
    network = mlp(classes=3, in_channels=2, size=4, hidden=10, depth=3)
    assert [tuple(shape) for shape in layer_shapes(network, torch.zeros(2, 2, 4, 4))] == [(10,)] * 3
    layer = (32 + 1 + 2) * 10 + 2 * (10 + 1 + 2) * 10
    assert parameters(network.module) == layer + (10 + 1) * 3


def test_vectors_are_images_of_one_pixel() -> None:
    """With size=1 it takes (B, in_channels)."""
    network = mlp(classes=3, in_channels=6, size=1, depth=1)
    assert network.module(torch.zeros(2, 6)).shape == (2, 3)


def test_width_scales_the_hidden_layers() -> None:
    """``width`` is a factor of ``hidden``."""
    network = mlp(classes=3, hidden=100, width=0.25, size=2)
    assert layer_shapes(network, torch.zeros(2, 1, 2, 2))[0] == (25,)


@pytest.mark.parametrize("options", [{"depth": 0}, {"width": 0.0}, {"hidden": 0}])
def test_nothing_to_train_is_refused(options: dict[str, float]) -> None:
    """No layer or no unit is an error."""
    with pytest.raises(ValueError, match="a hidden layer and a unit"):
        mlp(classes=3, **options)  # pyright: ignore[reportArgumentType]
