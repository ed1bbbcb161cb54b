"""The program of ``blockstep superweight``."""

from __future__ import annotations

from ..program import Program
from .announcement import announcement, closing_table
from .board import progress_lines
from .evaluation import evaluate_ensemble
from .export import export_members
from .forecast import forecast
from .job import SuperWeightJob
from .monitor import SuperWeightMonitor
from .preparation import check_ranks, prepare
from .rank import SuperWeightRank

__all__ = ["PROGRAM"]

PROGRAM = Program(
    prepare=prepare,
    check_ranks=check_ranks,
    job=SuperWeightJob,
    rank=SuperWeightRank,
    monitor=SuperWeightMonitor,
    announcement=announcement,
    forecast=forecast,
    closing=closing_table,
    progress=progress_lines,
    evaluate=evaluate_ensemble,
    export=export_members,
)
