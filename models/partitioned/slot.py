"""Where the composed tensors of a partitioned network go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .kinds import Entry
from .placement import Place

__all__ = ["Slot", "key_of", "slots_of"]


@dataclass(frozen=True, eq=False)
class Slot:
    """One composed tensor.

    Attributes:
        names: Its dotted names in the network.
        places: The modules that use it, each with the attribute.
        shape: Its shape.
        key: What the partitions call their part of it.
        owners: The partitions, from 0, that have a part of it.
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]
    shape: torch.Size
    key: str
    owners: tuple[int, ...]


def key_of(name: str) -> str:
    """Return what a partition calls its part of the parameter ``name``: torch allows no dots."""
    return name.replace(".", "/")


def slots_of(entries: Sequence[Entry], values: Sequence[Sequence[Tensor]]) -> list[Slot]:
    """Return the slots of parameters.

    Args:
        entries: The parameters, of one kind.
        values: Their parts in each partition.
    """
    slots = []
    for index, entry in enumerate(entries):
        owners = tuple(number for number, own in enumerate(values) if own[index].numel())
        slots.append(
            Slot(entry.names, entry.places, entry.tensor.shape, key_of(entry.name), owners)
        )
    return slots
