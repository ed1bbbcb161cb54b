"""The program of ``blockstep federate``."""

from __future__ import annotations

from ..program import Program
from .announcement import announcement, closing_table
from .board import progress_lines
from .forecast import forecast
from .job import FederateJob
from .monitor import FederateMonitor
from .preparation import check_ranks, prepare
from .rank import FederateRank

__all__ = ["PROGRAM"]

PROGRAM = Program(
    prepare=prepare,
    check_ranks=check_ranks,
    job=FederateJob,
    rank=FederateRank,
    monitor=FederateMonitor,
    announcement=announcement,
    forecast=forecast,
    closing=closing_table,
    progress=progress_lines,
)
