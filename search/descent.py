"""Stochastic gradient descent with momentum on lists of tensors, and its adjoint.

v' = momentum v + g + decay w          torch.optim.SGD, without dampening and Nesterov
w' = w - lr v'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Adjoint", "Descent", "Point"]


@dataclass(frozen=True)
class Point:
    """Where the training stands. The tensors are never changed in place.

    Attributes:
        weights: The weights.
        momentum: The momentum buffer of each.
    """

    weights: list[Tensor]
    momentum: list[Tensor]


@dataclass(frozen=True)
class Adjoint:
    """The derivative of something by a point.

    Attributes:
        weights: By each weight.
        momentum: By each momentum buffer.
    """

    weights: list[Tensor]
    momentum: list[Tensor]


@dataclass(frozen=True)
class Descent:
    """The optimizer.

    Attributes:
        momentum: Factor of the momentum buffer, in [0, 1).
        weight_decay: Factor of the L2 penalty.
    """

    momentum: float
    weight_decay: float

    def step(self, point: Point, gradients: Sequence[Tensor], lr: float) -> Point:
        """Return the point after one step."""
        with torch.no_grad():
            velocity = torch._foreach_mul(point.momentum, self.momentum)
            torch._foreach_add_(velocity, list(gradients))
            torch._foreach_add_(velocity, point.weights, alpha=self.weight_decay)
            weights = torch._foreach_add(point.weights, velocity, alpha=-lr)
        return Point(list(weights), list(velocity))

    def by_gradients(self, after: Adjoint, lr: float) -> list[Tensor]:
        """Return the derivative by the step's gradients, of which v' is the sum.

        Args:
            after: The derivative by the point after the step.
            lr: The step's learning rate.
        """
        return list(torch._foreach_add(after.momentum, after.weights, alpha=-lr))

    def back(
        self, after: Adjoint, by_gradients: list[Tensor], through_gradients: Sequence[Tensor]
    ) -> Adjoint:
        """Return the derivative by the point before the step.

        Args:
            after: The derivative by the point after the step.
            by_gradients: What the method of that name returned.
            through_gradients: How the gradients carry it back to the weights they were taken at.
        """
        weights = torch._foreach_add(after.weights, by_gradients, alpha=self.weight_decay)
        torch._foreach_add_(weights, list(through_gradients))
        return Adjoint(list(weights), list(torch._foreach_mul(by_gradients, self.momentum)))
