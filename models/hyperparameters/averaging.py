"""A network's mean answer over changed copies of its input."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Averaged"]


class Averaged(nn.Module):
    """Changes every example S times and averages the logits, in training and in evaluation.

    Args:
        change: A random change of a batch, such as an affine one.
        network: From inputs to logits.
        samples: S; the batch of the network is S times as large.
        training_samples: S in training, where it differs; Augerino has 1.

    Raises:
        ValueError: There is no sample.
    """

    def __init__(
        self,
        change: nn.Module,
        network: nn.Module,
        *,
        samples: int = 20,
        training_samples: int | None = None,
    ) -> None:
        super().__init__()
        training_samples = samples if training_samples is None else training_samples
        if min(samples, training_samples) < 1:
            raise ValueError(
                f"samples={samples}, training_samples={training_samples}: an average needs at "
                "least 1 sample"
            )
        self.change = change
        self.network = network
        self.samples = samples
        self.training_samples = training_samples

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to logits (B, classes)."""
        samples = self.training_samples if self.training else self.samples
        repeated = x.repeat(samples, *[1] * (x.dim() - 1)) if samples > 1 else x
        logits = self.network(self.change(repeated))
        return logits.unflatten(0, (samples, len(x))).mean(0)
