"""Watching a run from outside its ranks: reports in, records out, and orders back.

    ranks --reports--> Monitor --+--> metrics.jsonl, wandb, view
                        |        +--> checkpoints (manifest), summary
                        +--orders--> go, stop, finish
                        +--watch --> who hangs

It runs in the parent of the workers, or in a thread of rank 0 under torchrun. What all runs have
in common is here; each command adds what its ranks report, in methods called ``_on_EVENT``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, Generic, Self, TypeVar

from ..pipeline.checkpoint import Shard
from ..pipeline.mailbox import Mailbox, StoreReader
from ..pipeline.watchdog import Hang, Watch, order
from .commit import Committer
from .job import Job
from .membership import Membership
from .outcome import Failure, Outcome, write_page
from .records import Records
from .tracking import Figures, Tracker, make_tracker
from .view import Board, View, make_view

__all__ = ["Monitor"]

ECHO_SECONDS = 3.0
"""How long to wait for the cause when only its echoes (closed links) have been heard."""

LOOK_SECONDS = 1.0

J = TypeVar("J", bound=Job)


class Monitor(ABC, Generic[J]):
    """Follows one run to its end.

    Args:
        job: The run.
        mailbox: The ranks' reports.
        store: Where orders go.
        watch: Finds hangs.
        records: Where events are kept.
        tracker: wandb, or nothing.
        view: The terminal, or nothing.

    Attributes:
        noun: What a run of this command is called in messages.
        failure: Why the run failed, once it has.
        done: Whether all ranks have finished.
        ready: Per rank what it told of itself at the start: pid, host, device, threads, ...
    """

    noun = "run"

    def __init__(
        self,
        job: J,
        *,
        mailbox: Mailbox,
        store: Any,
        watch: Watch,
        records: Records,
        tracker: Tracker,
        view: View,
    ) -> None:
        self.committer = Committer(job)
        self.failure: Failure | None = None
        self.done = False
        self.ready: dict[int, dict[str, Any]] = {}
        self.view = view
        self._job = job
        self._mailbox = mailbox
        self._store = store
        self._watch = watch
        self._tracker = tracker
        self._records = records
        self._heard: set[int] = set()
        self._steps: dict[int, int] = {}
        self._echo: tuple[float, Failure] | None = None
        self._looked = 0.0

    @classmethod
    def of(cls, job: J, member: Membership) -> Self:
        """Make the monitor of a run, with all that it tells.

        Args:
            job: The run.
            member: Any rank of it: the way to the store.
        """
        view = make_view(job.config.log.view, cls.board(job))
        return cls(
            job,
            mailbox=StoreReader(member.store(), job.ranks),
            store=member.store(),
            watch=Watch(
                member.store(),
                [job.label(rank) for rank in range(job.ranks)],
                start_timeout=job.waits.start_timeout,
                timeout=job.waits.timeout,
            ),
            records=Records(job.folder.metrics),
            tracker=make_tracker(job, cls.figures(job), view.print),
            view=view,
        )

    @classmethod
    @abstractmethod
    def board(cls, job: J) -> Board:
        """Return how the terminal shows the progress of a run."""

    @classmethod
    @abstractmethod
    def figures(cls, job: J) -> Figures:
        """Return how wandb shows the records of a run."""

    @abstractmethod
    def _last_step(self) -> int:
        """Return the step that a run has come to when all its ranks have finished."""

    @abstractmethod
    def _summarize(self, seconds: float) -> dict[str, Any]:
        """Return the content of ``summary.json``.

        Args:
            seconds: How long this part of the run took.
        """

    def _leave(self, summary: dict[str, Any]) -> None:
        """Write what else the run leaves, before the page and the summary."""

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

    def conclude(self, *, status: str, seconds: float) -> Outcome:
        """Write what a run leaves when it came to its end: the summary last.

        Args:
            status: How it ended, if nothing failed.
            seconds: How long it took.
        """
        job = self._job
        path = str(job.folder.path)
        if self.failure is not None:
            write_page(job.folder)
            return Outcome(path, "failed", failure=self.failure)
        last = self._last_step()
        if last > job.start and last in self.committer.failed:
            failure = Failure("the last checkpoint", last, self.committer.failed[last])
            return Outcome(path, "failed", failure=failure)
        if status == "finished" and last < job.steps:
            status = "stopped"
        summary = self._summarize(seconds)
        self._leave(summary)
        write_page(job.folder, summary)
        job.folder.write_json(job.folder.summary, summary)
        return Outcome(path, status, summary=summary)

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
        return max(self._watch.step_of(rank), self._steps.get(rank, 0))

    def _check_orders(self) -> None:
        if self._job.folder.stop_request.exists():
            self.request_stop()

    def _record(self, record: dict[str, Any]) -> None:
        stamped = self._records.write(record)
        self._tracker.record(stamped)
        self.view.record(stamped)

    def _places(self, ready: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the lines of ``ranks.json`` for a rank that is ready."""
        return [{key: ready[key] for key in ("rank", "pid", "host")}]

    def _on_ready(self, report: dict[str, Any]) -> None:
        self.ready[report["rank"]] = report
        job = self._job
        if len(self.ready) == job.ranks:
            places = [
                place for _, ready in sorted(self.ready.items()) for place in self._places(ready)
            ]
            job.folder.write_json(job.folder.ranks, places)
            self._record({"event": "resume" if job.start else "start", "step": job.start})
            order(self._store, "go")

    def _on_shards(self, report: dict[str, Any]) -> None:
        shards = [Shard(**shard) for shard in report["shards"]]
        record = self.committer.add(report["step"], report["part"], shards)
        if record is not None:
            self._record(record)

    def _on_shards_failed(self, report: dict[str, Any]) -> None:
        step = report["step"]
        text = (
            f"{report['where']}: the checkpoint of step {step} was not written: "
            f"{report['text']}; the {self.noun} goes on, the checkpoint of step "
            f"{self.committer.newest} is kept"
        )
        self.committer.fail(step, text)
        self._record({"event": "warning", "step": step, "text": text})

    def _end(self) -> None:
        """All ranks have finished: let them go."""
        self._record({"event": "end", "step": self._last_step()})
        order(self._store, "finish")
        self.done = True

    def _on_failed(self, report: dict[str, Any]) -> None:
        failure = Failure(
            self._job.label(report["rank"]),
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
        label = self._job.label(report["rank"])
        self._record({"event": "stacks", "rank": report["rank"], "text": report["text"]})
        self.view.print(f"stacks of {label}:\n{report['text']}")

    def _on_hang(self, hang: Hang) -> None:
        where = self._job.label(hang.rank)
        self.fail(Failure(where, hang.step, f"hangs: {hang.text}"))

    def _confirm_echo(self) -> None:
        """A closed link is somebody else's failure, unless nobody else reports one."""
        if self._echo is not None and self.failure is None:
            heard, failure = self._echo
            if time.perf_counter() - heard > ECHO_SECONDS:
                self.fail(failure)
