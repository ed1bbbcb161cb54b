"""Spans of a stage: exact at both ends of a run, sums between, bounded always."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from blockstep.pipeline.timeline import (
    FIRST_STEPS,
    LAST_STEPS,
    MAX_AGGREGATES,
    MAX_MARKS,
    StepTimes,
    Timeline,
)


def times_of(steps: int) -> list[StepTimes]:
    """Make steps of random lengths that follow each other without gaps."""
    draw = random.Random(3)
    clock, result = 100.0, []
    for step in range(1, steps + 1):
        waits = draw.random(), draw.random(), draw.random(), draw.random()
        result.append(StepTimes(step, clock, *waits))
        clock += sum(waits)
    return result


def filled(steps: int) -> Timeline:
    """Make a timeline of ``steps`` steps."""
    timeline = Timeline()
    for times in times_of(steps):
        timeline.add(times)
    return timeline


def covered(timeline: Timeline) -> list[tuple[int, int]]:
    """Return the steps that each entry covers, in the order of the run."""
    return [
        *((times.step, times.step) for times in timeline.first),
        *((part.first, part.last) for part in timeline.aggregates),
        *((times.step, times.step) for times in timeline.last),
    ]


BOUNDARY = FIRST_STEPS + LAST_STEPS


@pytest.mark.parametrize(
    "steps", [0, 1, FIRST_STEPS, FIRST_STEPS + 1, BOUNDARY, BOUNDARY + 1, 5000, 20_000]
)
def test_every_step_is_kept_once(steps: int) -> None:
    """Steps are covered without a gap or an overlap, and both ends are kept exactly."""
    timeline, times = filled(steps), times_of(steps)
    expected = 1
    for first, last in covered(timeline):
        assert first == expected
        assert last >= first
        expected = last + 1
    assert expected == steps + 1
    assert timeline.first == times[:FIRST_STEPS]
    assert list(timeline.last) == times[FIRST_STEPS:][-LAST_STEPS:]


def test_no_second_is_lost() -> None:
    """Over 20,000 steps the sums of waiting, computing and replay are those of the steps."""
    timeline, times = filled(20_000), times_of(20_000)
    parts = [*timeline.first, *timeline.aggregates, *timeline.last]
    for name in ("wait_in", "busy", "wait_out", "replay"):
        kept = math.fsum(getattr(part, name) for part in parts)
        assert kept == pytest.approx(math.fsum(getattr(each, name) for each in times), rel=1e-9)


def test_an_aggregate_begins_where_its_first_step_began() -> None:
    """Sums stand in the trace at the time of the steps they stand for."""
    timeline, times = filled(20_000), times_of(20_000)
    assert timeline.aggregates
    for part in timeline.aggregates:
        assert part.begin == times[part.first - 1].begin


@pytest.mark.parametrize("steps", [3000, 20_000, 60_000])
def test_memory_does_not_grow_with_the_steps(steps: int) -> None:
    """However many steps and marks, the entries stay within their bounds."""
    timeline = filled(steps)
    for number in range(3000):
        timeline.mark("evaluate", step=number, begin=float(number), seconds=1.0)
    assert len(timeline.first) == FIRST_STEPS
    assert len(timeline.last) == LAST_STEPS
    assert len(timeline.aggregates) <= MAX_AGGREGATES
    assert len(timeline.marks) == MAX_MARKS
    entries = FIRST_STEPS + LAST_STEPS + MAX_AGGREGATES
    assert len(timeline.events(1)) <= 4 * entries + MAX_MARKS


def test_aggregates_cover_about_the_same_number_of_steps() -> None:
    """No aggregate covers more than twice the steps of another, but for the one being filled."""
    widths = [part.last - part.first + 1 for part in filled(60_000).aggregates][:-1]
    assert max(widths) <= 2 * min(widths)


def test_events_are_those_of_the_chrome_trace_format() -> None:
    """A step is three complete events in microseconds, one behind the other."""
    timeline = Timeline()
    timeline.add(StepTimes(7, begin=2.0, wait_in=0.5, busy=1.0, wait_out=0.25))
    common: dict[str, Any] = {"ph": "X", "pid": 3, "tid": 0, "args": {"step": 7}}
    assert timeline.events(3) == [
        {"name": "wait_in", "ts": 2_000_000.0, "dur": 500_000.0, **common},
        {"name": "busy", "ts": 2_500_000.0, "dur": 1_000_000.0, **common},
        {"name": "wait_out", "ts": 3_500_000.0, "dur": 250_000.0, **common},
    ]


def test_events_are_sorted_and_include_marks_and_sums() -> None:
    """Events come by time; sums name their steps, marks their kind; empty spans are left out."""
    timeline = filled(20_000)
    timeline.mark("checkpoint", step=4, begin=105.0, seconds=2.0)
    timeline.add(StepTimes(20_001, begin=1e6, wait_in=0.0, busy=1.0, wait_out=0.0))
    events = timeline.events(1)
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
    assert all(event["dur"] > 0 for event in events)
    kinds = {"replay", "wait_in", "busy", "wait_out", "checkpoint"}
    assert {event["name"] for event in events} == kinds
    assert [event["name"] for event in events if event["args"]["step"] == 20_001] == ["busy"]
    first = timeline.aggregates[0]
    named = [event for event in events if event["args"]["step"] == f"{first.first}-{first.last}"]
    assert len(named) == 4


def test_the_median_leaves_out_the_warm_up() -> None:
    """The first ten steps count neither for the median of computing nor for the mean waits."""
    timeline = Timeline()
    assert timeline.median_busy() is None
    assert timeline.mean_waits() == (None, None)
    for step in range(1, 11):
        timeline.add(StepTimes(step, 0.0, 50.0, 100.0, 50.0))
    assert timeline.median_busy() is None
    assert timeline.mean_waits() == (None, None)
    for step, busy in ((11, 1.0), (12, 9.0), (13, 2.0)):
        timeline.add(StepTimes(step, 0.0, 3.0 * busy, busy, 0.5))
    assert timeline.median_busy() == 2.0
    assert timeline.mean_waits() == (pytest.approx(12.0), pytest.approx(0.5))
