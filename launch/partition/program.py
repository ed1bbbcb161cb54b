"""The program of ``blockstep partition``."""

from __future__ import annotations

from ..program import Program
from .announcement import announcement, closing_table
from .board import progress_lines
from .forecast import forecast
from .job import PartitionJob
from .monitor import PartitionMonitor
from .preparation import check_ranks, prepare
from .rank import PartitionedRank

__all__ = ["PROGRAM"]

PROGRAM = Program(
    prepare=prepare,
    check_ranks=check_ranks,
    job=PartitionJob,
    rank=PartitionedRank,
    monitor=PartitionMonitor,
    announcement=announcement,
    forecast=forecast,
    closing=closing_table,
    progress=progress_lines,
)
