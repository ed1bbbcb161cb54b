"""Which inputs a network sees, learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .concrete import check_temperature, concrete
from .hyperparameter import Hyperparameter

__all__ = ["ConcreteMask"]


class ConcreteMask(Hyperparameter):
    """Multiplies each input by a concrete variable, drawn for every example.

    Evaluation multiplies by the probabilities instead: the same every time.

    Args:
        inputs: Numbers per example, (B, inputs), or the shape of an example.
        temperature: Of the concrete distribution.
        initial: All logits at first; 0 is a probability of one half.
    """

    def __init__(
        self, inputs: int | Sequence[int], *, temperature: float = 0.5, initial: float = 0.0
    ) -> None:
        super().__init__()
        shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
        if math.prod(shape) < 1:
            raise ValueError(f"a mask of inputs={inputs} hides nothing; give their number")
        self.temperature = check_temperature(temperature)
        self.mask = nn.Parameter(torch.full(shape, float(initial)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, *inputs) to the same shape.

        Raises:
            ValueError: The examples have another number of inputs.
        """
        if x.shape[1:] != self.mask.shape:
            raise ValueError(
                f"the mask has {_words(self.mask)} inputs, the examples have the shape "
                f"{tuple(x.shape[1:])}"
            )
        if not self.training:
            return x * self.mask.sigmoid()
        return x * concrete(self.mask, x.shape, self.temperature)

    def readable(self) -> dict[str, list[float]]:
        """Return the probability of each input."""
        return {"probability": self.mask.detach().sigmoid().flatten().tolist()}


def _words(mask: Tensor) -> str:
    return " x ".join(map(str, mask.shape))
