"""Which entry of a weight belongs to which partition: one byte per entry, drawn once.

Random partitioning gives every tensor's entries out one by one. Node partitioning gives out the
outputs of each layer; all weights that lead to an output belong to its partition. The network's
last layer has to keep all its outputs, so its weights are given out at random (appendix C).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .kinds import Entry
from .shares import exact_sizes

__all__ = ["by_node", "divided", "randomly"]


def divided(count: int, proportions: Sequence[float], generator: torch.Generator) -> Tensor:
    """Give out ``count`` things at random, in exact proportions.

    Args:
        count: How many there are.
        proportions: One per partition; they sum to one.
        generator: On the CPU.

    Returns:
        uint8 (count,), the partition of each, from 0.
    """
    sizes = torch.tensor(exact_sizes(count, proportions))
    ordered = torch.arange(len(proportions), dtype=torch.uint8).repeat_interleave(sizes)
    assigned = torch.empty(count, dtype=torch.uint8)
    assigned[torch.randperm(count, generator=generator)] = ordered
    return assigned


def randomly(
    entries: Sequence[Entry], proportions: Sequence[float], generator: torch.Generator
) -> list[Tensor]:
    """Return uint8 (entries of the tensor,) for each of ``entries``, all of kind ``split``."""
    return [divided(entry.tensor.numel(), proportions, generator) for entry in entries]


def by_node(
    entries: Sequence[Entry],
    proportions: Sequence[float],
    generator: torch.Generator,
    *,
    outputs: nn.Module,
) -> list[Tensor]:
    """Give out the outputs of every layer.

    Args:
        entries: All of kind ``split``.
        proportions: One per partition; they sum to one.
        generator: On the CPU.
        outputs: The layer whose weights are given out at random instead.

    Returns:
        uint8 (entries of the tensor,) for each of ``entries``.

    Raises:
        ValueError: A tensor is used by two layers, or by one whose outputs are not known.
    """
    assigned: list[Tensor] = []
    units: dict[nn.Module, Tensor] = {}
    for entry in entries:
        layers = {part for part, _ in entry.places}
        if outputs in layers:
            assigned.append(divided(entry.tensor.numel(), proportions, generator))
            continue
        layer, shape = layers.pop(), entry.tensor.shape
        if layers or not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding):
            raise ValueError(
                f"the parameter {entry.name} of a {type(layer).__name__} cannot be divided by "
                "outputs; partition the network with kind='random'"
            )
        axis = 1 if isinstance(layer, nn.Embedding) else 0
        if layer not in units:
            units[layer] = divided(shape[axis], proportions, generator)
        wide = [-1 if number == axis else 1 for number in range(len(shape))]
        assigned.append(units[layer].view(wide).expand(shape).flatten())
    return assigned
