"""MIMO (Havasi et al., 2021): one network with several inputs and outputs, a member for each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["MIMO", "mimo_batch"]


class MIMO(nn.Module):
    """A network that classifies several images at once, one for each member.

    Args:
        module: From the images of all members, stacked along the channels (B, members * C, ...), to
            the logits of all members (B, members * classes); such as a network that was made with
            so many channels and classes.
        members: How many.
        repetition: How often an example occurs in a training batch.
        equal: Share of the batch in which all members see the same image (rho in the paper).

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self, module: nn.Module, members: int = 3, *, repetition: int = 4, equal: float = 0.0
    ) -> None:
        super().__init__()
        if members < 1 or repetition < 1 or not 0 <= equal <= 1:
            raise ValueError(
                f"members={members} and repetition={repetition} must be at least 1, and "
                f"equal={equal} between 0 and 1"
            )
        self.count, self.repetition, self.equal = members, repetition, equal
        self.network = module

    def forward(self, x: Tensor) -> Tensor:
        """The same image (B, C, ...) for all members to their logits, (members, B, classes)."""
        return self.classify(torch.cat([x] * self.count, 1))

    def classify(self, x: Tensor) -> Tensor:
        """(B, members * C, ...) to the logits of each member's own image, (members, B, classes)."""
        return self.network(x).unflatten(1, (self.count, -1)).transpose(0, 1)

    def backward(
        self, x: Tensor, y: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]
    ) -> list[Tensor]:
        """Train on shuffled images; add the gradients of the sum of losses; return the losses."""
        inputs, labels = mimo_batch(x, y, self.count, repetition=self.repetition, equal=self.equal)
        losses = [
            criterion(logits, own)
            for logits, own in zip(self.classify(inputs), labels, strict=True)
        ]
        torch.stack(losses).sum().backward()
        return [loss.detach() for loss in losses]


def mimo_batch(
    x: Tensor, y: Tensor, members: int, *, repetition: int = 4, equal: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Draw each member's images from a batch; every example occurs ``repetition`` times.

    Args:
        x: Images (B, C, ...).
        y: Labels (B,).
        members: How many images are stacked along the channels.
        repetition: How often each example occurs for each member.
        equal: Share at the end of the batch in which all members have the same image.

    Returns:
        Images (repetition * B, members * C, ...) and labels (members, repetition * B), by torch's
        generator.
    """
    order = torch.arange(len(x)).repeat(repetition)
    order = order[torch.randperm(len(order))]
    apart = round(len(order) * (1 - equal))
    orders = []
    for _ in range(members):
        own = order.clone()
        own[:apart] = order[:apart][torch.randperm(apart)]
        orders.append(own.to(x.device))
    return torch.cat([x[own] for own in orders], 1), torch.stack([y[own] for own in orders])
