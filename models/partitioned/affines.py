"""Scales and biases of a subnetwork: products and sums over its partitions (appendix I.1).

They are composed together, from one row per partition:

    rows      partition 1   [ norm1.weight | norm2.weight | ... ]
              partition 2   [ ...                               ]
    subnetwork 2: row 1 times row 2; partition 1's are the initial ones, the others begin neutral
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from .kinds import PRODUCT

__all__ = ["Affines"]


class Affines:
    """Composes the tensors of one kind, ``product`` or ``sum``.

    Args:
        kind: Which of the two.
        shapes: Of the tensors, in order.
    """

    def __init__(self, kind: str, shapes: Sequence[torch.Size]) -> None:
        self._multiply = kind == PRODUCT
        self._shapes = list(shapes)
        self._numbers = [shape.numel() for shape in shapes]

    def neutral(self, tensor: Tensor) -> Tensor:
        """Return what changes nothing, of the shape of ``tensor``."""
        return torch.ones_like(tensor) if self._multiply else torch.zeros_like(tensor)

    def rows(
        self, values: Sequence[Sequence[Tensor]], subnetwork: int, learning: Collection[int]
    ) -> list[Tensor]:
        """Return one flat row per partition of a subnetwork; those that learn have a gradient."""
        rows = []
        for partition, own in enumerate(values[:subnetwork]):
            with torch.set_grad_enabled(partition in learning):
                flat = [one if one.dim() == 1 else one.reshape(-1) for one in own]
                rows.append(torch.cat(flat))
        return rows

    def join(self, rows: Sequence[Tensor]) -> Tensor:
        """Multiply or add rows."""
        joined = rows[0]
        for row in rows[1:]:
            joined = joined * row if self._multiply else joined + row
        return joined

    def shaped(self, flat: Tensor) -> list[Tensor]:
        """Divide (..., entries) into the tensors; further dimensions stay in front."""
        pieces = flat.split(self._numbers, dim=-1)
        lead = flat.shape[:-1]
        return [
            piece.reshape(lead + shape) for piece, shape in zip(pieces, self._shapes, strict=True)
        ]

    def compose(
        self, values: Sequence[Sequence[Tensor]], subnetwork: int, learning: Collection[int]
    ) -> list[Tensor]:
        """Return the tensors of a subnetwork.

        Args:
            values: The tensors of each partition, in order.
            subnetwork: How many partitions count.
            learning: Which of them, from 0, get a gradient.
        """
        if not self._shapes:
            return []
        return self.shaped(self.join(self.rows(values, subnetwork, learning)))

    def compose_each(
        self, values: Sequence[Sequence[Tensor]], own: Tensor, learning: Collection[int]
    ) -> list[Tensor]:
        """Return the tensors of every example's subnetwork, (B, *shape).

        An example's gradient goes to the partition of its own number alone.

        Args:
            values: The tensors of each partition, in order.
            own: int64 (B,), the number of each example's partition, from 0.
            learning: Which partitions get a gradient.
        """
        if not self._shapes:
            return []
        table = []
        for number in range(len(values)):
            mine = {number} & set(learning)
            table.append(self.join(self.rows(values, number + 1, mine)))
        return self.shaped(torch.stack(table)[own])
