"""Torch's pipelining in a rank: the group of all ranks, and what the rank's blocks share.

Imported only where a runtime needs it: it loads much of torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...pipeline.block import Block
from ...pipeline.edge import new_group
from ...pipeline.pipelined_block import PipelinedBlock
from ...pipeline.pipelining import PipelinedWorker, Pipelining
from .placement import Placement

__all__ = ["PipelinedWorker", "make_pipelining"]


def make_pipelining(runtime: str, placement: Placement, blocks: Sequence[Block]) -> Pipelining:
    """Make the part of this rank. Every rank calls this at the same time, after ``wire``.

    Args:
        runtime: Which schedule.
        placement: Which rank runs what.
        blocks: Those of this rank.
    """
    group = new_group(list(range(placement.ranks)), placement.link)
    return Pipelining(runtime, cast(Sequence[PipelinedBlock], blocks), group=group)
