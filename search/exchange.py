"""What the ranks of a search tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

__all__ = ["ALONE", "Alone", "Exchange"]


class Exchange(Protocol):
    """The ranks that share a search.

    Attributes:
        rank: This rank, from 0.
        size: How many there are.
    """

    rank: int
    size: int

    def share(self, tensors: Sequence[Tensor], *, source: int) -> list[Tensor]:
        """Return what rank ``source`` has. All ranks call it, in the same order.

        Args:
            tensors: On the CPU. Those of the other ranks only say the shapes and types, and stay
                as they are.
            source: The rank whose tensors they are.
        """
        ...


class Alone:
    """One rank, which has everything already."""

    rank = 0
    size = 1

    def share(self, tensors: Sequence[Tensor], *, source: int) -> list[Tensor]:
        """See :meth:`Exchange.share`."""
        return list(tensors)


ALONE = Alone()
