"""DGL's head MLP-SR."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import make_head, parameters
from torch import nn
from torch.nn import functional as F


def test_parameters_of_table_1() -> None:
    """The exact count behind 129.33 % of ResNet-101 (SEDONA, Table 1)."""
    with torch.device("meta"):
        head = make_head("mlp_sr", shape=(1024, 14, 14), classes=1000)
    assert parameters(head) == 57_617_384


@pytest.mark.parametrize(
    ("side", "small", "smaller"),
    [(32, 8, 2), (14, 4, 2), (7, 2, 2), (5, 2, 2), (4, 1, 1), (1, 1, 1)],
)
def test_the_forward_pass_by_hand(side: int, small: int, smaller: int) -> None:
    """Pool to a quarter, three 1x1, pool to 2x2 where there is as much, three hidden layers."""
    torch.manual_seed(0)
    head = make_head("mlp_sr", shape=(6, side, side), classes=3).eval()
    x = torch.randn(2, 6, side, side)
    h = F.adaptive_avg_pool2d(x, small)
    shrink = (1 + 1e-5) ** -0.5  # a fresh batch norm in evaluation mode
    for conv in (part for part in head.modules() if isinstance(part, nn.Conv2d)):
        assert conv.bias is None
        h = (torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], h) * shrink).relu()
    h = F.adaptive_avg_pool2d(h, smaller).flatten(1)
    *hidden, last = [part for part in head.modules() if isinstance(part, nn.Linear)]
    assert len(hidden) == 3
    for linear in hidden:
        assert linear.in_features == linear.out_features == 6 * smaller**2
        h = (linear(h) * shrink).relu()
    torch.testing.assert_close(head(x), last(h))


@pytest.mark.parametrize("shape", [(8,), (5, 8)])
def test_it_is_for_images(shape: tuple[int, ...]) -> None:
    """Other outputs are refused by name and shape."""
    with pytest.raises(ValueError, match=r"mlp_sr is for images.*8"):
        make_head("mlp_sr", shape=shape, classes=3)
