"""Convolution and batch norm against torch's own first and second derivatives."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from blockstep.search.second_order import speed_up
from torch import Tensor, nn


def derivatives(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the output, the gradients of a function of it, and the gradients of those."""
    x = x.clone().requires_grad_()
    inputs = [x, *module.parameters()]
    draw = torch.Generator().manual_seed(7)
    y = module(x)
    factor = torch.randn(y.shape, generator=draw, dtype=y.dtype)
    gradients = torch.autograd.grad((factor * y.sin()).sum(), inputs, create_graph=True)
    directions = [torch.randn(g.shape, generator=draw, dtype=g.dtype) for g in gradients]
    product = sum((g * v).sum() for g, v in zip(gradients, directions, strict=True))
    assert isinstance(product, Tensor)
    second = torch.autograd.grad(product, inputs, allow_unused=True, materialize_grads=True)
    return [y.detach(), *(g.detach() for g in gradients), *second]


def twins(module: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return ``module`` in double precision as it is, and with our derivatives."""
    stock = module.double()
    fast = copy.deepcopy(stock)
    speed_up([fast])
    return stock, fast


CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "strided": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), (3, 4, 7, 8)),
    "biased": (lambda: nn.Conv2d(4, 6, (3, 1), padding=(1, 0)), (3, 4, 5, 5)),
    "dilated": (lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2), (2, 4, 7, 7)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6), (3, 6, 5, 5)),
    "grouped": (lambda: nn.Conv2d(6, 4, 1, groups=2), (3, 6, 5, 5)),
    "one dimension": (lambda: nn.Conv1d(3, 5, 3, padding=1), (4, 3, 9)),
    "three dimensions": (lambda: nn.Conv3d(2, 3, 3), (2, 2, 4, 5, 4)),
    "batch norm of images": (lambda: nn.BatchNorm2d(4), (5, 4, 3, 2)),
    "batch norm of vectors": (lambda: nn.BatchNorm1d(4), (7, 4)),
    "batch norm of sequences": (lambda: nn.BatchNorm1d(4), (5, 4, 6)),
    "batch norm without momentum": (lambda: nn.BatchNorm2d(4, momentum=None), (5, 4, 3, 2)),
    "chain": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
        ),
        (4, 2, 6, 6),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_first_and_second_derivatives_are_torchs(name: str) -> None:
    """By the input and by every weight."""
    make, shape = CASES[name]
    torch.manual_seed(0)
    stock, fast = twins(make())
    for parameter, other in zip(stock.parameters(), fast.parameters(), strict=True):
        with torch.no_grad():
            other.copy_(parameter.normal_())
    x = torch.randn(*shape, dtype=torch.float64)
    for expected, value in zip(derivatives(stock, x), derivatives(fast, x), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11)


def test_a_weight_of_zero_is_no_division() -> None:
    """A residual block may begin with a batch norm whose weight is zero."""
    stock, fast = twins(nn.BatchNorm2d(3))
    for module in (stock, fast):
        nn.init.zeros_(module.weight)  # pyright: ignore[reportArgumentType]
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    for expected, value in zip(derivatives(stock, x), derivatives(fast, x), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11)


def test_running_statistics_are_torchs() -> None:
    """They are updated once per forward pass in training mode, and used in evaluation mode."""
    stock, fast = twins(nn.BatchNorm2d(3))
    for number in range(3):
        x = torch.randn(4, 3, 2, 2, dtype=torch.float64) + number
        stock(x)
        fast(x)
    for expected, value in zip(stock.buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    assert torch.equal(stock.eval()(x), fast.eval()(x))


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.BatchNorm2d(2, affine=False),
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.Linear(2, 2),
    ],
    ids=["reflection", "padding by name", "not affine", "no statistics", "linear"],
)
def test_what_is_not_covered_stays_as_it_is(module: nn.Module) -> None:
    """Only what is known to be the same is replaced."""
    speed_up([module])
    assert "forward" not in vars(module)


def test_wrong_shapes_are_refused_as_before() -> None:
    """Batch norm of images refuses vectors."""
    module = nn.BatchNorm2d(4)
    speed_up([module])
    with pytest.raises(ValueError, match="expected 4D input"):
        module(torch.randn(5, 4))
