"""The ``key=value`` words of a command line, read with Hydra's grammar."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from .refusal import Refusals, one_line

__all__ = ["Assignment", "parse", "read"]


@dataclass(frozen=True)
class Assignment:
    """One key and the value that was typed for it.

    Attributes:
        key: Dotted key, without ``+``.
        value: Plain data; text may hold interpolations.
        text: The value as it was typed, for messages.
    """

    key: str
    value: Any
    text: str

    @property
    def word(self) -> str:
        """The value as a word: what a key that takes a text gets, without quotes."""
        return self.value if isinstance(self.value, str) else self.text.strip()

    @property
    def interpolated(self) -> bool:
        """Whether the value refers to another key or to the environment."""
        return _refers(self.value)


def read(words: Sequence[str], refusals: Refusals) -> list[Assignment]:
    """Return the assignments in the order they were typed.

    Args:
        words: Hydra overrides, such as ``train.lr=0.1``. ``+`` and ``++`` before a key mean
            nothing here, because every key that may be set exists already.
        refusals: Takes what is malformed, a removal (``~key``), or a sweep.
    """
    assignments = []
    for override in parse(words, refusals):
        key = override.get_key_element().lstrip("+")
        assert override.input_line is not None  # set by the parser
        text = override.input_line.partition("=")[2]
        if override.is_sweep_override():
            several = "several values; -m runs one job for each, a list is written [a,b]"
            refusals.add(key, text, several)
        else:
            assignments.append(Assignment(key, override.value(), text))
    return assignments


def parse(words: Sequence[str], refusals: Refusals) -> list[Override]:
    """Parse the words with Hydra's grammar; those that cannot be used are refused and left out."""
    parser = OverridesParser.create()
    overrides = []
    for word in words:
        key, equal, value = word.partition("=")
        if word.startswith("~"):
            refusals.note(f"{one_line(word)}: keys cannot be removed; give another value instead")
        elif word.startswith("-"):
            refusals.note(f"{one_line(word)}: there is no such option; settings are key=value")
        elif not key:
            refusals.add(key, value, "no key; write key=value")
        elif not equal:
            refusals.note(f"{one_line(word)}: no value; write {one_line(word)}=VALUE")
        else:
            try:
                overrides.append(parser.parse_override(word))
            except (HydraException, ValueError, ArithmeticError, RecursionError) as error:
                refusals.add(key, value, _malformed(key, value, error))
    return overrides


def _malformed(key: str, value: str, error: Exception) -> str:
    reason = one_line(str(error)) or type(error).__name__
    if value.startswith("~"):
        return f"the shell does not expand ~ here; write {key}=$HOME{one_line(value[1:])}"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    quoted = f"{key}='{quoted}'"
    shell = f'"{quoted}"' if not set('"$`\\!') & set(quoted) else shlex.quote(quoted)
    return (
        f"not in Hydra's grammar ({reason}); for a text with special characters write"
        f" {one_line(shell)}"
    )


def _refers(value: Any) -> bool:
    if isinstance(value, str):
        return "${" in value
    if isinstance(value, Mapping):
        return any(map(_refers, value)) or any(map(_refers, value.values()))
    return isinstance(value, list) and any(map(_refers, value))
