"""Watching a run from outside its ranks: reports in, records out, and orders back.

    ranks --reports--> Monitor --+--> metrics.jsonl, wandb, view
                        |        +--> checkpoints (manifest), summary
                        +--orders--> go, stop, alone, finish
                        +--watch --> who hangs

It runs in the parent of the workers, or in a thread of rank 0 under torchrun.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ..pipeline.checkpoint import Shard
from ..pipeline.mailbox import Mailbox, StoreReader
from ..pipeline.watchdog import Hang, Watch, order
from .commit import Committer
from .job import Job
from .membership import Membership
from .records import Records
from .tracking import Tracker, make_tracker
from .view import View, make_view

__all__ = ["Failure", "Monitor"]

ECHO_SECONDS = 3.0
"""How long to wait for the cause when only its echoes (closed links) have been heard."""

LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Failure:
    """Why a run ended early.

    Attributes:
        where: Stage and rank.
        step: The step it happened at.
        text: The cause.
        traceback: Where in the code, if a rank told.
    """

    where: str
    step: int
    text: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.where}, step {self.step}: {self.text}"


@dataclass
class Findings:
    """What the ranks have told so far.

    Attributes:
        ready: Per rank: stages, pid, host, device, threads.
        finished: Per stage: its last report.
        evaluations: Per split: the newest complete evaluation record.
        measured: What was timed.
        alone: Seconds per step of the slowest stage with all others idle.
    """

    ready: dict[int, dict[str, Any]] = field(default_factory=dict)
    finished: dict[int, dict[str, Any]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    alone: float | None = None
    alone_stage: int | None = None


class Monitor:
    """Follows one run to its end.

    Args:
        job: The run.
        mailbox: The ranks' reports.
        store: Where orders go.
        watch: Finds hangs.
        records: Where events are kept.
        tracker: wandb, or nothing.
        view: The terminal, or nothing.
    """

    def __init__(
        self,
        job: Job,
        *,
        mailbox: Mailbox,
        store: Any,
        watch: Watch,
        records: Records,
        tracker: Tracker,
        view: View,
    ) -> None:
        self.findings = Findings(measured=dict(job.measured))
        self.committer = Committer(job)
        self.failure: Failure | None = None
        self.done = False
        self._job = job
        self._placement = job.placement
        self._mailbox = mailbox
        self._store = store
        self._watch = watch
        self.view = view
        self._tracker = tracker
        self._records = records
        self._parts: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
        self._heard: set[int] = set()
        self._steps: dict[int, int] = {}
        self._echo: tuple[float, Failure] | None = None
        self._looked = 0.0

    @classmethod
    def of(cls, job: Job, member: Membership) -> Monitor:
        """Make the monitor of a run, with all that it tells.

        Args:
            job: The run.
            member: Any rank of it: the way to the store.
        """
        placement, config = job.placement, job.config.pipeline
        view = make_view(job)
        return cls(
            job,
            mailbox=StoreReader(member.store(), placement.ranks),
            store=member.store(),
            watch=Watch(
                member.store(),
                [placement.label(rank) for rank in range(placement.ranks)],
                start_timeout=config.start_timeout,
                timeout=config.timeout,
            ),
            records=Records(job.folder.metrics),
            tracker=make_tracker(job, view.print),
            view=view,
        )

    def close(self, summary: dict[str, Any] | None) -> None:
        """End the view, the tracker and the records.

        Args:
            summary: Of a run that came to its end; None if it failed.
        """
        self.view.close()
        self._tracker.finish(summary)
        self._records.close()

    def poll(self) -> None:
        """Take what has arrived and act on it. Called a few times a second."""
        for report in self._mailbox.take():
            getattr(self, f"_on_{report['event']}")(report)
        self._confirm_echo()
        now = time.perf_counter()
        if now - self._looked >= LOOK_SECONDS and not self.done:
            self._looked = now
            self._watch.look()
            self._check_orders()
            hang = self._watch.examine()
            if hang is not None and self.failure is None:
                self._on_hang(hang)

    def request_stop(self) -> None:
        """Ask the run to write a checkpoint and end."""
        order(self._store, "stop")

    def fail(self, failure: Failure) -> None:
        """Note the cause of an early end; the first one wins."""
        if self.failure is None:
            self.failure = failure
            self._record({"event": "failed", "step": failure.step, "text": str(failure)})

    def heard_of_failure(self, rank: int) -> bool:
        """Whether ``rank`` reported why it failed, or that it only follows another's failure."""
        return rank in self._heard

    def step_of(self, rank: int) -> int:
        """Return the step that ``rank`` was last seen at."""
        self._watch.look()
        reported = [self._steps.get(stage, 0) for stage in self._placement.stages(rank)]
        return max(self._watch.step_of(rank), *reported)

    def _check_orders(self) -> None:
        if self._job.folder.stop_request.exists():
            self.request_stop()

    def _record(self, record: dict[str, Any]) -> None:
        stamped = self._records.write(record)
        self._tracker.record(stamped)
        self.view.record(stamped)

    def _on_ready(self, report: dict[str, Any]) -> None:
        self.findings.ready[report["rank"]] = report
        if len(self.findings.ready) == self._placement.ranks:
            job = self._job
            ranks = [
                {"rank": rank, "stage": stage, "pid": ready["pid"], "host": ready["host"]}
                for rank, ready in sorted(self.findings.ready.items())
                for stage in ready["stages"]
            ]
            job.folder.write_json(job.folder.ranks, ranks)
            self._record({"event": "resume" if job.start else "start", "step": job.start})
            order(self._store, "go")

    def _on_measured(self, report: dict[str, Any]) -> None:
        seconds = report["backprop_seconds"]
        self.findings.measured["backprop_seconds"] = seconds
        self._job.folder.write_json(self._job.folder.measured, self.findings.measured)
        batch = self._job.config.train.batch_size
        self._record({"event": "measured", "backprop_images_per_second": batch / seconds})

    def _on_train(self, report: dict[str, Any]) -> None:
        self._steps[report["stage"]] = report["step"]
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

    def _on_shard(self, report: dict[str, Any]) -> None:
        shard = Shard(**report["shard"])
        record = self.committer.shard(report["step"], report["stage"], shard)
        if record is not None:
            self._record(record)

    def _on_shard_failed(self, report: dict[str, Any]) -> None:
        step = report["step"]
        text = (
            f"stage {report['stage']}: the checkpoint of step {step} was not written: "
            f"{report['text']}; the training goes on, the checkpoint of step "
            f"{self.committer.newest} is kept"
        )
        self.committer.fail(step, text)
        self._record({"event": "warning", "step": step, "text": text})

    def _on_finished(self, report: dict[str, Any]) -> None:
        findings, job = self.findings, self._job
        findings.finished[report["stage"]] = report
        if len(findings.finished) < job.decoupling.blocks:
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

    def _end(self) -> None:
        step = max(report["step"] for report in self.findings.finished.values())
        self._record({"event": "end", "step": step})
        order(self._store, "finish")
        self.done = True

    def _on_failed(self, report: dict[str, Any]) -> None:
        failure = Failure(
            self._placement.label(report["rank"]),
            report["step"],
            f"{report['error']}: {report['text']}",
            report["traceback"],
        )
        self._heard.add(report["rank"])
        if report["echo"]:
            self._echo = self._echo or (time.perf_counter(), failure)
        else:
            self.fail(failure)

    def _on_stacks(self, report: dict[str, Any]) -> None:
        label = self._placement.label(report["rank"])
        self._record({"event": "stacks", "rank": report["rank"], "text": report["text"]})
        self.view.print(f"stacks of {label}:\n{report['text']}")

    def _on_hang(self, hang: Hang) -> None:
        where = self._placement.label(hang.rank)
        self.fail(Failure(where, hang.step, f"hangs: {hang.text}"))

    def _confirm_echo(self) -> None:
        """A closed link is somebody else's failure, unless nobody else reports one."""
        if self._echo is not None and self.failure is None:
            heard, failure = self._echo
            if time.perf_counter() - heard > ECHO_SECONDS:
                self.fail(failure)
