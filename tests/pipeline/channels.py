"""Both ends of real gloo connections, for tests that run in the processes of the world."""

from __future__ import annotations

from typing import Any

import torch
from blockstep.pipeline.channel import Receiver, Sender
from blockstep.pipeline.edge import Edge, connect
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.seed import generator
from blockstep.pipeline.transfer import make_transfer

from tests.pipeline.parts import CPU, Blocked

__all__ = ["FIRST", "MIB", "PLENTY", "SECOND", "STOP", "ends", "failure", "item"]

STOP = Message(Kind.STOP, 99)
PLENTY = 1 << 30
MIB = 1 << 20
FIRST, SECOND = Edge(0, 1, "link 1->2"), Edge(1, 2, "link 2->3")


def ends(
    rank: int, *edges: Edge, max_messages: int = 2, max_bytes: int = PLENTY
) -> tuple[Receiver | None, Sender | None]:
    """Connect the edges, by default rank 0 to rank 1; return this rank's inlet and outlet."""
    inlet: Receiver | None = None
    outlet: Sender | None = None
    for edge, connection in connect(edges or [FIRST]).items():
        transfer = make_transfer(connection, CPU)
        if edge.source == rank:
            outlet = Sender(connection, transfer)
        else:
            inlet = Receiver(connection, transfer, max_messages=max_messages, max_bytes=max_bytes)
    return inlet, outlet


def item(step: int, nbytes: int = 1000) -> Message:
    """Make a message of ``nbytes`` random bytes."""
    data = torch.randint(256, (nbytes,), dtype=torch.uint8, generator=generator(1, "channel", step))
    return Message(Kind.BATCH, step, (data,))


def failure(call: Any, *args: Any) -> tuple[str, str]:
    """Return the type and text of the error that a call raises within a few seconds."""
    try:
        Blocked(call, *args).result()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""
