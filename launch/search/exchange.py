"""What the ranks of a search tell each other, over gloo.

    rank 0   share(source=0) --+           +-- broadcast -->
    rank 1   share(source=0) --+-- all here +-- receive
    rank 2   share(source=0) --+           +-- receive

The ranks meet through the key-value store before each transfer. Whoever comes first waits there,
for hours if need be (rank 0 pretrains alone), and says so to the watchdog; a wait inside gloo
would end with its time-out. So nobody who waits is taken for hung, and a transfer is short.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ...pipeline.link import LinkClosedError
from ...pipeline.worker import Activity

__all__ = ["GlooExchange"]

SHORTEST, LONGEST = 0.001, 0.1
"""Seconds between two looks at the store: more the longer the wait lasts."""


class GlooExchange:
    """The ranks of the default process group; see `blockstep.search.exchange.Exchange`.

    Args:
        store: A client of its own.
        activity: What this rank does, for its watchdog.
    """

    def __init__(self, store: Any, activity: Activity) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._store = store
        self._activity = activity
        self._meetings = 0

    def share(self, tensors: Sequence[Tensor], *, source: int) -> list[Tensor]:
        """See :meth:`Exchange.share`.

        Raises:
            LinkClosedError: Another rank is gone.
            RuntimeError: The ranks do not expect the same tensors.
        """
        self._meet()
        self._compare(tensors, source)
        return self._send_all(tensors, source)

    def _meet(self) -> None:
        """Wait until every rank has come to this point."""
        self._meetings += 1
        expected = self._meetings * self.size
        if self._store.add("exchange", 1) >= expected:
            return
        before = self._activity.state
        self._activity.enter("wait_in", time.perf_counter())
        pause = SHORTEST
        while self._store.add("exchange", 0) < expected:
            time.sleep(pause)
            pause = min(1.1 * pause, LONGEST)
        self._activity.enter(before, time.perf_counter())

    def _compare(self, tensors: Sequence[Tensor], source: int) -> None:
        """Gloo checks nothing, and ends the process on a buffer that is too short."""
        own = torch.tensor([len(tensors), sum(tensor.nbytes for tensor in tensors)])
        told = own.clone()
        self._send(told, source)
        if not torch.equal(own, told):
            raise RuntimeError(
                f"rank {self.rank} expects {own[0]} tensors of {own[1]} bytes, rank {source} has "
                f"{told[0]} of {told[1]}; do all ranks make the same network and heads?"
            )

    def _send_all(self, tensors: Sequence[Tensor], source: int) -> list[Tensor]:
        """Send all tensors of a type as one: thousands of small ones would take seconds."""
        results: list[Tensor] = [torch.empty_like(tensor) for tensor in tensors]
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([tensors[place].reshape(-1) for place in places])
            self._send(flat, source)
            parts = flat.split([tensors[place].numel() for place in places])
            for place, part in zip(places, parts, strict=True):
                results[place].copy_(part.view(tensors[place].shape))
        return results

    def _send(self, tensor: Tensor, source: int) -> None:
        try:
            dist.broadcast(tensor, source)
        except RuntimeError as error:
            raise LinkClosedError(f"the exchange with rank {source} broke: {error}") from error
