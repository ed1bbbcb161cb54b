"""One thing that was looked at: how it is, and what to do if it is not well."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FORMAT", "Finding", "Level", "fail", "ok", "to_json", "warn"]

FORMAT = 1
WIDTH = 18
"""Of the column that says what was looked at."""


class Level(enum.StrEnum):
    """How something is."""

    OK = "ok"
    WARN = "warn"
    """It works, but something may be worse than it needs to be."""
    FAIL = "fail"
    """Trainings that need it will not run."""


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        level: How it is.
        subject: What was looked at, such as ``disk``.
        text: What was found.
        advice: What to do; empty where nothing is to be done.
        figures: The numbers of the text in plain units, for machines.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """Return the line to print."""
        advice = f": {self.advice}" if self.advice else ""
        return f"{self.level:<4}  {self.subject:<{WIDTH}}  {self.text}{advice}"

    def to_json(self) -> dict[str, Any]:
        """Return it for ``json=true``."""
        return {
            "level": str(self.level),
            "subject": self.subject,
            "text": self.text,
            "advice": self.advice,
            "figures": dict(self.figures),
        }


def ok(subject: str, text: str, advice: str = "", **figures: Any) -> Finding:
    """Return a finding of something that is well."""
    return Finding(Level.OK, subject, text, advice, figures)


def warn(subject: str, text: str, advice: str, **figures: Any) -> Finding:
    """Return a finding of something that could be better, with what to do."""
    return Finding(Level.WARN, subject, text, advice, figures)


def fail(subject: str, text: str, advice: str, **figures: Any) -> Finding:
    """Return a finding of something that does not work, with what to do."""
    return Finding(Level.FAIL, subject, text, advice, figures)


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return all findings for ``json=true``."""
    return {
        "format": FORMAT,
        "ok": all(finding.level is not Level.FAIL for finding in findings),
        "findings": [finding.to_json() for finding in findings],
    }
