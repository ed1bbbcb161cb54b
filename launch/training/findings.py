"""What the ranks of a training have told so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Findings"]


@dataclass
class Findings:
    """What the ranks of a training have told so far.

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
