"""Following a search: what it has found is written down as it goes on."""

from __future__ import annotations

from typing import Any

from ...search.frontfile import save_front
from ...search.profile import Profile
from ..monitor import Monitor
from ..records import read_records
from ..tracking import Figures
from ..view import Board
from .board import SearchBoard
from .figures import SearchFigures
from .job import SearchJob
from .pictures import write_pictures
from .result import Result, decide
from .summary import summarize

__all__ = ["SearchMonitor"]


class SearchMonitor(Monitor[SearchJob]):
    """Follows one search to its end; see :class:`Monitor`."""

    noun = "search"

    def __init__(self, job: SearchJob, **parts: Any) -> None:
        super().__init__(job, **parts)
        self.finished: dict[int, dict[str, Any]] = {}
        self.result: Result | None = None
        self._profile = Profile.load(job.folder.profile) if job.folder.profile.exists() else None

    @classmethod
    def board(cls, job: SearchJob) -> Board:
        """See :meth:`Monitor.board`."""
        return SearchBoard(job.folder.name, job.config)

    @classmethod
    def figures(cls, job: SearchJob) -> Figures:
        """See :meth:`Monitor.figures`."""
        return SearchFigures(job.folder, job.config.search.heads)

    def _last_step(self) -> int:
        return max(report["step"] for report in self.finished.values())

    def _summarize(self, seconds: float) -> dict[str, Any]:
        told = {rank: {**self.ready[rank], **done} for rank, done in self.finished.items()}
        return summarize(self._job, self.result, told, seconds=seconds)

    def _leave(self, summary: dict[str, Any]) -> None:
        """Write the front and the pictures."""
        if self.result is None:
            return
        folder, result = self._job.folder, self.result
        if result.front and self._profile is not None:
            prefer = self._job.config.search.prefer
            save_front(folder.pareto, result.front, profile=self._profile, prefer=prefer)
        write_pictures(folder, read_records(folder.metrics), result)

    def _on_profiled(self, report: dict[str, Any]) -> None:
        self._profile = Profile.from_json(report["profile"])
        self._profile.save(self._job.folder.profile)
        seconds = self._profile.block_seconds(1, self._profile.layers)
        self._record({"event": "profiled", "seconds": seconds})

    def _on_pretrain(self, report: dict[str, Any]) -> None:
        self._progress(report, report["step"])

    def _on_search(self, report: dict[str, Any]) -> None:
        self._progress(report, self._job.config.train.steps + report["step"])

    def _progress(self, report: dict[str, Any], step: int) -> None:
        self._steps[0] = step
        self._record(report)

    def _on_found(self, report: dict[str, Any]) -> None:
        """Write the decoupling of a search that goes on, so that it can be looked at."""
        if not report["step"]:
            return  # nothing was learned yet
        try:
            self.result = decide(self._job, report["alpha"], report["beta"], self._profile)
            self.result.decoupling.save(self._job.folder.decoupling)
        except (ValueError, OSError) as error:
            self._record(
                {
                    "event": "warning",
                    "step": self._steps.get(0, 0),
                    "text": f"the decoupling of outer step {report['step']} was not written: "
                    f"{error}",
                }
            )

    def _on_finished(self, report: dict[str, Any]) -> None:
        self.finished[report["rank"]] = report
        if len(self.finished) == self._job.ranks:
            self._end()
