"""Runs that differ in their seed only, and what they have in common: means and standard errors."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .history import History
from .series import Point

__all__ = [
    "Estimate",
    "Group",
    "differences",
    "group_runs",
    "interpolate",
    "mean_curve",
    "name_groups",
]

IGNORED = ("seed", "name", "runs", "resume", "dry_run", "log.view")
"""Keys that change no result."""

IGNORED_SECTIONS = ("wandb.",)

MAX_NAMED = 3
"""A group is called after so many keys at most."""


@dataclass(frozen=True)
class Estimate:
    """A mean over runs, with its standard error.

    Attributes:
        mean: Of the values.
        error: Standard deviation of the values, with n - 1, over the square root of n: how far
            the mean of other n seeds would typically be. None for a single value.
        count: n.
    """

    mean: float
    error: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Estimate | None:
        """Estimate from the values that were measured; None if there is none."""
        known = [value for value in values if value is not None]
        count = len(known)
        if not count:
            return None
        mean = math.fsum(known) / count
        if count == 1:
            return cls(mean, None, 1)
        variance = math.fsum((value - mean) ** 2 for value in known) / (count - 1)
        return cls(mean, math.sqrt(variance / count), count)


@dataclass(frozen=True)
class Group:
    """Runs with the same configuration but for the seed.

    Attributes:
        name: What it is called.
        runs: At least one; several only if all of them ended by themselves.
    """

    name: str
    runs: tuple[History, ...]

    def estimate(self, name: str) -> Estimate | None:
        """Return a figure of the summaries."""
        return Estimate.of([run.figure(name) for run in self.runs])


def group_runs(histories: Sequence[History]) -> list[Group]:
    """Put runs together that differ in their seed only, in the order of the first of each.

    A run that failed or still goes on stands alone: its figures are not those of a whole run.
    """
    found: dict[object, list[History]] = {}
    for place, history in enumerate(histories):
        key = _key(history) if history.status.ended and history.config else place
        found.setdefault(key, []).append(history)
    return name_groups([tuple(runs) for runs in found.values()])


def name_groups(found: Sequence[tuple[History, ...]]) -> list[Group]:
    """Name each group: a single run by its name, several by what sets them apart."""
    keys = list(differences(found))
    names = []
    for runs in found:
        if len(runs) == 1:
            names.append(runs[0].folder.name)
        elif 0 < len(keys) <= MAX_NAMED:
            names.append(", ".join(f"{_end(key)}={runs[0].config.get(key, '?')}" for key in keys))
        else:
            names.append(_common_name([run.folder.name for run in runs]))
    return [Group(_distinct(name, names, place), found[place]) for place, name in enumerate(names)]


def differences(found: Sequence[Sequence[History]]) -> dict[str, list[str]]:
    """Return the keys in which groups differ, each with its value in every group."""
    configs = [dict(_relevant(runs[0])) for runs in found]
    keys = sorted({key for config in configs for key in config})
    values = {key: [config.get(key, "") for config in configs] for key in keys}
    return {key: row for key, row in values.items() if len(set(row)) > 1}


def mean_curve(
    curves: Sequence[Sequence[Point]],
) -> list[tuple[float, Estimate]]:
    """Return the mean of several curves where all of them are known.

    Args:
        curves: x ascending. The mean is taken at the x of the one with the fewest points; the
            others are interpolated there, which changes nothing where all have the same x.
    """
    curves = [curve for curve in curves if curve]
    if not curves:
        return []
    low = max(curve[0][0] for curve in curves)
    high = min(curve[-1][0] for curve in curves)
    grid = [x for x, _ in min(curves, key=len) if low <= x <= high]
    means = [(x, Estimate.of([interpolate(curve, x) for curve in curves])) for x in grid]
    return [(x, estimate) for x, estimate in means if estimate is not None]


def interpolate(curve: Sequence[Point], x: float) -> float:
    """Return a curve's value at ``x`` between its first and its last point."""
    right = bisect.bisect_left(curve, x, key=lambda point: point[0])
    if right < len(curve) and curve[right][0] == x:
        return curve[right][1]
    (x0, y0), (x1, y1) = curve[right - 1], curve[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _relevant(history: History) -> list[tuple[str, str]]:
    return [
        (key, value)
        for key, value in sorted(history.config.items())
        if key not in IGNORED and not key.startswith(IGNORED_SECTIONS)
    ]


def _key(history: History) -> object:
    return tuple(_relevant(history))


def _end(key: str) -> str:
    """Return the last part of a dotted key, unless it says too little."""
    section, _, end = key.rpartition(".")
    return key if end in ("name", "every", "kind", "size") and section else end


def _common_name(names: Sequence[str]) -> str:
    """Return how all names begin, without a half number or separator at the end."""
    shortest = min(names, key=len)
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = shortest[: len(list(same))].rstrip("0123456789").rstrip("-_. =")
    return common.removesuffix("seed").rstrip("-_. ") or f"{names[0]} and {len(names) - 1} more"


def _distinct(name: str, names: Sequence[str], place: int) -> str:
    """Number names that occur twice."""
    if names.count(name) == 1:
        return name
    return f"{name} ({names[: place + 1].count(name)})"
