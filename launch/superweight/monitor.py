"""Following an ensemble's training: what it shares is written down as soon as it is learned."""

from __future__ import annotations

from typing import Any

from ...search.sharing.file import SharingFile
from ..monitor import Monitor
from ..tracking import Figures
from ..view import Board
from .board import EnsembleBoard
from .figures import EnsembleFigures
from .job import SuperWeightJob
from .pictures import write_sharing_picture
from .preparation import sharing_path
from .summary import summarize

__all__ = ["SuperWeightMonitor"]


class SuperWeightMonitor(Monitor[SuperWeightJob]):
    """Follows one training to its end; see :class:`Monitor`."""

    noun = "training"

    def __init__(self, job: SuperWeightJob, **parts: Any) -> None:
        super().__init__(job, **parts)
        self.finished: dict[int, dict[str, Any]] = {}
        self.evaluations: dict[str, dict[str, Any]] = {}

    @classmethod
    def board(cls, job: SuperWeightJob) -> Board:
        """See :meth:`Monitor.board`."""
        return EnsembleBoard(job.folder.name, job.names, steps=job.steps)

    @classmethod
    def figures(cls, job: SuperWeightJob) -> Figures:
        """See :meth:`Monitor.figures`."""
        return EnsembleFigures(job.folder)

    def _last_step(self) -> int:
        return max(report["step"] for report in self.finished.values())

    def _summarize(self, seconds: float) -> dict[str, Any]:
        told = {rank: {**self.ready[rank], **done} for rank, done in self.finished.items()}
        last = self._last_step()
        found = {split: one for split, one in self.evaluations.items() if one["step"] == last}
        return summarize(self._job, told, found, seconds=seconds)

    def _leave(self, summary: dict[str, Any]) -> None:
        """Write the picture of what is shared."""
        path = sharing_path(self._job.folder)
        if path.exists():
            write_sharing_picture(self._job.folder, SharingFile.load(path))

    def _on_train(self, report: dict[str, Any]) -> None:
        rank = next(
            (n for n, own in enumerate(self._job.posts)
             if any(post.member == report["stage"] - 1 for post in own)), 0,
        )  # fmt: skip
        self._steps[rank] = report["step"]
        self._record(report)

    def _on_evaluated(self, report: dict[str, Any]) -> None:
        if report["split"] == "validation":
            self.committer.evaluated(report["step"], report["ensemble_accuracy"])
        self.evaluations[report["split"]] = report
        self._record({**report, "event": "evaluation"})

    def _on_shared(self, report: dict[str, Any]) -> None:
        self._found(report)

    def _on_unshared(self, report: dict[str, Any]) -> None:
        self._found(report)

    def _found(self, report: dict[str, Any]) -> None:
        """Write down what is shared now."""
        self._write_sharing(report.pop("sharing"))
        self._record(report)

    def _on_remark(self, report: dict[str, Any]) -> None:
        """Tell what the allocation of the budget remarks about the learned clusters."""
        del report["sharing"]
        self._record({**report, "event": "warning"})

    def _on_alike(self, report: dict[str, Any]) -> None:
        self._record({**report, "event": "warning"})

    def _on_finished(self, report: dict[str, Any]) -> None:
        self.finished[report["rank"]] = report
        self._write_sharing(report["sharing"])
        if len(self.finished) == self._job.ranks:
            self._end()

    def _write_sharing(self, text: str | None) -> None:
        if text is None:
            return
        try:
            SharingFile.from_json(text).save(sharing_path(self._job.folder))
        except OSError as error:
            self._record(
                {
                    "event": "warning", "step": self._steps.get(0, 0),
                    "text": f"sharing.json was not written: {error}",
                }
            )  # fmt: skip
