"""The links back: how error signals reach the stage before. Only methods with feedback have them.

    rank 0                     rank 1                     rank 2
    stage 1 == link 1->2 ====> stage 2 == link 2->3 ====> stage 3      as for every method
    stage 1 <== link 2->1 ==== stage 2 <== link 3->2 ==== stage 3      error signals

    one rank:  stage 1 <- LocalLink - stage 2 <- LocalLink - stage 3

They are made after all links forward, in the same order on every rank, each with process groups
of its own. Why the two directions cannot wait for each other: see
:mod:`blockstep.pipeline.feedback`.
"""

from __future__ import annotations

import torch

from ...pipeline.edge import Edge
from ...pipeline.feedback import NoSignals
from ...pipeline.link import Inlet, LocalLink, Outlet, Sink
from ..config import PipelineConfig
from .placement import Placement
from .wiring import Wiring, link_ranks

__all__ = ["wire_back"]


def wire_back(
    placement: Placement, config: PipelineConfig, *, rank: int, device: torch.device
) -> Wiring:
    """Make the links back of ``rank``. Every rank calls this at the same time, after ``wire``.

    Args:
        placement: Which rank runs what.
        config: Bounds of the links.
        rank: This rank.
        device: Where this rank computes.

    Returns:
        Per stage of this rank, where its error signals come from, and where it sends its own.
    """
    if placement.ranks == 1:
        return _inside(placement, config)
    edges = [
        Edge(placement.rank_of(stage), placement.rank_of(stage - 1), f"link {stage}->{stage - 1}")
        for stage in range(2, placement.blocks + 1)
    ]
    senders, receivers = link_ranks(edges, config, backend=placement.link, rank=rank, device=device)
    # Stages have no replicas here, so there is at most one link to each side.
    inlets: list[Inlet] = [*receivers] or [NoSignals()]
    outlets: list[Outlet] = [*senders] or [Sink()]
    return Wiring(inlets, outlets, senders=senders, receivers=receivers)


def _inside(placement: Placement, config: PipelineConfig) -> Wiring:
    # Stages that take turns never have more than one error signal between them.
    depth = 1 if placement.in_turns else config.queue_messages
    links = [
        LocalLink(f"link {stage + 1}->{stage}", max_messages=depth, max_bytes=config.queue_bytes)
        for stage in range(1, placement.blocks)
    ]
    inlets: list[Inlet] = [*links, NoSignals()]
    outlets: list[Outlet] = [Sink(), *links]
    return Wiring(inlets, outlets, links)
