"""Axes with round ticks, and numbers as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

__all__ = [
    "DASH",
    "Scale",
    "Unit",
    "byte_unit",
    "clock_text",
    "count_text",
    "day_text",
    "decimals",
    "fit",
    "number_text",
    "percent_text",
    "seconds_text",
    "span_unit",
]

DASH = "\u2013"
"""Stands for what was not measured; never a zero."""


@dataclass(frozen=True)
class Unit:
    """What values are divided by to be shown.

    Attributes:
        name: E.g. ``MiB``.
        size: Of one unit in the values' own.
    """

    name: str
    size: float = 1.0


@dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
        low: Its begin.
        high: Its end, above ``low``.
        ticks: Round numbers between them.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def texts(self) -> list[str]:
        """Return the ticks in words, all with the same decimals."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else abs(self.low) or 1.0
        largest = max((abs(tick) for tick in self.ticks), default=0.0)
        if largest >= 1e9 or 0 < largest < 1e-3:
            return [f"{tick:.3g}" for tick in self.ticks]
        size, letter = 1.0, ""
        for size_, letter_ in ((1e6, "M"), (1e3, "k")):
            if largest >= 10 * size_ and step >= size_ / 10:
                size, letter = size_, letter_
                break
        digits = _decimals(step / size)
        return [f"{tick / size:,.{digits}f}{letter}" if tick else "0" for tick in self.ticks]


def fit(
    values: Iterable[float],
    *,
    count: int = 5,
    zero: bool = False,
    tight: bool = False,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Scale:
    """Return an axis that holds the values.

    Args:
        values: What must be on it; none gives 0 to 1.
        count: About how many ticks.
        zero: Whether it begins at 0.
        tight: Whether it ends at the outermost values instead of at ticks.
        limits: What it never exceeds, e.g. 0 and 100 for percentages.
    """
    known = list(values)
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(high) * 0.1 or 1.0
        low, high = (low if zero else low - room), high + room
    step = _round_step((high - low) / count)
    if not tight:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if known:
        low = max(low, min(limits[0], *known, known[0]))
        high = min(high, max(limits[1], *known, known[0]))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return Scale(low, high, tuple(index * step for index in range(first, last + 1)))


def byte_unit(largest: float) -> Unit:
    """Return the binary unit in which a number of bytes reads well."""
    for name, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if largest >= 2**power:
            return Unit(name, 2.0**power)
    return Unit("bytes")


def span_unit(largest: float) -> Unit:
    """Return the unit in which seconds read well."""
    for name, size in (("h", 3600.0), ("min", 60.0)):
        if largest >= 2.5 * size:
            return Unit(name, size)
    for name, size in (("s", 1.0), ("ms", 1e-3)):
        if largest >= size:
            return Unit(name, size)
    return Unit("\u00b5s", 1e-6)


def number_text(value: float | None, unit: str = "", *, digits: int = 4) -> str:
    """Return a number with so many significant digits; a dash for None.

    Args:
        value: The number.
        unit: Put behind it, after a narrow space.
        digits: Significant digits; digits before the point are never dropped.
    """
    if value is None:
        return DASH
    behind = f"\u202f{unit}" if unit else ""
    if value == 0 or 1e-4 <= abs(value) < 1e9:
        return f"{value:,.{decimals(value, digits)}f}{behind}"
    return f"{value:.{digits}g}{behind}"


def decimals(value: float, digits: int = 4) -> int:
    """Return how many decimals give a number so many significant digits."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0


def percent_text(value: float | None, *, digits: int = 2) -> str:
    """Return a share as a percentage; a dash for None."""
    return DASH if value is None else f"{100 * value:.{digits}f}%"


def count_text(value: float | None) -> str:
    """Return a large count in short, e.g. parameters: 1.25 M; a dash for None."""
    if value is None:
        return DASH
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}\u202f{letter}"
    return f"{value:g}"


def seconds_text(value: float | None, *, digits: int = 3) -> str:
    """Return a duration in its unit; a dash for None."""
    if not value:
        return DASH if value is None else "0\u202fms"
    unit = span_unit(abs(value))
    return number_text(value / unit.size, unit.name, digits=digits)


def clock_text(seconds: float, *, tenths: bool = False) -> str:
    """Return minutes:seconds or hours:minutes:seconds; or seconds with their tenths."""
    if tenths:
        return f"{seconds:.1f}\u202fs"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def day_text(time: float) -> str | None:
    """Return unix seconds as day and time on this machine's clock; None if it cannot tell."""
    try:
        return f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return None


def _round_step(step: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(round_ * power for round_ in (1, 2, 5, 10) if round_ * power >= step * (1 - 1e-9))


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))
