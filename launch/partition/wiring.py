"""The links of the ranks of a partitioned training.

    partition 1 (rank 0) ==weights==> partition 2 (rank 1) ==weights==> partition 3 (rank 2)
         |  ==========================weights=========================>   |
         |<-------------- psi ----------------|  <---------- psi --------|
         |<------------------------------- psi --------------------------|
                                              |----------- psi --------->|

Weights go one way. Whoever judges tells all others the gradient of psi, on an edge of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ...pipeline.channel import Receiver, Sender
from ...pipeline.edge import Edge, connect
from ...pipeline.message import Kind, Message
from ...pipeline.transfer import make_transfer
from ...search.partitioned import Ends
from .config import LinksConfig

__all__ = ["Wires", "edges_of", "wire"]


@dataclass
class Wires:
    """The ends of the links of one rank.

    Attributes:
        ends: By partition.
        senders: All ends that it sends by.
    """

    ends: Ends
    senders: list[Sender] = field(default_factory=list)

    @property
    def trained_bytes(self) -> int:
        """Bytes that have left this rank for training."""
        return sum(sender.trained_bytes for sender in self.senders)

    def warn(self, text: str, seconds: float) -> None:
        """Tell the other ranks that this one failed, if the links take it in time."""
        for sender in self.senders:
            sender.put_within(Message(Kind.ERROR, 0, text=text), seconds / len(self.senders))


def edges_of(partitions: int) -> tuple[Sequence[Edge], Sequence[Edge]]:
    """Return the edges of the weights and those of psi, in the order in which all connect them."""
    ranks = range(partitions)
    weights = [
        Edge(source, target, f"weights {source + 1}->{target + 1}")
        for source in ranks
        for target in ranks
        if source < target
    ]
    psi = [
        Edge(source, target, f"psi {source + 1}->{target + 1}")
        for source in ranks[1:]  # nobody judges partition 1's chunk
        for target in ranks
        if source != target
    ]
    return weights, psi


def wire(partitions: int, config: LinksConfig, *, rank: int, device: torch.device) -> Wires:
    """Connect the ranks. Every rank of the run calls this at the same time.

    Args:
        partitions: How many there are, and ranks.
        config: Bounds of the links.
        rank: This rank.
        device: Where it computes.
    """
    weights, psi = edges_of(partitions)
    receivers: dict[Edge, Receiver] = {}
    senders: dict[Edge, Sender] = {}
    for edge, connection in connect([*weights, *psi]).items():
        transfer = make_transfer(connection, device)
        if edge.source == rank:
            senders[edge] = Sender(connection, transfer)
        else:
            receivers[edge] = Receiver(
                connection,
                transfer,
                max_messages=config.queue_messages,
                max_bytes=config.queue_bytes,
            )
    ends = Ends(
        _sources(receivers, weights),
        _targets(senders, weights),
        _sources(receivers, psi),
        _targets(senders, psi),
    )
    return Wires(ends, list(senders.values()))


def _sources(found: Mapping[Edge, Receiver], edges: Sequence[Edge]) -> dict[int, Receiver]:
    return {edge.source + 1: found[edge] for edge in edges if edge in found}


def _targets(found: Mapping[Edge, Sender], edges: Sequence[Edge]) -> dict[int, Sender]:
    return {edge.target + 1: found[edge] for edge in edges if edge in found}
