"""The panels of a workspace, as data: what each shows, by the keys that runs record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

__all__ = ["Bars", "Family", "Lines", "Media", "Panel", "Section", "Table"]


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: What stands above it.
        keys: What it shows.
    """

    kind: ClassVar[str] = ""

    title: str
    keys: tuple[str, ...] = ()

    def shows(self, key: str) -> bool:
        """Whether a key that a run records appears here."""
        return key in self.keys

    def to_json(self) -> dict[str, Any]:
        """Return it for ``output=FILE``."""
        return {"kind": self.kind, **asdict(self)}

    def words(self) -> str:
        """Return what it shows, for the terminal."""
        return ", ".join(self.keys)


@dataclass(frozen=True)
class Lines(Panel):
    """A line for each key and run over the training step."""

    kind: ClassVar[str] = "lines"


@dataclass(frozen=True)
class Family(Panel):
    """A line for each key that a pattern matches, however many stages or layers a run has.

    Attributes:
        pattern: A regular expression for whole keys, in the syntax that Python and RE2 share.
    """

    kind: ClassVar[str] = "lines"

    pattern: str = ""

    def shows(self, key: str) -> bool:
        """See :meth:`Panel.shows`."""
        return re.search(self.pattern, key) is not None

    def words(self) -> str:
        """See :meth:`Panel.words`."""
        return self.pattern


@dataclass(frozen=True)
class Bars(Panel):
    """A bar for each key and run: the last value."""

    kind: ClassVar[str] = "bars"

    def words(self) -> str:
        """See :meth:`Panel.words`; keys of one folder are named together."""
        folders = {key.rpartition("/")[0] for key in self.keys}
        if len(self.keys) == 1 or len(folders) > 1:
            return super().words()
        return f"{folders.pop()}/{{{','.join(key.rpartition('/')[2] for key in self.keys)}}}"


@dataclass(frozen=True)
class Table(Panel):
    """The rows of all runs' tables under one key."""

    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Media(Panel):
    """Pictures and pages."""

    kind: ClassVar[str] = "media"


@dataclass(frozen=True)
class Section:
    """Panels under a heading.

    Attributes:
        name: The heading.
        panels: In the order of reading, from the top left.
        columns: Panels in a row.
        is_open: Whether they are seen without a click.
    """

    name: str
    panels: Sequence[Panel]
    columns: int = 3
    is_open: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return it for ``output=FILE``."""
        return {
            "name": self.name,
            "columns": self.columns,
            "is_open": self.is_open,
            "panels": [panel.to_json() for panel in self.panels],
        }
