"""Following a partitioned training: the terms of L_ML, which several ranks tell, put together."""

from __future__ import annotations

import math
from typing import Any

from ..monitor import Monitor
from ..tracking import Figures
from ..view import Board
from .board import PartitionBoard
from .figures import PartitionFigures
from .job import PartitionJob
from .pictures import write_pictures
from .summary import summarize

__all__ = ["PartitionMonitor"]


class PartitionMonitor(Monitor[PartitionJob]):
    """Follows one partitioned training to its end; see :class:`Monitor`.

    Attributes:
        finished: What each rank told at its end.
        newest: The newest whole evaluation.
        best: The one with the highest L_ML, of this part of the run.
    """

    def __init__(self, job: PartitionJob, **parts: Any) -> None:
        super().__init__(job, **parts)
        self.finished: dict[int, dict[str, Any]] = {}
        self.newest: dict[str, Any] | None = None
        self.best: dict[str, Any] | None = None
        self._parts: dict[int, list[dict[str, Any]]] = {}

    @classmethod
    def board(cls, job: PartitionJob) -> Board:
        """See :meth:`Monitor.board`."""
        return PartitionBoard(job.folder.name, steps=job.steps, start=job.start)

    @classmethod
    def figures(cls, job: PartitionJob) -> Figures:
        """See :meth:`Monitor.figures`."""
        return PartitionFigures(job.folder)

    def _last_step(self) -> int:
        return max(report["step"] for report in self.finished.values())

    def _summarize(self, seconds: float) -> dict[str, Any]:
        told = {rank: {**self.ready[rank], **done} for rank, done in self.finished.items()}
        return summarize(self._job, told, newest=self.newest, best=self.best, seconds=seconds)

    def _leave(self, summary: dict[str, Any]) -> None:
        """Write the pictures."""
        if self.newest is not None:
            write_pictures(self._job.folder, self.newest["psi"])

    def _places(self, ready: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "rank": ready["rank"],
                "stage": partition,
                "pid": ready["pid"],
                "host": ready["host"],
            }
            for partition in ready["partitions"]
        ]

    def _on_partition(self, report: dict[str, Any]) -> None:
        rank = report["rank"]
        self._steps[rank] = max(self._steps.get(rank, 0), report["step"])
        self._record(report)

    def _on_terms(self, report: dict[str, Any]) -> None:
        """Put the terms of L_ML together; the checkpoint that follows is rated by it."""
        step = report["step"]
        parts = self._parts.setdefault(step, [])
        parts.append(report)
        if len(parts) < self._job.ranks:
            return
        del self._parts[step]
        terms = {int(chunk): term for part in parts for chunk, term in part["terms"].items()}
        lead = next(part for part in parts if "splits" in part)
        record = {
            "event": "objective",
            "step": step,
            "objective": math.fsum(terms.values()) if terms else None,
            "terms": [terms[chunk] for chunk in sorted(terms)],
            "splits": lead["splits"],
            "psi": lead["psi"],
            "seconds": max(part["seconds"] for part in parts),
        }
        self.newest = record
        if terms and (self.best is None or record["objective"] > self.best["objective"]):
            self.best = record
        if terms:
            self.committer.evaluated(step, record["objective"])
        self._record(record)

    def _on_told(self, report: dict[str, Any]) -> None:
        self._record({"event": "warning", "step": report["step"], "text": report["text"]})

    def _on_finished(self, report: dict[str, Any]) -> None:
        self.finished[report["rank"]] = report
        if len(self.finished) == self._job.ranks:
            self._end()
