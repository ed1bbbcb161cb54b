"""The encoder that classifies sequences of tokens."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import layer_shapes
from blockstep.models.transformer import transformer
from torch import Tensor


def test_layers() -> None:
    """The embedding and each encoder block can be cut after; shorter sequences are fine."""
    network = transformer(classes=3, vocabulary=9, length=7, channels=16, depth=2)
    shapes = layer_shapes(network, torch.zeros(2, 5, dtype=torch.long))
    assert [tuple(shape) for shape in shapes] == [(5, 16)] * 3
    assert network.features == 64


def test_the_order_of_tokens_matters() -> None:
    """Positions are embedded."""
    torch.manual_seed(0)
    network = transformer(classes=3, vocabulary=9, length=4, channels=16, depth=1)
    first = network.module(torch.tensor([[1, 2, 3, 4]]))
    assert not torch.allclose(first, network.module(torch.tensor([[4, 3, 2, 1]])))


@pytest.mark.parametrize(
    "x",
    [torch.zeros(2, 4), torch.zeros(2, 1, 4, 4), torch.zeros(2, 9, dtype=torch.long)],
    ids=["floats", "images", "too long"],
)
def test_anything_but_tokens_is_refused(x: Tensor) -> None:
    """The error has the type and shape, and the longest sequence."""
    network = transformer(classes=3, vocabulary=9, length=8, channels=16, depth=1)
    with pytest.raises(ValueError, match=r"integers, T at most 8, not torch\.\w+ of shape \(2, "):
        layer_shapes(network, x)


def test_attention_heads_divide_the_width() -> None:
    """The error has both numbers."""
    with pytest.raises(ValueError, match=r"13 channels.*attention_heads=4"):
        transformer(classes=3, width=0.1)
