"""The links of one rank: inside the process, or to the ranks before and after it.

rank 0                     rank 1                     rank 2
feed -> stage 1 -> Sender == Receiver -> stage 2 -> Sender == Receiver -> stage 3 -> sink

one rank:   feed -> stage 1 -> LocalLink -> stage 2 -> LocalLink -> stage 3 -> sink
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from ...pipeline.channel import Receiver, Sender
from ...pipeline.edge import Edge, connect
from ...pipeline.link import Inlet, LocalLink, Outlet, Sink
from ...pipeline.message import Kind, Message
from ...pipeline.transfer import make_transfer
from ..config import PipelineConfig
from .placement import Placement

__all__ = ["Wiring", "wire"]


@dataclass
class Wiring:
    """The ends of the links of the stages of one rank.

    Attributes:
        inlets: One per stage.
        outlets: One per stage.
        local: The links inside the process.
        sender: The end of the link to the next rank, if there is one.
        receiver: The end of the link from the rank before, if there is one.
    """

    inlets: list[Inlet]
    outlets: list[Outlet]
    local: list[LocalLink] = field(default_factory=list)
    sender: Sender | None = None
    receiver: Receiver | None = None

    def greet(self) -> None:
        """Send a message over each link and wait for the one that must come.

        A link that does not work fails here, by name, before the first step.
        """
        if self.sender is not None:
            self.sender.put(Message(Kind.HELLO, 0))
        if self.receiver is not None:
            hello = self.receiver.get()
            if hello.kind != Kind.HELLO:
                raise RuntimeError(f"{self.receiver.name}: began with {hello.kind.name}")

    def warn(self, text: str, seconds: float) -> None:
        """Tell the stages behind that this one failed, if the link takes it in time."""
        if self.sender is not None:
            self.sender.put_within(Message(Kind.ERROR, 0, text=text), seconds)

    def close(self) -> None:
        """Close the links to other ranks once what was put is on its way."""
        if self.sender is not None:
            self.sender.close()


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
    edges = [
        Edge(source, source + 1, f"link {source + 1}->{source + 2}")
        for source in range(dist.get_world_size() - 1)
    ]
    wiring = Wiring([feed] if feed else [], [])
    for edge, connection in connect(edges, payload_backend=placement.link).items():
        transfer = make_transfer(connection, device)
        if edge.source == rank:
            wiring.sender = Sender(connection, transfer)
        else:
            wiring.receiver = Receiver(
                connection,
                transfer,
                max_messages=config.queue_messages,
                max_bytes=config.queue_bytes,
            )
            wiring.inlets = [wiring.receiver]
    wiring.outlets = [wiring.sender or Sink()]
    return wiring


def _inside(placement: Placement, config: PipelineConfig, feed: Inlet | None) -> Wiring:
    # Stages that take turns never have more than one message between them.
    depth = 1 if placement.in_turns else config.queue_messages
    links: Sequence[LocalLink] = [
        LocalLink(f"link {stage}->{stage + 1}", max_messages=depth, max_bytes=config.queue_bytes)
        for stage in range(1, placement.blocks)
    ]
    inlets: list[Inlet] = [feed] if feed else []
    return Wiring([*inlets, *links], [*links, Sink()], list(links))
