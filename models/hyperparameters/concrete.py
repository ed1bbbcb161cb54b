"""Bernoulli variables with gradients (Maddison, Mnih and Teh, "The Concrete Distribution", 2017).

z = sigmoid((logit + log u - log(1 - u)) / T),  u uniform in (0, 1)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["check_temperature", "concrete", "logit_of"]


def concrete(logits: Tensor, shape: Sequence[int], temperature: float) -> Tensor:
    """Draw from torch's generator.

    Args:
        logits: Of the probability of 1; broadcast to ``shape``.
        shape: Of the result.
        temperature: The lower, the closer to 0 and 1.
    """
    u = torch.rand(tuple(shape), device=logits.device, dtype=logits.dtype)
    u = u.clamp_(min=torch.finfo(u.dtype).tiny)
    return torch.sigmoid((logits + u.log() - torch.log1p(-u)) / temperature)


def logit_of(probability: float, name: str) -> float:
    """Return the logit of a probability.

    Raises:
        ValueError: It is not between 0 and 1; ``name`` is what it is called.
    """
    if not 0 < probability < 1:
        raise ValueError(f"{name}={probability} has no logit to learn; give a number in (0, 1)")
    return float(torch.tensor(probability, dtype=torch.float64).logit())


def check_temperature(temperature: float) -> float:
    """Return it.

    Raises:
        ValueError: It is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: a concrete variable needs one above 0")
    return temperature
