"""Connections between ranks: one process group for each directed edge, made in a fixed order.

A forward-only pipeline has an acyclic graph of edges, so no order of sends and receives can
deadlock it - as long as no two directions share a communicator. Each edge therefore gets a group
of its own, and every rank creates all of them in the same order. Where stages go round the ranks
several times, each has links and a loop of its own: the graph of stages is what stays acyclic.
Methods whose errors travel back add edges in the other direction behind these, with an argument of
their own (see :mod:`~blockstep.pipeline.feedback`); all others have none.

    rank 0                    rank 1                    rank 2
      |---- edge 0->1 ---->|    |---- edge 1->2 ---->|
      headers:  gloo            headers:  gloo
      payloads: gloo or NCCL    payloads: gloo or NCCL
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch.distributed as dist

__all__ = ["Connection", "Edge", "connect", "new_group"]

FOREVER = timedelta(days=30)
"""A gloo pair that timed out once is closed for good, so links never time out by themselves:
the watchdog decides what is a hang."""


@dataclass(frozen=True)
class Edge:
    """A directed connection between two ranks.

    Attributes:
        source: The rank that puts.
        target: The rank that takes.
        label: What messages call it, e.g. ``"link 1->2"`` (stages count from 1).
    """

    source: int
    target: int
    label: str


@dataclass(frozen=True)
class Connection:
    """An edge with its process groups, as one of its two ranks sees it.

    Attributes:
        edge: The edge.
        headers: Group of the headers, always gloo: they are read on the host.
        payloads: Group of the tensors: the same one, or NCCL between GPUs.
    """

    edge: Edge
    headers: dist.ProcessGroup
    payloads: dist.ProcessGroup


def connect(edges: Sequence[Edge], *, payload_backend: str = "gloo") -> dict[Edge, Connection]:
    """Create the groups of all edges. Every rank calls this with the same edges.

    Args:
        edges: All directed edges of the job, in the order in which every rank connects them.
        payload_backend: ``"gloo"`` or ``"nccl"``.

    Returns:
        The connections that this rank is an end of.
    """
    rank = dist.get_rank()
    connections: dict[Edge, Connection] = {}
    for edge in edges:
        ranks = [edge.source, edge.target]
        headers = new_group(ranks, "gloo")
        payloads = headers if payload_backend == "gloo" else new_group(ranks, payload_backend)
        if rank in ranks:
            connections[edge] = Connection(edge, headers, payloads)
    return connections


def new_group(ranks: list[int], backend: str) -> dist.ProcessGroup:
    """Create a group that never times out. Every rank of the run calls this alike."""
    return cast(dist.ProcessGroup, dist.new_group(ranks, backend=backend, timeout=FOREVER))
