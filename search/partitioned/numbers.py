"""Hyperparameters as numbers for people."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

__all__ = ["readable_numbers"]


def readable_numbers(named: Mapping[str, Tensor], *, short: int) -> dict[str, list[float]]:
    """Return each tensor's numbers, or its norm alone where there are many.

    Args:
        named: Tensors by their names.
        short: Up to so many numbers are told as they are.
    """
    found = {}
    for name, tensor in named.items():
        value = tensor.detach()
        few = value.numel() <= short
        found[name] = value.flatten().tolist() if few else [value.norm().item()]
    return found
