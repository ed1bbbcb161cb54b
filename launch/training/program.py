"""The program of ``blockstep train``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config import TrainConfig
from ..program import Program
from .announcement import announcement, closing_table
from .board import progress_lines
from .forecast import forecast
from .job import TrainJob
from .monitor import TrainMonitor
from .placement import replicas_of
from .preparation import prepare
from .rank import TrainRank
from .sharing import check_ranks

__all__ = ["PROGRAM"]


def _progress(config: TrainConfig, records: Sequence[Mapping[str, Any]]) -> list[str]:
    return progress_lines(records, steps=config.train.steps, replicas=replicas_of(config))


PROGRAM = Program(
    prepare=prepare,
    check_ranks=check_ranks,
    job=TrainJob,
    rank=TrainRank,
    monitor=TrainMonitor,
    announcement=announcement,
    forecast=forecast,
    closing=closing_table,
    progress=_progress,
)
