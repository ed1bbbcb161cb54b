"""Tests of `blockstep.launch.report.series`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from blockstep.launch.report.series import Series, number
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300)


def filled(values: Sequence[Any], *, buckets: int = 10) -> Series:
    series = Series(["y"], buckets=buckets)
    for step, value in enumerate(values, start=1):
        series.add(step, [value])
    return series


def test_a_short_series_is_kept_as_it_is():
    """Nothing is thinned out while there are no more rows than buckets."""
    values = [3.0, 1.0, 2.0, 5.0]
    assert filled(values).points("y") == [(1, 3.0), (2, 1.0), (3, 2.0), (4, 5.0)]


@given(VALUES)
def test_the_extremes_and_the_ends_survive(values: list[float]):
    """The smallest, largest, first and last value are among the points, where they were."""
    points = filled(values).points("y")
    assert {(1, values[0]), (len(values), values[-1])} <= set(points)
    assert min(y for _, y in points) == min(values)
    assert max(y for _, y in points) == max(values)
    assert all(values[int(x) - 1] == y for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)


@given(VALUES)
def test_means_are_those_of_all_rows(values: list[float]):
    """Means of the groups, weighted with their rows, give the mean that numpy finds."""
    series = filled(values)
    assert series.mean("y") == pytest.approx(np.mean(values), abs=1e-6)
    one = series.means("y", groups=1)
    assert one == [(pytest.approx((1 + len(values)) / 2), pytest.approx(np.mean(values), abs=1e-6))]


def test_a_single_outlier_among_many_is_found_in_its_place():
    """One record of 100,000 that is off is still drawn."""
    values = [math.sin(step / 999) for step in range(100_000)]
    values[54_321] = 40.0
    series = filled(values, buckets=250)
    points = series.points("y")
    assert (54_322, 40.0) in points
    assert 250 <= len(points) <= 4 * 251
    assert series.rows == 100_000


def test_fewer_groups_give_fewer_points_with_the_same_extremes():
    """A chart with many lines draws each with fewer points."""
    values = [float((7 * step) % 101) for step in range(1000)]
    points = filled(values, buckets=100).points("y", groups=5)
    assert len(points) <= 4 * 5
    assert {0.0, 100.0} <= {y for _, y in points}


def test_means_follow_the_rows_in_order():
    """The mean of each group lies over the mean of its steps."""
    series = filled([float(step) for step in range(1, 101)], buckets=10)
    for x, y in series.means("y", groups=10):
        assert x == pytest.approx(y)


def test_a_last_group_of_few_rows_joins_the_one_before():
    """One row at the end does not make a point of its own among means of many."""
    series = filled([0.0] * 20 + [100.0], buckets=100)
    assert [y for _, y in series.means("y", groups=3)] == pytest.approx([0, 0, 100 / 7])
    series = filled([0.0] * 40 + [90.0], buckets=41)
    assert [y for _, y in series.means("y", groups=4)][-1] == pytest.approx(90 / 8)


def test_several_quantities_share_their_rows():
    """Means of several quantities are over the same steps, also where one is missing."""
    series = Series(["a", "b"], buckets=4)
    for step in range(8):
        series.add(step, [float(step), None if step < 4 else 1.0])
    assert series.mean_rows(["a", "b"], groups=2) == [(1.5, [1.5, None]), (5.5, [5.5, 1.0])]
    assert series.points("b") == [(4, 1.0), (5, 1.0), (6, 1.0), (7, 1.0)]
    assert series.last("a") == 7.0


@pytest.mark.parametrize("odd", [None, "text", True, math.nan, math.inf, 1e31, [1], 10**400])
def test_what_is_no_number_is_left_out(odd: object):
    """Texts, truth values and infinities in a record are gaps, never zeros."""
    series = filled([1.0, odd, 3.0])
    assert series.points("y") == [(1, 1.0), (3, 3.0)]
    assert series.mean("y") == 2.0
    assert number(odd) is None
    assert filled([odd]).mean("y") is None


@pytest.mark.parametrize("rows", [30, 1000])
def test_a_resume_forgets_what_came_after_it(rows: int):
    """Steps that are done again do not appear twice."""
    series = filled([float(step) for step in range(1, rows + 1)], buckets=10)
    series.cut(20)
    assert max(x for x, _ in series.points("y")) <= 20
    for step in range(21, 41):
        series.add(step, [-float(step)])
    points = series.points("y")
    assert all(y == (x if x <= 20 else -x) for x, y in points)
    assert (40, -40.0) in points


def test_a_series_does_not_grow_with_its_rows():
    """A hundred times the rows take no more memory: all that it holds is as long as before."""

    def longest(rows: int) -> int:
        series = filled([float(step % 17) for step in range(rows)], buckets=50)
        return max(len(part) for part in vars(series).values() if isinstance(part, list))

    assert longest(200_000) <= longest(399) == 399
    assert longest(200_511) <= 512
