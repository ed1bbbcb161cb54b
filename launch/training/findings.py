"""What the ranks of a training have told so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Findings"]


@dataclass
class Findings:
    """What the ranks of a training have told so far.

    Attributes:
        ready: Per rank: stages, replica, pid, host, device, threads.
        replicas: Per stage, and per replica of it: the last report.
        evaluations: Per split: the newest complete evaluation record.
        measured: What was timed.
        alone: Seconds per step of the slowest stage with all others idle.
    """

    ready: dict[int, dict[str, Any]] = field(default_factory=dict)
    replicas: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    alone: float | None = None
    alone_stage: int | None = None

    @property
    def finished(self) -> dict[int, dict[str, Any]]:
        """Per stage: the last report of its first replica."""
        return {stage: reports[1] for stage, reports in self.replicas.items() if 1 in reports}

    def note_end(self, report: dict[str, Any]) -> int:
        """Keep the last report of a replica.

        Returns:
            How many replicas have told theirs.
        """
        self.replicas.setdefault(report["stage"], {})[report["replica"]] = report
        return sum(map(len, self.replicas.values()))
