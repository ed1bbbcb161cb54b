"""Following a training: the results of its stages put together."""

from __future__ import annotations

from typing import Any

from ...pipeline.watchdog import order
from ..monitor import Monitor
from ..tracking import Figures
from ..view import Board
from .board import TrainBoard
from .figures import TrainFigures
from .findings import Findings
from .job import TrainJob
from .summary import summarize, trace_events

__all__ = ["TrainMonitor"]


class TrainMonitor(Monitor[TrainJob]):
    """Follows one training to its end; see :class:`Monitor`."""

    noun = "training"

    def __init__(self, job: TrainJob, **parts: Any) -> None:
        super().__init__(job, **parts)
        self.findings = Findings(ready=self.ready, measured=dict(job.measured))
        self._placement = job.placement
        self._parts: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}

    @classmethod
    def board(cls, job: TrainJob) -> Board:
        """See :meth:`Monitor.board`."""
        replicas = job.placement.replicas
        return TrainBoard(job.folder.name, steps=job.steps, start=job.start, replicas=replicas)

    @classmethod
    def figures(cls, job: TrainJob) -> Figures:
        """See :meth:`Monitor.figures`."""
        return TrainFigures(job.folder.decoupling)

    def _last_step(self) -> int:
        return max(report["step"] for report in self.findings.finished.values())

    def _summarize(self, seconds: float) -> dict[str, Any]:
        return summarize(self._job, self.findings, seconds=seconds)

    def _leave(self, summary: dict[str, Any]) -> None:
        folder = self._job.folder
        folder.write_json(folder.trace, trace_events(self._job, self.findings))

    def _places(self, ready: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "rank": ready["rank"],
                "stage": stage,
                "replica": ready["replica"],
                "pid": ready["pid"],
                "host": ready["host"],
            }
            for stage in ready["stages"]
        ]

    def _on_measured(self, report: dict[str, Any]) -> None:
        seconds = report["backprop_seconds"]
        self.findings.measured["backprop_seconds"] = seconds
        self._job.folder.write_json(self._job.folder.measured, self.findings.measured)
        batch = self._job.config.train.batch_size
        self._record({"event": "measured", "backprop_images_per_second": batch / seconds})

    def _on_train(self, report: dict[str, Any]) -> None:
        """Record what a stage's first replica tells.

        Loss and accuracy are those of its share of each batch, images per second count whole
        batches.
        """
        rank = self._placement.rank_of(report["stage"])
        self._steps[rank] = max(self._steps.get(rank, 0), report["step"])
        self._record(report)

    def _on_evaluated(self, report: dict[str, Any]) -> None:
        """Put the blocks' results together; the checkpoint that follows waits for them."""
        key = (report["split"], report["step"])
        parts = self._parts.setdefault(key, {})
        parts[report["stage"]] = report
        blocks = self._job.decoupling.blocks
        if len(parts) < blocks:
            return
        del self._parts[key]
        ordered = [parts[stage] for stage in range(1, blocks + 1)]
        record = {
            "event": "evaluation",
            "step": report["step"],
            "split": report["split"],
            "losses": [part["loss"] for part in ordered],
            "accuracies": [part["accuracy"] for part in ordered],
            "ensemble_accuracy": ordered[-1]["ensemble_accuracy"],
            "metrics": [part["metrics"] for part in ordered],
            "seconds": ordered[-1]["seconds"],
        }
        if report["split"] == "validation":
            self.committer.evaluated(report["step"], record["accuracies"][-1])
        self.findings.evaluations[report["split"]] = record
        self._record(record)

    def _on_finished(self, report: dict[str, Any]) -> None:
        findings, job = self.findings, self._job
        if findings.note_end(report) < sum(self._placement.replicas):
            return
        busy = {stage: done["summary"]["busy"] for stage, done in findings.finished.items()}
        if job.config.measure.alone and all(busy.values()):
            findings.alone_stage = max(busy, key=lambda stage: busy[stage])
            order(self._store, "alone", str(findings.alone_stage))
        else:
            self._end()

    def _on_alone(self, report: dict[str, Any]) -> None:
        self.findings.alone = report["seconds"]
        self._end()
