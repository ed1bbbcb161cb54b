"""A network whose every operation takes a known time on a clock of its own.

The clock only moves when an operation says so, so measured seconds are exact numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["CLASSES", "WIDTH", "Clock", "TickHead", "TickLayer", "TickOptimizer", "tick_loss"]

WIDTH, CLASSES = 4, 3


class Clock:
    """The time, shared by all: a copied network must not get a clock of its own."""

    now = 0.0

    @classmethod
    def tick(cls, seconds: float) -> None:
        """Let time pass."""
        cls.now += seconds


class _Tick(torch.autograd.Function):
    """Multiply by a weight; forward and each half of backward take their time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, seconds: tuple[float, ...]) -> Tensor:
        ctx.weight, ctx.seconds = weight, seconds
        Clock.tick(seconds[0])
        return x.clone() if weight is None else x * weight.detach()

    @staticmethod
    def backward(ctx: Any, *errors: Any) -> tuple[Tensor | None, Tensor | None, None]:
        (error,) = errors
        to_input = to_weight = None
        if ctx.needs_input_grad[0]:
            Clock.tick(ctx.seconds[1])
            to_input = error if ctx.weight is None else error * ctx.weight.detach()
        if ctx.needs_input_grad[1]:
            Clock.tick(ctx.seconds[2])
            to_weight = error.sum().reshape(1)
        return to_input, to_weight, None


class TickLayer(nn.Module):
    """A layer that takes ``seconds``: forward, backward to its input, backward to its weight.

    Args:
        seconds: The three times.
        trains: Whether it has a weight.
    """

    def __init__(self, seconds: tuple[float, float, float], *, trains: bool = True) -> None:
        super().__init__()
        self.seconds = seconds
        self.weight = nn.Parameter(torch.ones(1)) if trains else None
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """(B, WIDTH) to the same."""
        self.inputs.append(x.detach())
        return _Tick.apply(x, self.weight, self.seconds)  # pyright: ignore[reportReturnType]


class TickHead(nn.Module):
    """A head that takes known times."""

    made = 0

    def __init__(self, shape: tuple[int, ...], classes: int, factor: int = 1) -> None:
        super().__init__()
        type(self).made += 1
        self.tick = TickLayer((16.0 * factor, 32.0 * factor, 64.0 * factor))
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        """(B, WIDTH) to (B, classes)."""
        return self.tick(x)[:, : self.classes]


class TickOptimizer(torch.optim.SGD):
    """An optimizer that takes 1024 seconds for each parameter."""

    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        Clock.tick(1024.0 * sum(len(group["params"]) for group in self.param_groups))
        return super().step(closure)


def tick_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy that takes a quarter of a second."""
    Clock.tick(0.25)
    return nn.functional.cross_entropy(logits, labels)
