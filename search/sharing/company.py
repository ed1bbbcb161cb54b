"""The ranks that train an ensemble together: who trains which member, and what they tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..exchange import Alone, Exchange

__all__ = ["ONE", "Company", "One", "Post", "posts_of"]


@dataclass(frozen=True, order=True)
class Post:
    """What a rank has to do: a member, or a share of its batches.

    Attributes:
        member: Which one, from 0.
        replica: Which share of each batch, from 1.
        replicas: How many shares there are.
    """

    member: int
    replica: int = 1
    replicas: int = 1


class Company(Exchange, Protocol):
    """All ranks; see also :class:`~blockstep.search.exchange.Exchange`."""

    def add(self, rows: Tensor, places: Sequence[Sequence[int]]) -> Tensor:
        """Return the sum of all ranks' rows (its rows, n) in the order of their places: (n,)."""
        ...

    def average(self, member: int, row: Tensor) -> Tensor:
        """Return the sum of the rows (n,) of a member's replicas, in their order."""
        ...


class One(Alone):
    """One rank, which trains all members."""

    def add(self, rows: Tensor, places: Sequence[Sequence[int]]) -> Tensor:
        """See :meth:`Company.add`."""
        total = rows[0].clone()
        for row in rows[1:]:
            total += row
        return total

    def average(self, member: int, row: Tensor) -> Tensor:
        """See :meth:`Company.average`."""
        return row


ONE = One()


def posts_of(counts: Sequence[int]) -> list[list[Post]]:
    """Return the posts of one member after the other, one for each rank.

    Args:
        counts: How many ranks share each member.
    """
    return [
        [Post(member, replica, count)]
        for member, count in enumerate(counts)
        for replica in range(1, count + 1)
    ]
