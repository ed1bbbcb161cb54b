"""What an ensemble needs of whatever makes its members' weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["WeightStore"]


class WeightStore(nn.Module):
    """What makes the weights of members: parameters that they share, and their combinations.

    Attributes:
        templates: What the budget counts.
        coefficients: How the members combine templates.
    """

    templates: nn.ParameterDict
    coefficients: nn.ParameterDict

    def generate(self, member: int) -> list[Tensor]:
        """Make a member's weights, in the order of its uses; gradients go back through them."""
        raise NotImplementedError

    def flow(self, member: int, gradients: Sequence[Tensor | None]) -> None:
        """Add what gradients of a member's weights mean for templates and coefficients."""
        raise NotImplementedError

    def shared_gradients(self) -> list[Tensor]:
        """Return the gradient of every parameter, in the order of ``parameters()``.

        Ranks with some of the members each sum these, place by place, and have what one process
        with all members has. A parameter that no member used gets a gradient of zeros, so that the
        lists are equally long; what is written into them is what an optimizer sees.
        """
        for parameter in self.parameters():
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        return [one.grad for one in self.parameters() if one.grad is not None]
