"""``blockstep report``: from the words of a command line to a page."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...pipeline.checkpoint import write_atomically
from ..folder import RunFolder
from ..refusal import ConfigError, closest
from .comparison import comparison
from .history import read_history
from .portrait import portrait

__all__ = ["report_command", "write_report"]

COMPARISON = Path("comparison.html")
EXAMPLE = "e.g. blockstep report runs/NAME, or blockstep report 'runs/seed-*'"


def write_report(
    runs: Sequence[Path], path: Path, *, summary: dict[str, Any] | None = None
) -> None:
    """Write the page of one run, or the comparison of several.

    Args:
        runs: Folders of runs; they may have ended, failed or still go on.
        path: The HTML file; it is replaced at once.
        summary: The summary of a single run whose ``summary.json`` is not written yet.

    Raises:
        ConfigError: There is no run, or the file cannot be written.
    """
    if not runs:
        raise ConfigError(f"report: which run? {EXAMPLE}")
    if len(runs) == 1:
        text = portrait(read_history(runs[0], summary=summary))
    else:
        text = comparison([read_history(run, trace=False) for run in runs])
    try:
        write_atomically(path, text)
    except OSError as error:
        raise ConfigError(
            f"report: cannot write {path}: {error}; choose another out=FILE"
        ) from error


def report_command(words: Sequence[str]) -> int:
    """Run ``blockstep report DIR [DIR ...] [out=FILE]``.

    Args:
        words: Folders of runs, or patterns such as ``runs/seed-*``; and where to write the page:
            by default ``report.html`` in the folder of one run, ``comparison.html`` here for more.

    Returns:
        The exit status.

    Raises:
        ConfigError: No run was given, or something else than the folder of a run.
    """
    outs, patterns = _sort(words)
    runs = list(dict.fromkeys(run for pattern in patterns for run in _runs(pattern)))
    if not runs:
        raise ConfigError(f"report: which run? {EXAMPLE}")
    default = RunFolder(runs[0]).report if len(runs) == 1 else COMPARISON
    path = Path(outs[-1]) if outs else default
    if path.is_dir() or not path.parent.is_dir():
        reason = "a folder" if path.is_dir() else "in a folder that does not exist"
        raise ConfigError(f"report: out={path} is {reason}; give a file, such as out=page.html")
    write_report(runs, path)
    print(f"report: {path}")
    return 0


def _sort(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate ``out=FILE`` from runs; ``run=DIR`` is a run too, as in other commands."""
    outs, patterns = [], []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key == "out" and value:
            outs.append(value)
        elif equals and key == "run":
            patterns.append(value)
        elif (
            equals
            and re.fullmatch(r"[\w.+~]+", key)
            and not (Path(word).exists() or _matches(word))
        ):
            raise ConfigError(
                f"report: unknown key {key}={value}; valid are out=FILE and folders of runs"
                f"{closest(key, ('out', 'run'))}"
            )
        else:
            patterns.append(word)
    return outs, patterns


def _runs(pattern: str) -> list[Path]:
    """Return the folders that a word means.

    Raises:
        ConfigError: It is not the folder of a run, or a pattern that matches none.
    """
    path = Path(pattern)
    if path.exists() or not glob.has_magic(pattern):
        if RunFolder(path).config.is_file():
            return [path]
        reason = "it has no config.yaml" if path.is_dir() else "there is no such folder"
        raise ConfigError(f"report: {pattern} is not the folder of a run: {reason}; {EXAMPLE}")
    found = _matches(pattern)
    runs = [path for path in found if RunFolder(path).config.is_file()]
    if not runs:
        reason = f"matches {', '.join(map(str, found[:3]))}, but no folder of a run"
        reason = reason if found else "matches nothing"
        raise ConfigError(f"report: {pattern!r} {reason}; {EXAMPLE}")
    return runs


def _matches(pattern: str) -> list[Path]:
    """Return what a pattern matches, seed-2 before seed-10."""
    if not glob.has_magic(pattern):
        return []
    return sorted((Path(path) for path in glob.glob(pattern)), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(int(part) if part.isdecimal() else 0, part) for part in parts]
