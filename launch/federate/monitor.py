"""Following a federation."""

from __future__ import annotations

from typing import Any

from ..monitor import Monitor
from ..tracking import Figures
from ..view import Board
from .board import FederateBoard
from .figures import FederateFigures
from .job import FederateJob
from .summary import summarize

__all__ = ["FederateMonitor"]


class FederateMonitor(Monitor[FederateJob]):
    """Follows one federation to its end; see :class:`Monitor`."""

    noun = "federation"

    def __init__(self, job: FederateJob, **parts: Any) -> None:
        super().__init__(job, **parts)
        self.finished: dict[int, dict[str, Any]] = {}
        self._results: dict[str, tuple[int, float | None, float]] = {}

    @classmethod
    def board(cls, job: FederateJob) -> Board:
        """See :meth:`Monitor.board`."""
        return FederateBoard(job.folder.name)

    @classmethod
    def figures(cls, job: FederateJob) -> Figures:
        """See :meth:`Monitor.figures`."""
        return FederateFigures()

    def _last_step(self) -> int:
        return max(report["step"] for report in self.finished.values())

    def _summarize(self, seconds: float) -> dict[str, Any]:
        told = {rank: {**self.ready[rank], **done} for rank, done in self.finished.items()}
        last = self._last_step()
        results = {
            split: (loss, accuracy)
            for split, (step, loss, accuracy) in self._results.items()
            if step == last
        }
        return summarize(self._job, told, results, self.ready[0]["upload"], seconds=seconds)

    def _on_round(self, report: dict[str, Any]) -> None:
        self._steps[0] = report["step"]
        self._record(report)

    def _on_evaluation(self, report: dict[str, Any]) -> None:
        accuracy = report["accuracies"][-1]
        self._results[report["split"]] = (report["step"], report["losses"][-1], accuracy)
        if report["split"] == "validation":
            self.committer.evaluated(report["step"], accuracy)
        self._record(report)

    def _on_finished(self, report: dict[str, Any]) -> None:
        self.finished[report["rank"]] = report
        if len(self.finished) == self._job.ranks:
            self._end()
