"""The strict reader and writer that the JSON files of this room share.

Such a file may come from anybody. Reading one executes nothing, reads a bounded number of bytes,
and raises one kind of error, whatever the file holds.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..pipeline.checkpoint import write_atomically

__all__ = ["MAX_BYTES", "Format", "shown"]

MAX_BYTES = 1 << 20
"""Size of the largest file that is read."""

_LONGEST = 80

T = TypeVar("T")


@dataclass(frozen=True)
class Format:
    """The rules of one kind of file: an object of known keys with a number under ``format``.

    Attributes:
        what: Its name in messages, e.g. ``"decoupling"``.
        version: The number that this version of the package writes and reads; None: the files
            have no number.
        required: Keys that it must have.
        optional: Keys that it may have.
        error: What is raised when a file or a value breaks the rules.
        max_bytes: Size of the largest file that is read.
    """

    what: str
    version: int | None
    required: frozenset[str]
    optional: frozenset[str]
    error: type[ValueError]
    max_bytes: int = MAX_BYTES

    def dumps(self, values: Mapping[str, Any]) -> str:
        """Return the text of a file with ``values`` that were checked before."""
        version = {} if self.version is None else {"format": self.version}
        return json.dumps({**version, **values}, indent=1, allow_nan=False)

    def save(self, path: Path | str, text: str) -> None:
        """Write what :meth:`dumps` returned so that a reader sees all of it or nothing.

        Raises:
            OSError: It cannot be written; an older file stays as it was.
        """
        if len(text) > self.max_bytes:
            raise self.error(
                f"a {self.what} of {len(text)} bytes is more than a reader takes, {self.max_bytes}"
            )
        write_atomically(Path(path), text)

    def load(self, path: Path | str, make: Callable[[str], T]) -> T:
        """Make an object of the text of a file; an error of ``make`` gets the file's name.

        Raises:
            error: The file cannot be read, is larger than 1 MiB, or breaks the rules.
        """
        path = Path(path)
        try:
            return make(self._read(path))
        except self.error as error:
            raise self.error(f"{path}: {error}") from error

    def parse(self, text: str) -> dict[str, Any]:
        """Return the values by key, without ``format``; the values themselves are not checked.

        Raises:
            error: It is not JSON, not an object, of another format, or has other keys.
        """
        if len(text) > self.max_bytes:
            raise self.error(f"it has {len(text)} characters; at most {self.max_bytes} are read")
        try:
            values = json.loads(
                text,
                object_pairs_hook=_unique,
                parse_float=_finite,
                parse_constant=_refuse_constant,
            )
        except (ValueError, RecursionError) as error:
            raise self.error(f"it is not a {self.what} in JSON: {error}") from error
        if not isinstance(values, dict):
            raise self.error(
                f"it holds {shown(values)}, not a JSON object with the keys of a {self.what}"
            )
        self._check_version(values)
        self._check_keys(values)
        return values

    def refusal(self, key: str, value: Any, wanted: str) -> ValueError:
        """Return the error of a value that is not as it must be."""
        return self.error(f"{key}={shown(value)}: must be {wanted}")

    def text(self, key: str, value: Any) -> str:
        """Return ``value`` if it is a text that is not empty."""
        if not isinstance(value, str) or not value:
            raise self.refusal(key, value, "a text that is not empty")
        return value

    def integer(self, key: str, value: Any, *, low: int) -> int:
        """Return ``value`` if it is an integer of at least ``low``."""
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.refusal(key, value, f"an integer of at least {low}")
        return value

    def number(self, key: str, value: Any, *, low: float = -math.inf) -> float:
        """Return ``value`` as a float if it is a finite number of at least ``low``."""
        if not isinstance(value, bool) and isinstance(value, int | float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number) and number >= low:
                return number
        bound = "" if low == -math.inf else f" of at least {low:g}"
        raise self.refusal(key, value, f"a finite number{bound}")

    def sequence(
        self, key: str, value: Any, item: Callable[[str, Any], T], *, length: int | None = None
    ) -> tuple[T, ...]:
        """Return a list as a tuple, each of its items checked by ``item(key, value)``."""
        if not isinstance(value, list | tuple):
            raise self.refusal(key, value, "a list")
        if length is not None and len(value) != length:
            raise self.error(f"{key} has {len(value)} items, but there must be {length}")
        return tuple(item(f"{key}[{place}]", one) for place, one in enumerate(value))

    def plain(self, key: str, value: Any) -> Any:
        """Return the value that a reader of the file will get for ``value``."""
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise self.error(f"{key}={shown(value)} cannot be written as JSON: {error}") from error

    def _read(self, path: Path) -> str:
        try:
            if not path.is_file():
                raise self.error("there is no such file; give the path of a file that exists")
            with path.open("rb") as file:
                data = file.read(self.max_bytes + 1)
        except (OSError, ValueError) as error:
            if isinstance(error, self.error):
                raise
            raise self.error(f"it cannot be read: {error}") from error
        if len(data) > self.max_bytes:
            raise self.error(
                f"it is larger than {self.max_bytes} bytes; a {self.what} is far smaller"
            )
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"it is not a {self.what} in JSON: {error}") from error

    def _check_version(self, values: dict[str, Any]) -> None:
        if self.version is None:
            return
        if "format" not in values:
            raise self.error(
                f"it has no key format; a {self.what} of this version has format {self.version}"
            )
        found = values.pop("format")
        if isinstance(found, bool) or not isinstance(found, int) or found != self.version:
            newer = isinstance(found, int) and found > self.version
            fix = "update blockstep" if newer else f"write the {self.what} again"
            raise self.error(
                f"it has format {shown(found)}, this version reads format {self.version}; {fix}"
            )

    def _check_keys(self, values: Mapping[str, Any]) -> None:
        unknown = values.keys() - self.required - self.optional
        if unknown:
            known = ", ".join(sorted(self.required | self.optional))
            raise self.error(f"it has unknown keys: {_listed(unknown)}; known are {known}")
        missing = self.required - values.keys()
        if missing:
            raise self.error(f"it lacks the keys {_listed(missing)}")


def shown(value: Any) -> str:
    """Return a short text for any value, on one line."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # Nested too deep; an integer of too many digits.
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _listed(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return ", ".join(shown(key) for key in keys[:5]) + more


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = [name for name, count in counts.items() if count > 1]
        raise ValueError(f"{_listed(twice)} stands there more than once")
    return values


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is too large for a number")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
