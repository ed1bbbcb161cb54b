"""What is wrong with a configuration: all of it at once, in words that say what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["ConfigError", "Refusals", "closest", "one_line", "shown"]

# What other tools call our keys: too far from ours in letters for difflib to find them.
_SYNONYMS = {
    "arch": "model",
    "batch": "train.batch_size",
    "bs": "train.batch_size",
    "dataset": "data",
    "epochs": "train.steps",
    "gpus": "pipeline.devices",
    "iterations": "train.steps",
    "learning_rate": "train.lr",
    "max_steps": "train.steps",
    "net": "model",
    "network": "model",
    "num_workers": "data.workers",
    "output_dir": "runs",
    "queue_size": "pipeline.queue_messages",
    "scheduler": "train.schedule",
    "wd": "train.weight_decay",
}
_LONGEST_VALUE = 80
_LONGEST_INTEGER = 1000


class ConfigError(ValueError):
    """A configuration that cannot be run.

    Attributes:
        problems: One line each: the key, the value, and what would be valid.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, ...]]:
        """Pickle with the problems apart: errors travel between processes."""
        return type(self), self.problems


class Refusals:
    """Collects the problems of one configuration, so that a user sees them together."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.problems)

    def add(self, key: str, value: Any, reason: str) -> None:
        """Note one problem.

        Args:
            key: Dotted key, such as ``train.lr``.
            value: The refused value, or the text that was typed for it.
            reason: What would be valid.
        """
        self.note(f"{one_line(key, 100)}={shown(value)}: {reason}")

    def note(self, problem: str) -> None:
        """Note one problem that is not about one key and its value."""
        problem = _printable(problem)
        if problem not in self.problems:
            self.problems.append(problem)

    def raise_any(self) -> None:
        """Raise what was collected.

        Raises:
            ConfigError: At least one problem was noted.
        """
        if self.problems:
            raise ConfigError(*self.problems)


def shown(value: Any) -> str:
    """Return the value as it would be typed on a command line, on one line and not too long."""
    text = _printable(_typed(value))
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def one_line(text: str, longest: int = 120) -> str:
    """Return the text without line breaks and terminal codes, cut to ``longest`` characters."""
    line = _printable(" ".join(text.split()))
    return line if len(line) <= longest else line[: longest - 3] + "..."


def closest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the known key or choice that was probably meant, if any.

    Args:
        word: What was typed.
        known: Dotted keys, or the choices of one key.
    """
    known = sorted(known)
    match = _synonym(word, known) or _same_end(word, known) or _similar(word, known)
    return f"; did you mean {match}?" if match else ""


def _synonym(word: str, known: Sequence[str]) -> str | None:
    match = _SYNONYMS.get(_end(word))
    return match if match in known else None


def _same_end(word: str, known: Sequence[str]) -> str | None:
    return next((key for key in known if _end(key) == _end(word)), None)


def _similar(word: str, known: Sequence[str]) -> str | None:
    """Compare the whole key, else by its last part in any section."""
    for whole in difflib.get_close_matches(word, known, n=1):
        return whole
    ends = {_end(key): key for key in reversed(known)}
    for end in difflib.get_close_matches(_end(word), ends, n=1, cutoff=0.7):
        return ends[end]
    return None


def _end(key: str) -> str:
    return key.rpartition(".")[2]


def _typed(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(_typed(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_typed(item)}" for key, item in value.items()) + "}"
    if isinstance(value, int) and value.bit_length() > _LONGEST_INTEGER:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print it
    return str(value)


def _printable(text: str) -> str:
    """Escape line breaks and terminal codes: the text may come from a file of someone else."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
