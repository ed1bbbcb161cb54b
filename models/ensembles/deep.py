"""Deep ensembles: members that share nothing (Lakshminarayanan et al., 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["DeepEnsemble"]


class DeepEnsemble(nn.Module):
    """Independent members, trained on the same batches.

    Args:
        members: Each from inputs to logits.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the logits of all members, (members, B, classes)."""
        return torch.stack([member(x) for member in self.members])

    def backward(
        self,
        x: Tensor,
        y: Tensor,
        criterion: Callable[[Tensor, Tensor], Tensor],
        *,
        members: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """Run the passes of all or some members in turn; add gradients; return their losses."""
        losses = []
        for member in range(len(self.members)) if members is None else members:
            loss = criterion(self.members[member](x), y)
            loss.backward()
            losses.append(loss.detach())
        return losses
