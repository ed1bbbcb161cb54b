"""The file of hyperparameters that were found: ``psi.json``.

    {"affine": {"translate_x": 0.05, "rotation": 3.1, ...}}
    {"mask": [2.1, -0.4, ...]}

One key, the kind; see :mod:`blockstep.models.hyperparameters.found` for what stands below it. The
file may come from anybody: reading it executes nothing, takes a bounded number of bytes, and
accepts numbers and names alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..models.hyperparameters import KINDS
from .jsonfile import Format

__all__ = ["PsiError", "load_psi", "psi_from_json", "psi_to_json", "save_psi"]

DEEPEST = 6


class PsiError(ValueError):
    """A file that holds no hyperparameters, or not in a form that is read."""


FORMAT = Format(
    what="file of hyperparameters",
    version=None,
    required=frozenset(),
    optional=frozenset(set(KINDS) - {"none"}),
    error=PsiError,
    max_bytes=64 << 20,  # whole layers may be in it
)


def psi_to_json(values: Mapping[str, Any]) -> str:
    """Return the text of a file of what was found."""
    return FORMAT.dumps(_checked(dict(values)))


def psi_from_json(text: str) -> dict[str, Any]:
    """Read what :func:`psi_to_json` wrote.

    Raises:
        PsiError: It is something else.
    """
    return _checked(FORMAT.parse(text))


def save_psi(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file at once.

    Raises:
        OSError: It cannot be written; an older file stays as it was.
        PsiError: It is larger than a reader takes.
    """
    FORMAT.save(path, psi_to_json(values))


def load_psi(path: Path | str) -> dict[str, Any]:
    """Read a file.

    Raises:
        PsiError: There is none, it cannot be read, or it holds something else; it is named.
    """
    return FORMAT.load(path, psi_from_json)


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    if len(values) != 1:
        known = ", ".join(sorted(FORMAT.optional))
        raise PsiError(
            f"it has {len(values)} kinds of hyperparameters; it must have one of {known}"
        )
    ((kind, inner),) = values.items()
    if isinstance(inner, Mapping):
        items = {
            FORMAT.text("name", name): _numbers(f"{kind}.{name}", one)
            for name, one in inner.items()
        }
        return {kind: items}
    return {kind: _numbers(kind, inner)}


def _numbers(key: str, value: Any, depth: int = 0) -> Any:
    """Return a number, or lists of numbers."""
    if not isinstance(value, list | tuple):
        return FORMAT.number(key, value)
    if depth == DEEPEST:
        raise PsiError(f"{key} is nested deeper than {DEEPEST}")
    return list(FORMAT.sequence(key, value, partial(_numbers, depth=depth + 1)))
