"""What is learned to generalise instead of to fit."""

from __future__ import annotations

from torch import nn

__all__ = ["Hyperparameter"]


class Hyperparameter(nn.Module):
    """A module whose parameters are hyperparameters.

    Partitioning a network leaves them whole, and training learns them from the loss on examples
    that the weights have not seen.
    """

    def readable(self) -> dict[str, list[float]]:
        """Return what was learned in the units that a reader knows, by name."""
        return {
            name: parameter.detach().flatten().tolist()
            for name, parameter in self.named_parameters()
        }
