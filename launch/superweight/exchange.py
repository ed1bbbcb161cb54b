"""What the ranks of an ensemble tell each other, over gloo."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...pipeline.edge import new_group
from ...pipeline.ordered_sum import OrderedSum
from ...pipeline.worker import Activity
from ...search.sharing.company import Post
from ..search.exchange import GlooExchange

__all__ = ["GlooCompany"]


class GlooCompany(GlooExchange):
    """All ranks of a run; see `blockstep.search.sharing.company.Company`.

    Sums have groups without a time-out: the watchdog decides what is a hang. Every rank makes one
    at the same time.

    Args:
        store: A client of its own.
        activity: What this rank does, for its watchdog.
        posts: Of every rank, what it has to do.
    """

    def __init__(self, store: Any, activity: Activity, posts: Sequence[Sequence[Post]]) -> None:
        super().__init__(store, activity)
        self._watched = activity
        self._sum = OrderedSum(new_group(list(range(self.size)), "gloo"))
        self._teams: dict[int, tuple[OrderedSum, list[list[int]]]] = {}
        teams: dict[int, list[int]] = {}
        for rank, own in enumerate(posts):
            for post in own:
                if post.replicas > 1:
                    teams.setdefault(post.member, []).append(rank)
        for member, ranks in sorted(teams.items()):
            group = new_group(ranks, "gloo")
            if self.rank in ranks:
                places = [[number] for number in range(len(ranks))]
                self._teams[member] = (OrderedSum(group), places)

    def add(self, rows: Tensor, places: Sequence[Sequence[int]]) -> Tensor:
        """See :meth:`Company.add`."""
        return self._waiting(self._sum, rows, places)

    def average(self, member: int, row: Tensor) -> Tensor:
        """See :meth:`Company.average`."""
        add, places = self._teams[member]
        return self._waiting(add, row[None], places)

    def _waiting(self, add: OrderedSum, rows: Tensor, places: Sequence[Sequence[int]]) -> Tensor:
        self._watched.enter("wait_in", time.perf_counter())
        total = add(rows, places)
        self._watched.enter("busy", time.perf_counter())
        return total
