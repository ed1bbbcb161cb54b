"""The links of one rank: inside the process, or to the ranks before and after it.

rank 0                     rank 1                     rank 2
feed -> stage 1 -> Sender == Receiver -> stage 2 -> Sender == Receiver -> stage 3 -> sink

one rank:   feed -> stage 1 -> LocalLink -> stage 2 -> LocalLink -> stage 3 -> sink

Where a rank has some of the stages, each of them has its own link from the rank before and its own
to the rank behind, so the stages follow each other as above. Stages with several replicas: see
:mod:`~blockstep.pipeline.junction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ...pipeline.channel import Receiver, Sender
from ...pipeline.edge import Edge, connect
from ...pipeline.junction import Gather, Scatter
from ...pipeline.link import Breakable, Inlet, LocalLink, Outlet, Sink
from ...pipeline.message import Kind, Message
from ...pipeline.transfer import Transfer, make_transfer
from ...pipeline.verification import VerifiedTransfer
from ..config import PipelineConfig
from .placement import Placement

__all__ = ["Wiring", "link_ranks", "wire"]


@dataclass
class Wiring:
    """The ends of the links of the stages of one rank.

    Attributes:
        inlets: One per stage.
        outlets: One per stage.
        local: The links inside the process.
        senders: The ends of the links to the ranks of the next stage, in their order.
        receivers: The ends of the links from the ranks of the stage before, in their order.
    """

    inlets: list[Inlet]
    outlets: list[Outlet]
    local: list[LocalLink] = field(default_factory=list)
    senders: list[Sender] = field(default_factory=list)
    receivers: list[Receiver] = field(default_factory=list)

    def greet(self) -> None:
        """Send a message over each link and wait for the one that must come.

        A link that does not work fails here, by name, before the first step.
        """
        for sender in self.senders:
            sender.put(Message(Kind.HELLO, 0))
        for receiver in self.receivers:
            hello = receiver.get()
            if hello.kind != Kind.HELLO:
                raise RuntimeError(f"{receiver.name}: began with {hello.kind.name}")

    def warn(self, text: str, seconds: float) -> None:
        """Tell the stages behind that this one failed, if the links take it in time."""
        for sender in self.senders:
            message = Message(Kind.ERROR, 0, text=text)
            sender.put_within(message, seconds / len(self.senders))

    @property
    def links(self) -> list[Breakable]:
        """All links, to be abandoned when a thread of this process fails."""
        return [*self.local, *self.receivers, *self.senders]

    @property
    def trained_bytes(self) -> int:
        """Bytes that have left this rank for training."""
        return sum(sender.trained_bytes for sender in self.senders)

    def close(self) -> None:
        """Close the links to other ranks once what was put is on its way."""
        for sender in self.senders:
            sender.close()


def wire(
    placement: Placement,
    config: PipelineConfig,
    *,
    rank: int,
    feed: Inlet | None,
    device: torch.device,
) -> Wiring:
    """Make the links of ``rank``. Every rank of the run calls this at the same time.

    Args:
        placement: Which rank runs what.
        config: Bounds of the links.
        rank: This rank.
        feed: What stage 1 takes its messages from; only its rank has one.
        device: Where this rank computes.
    """
    if placement.ranks == 1:
        return _inside(placement, config, feed)
    wiring = Wiring([feed] if feed else [], [])
    edges = placement.edges()
    senders, receivers = link_ranks(edges, config, backend=placement.link, rank=rank, device=device)
    wiring.senders, wiring.receivers = senders, receivers
    if placement.chunks > 1:
        # Links and stages are both in the order of the network.
        last = placement.blocks in placement.stages(rank)
        wiring.inlets, wiring.outlets = [*wiring.inlets, *receivers], [*senders]
        if last:
            wiring.outlets.append(Sink())
        return wiring
    if receivers:
        wiring.inlets = [Gather(receivers) if len(receivers) > 1 else receivers[0]]
    wiring.outlets = [_outlet(placement, rank, senders)]
    return wiring


def link_ranks(
    edges: Sequence[Edge],
    config: PipelineConfig,
    *,
    backend: str,
    rank: int,
    device: torch.device,
) -> tuple[list[Sender], list[Receiver]]:
    """Connect the ranks and return the ends of ``rank``. Every rank calls this at the same time.

    Args:
        edges: All of them, in the order in which every rank connects them.
        config: Bounds of the links. The bytes are those of a stage: links into it share them.
        backend: Of the tensors: ``"gloo"`` or ``"nccl"``.
        rank: This rank.
        device: Where this rank computes.
    """
    senders: list[Sender] = []
    receivers: list[Receiver] = []
    bound = max(1, config.queue_bytes // max(1, sum(edge.target == rank for edge in edges)))
    for edge, connection in connect(edges, payload_backend=backend).items():
        transfer: Transfer = make_transfer(connection, device)
        if config.verify:
            transfer = VerifiedTransfer(transfer, connection, device)
        if edge.source == rank:
            senders.append(Sender(connection, transfer))
        else:
            receivers.append(
                Receiver(connection, transfer, max_messages=config.queue_messages, max_bytes=bound)
            )
    return senders, receivers


def _outlet(placement: Placement, rank: int, senders: Sequence[Sender]) -> Outlet:
    if len(senders) < 2:
        return senders[0] if senders else Sink()
    (stage,) = placement.stages(rank)
    replica, replicas = placement.replica_of(rank), placement.replicas[stage - 1]
    return Scatter(senders, replica=replica, replicas=replicas)


def _inside(placement: Placement, config: PipelineConfig, feed: Inlet | None) -> Wiring:
    # Stages that take turns never have more than one message between them.
    depth = 1 if placement.in_turns else config.queue_messages
    links: Sequence[LocalLink] = [
        LocalLink(f"link {stage}->{stage + 1}", max_messages=depth, max_bytes=config.queue_bytes)
        for stage in range(1, placement.blocks)
    ]
    inlets: list[Inlet] = [feed] if feed else []
    return Wiring([*inlets, *links], [*links, Sink()], list(links))
