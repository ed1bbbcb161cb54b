"""The table of a comparison: in the terminal, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from ..report.groups import Estimate
from .rows import Row

__all__ = ["COLUMNS", "csv_text", "markdown", "terminal"]

DASH = "-"

Column = tuple[str, Callable[[Row], str]]


def _ratio(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}x"


def _percent(value: Estimate | None) -> str:
    if value is None:
        return DASH
    error = "" if value.error is None else f" +- {100 * value.error:.2f}"
    return f"{100 * value.mean:.2f}{error}"


def _bytes(value: float | None) -> str:
    return DASH if value is None else f"{value / 2**20:.1f}"


COLUMNS: Sequence[Column] = (
    ("method", lambda row: row.method),
    (
        "images/s (min-max)",
        lambda row: (
            f"{row.images_per_second:.1f} "
            f"({row.images_per_second_min:.1f}-{row.images_per_second_max:.1f})"
        ),
    ),
    ("vs backprop", lambda row: _ratio(row.speedup_vs_backprop)),
    ("vs ddp", lambda row: _ratio(row.speedup_vs_ddp)),
    (
        "efficiency",
        lambda row: DASH if row.efficiency is None else f"{100 * row.efficiency:.0f} %",
    ),
    ("peak MiB per rank", lambda row: _bytes(row.peak_memory_bytes)),
    ("MiB sent per step", lambda row: _bytes(row.bytes_per_step)),
    ("head parameters", lambda row: f"{row.head_params:,}" if row.head_params else "0"),
    ("error, %", lambda row: _percent(row.error)),
    ("error after the same seconds, %", lambda row: _percent(row.error_at)),
    ("cuts", lambda row: ", ".join(map(str, row.cuts)) or DASH),
    ("ranks", lambda row: str(row.ranks)),
)
"""What people read: headings, and the text of a row."""


def markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    lines = ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(text(row) for _, text in COLUMNS) + " |" for row in rows]
    return "\n".join(lines)


def terminal(rows: Sequence[Row]) -> str:
    """Return the table in columns of one width each."""
    cells = [[name for name, _ in COLUMNS]]
    cells += [[text(row) for _, text in COLUMNS] for row in rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


FIGURES = (
    "method",
    "images_per_second",
    "images_per_second_min",
    "images_per_second_max",
    "speedup_vs_backprop",
    "speedup_vs_ddp",
    "efficiency",
    "peak_memory_bytes",
    "bytes_per_step",
    "head_params",
    "ranks",
    "repeats",
)
"""Attributes of a row that are columns of the CSV under their own names."""


def csv_text(rows: Sequence[Row]) -> str:
    """Return the table as CSV: plain numbers, empty where something was not measured."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    estimates = ("error", "error_standard_error", "error_at", "error_at_standard_error")
    writer.writerow([*FIGURES, *estimates, "cuts"])
    for row in rows:
        values = [getattr(row, name) for name in FIGURES]
        for estimate in (row.error, row.error_at):
            values += [estimate.mean, estimate.error] if estimate else [None, None]
        writer.writerow([*values, " ".join(map(str, row.cuts))])
    return file.getvalue()
