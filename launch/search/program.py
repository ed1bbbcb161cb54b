"""The program of ``blockstep search``."""

from __future__ import annotations

from ..program import Program
from .announcement import announcement, closing_table
from .board import progress_lines
from .forecast import forecast
from .job import SearchJob
from .monitor import SearchMonitor
from .preparation import check_ranks, prepare
from .rank import SearchRank

__all__ = ["PROGRAM"]

PROGRAM = Program(
    prepare=prepare,
    check_ranks=check_ranks,
    job=SearchJob,
    rank=SearchRank,
    monitor=SearchMonitor,
    announcement=announcement,
    forecast=forecast,
    closing=closing_table,
    progress=progress_lines,
)
