"""Aux 1-4 of SEDONA, and our extension of them."""

from __future__ import annotations

import pytest
import torch
from blockstep.models import make_head, parameters
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET = {1: 2_842_856, 2: 3_380_968, 3: 4_312_552, 4: 5_512_936}
"""Parameters at 1024 channels of 14 x 14, N_c = 256, F = 2048, 1,000 classes (Table 1)."""


@pytest.mark.parametrize("number", IMAGENET)
def test_parameters_of_table_1(number: int) -> None:
    """The exact counts behind the percentages of SEDONA's Table 1."""
    with torch.device("meta"):
        head = make_head(f"aux{number}", shape=(1024, 14, 14), classes=1000, features=2048)
    assert parameters(head) == IMAGENET[number]


def image_plan(number: int, c: int, n: int, f: int, classes: int, side: int) -> list[tuple]:
    """List the convolutions of Table 9: (inputs, outputs, kernel, stride, groups)."""
    half, wide = -(-side // 2), int(1.5 * n)
    residuals = [(n, n, 1), (n, wide, 2 if half >= 2 else 1), (wide, wide, 1)][: number - 1]
    plan = [(c, n, 1, 1, 1), (n, n, 3, 2, n)]
    for inputs, outputs, stride in residuals:
        inner = 4 * inputs
        plan += [(inputs, inner, 1, 1, 1), (inner, inner, 3, stride, inner)]
        plan += [(inner, outputs, 1, 1, 1)]
    return [*plan, (residuals[-1][1] if residuals else n, f, 1, 1, 1)]


@pytest.mark.parametrize("side", [1, 2, 4, 7])
@pytest.mark.parametrize("number", range(1, 5))
def test_the_convolutions_of_table_9(number: int, side: int) -> None:
    """Channels, kernels, strides and groups; each is followed by its norm, none has a bias."""
    head = make_head(f"aux{number}", shape=(32, side, side), classes=3, features=20)
    convolutions = [part for part in head.modules() if isinstance(part, nn.Conv2d)]
    assert [
        (one.in_channels, one.out_channels, one.kernel_size[0], one.stride[0], one.groups)
        for one in convolutions
    ] == image_plan(number, 32, 8, 20, 3, side)
    assert all(one.bias is None for one in convolutions)
    norms = [part for part in head.modules() if isinstance(part, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [one.out_channels for one in convolutions]


@pytest.mark.parametrize("number", range(1, 5))
def test_the_forward_pass_by_hand(number: int) -> None:
    """Order of norm and ReLU, linear bottlenecks, and which residuals are added."""
    torch.manual_seed(0)
    head = make_head(f"aux{number}", shape=(16, 7, 7), classes=3, features=20)
    head(torch.randn(16, 16, 7, 7))  # running statistics that matter
    head.eval()
    x = torch.randn(2, 16, 7, 7)
    convolutions = iter([part for part in head.modules() if isinstance(part, nn.Conv2d)])
    norms = iter([part for part in head.modules() if isinstance(part, nn.BatchNorm2d)])

    def step(h: Tensor) -> Tensor:
        conv, norm = next(convolutions), next(norms)
        h = F.conv2d(h, conv.weight, None, conv.stride, conv.padding, groups=conv.groups)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        mean = norm.running_mean
        return (h - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]

    h = step(step(x).relu()).relu()
    for index in range(number - 1):
        inner = step(step(step(h).relu()).relu())
        h = inner if index == 1 else h + inner
    h = step(h).relu().mean((2, 3))
    fc = [part for part in head.modules() if isinstance(part, nn.Linear)]
    expected = h @ fc[-1].weight.T + fc[-1].bias
    torch.testing.assert_close(head(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("reduction", "narrow"), [(4, 8), (1, 32), (64, 1)])
def test_the_reduction_decides_the_bottleneck(reduction: int, narrow: int) -> None:
    """N_c = C // reduction, and never less than one channel."""
    head = make_head("aux1", shape=(32, 4, 4), classes=3, reduction=reduction)
    first = next(part for part in head.modules() if isinstance(part, nn.Conv2d))
    assert first.out_channels == narrow


@pytest.mark.parametrize("shape", [(32,), (5, 32)])
@pytest.mark.parametrize("number", range(1, 5))
def test_the_linear_layers_of_the_extension(number: int, shape: tuple[int, ...]) -> None:
    """Vectors and tokens have the same plan with linear layers, expanded four times inside."""
    head = make_head(f"aux{number}", shape=shape, classes=3, features=20)
    sizes = [
        (one.in_features, one.out_features) for one in head.modules() if type(one) is nn.Linear
    ]
    plan = [(32, 8), *[(8, 32), (32, 8)][: 2 * (number >= 2)]]
    plan += [(8, 32), (32, 12)] if number >= 3 else []
    plan += [(12, 48), (48, 12)] if number >= 4 else []
    assert sizes == [*plan, (plan[-1][1], 20), (20, 3)]
    norm = nn.BatchNorm1d if len(shape) == 1 else nn.LayerNorm
    norms = [part for part in head.modules() if isinstance(part, nn.BatchNorm1d | nn.LayerNorm)]
    assert {type(part) for part in norms} == {norm}
    assert len(norms) == len(sizes) - 1 + (len(shape) == 2)


def test_tokens_count_alike() -> None:
    """The mean over the tokens: their order is the layers' business, not the head's."""
    torch.manual_seed(0)
    for name in ("aux1", "aux4", "linear"):
        head = make_head(name, shape=(5, 16), classes=3)
        x = torch.randn(2, 5, 16)
        torch.testing.assert_close(head(x), head(x[:, torch.tensor([3, 1, 4, 0, 2])]))
