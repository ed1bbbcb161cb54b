"""Tests of `blockstep.launch.report.scale`."""

from __future__ import annotations

import math

import pytest
from blockstep.launch.report.scale import (
    DASH,
    byte_unit,
    clock_text,
    count_text,
    fit,
    number_text,
    percent_text,
    seconds_text,
    span_unit,
)
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.booleans(), st.booleans())
def test_every_value_is_on_the_axis(values: list[float], zero: bool, tight: bool):
    """The axis holds all values, has some ticks, and its ticks lie on it at equal distances."""
    scale = fit(values, zero=zero, tight=tight)
    room = 1e-6 * (scale.high - scale.low)
    assert scale.low < scale.high
    assert scale.low - room <= min(values) <= max(values) <= scale.high + room
    assert 1 <= len(scale.ticks) <= 14
    assert all(scale.low - room <= tick <= scale.high + room for tick in scale.ticks)
    assert len(scale.texts()) == len(scale.ticks)
    if zero:
        assert scale.low <= 0 <= scale.high


def test_ticks_are_round_numbers():
    """1, 2 or 5 times a power of ten."""
    assert fit([0.03, 0.96]).ticks == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert fit([7, 1830], tight=True).ticks == (500, 1000, 1500)
    assert fit([]).ticks == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1.0))


def test_ticks_have_the_decimals_they_need():
    """All ticks of an axis are written alike, long ones in thousands."""
    assert fit([0.001, 0.0042]).texts() == ["0.001", "0.002", "0.003", "0.004", "0.005"]
    assert fit([0, 250_000]).texts() == ["0", "50k", "100k", "150k", "200k", "250k"]
    assert fit([0, 2_000]).texts() == ["0", "500", "1,000", "1,500", "2,000"]
    assert fit([0, 4e-7]).texts()[-1] == "4e-07"


def test_percentages_stay_below_100():
    """An axis of accuracies ends at 100, unless a file claims more."""
    assert fit([55, 99.2], limits=(0, 100)).high == 100
    assert fit([99.97, 99.98], limits=(0, 100)).high <= 100
    assert fit([100.0], limits=(0, 100)).high == 100
    assert fit([200.0], limits=(0, 100)).high >= 200


def test_nothing_measured_is_a_dash_and_zero_is_not():
    """None is never shown as 0."""
    for text in (number_text, percent_text, count_text, seconds_text):
        assert text(None) == DASH
        assert DASH not in text(0.0)
        assert text(0.0).startswith("0")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1912.3, "1,912"),
        (0.0123456, "0.01235"),
        (93.17, "93.17"),
        (1e-6, "1e-06"),
        (-2.5, "-2.500"),
    ],
)
def test_numbers_have_four_significant_digits(value: float, text: str):
    """Whole digits are never dropped."""
    assert number_text(value) == text


def test_units_follow_the_size():
    """Bytes and seconds are told in the unit that reads well."""
    assert byte_unit(3 << 20).name == "MiB"
    assert byte_unit(12).name == "bytes"
    assert [span_unit(s).name for s in (1e-5, 0.02, 30, 200, 10_000)] == [
        "\u00b5s",
        "ms",
        "s",
        "min",
        "h",
    ]
    assert seconds_text(0.0155) == "15.5\u202fms"
    assert count_text(11_173_962) == "11.2\u202fM"
    assert percent_text(0.93171) == "93.17%"
    assert clock_text(3725) == "1:02:05"
    assert clock_text(65.4) == "1:05"
    assert clock_text(1.26, tenths=True) == "1.3\u202fs"


@given(st.floats(1e-300, 1e300))
def test_every_number_has_a_text(value: float):
    """No size of a number breaks the page."""
    assert math.isfinite(float(number_text(value).replace(",", "")))
    assert seconds_text(value)
    assert count_text(value)
