"""How a run ended."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from .folder import RunFolder

__all__ = ["Failure", "Outcome", "report_failure", "write_page"]

EXIT_CODES = {"finished": 0, "stopped": 0, "failed": 1, "interrupted": 130, "terminated": 143}


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


def report_failure(failure: Failure) -> None:
    """Print why a run failed; the last line names the stage, the rank and the cause."""
    if failure.traceback:
        print(failure.traceback, file=sys.stderr)
    print(f"blockstep: failed at {failure}", file=sys.stderr, flush=True)


def write_page(folder: RunFolder, summary: dict[str, Any] | None = None) -> None:
    """Write report.html; what goes wrong there never makes a run look failed."""
    from .report import write_report

    try:
        write_report([folder.path], folder.report, summary=summary)
    except Exception as error:
        print(f"blockstep: {folder.report} was not written: {error}", file=sys.stderr)
