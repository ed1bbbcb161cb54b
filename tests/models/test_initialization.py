"""Initial weights of networks and heads (SEDONA's release)."""

from __future__ import annotations

import math

import pytest
import torch
from blockstep.models import make_head, make_network
from blockstep.models.initialization import initialize
from torch import nn


def modules() -> list[nn.Module]:
    """Make what is initialised by us, wide enough for statistics."""
    torch.manual_seed(0)
    image = make_head("aux4", shape=(256, 4, 4), classes=10)
    vector = make_head("aux4", shape=(256,), classes=10)
    tokens = make_head("aux4", shape=(3, 256), classes=10)
    sr = make_head("mlp_sr", shape=(64, 4, 4), classes=10)
    linear = make_head("linear", shape=(64,), classes=10)
    networks = [make_network(name, classes=10) for name in ("resnet18", "mlp")]
    return [image, vector, tokens, sr, linear, *(network.module for network in networks)]


def test_weights_are_kaiming_normal() -> None:
    """Mean 0 and standard deviation sqrt(2 / fan_in) for each convolution and linear layer."""
    seen = 0
    for module in modules():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear) and part.weight.numel() >= 2000:
                fan_in = part.weight[0].numel()
                deviation = math.sqrt(2 / fan_in)
                assert part.weight.std().item() == pytest.approx(deviation, rel=0.1)
                # Four standard errors of a mean.
                limit = 4 * deviation / math.sqrt(part.weight.numel())
                assert abs(part.weight.mean().item()) < limit
                seen += 1
    assert seen > 40


def test_biases_are_zero_and_norms_one() -> None:
    """Every bias 0; every scale of a norm 1."""
    for module in modules():
        for part in module.modules():
            bias = getattr(part, "bias", None)
            if isinstance(bias, nn.Parameter):
                assert not bias.any()
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                assert (part.weight == 1).all()


def test_the_generator_decides_the_weights() -> None:
    """Equal seeds give equal weights, other seeds others."""
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        layer = nn.Linear(4, 4)
        initialize(layer)
        drawn.append(layer.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_parts_without_weights_are_left_alone() -> None:
    """A norm without scale and a layer without bias are no error."""
    initialize(nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Conv2d(1, 1, 1, bias=False)))
