"""Records thinned out while they are read: bounded memory, and no extreme is lost.

    rows      . . . . . . . . . . . .     one after the other, as they are read
    buckets  [. .][. .][. .][. .] . .     of `width` rows each; the rest waits for its bucket
    full     [. . . .][. . . .]           when there are too many: two become one, width doubles

Of each quantity a bucket keeps the first, the last, the smallest and the largest value where they
were, so a line through them covers the same pixels as a line through all rows; and the sum of all
values, so means over buckets are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["BUCKETS", "Point", "Series", "number"]

Point = tuple[float, float]

LARGEST = 1e30
"""A greater number is no measurement, and no browser could draw it."""

FIRST_WIDTH = 8
CHUNK = 512
"""A wide bucket is filled with so many rows at a time: they are all that is kept as they were."""

_NUMBERS = frozenset((int, float))

BUCKETS = 250
"""At most so many buckets, of four points each: 1,000 points per line."""


@dataclass(frozen=True)
class _Column:
    """One quantity in one bucket."""

    points: tuple[Point, ...] = ()
    total: float = 0.0
    count: int = 0

    def __add__(self, other: _Column) -> _Column:
        points = _extremes(self.points + other.points)
        return _Column(points, self.total + other.total, self.count + other.count)

    def until(self, x: float) -> _Column:
        """Forget what lies after ``x``; the sum is then that of the points that are left."""
        points = tuple(point for point in self.points if point[0] <= x)
        return _Column(points, sum(y for _, y in points), len(points))


@dataclass(frozen=True)
class _Bucket:
    """Consecutive rows."""

    last: float
    total: float
    rows: int
    columns: tuple[_Column, ...]

    @classmethod
    def of(cls, xs: Sequence[float], rows: Sequence[Sequence[Any]]) -> _Bucket:
        columns = tuple(_column(xs, values) for values in zip(*rows, strict=True))
        return cls(xs[-1], sum(xs), len(xs), columns)

    def __add__(self, other: _Bucket) -> _Bucket:
        columns = tuple(a + b for a, b in zip(self.columns, other.columns, strict=True))
        return _Bucket(other.last, self.total + other.total, self.rows + other.rows, columns)

    def until(self, x: float) -> _Bucket | None:
        """Forget what lies after ``x``."""
        if self.last <= x:
            return self
        columns = tuple(column.until(x) for column in self.columns)
        kept = sorted({point[0] for column in columns for point in column.points})
        return _Bucket(kept[-1], sum(kept), len(kept), columns) if kept else None


class Series:
    """Several quantities over a growing x, thinned out.

    Args:
        names: The quantities.
        buckets: How many buckets to keep at most; at least 2.
    """

    def __init__(self, names: Sequence[str], *, buckets: int = BUCKETS) -> None:
        self.names = tuple(names)
        self.rows = 0
        self._index = {name: place for place, name in enumerate(self.names)}
        self._limit = buckets
        self._width = FIRST_WIDTH
        self._buckets: list[_Bucket] = []
        self._xs: list[float] = []
        self._waiting: list[Sequence[Any]] = []
        self._known: list[_Bucket] | None = None

    def add(self, x: float, values: Sequence[Any]) -> None:
        """Take a row: a value for each name; what is no finite number counts as missing."""
        self._xs.append(x)
        self._waiting.append(values)
        self._known = None
        self.rows += 1
        # Short series stay as they are: buckets of one or two rows would only cost time.
        full = min(self._width, CHUNK) if self._buckets else self._width * self._limit
        if len(self._xs) >= full:
            for bucket in self._bucketed(self._width):
                self._append(bucket)
            self._xs, self._waiting = [], []
            self._shrink()

    def cut(self, x: float) -> None:
        """Forget the rows after ``x``: a resumed run does these steps again."""
        self._known = None
        left = [place for place, known in enumerate(self._xs) if known <= x]
        self._xs = [self._xs[place] for place in left]
        self._waiting = [self._waiting[place] for place in left]
        kept = (bucket.until(x) for bucket in self._buckets)
        self._buckets = [bucket for bucket in kept if bucket is not None]
        self.rows = _rows(self._buckets) + len(self._xs)

    def points(self, name: str, *, groups: int = BUCKETS) -> list[Point]:
        """Return a quantity's values where they were: the extremes of neighbouring rows.

        Args:
            name: The quantity.
            groups: At most four points for each of so many groups of rows.
        """
        place = self._index[name]
        return [
            point
            for group in self._groups(groups)
            for point in sum((bucket.columns[place] for bucket in group), _Column()).points
        ]

    def means(self, name: str, *, groups: int = BUCKETS) -> list[Point]:
        """Return the means of a quantity over neighbouring rows, each at the mean of their x."""
        rows = self.mean_rows([name], groups=groups)
        return [(x, values[0]) for x, values in rows if values[0] is not None]

    def mean_rows(
        self, names: Sequence[str], *, groups: int = BUCKETS
    ) -> list[tuple[float, list[float | None]]]:
        """Return the means of several quantities over the same neighbouring rows.

        Args:
            names: The quantities.
            groups: At most so many means.
        """
        means = []
        for group in self._groups(groups):
            x = sum(bucket.total for bucket in group) / _rows(group)
            means.append((x, [_mean(group, self._index[name]) for name in names]))
        return means

    def mean(self, name: str) -> float | None:
        """Return the mean of all values of a quantity; None if there are none."""
        return _mean(self._all(), self._index[name])

    def last(self, name: str) -> float | None:
        """Return the last value of a quantity; None if there are none."""
        points = self.points(name)
        return points[-1][1] if points else None

    def _groups(self, groups: int) -> list[list[_Bucket]]:
        """Put neighbouring buckets into at most so many groups of about the same size."""
        buckets = self._all()
        size = -(-len(buckets) // groups) or 1
        grouped = [buckets[start : start + size] for start in range(0, len(buckets), size)]
        if len(grouped) > 1 and 2 * _rows(grouped[-1]) < _rows(grouped[-2]):
            # The mean of a few last rows would look like a turn of the curve.
            grouped[-2:] = [grouped[-2] + grouped[-1]]
        return grouped

    def _append(self, bucket: _Bucket) -> None:
        """Add a bucket, or put it into the last one if that is not full."""
        if self._buckets and self._buckets[-1].rows + bucket.rows <= self._width:
            self._buckets[-1] += bucket
        else:
            self._buckets.append(bucket)

    def _shrink(self) -> None:
        """Join the buckets two by two if there are too many."""
        if len(self._buckets) <= self._limit:
            return
        pairs = [self._buckets[start : start + 2] for start in range(0, len(self._buckets), 2)]
        self._buckets = [pair[0] + pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
        self._width *= 2

    def _all(self) -> list[_Bucket]:
        """Return the buckets, and the rows that wait for one in further buckets."""
        if self._known is None:
            width = self._width if self._buckets else -(-len(self._xs) // self._limit)
            self._known = self._buckets + self._bucketed(max(1, width))
        return self._known

    def _bucketed(self, width: int) -> list[_Bucket]:
        """Put the rows that wait into buckets."""
        return [
            _Bucket.of(self._xs[start : start + width], self._waiting[start : start + width])
            for start in range(0, len(self._xs), width)
        ]


def number(value: Any) -> float | None:
    """Return a value of a record if it is a finite number, else None."""
    # `type`, not `isinstance`: true and false are no numbers here.
    if (type(value) is float or type(value) is int) and -LARGEST < value < LARGEST:
        return value
    return None


def _column(xs: Sequence[float], values: Sequence[Any]) -> _Column:
    """Return what is kept of a column; what is no number is left out.

    Whole columns are looked at by built-in functions: long runs have millions of values.
    """
    if not _NUMBERS.issuperset(map(type, values)):
        return _numbers_only(xs, values)
    total, low, high = sum(values), min(values), max(values)
    # With a NaN among them, min and max mean nothing; the sum is then a NaN.
    if total != total or low <= -LARGEST or high >= LARGEST:
        return _numbers_only(xs, values)
    places = {0, values.index(low), values.index(high), len(values) - 1}
    points = tuple((xs[place], values[place]) for place in sorted(places))
    return _Column(points, total, len(values))


def _numbers_only(xs: Sequence[float], values: Sequence[Any]) -> _Column:
    pairs = [(x, y) for x, y in zip(xs, values, strict=True) if number(y) is not None]
    return _column(*zip(*pairs, strict=True)) if pairs else _Column()


def _extremes(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Keep the first, smallest, largest and last point, in their order."""
    values = [y for _, y in points]
    if len(values) <= 2:
        return points
    places = {0, values.index(min(values)), values.index(max(values)), len(values) - 1}
    return tuple(points[place] for place in sorted(places))


def _rows(buckets: Sequence[_Bucket]) -> int:
    return sum(bucket.rows for bucket in buckets)


def _mean(buckets: Sequence[_Bucket], place: int) -> float | None:
    count = sum(bucket.columns[place].count for bucket in buckets)
    if not count:
        return None
    return sum(bucket.columns[place].total for bucket in buckets) / count
