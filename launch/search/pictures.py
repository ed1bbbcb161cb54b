"""The pictures of a search as files: what was learned, how, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..folder import RunFolder
from .result import Result

__all__ = ["PICTURES", "write_pictures"]

PICTURES = {"cuts": "alpha", "course": "course", "heads": "heads", "tradeoff": "tradeoff"}
"""What the report calls a picture, and the file that it becomes."""


def write_pictures(folder: RunFolder, records: Iterable[Mapping[str, Any]], result: Result) -> None:
    """Write ``alpha.svg`` (Figure 4 of the paper), ``course.svg`` and the others there are.

    Args:
        folder: The run's folder.
        records: Those of the run, or of its outer steps.
        result: What was found.
    """
    from ..report.findings import Findings, search_pictures

    findings = Findings.of(records, result.decoupling, result.front)
    for name, picture in search_pictures(findings).items():
        folder.picture(PICTURES[name]).write_text(picture.file())
