"""What was measured of a network on one device, at several batch sizes, and its file.

    batch     2     4     8    16          128
    seconds   x-----x-----x-----x - - - - - ->
              measured; straight lines between them, the last line goes on behind them

A file that was written on another machine predicts for that machine.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..jsonfile import Format
from ..profile import Profile, ProfileError

__all__ = ["Measurements", "Storage", "blend"]

Mix = Callable[[Sequence[float]], float]
"""From a number at each measured batch size to one number."""


GROWING = ("forward", "inner", "entry", "head_seconds", "classifier_seconds")
"""What of a profile depends on the batch as :func:`blend` says."""

CONSTANT = ("update", "head_update", "classifier_update")
"""What does not depend on it: the optimizer's steps. The median of all sizes counts."""


@dataclass(frozen=True)
class Storage:
    """What a network keeps in memory, in bytes per example unless told otherwise.

    Attributes:
        inputs: Of the network's input.
        layers: What autograd keeps of each layer from forward to backward, without its input.
        classifier: Likewise.
        heads: Likewise, for each head and each layer but the last; None where it does not fit.
        head_parameters: Trainable parameters of each head after each layer but the last.
    """

    inputs: int
    layers: tuple[int, ...]
    classifier: int
    heads: tuple[tuple[int | None, ...], ...]
    head_parameters: tuple[tuple[int | None, ...], ...]


@dataclass(frozen=True)
class Measurements:
    """Profiles of one network on one device at several batch sizes, and its memory.

    Attributes:
        profiles: From the smallest batch to the largest.
        storage: None if it is not known, as in the profile that a search wrote.
        contention: How many times as long a step took beside others on the same machine, which
            share its memory and caches; 1 for devices of their own.

    Raises:
        ProfileError: There are no profiles, or they are of different networks or heads.
    """

    profiles: tuple[Profile, ...]
    storage: Storage | None = None
    contention: float = 1.0

    def __post_init__(self) -> None:
        """Check that all belong together."""
        if not self.profiles:
            raise ProfileError("profiles=[]: there must be at least one")
        ordered = tuple(sorted(self.profiles, key=lambda one: one.batch_size))
        object.__setattr__(self, "profiles", ordered)
        first = ordered[0]
        for key in ("network", "layers", "device", "threads", "heads", "parameters"):
            for other in ordered[1:]:
                if getattr(other, key) != getattr(first, key):
                    raise ProfileError(
                        f"profiles of {key}={getattr(first, key)} and {key}="
                        f"{getattr(other, key)} do not belong together; measure them again"
                    )
        FORMAT.number("contention", self.contention, low=1.0)
        if self.storage is not None:
            _check_lengths(self.storage, first)

    @property
    def largest(self) -> Profile:
        """The profile of the largest batch."""
        return self.profiles[-1]

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The measured batch sizes, from the smallest."""
        return tuple(one.batch_size for one in self.profiles)

    def at(self, batch: int) -> Profile:
        """Return the profile of a batch size, measured or blended.

        Raises:
            ProfileError: The batch is empty.
        """
        if batch < 1:
            raise ProfileError(f"batch={batch}: a stage needs at least one example per step")
        return _mixed(self.profiles, batch)

    def to_json(self) -> str:
        """Return the text of its file."""
        profiles = [json.loads(profile.to_json()) for profile in self.profiles]
        storage = None if self.storage is None else dataclasses.asdict(self.storage)
        return FORMAT.dumps(
            {"profiles": profiles, "storage": storage, "contention": self.contention}
        )

    @classmethod
    def from_json(cls, text: str) -> Measurements:
        """Read what :meth:`to_json` returned, or the profile that a search wrote.

        Raises:
            ProfileError: It is neither.
        """
        if not _has_key(text, "profiles"):
            return cls((Profile.from_json(text),))
        values = FORMAT.parse(text)
        profiles = FORMAT.sequence("profiles", values["profiles"], _profile)
        return cls(profiles, _storage(values["storage"]), values["contention"])

    def save(self, path: Path | str) -> None:
        """Write the file atomically.

        Raises:
            OSError: It cannot be written; an older file stays as it was.
        """
        FORMAT.save(path, self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Measurements:
        """Read a file. Nothing in it is executed, and at most 1 MiB of it is read.

        Raises:
            ProfileError: It is missing, too large, or no such file; the file is named.
        """
        return FORMAT.load(path, cls.from_json)


def blend(sizes: Sequence[int], values: Sequence[float], batch: int) -> float:
    """Return what is to be expected of a batch between, below or above measured ones.

    Between two sizes it lies on the line through them. Outside, the line through the nearest two
    goes on, but a larger batch takes neither less in all nor more per example than the largest
    measured one, and a smaller batch takes neither more in all nor less per example than the
    smallest. With one size only, an example takes what it takes there.

    Args:
        sizes: Measured batch sizes, rising.
        values: Seconds.
        batch: The batch.
    """
    if len(sizes) == 1:
        return values[0] * batch / sizes[0]
    place = next((n for n in range(1, len(sizes)) if batch <= sizes[n]), len(sizes) - 1)
    (left, right), (low, high) = sizes[place - 1 : place + 1], values[place - 1 : place + 1]
    straight = low + (high - low) * (batch - left) / (right - left)
    if batch < left:
        return min(max(straight, low * batch / left), low)
    if batch > right:
        return max(min(straight, high * batch / right), high)
    return straight


def _mixed(profiles: Sequence[Profile], batch: int) -> Profile:
    sizes = [profile.batch_size for profile in profiles]
    if batch in sizes:
        return profiles[sizes.index(batch)]

    def mixed(keys: Sequence[str], mix: Mix) -> dict[str, Any]:
        return {key: _each([getattr(one, key) for one in profiles], mix) for key in keys}

    largest = profiles[-1]
    return dataclasses.replace(
        largest,
        batch_size=batch,
        boundary_bytes=tuple(size * batch // largest.batch_size for size in largest.boundary_bytes),
        **mixed(GROWING, lambda found: blend(sizes, found, batch)),
        **mixed(CONSTANT, statistics.median),
    )


def _each(found: Sequence[Any], mix: Mix) -> Any:
    """Mix numbers, and lists of them place by place; what was not measured stays so."""
    if found[0] is None:
        return None
    if isinstance(found[0], tuple):
        return tuple(_each(row, mix) for row in zip(*found, strict=True))
    return mix(found)


def _check_lengths(storage: Storage, profile: Profile) -> None:
    layers, heads = profile.layers, len(profile.heads)
    for key, row, wanted in (
        ("layers", storage.layers, layers),
        ("heads", storage.heads, heads),
        ("head_parameters", storage.head_parameters, heads),
        *(("heads", row, layers - 1) for row in storage.heads),
        *(("head_parameters", row, layers - 1) for row in storage.head_parameters),
    ):
        if len(row) != wanted:
            raise ProfileError(f"storage.{key} has {len(row)} items, but there must be {wanted}")


FORMAT = Format(
    what="file of measurements",
    version=1,
    required=frozenset(("profiles", "storage", "contention")),
    optional=frozenset(),
    error=ProfileError,
)


def _has_key(text: str, key: str) -> bool:
    """Whether a text is a JSON object with a key; what it is else is refused by its reader."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and key in values


def _profile(key: str, value: Any) -> Profile:
    if not isinstance(value, dict):
        raise FORMAT.refusal(key, value, "an object with the keys of a profile")
    return Profile.from_json(json.dumps(value))


def _storage(values: Any) -> Storage | None:
    if values is None:
        return None
    names = [field.name for field in dataclasses.fields(Storage)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise FORMAT.refusal("storage", values, f"null, or an object of {', '.join(names)}")
    row = partial(FORMAT.sequence, item=_count_or_none)
    rules: dict[str, Callable[[str, Any], Any]] = {
        "inputs": _count,
        "classifier": _count,
        "layers": partial(FORMAT.sequence, item=_count),
        "heads": partial(FORMAT.sequence, item=row),
        "head_parameters": partial(FORMAT.sequence, item=row),
    }
    return Storage(**{key: rule(f"storage.{key}", values[key]) for key, rule in rules.items()})


def _count(key: str, value: Any) -> int:
    return FORMAT.integer(key, value, low=0)


def _count_or_none(key: str, value: Any) -> int | None:
    return None if value is None else _count(key, value)
