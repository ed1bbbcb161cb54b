"""How a run ended, and the files that are written then."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from .job import Job
from .monitor import Failure, Findings, Monitor
from .summary import summarize, trace_events

__all__ = ["Outcome", "conclude"]

EXIT_CODES = {"finished": 0, "stopped": 0, "failed": 1, "interrupted": 130, "terminated": 143}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: The run's folder.
        status: ``finished``, ``stopped`` (asked to), ``interrupted`` (Ctrl-C), ``terminated``
            (SIGTERM) or ``failed``.
        summary: The content of ``summary.json`` if the run came to an end by itself.
        failure: Why it failed.
    """

    folder: str
    status: str
    summary: dict[str, Any] | None = None
    failure: Failure | None = None

    @property
    def exit_code(self) -> int:
        """The status of the process."""
        return EXIT_CODES[self.status]


def conclude(job: Job, monitor: Monitor, *, status: str, seconds: float) -> Outcome:
    """Write the trace, the page and, last, the summary of a run that came to its end.

    Args:
        job: The run.
        monitor: What was learned of it.
        status: How it ended, if nothing failed.
        seconds: How long it took.
    """
    path = str(job.folder.path)
    if monitor.failure is not None:
        _write_page(job)
        return Outcome(path, "failed", failure=monitor.failure)
    findings: Findings = monitor.findings
    last = max(report["step"] for report in findings.finished.values())
    if last > job.start and last in monitor.committer.failed:
        failure = Failure("the last checkpoint", last, monitor.committer.failed[last])
        return Outcome(path, "failed", failure=failure)
    if status == "finished" and last < job.config.train.steps:
        status = "stopped"
    summary = summarize(job, findings, seconds=seconds)
    folder = job.folder
    folder.write_json(folder.trace, trace_events(job, findings))
    _write_page(job, summary)
    folder.write_json(folder.summary, summary)
    return Outcome(path, status, summary=summary)


def _write_page(job: Job, summary: dict[str, Any] | None = None) -> None:
    """Write report.html; what goes wrong there never makes a run look failed."""
    from .report import write_report

    try:
        write_report([job.folder.path], job.folder.report, summary=summary)
    except Exception as error:
        print(f"blockstep: {job.folder.report} was not written: {error}", file=sys.stderr)
