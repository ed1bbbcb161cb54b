"""Sums over ranks in a definite order: N ranks have, bit for bit, what one process has.

    rank 0 has rows 0, 2     [ . | . ]   [ . | . ]      each rank cuts its rows into N parts
    rank 1 has row  1        [ . | . ]
                               |   |
                 rank 0 <------+   +------> rank 1      part n of every row goes to rank n,
               0 + 1 + 2                  0 + 1 + 2     which adds them in the order of the rows,
                   |                          |
                   +------ to all ranks ------+         and tells everybody the sum

Floating-point sums depend on their order, so an all-reduce does not promise one process's bits. A
rank with one row sends and gets as many bytes as in a ring all-reduce.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.distributed as dist
from torch import Tensor

from .link import LinkClosedError

__all__ = ["OrderedSum"]


class OrderedSum:
    """What some ranks add up together.

    Args:
        group: Their process group, of gloo; tensors elsewhere pass through the host.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._rank = dist.get_rank(group)
        self._size = dist.get_world_size(group)

    def __call__(self, rows: Tensor, places: Sequence[Sequence[int]]) -> Tensor:
        """Return the sum of all rows. All ranks call it, in the same order.

        Args:
            rows: Those of this rank, (its rows, n); a rank may have none.
            places: Of every rank, the places of its rows in the sum.

        Returns:
            (n,), the same bits on every rank.

        Raises:
            ValueError: This rank has other rows than ``places`` says.
            LinkClosedError: Another rank is gone.
        """
        if len(rows) != len(places[self._rank]):
            raise ValueError(
                f"rank {self._rank} of {self._size} has {len(rows)} rows to add, and "
                f"{len(places[self._rank])} places for them"
            )
        length = rows.shape[1]
        part = -(-length // self._size)
        sent = rows.new_zeros((len(rows), self._size * part), device="cpu")
        sent[:, :length] = rows
        # (rows, ranks, part) to (ranks, rows, part): what goes to one rank lies together.
        sent = sent.view(len(rows), self._size, part).transpose(0, 1).contiguous().flatten()
        counts = [len(one) for one in places]
        got = sent.new_empty(sum(counts) * part)
        everything = sent.new_empty(self._size * part)
        try:
            dist.all_to_all_single(
                got,
                sent,
                [count * part for count in counts],
                [len(rows) * part] * self._size,
                group=self._group,
            )
            total = _added(got.view(sum(counts), part), [one for own in places for one in own])
            dist.all_gather_into_tensor(everything, total, group=self._group)
        except RuntimeError as error:
            raise LinkClosedError(f"the sum over ranks broke: {error}") from error
        return everything[:length].to(rows.device)


def _added(rows: Tensor, places: Sequence[int]) -> Tensor:
    """Add rows (n, part) in the order of their places; zeros if there is none."""
    order = sorted(range(len(places)), key=places.__getitem__)
    if not order:
        return rows.new_zeros(rows.shape[1])
    total = rows[order[0]].clone()
    for place in order[1:]:
        total += rows[place]
    return total
