"""Tests of `blockstep.launch.report.spans`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blockstep.launch.report.spans import KINDS, Trace, occupancy, read_trace, windows
from blockstep.pipeline.timeline import StepTimes, Timeline

WriteRun = Callable[..., Path]


def trace_of(**stages: Timeline) -> Trace:
    events = [event for name, line in stages.items() for event in line.events(int(name[1:]))]
    trace = read_trace({"traceEvents": events})
    assert trace is not None
    return trace


def timeline(steps: int, *, begin: float = 7.0, first: float = 0.0) -> Timeline:
    """Steps of 10 ms: 2 waiting for input, 7 busy, 1 waiting for room."""
    line = Timeline()
    now = begin
    for step in range(1, steps + 1):
        busy = 0.007 + (first if step == 1 else 0.0)
        line.add(StepTimes(step, now, 0.002, busy, 0.001))
        now += 0.003 + busy
    return line


def test_spans_are_those_of_the_timeline(write_run: WriteRun):
    """Every complete event becomes a span, in seconds since the first one."""
    events = json.loads((write_run() / "trace.json").read_text())["traceEvents"]
    complete = [event for event in events if event["ph"] == "X"]
    trace = read_trace({"traceEvents": events})
    assert trace is not None
    assert sum(map(len, trace.stages.values())) == len(complete)
    assert min(span.begin for spans in trace.stages.values() for span in spans) == 0
    total = sum(event["dur"] for event in complete if event["pid"] == 2) / 1e6
    assert sum(span.seconds for span in trace.stages[2]) == pytest.approx(total)
    assert {span.kind for span in trace.stages[1]} <= set(KINDS)


def test_of_several_replicas_the_first_is_read():
    """Replicas are threads of their stage in the file; a page shows one line per stage."""
    events = timeline(5).events(1) + timeline(9, begin=3.0).events(1, replica=2)
    trace = read_trace({"traceEvents": events})
    assert trace is not None
    assert trace.stages == trace_of(s1=timeline(5)).stages


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"traceEvents": 5},
        {"traceEvents": [None, {"ph": "X"}, {"ph": "X", "pid": 1, "ts": 0, "dur": 1, "name": "?"}]},
        {"traceEvents": [{"ph": "X", "pid": 1, "ts": "0", "dur": 1, "name": "busy"}]},
        {"traceEvents": [{"ph": "X", "pid": 1, "ts": 0, "dur": 1, "name": "busy", "args": 3}]},
        {"traceEvents": [{"ph": "X", "pid": 1, "ts": 0, "dur": 1, "name": ["busy"]}]},
    ],
)
def test_a_file_without_spans_is_no_trace(value: Any):
    """What is not understood is left out."""
    assert read_trace(value) is None


def test_occupancy_is_the_share_of_time():
    """Over the whole run the parts add up to the time of each kind."""
    trace = trace_of(s1=timeline(100))
    shares = occupancy(trace.stages[1], seconds=trace.seconds, bins=7)
    means = [sum(share[kind] for share in shares) / 7 for kind in range(len(KINDS))]
    assert means == pytest.approx([0.7, 0, 0.2, 0.1, 0, 0], abs=1e-6)
    assert all(sum(share) == pytest.approx(1) for share in shares)


def test_sums_over_steps_are_spread_over_their_time():
    """Steps that the timeline added up count in the parts where they were done."""
    trace = trace_of(s1=timeline(9000))
    assert any(span.added_up for span in trace.stages[1])
    shares = occupancy(trace.stages[1], seconds=trace.seconds, bins=11)
    for share in shares:
        assert share == pytest.approx((0.7, 0, 0.2, 0.1, 0, 0), abs=0.02)


def test_learning_again_is_a_kind_only_where_it_happens():
    """Runs without replay have no colour for it; in others it counts as its own share."""
    assert "replay" not in trace_of(s1=timeline(9)).kinds
    line = Timeline()
    for step in range(1, 11):
        times = (0.002, 0.003, 0.001)
        line.add(StepTimes(step, 0.01 * (step - 1), *times, replay=0.004 if step > 5 else 0.0))
    trace = trace_of(s1=line)
    assert trace.kinds == list(KINDS)
    first, last = occupancy(trace.stages[1], seconds=0.1, bins=2, kinds=trace.kinds)
    assert first == pytest.approx((0.3, 0, 0.2, 0.1, 0, 0))
    assert last == pytest.approx((0.3, 0.4, 0.2, 0.1, 0, 0))


def test_an_evaluation_is_a_part_of_the_time():
    """Marks are shown beside the steps."""
    line = timeline(10, begin=0.0)
    line.mark("evaluate", step=10, begin=0.1, seconds=0.1)
    trace = trace_of(s1=line)
    shares = occupancy(trace.stages[1], seconds=trace.seconds, bins=2)
    assert shares[0][KINDS.index("evaluate")] == pytest.approx(0)
    assert shares[1][KINDS.index("evaluate")] == pytest.approx(1)


def test_windows_show_the_first_and_some_later_steps():
    """Twenty steps from the start and twelve from the middle of those kept, at the last stage."""
    trace = trace_of(s1=timeline(3000), s2=timeline(3000, begin=7.1))
    first, later = windows(trace)
    assert first.title == "Steps 1\u201320"
    assert first.begin == 0
    assert first.end == pytest.approx(0.1 + 0.2, abs=1e-4)
    assert later.end - later.begin == pytest.approx(0.12, abs=1e-4)
    assert 10 < later.begin < trace.seconds


def test_a_short_run_has_one_window():
    """No window repeats the steps of the first."""
    assert len(windows(trace_of(s1=timeline(25)))) == 1


def test_a_slow_first_step_is_left_out_and_told():
    """Compiling for seconds does not squeeze the steps of milliseconds."""
    first, *_ = windows(trace_of(s1=timeline(100, first=5.0)))
    assert first.title.startswith("Steps 2\u201320 (step 1 warmed up for 5.01 s")
    assert first.end - first.begin == pytest.approx(0.19, abs=1e-4)


def test_clocks_of_different_machines_begin_together():
    """Monotonic clocks of two machines have nothing in common; stages of one machine have."""
    lines = {
        "s1": timeline(5, begin=3.0),
        "s2": timeline(5, begin=4.0),
        "s3": timeline(5, begin=90.0),
    }
    aligned = trace_of(**lines).aligned({1: "a", 2: "a", 3: "b"})
    begins = {stage: spans[0].begin for stage, spans in aligned.stages.items()}
    assert begins == pytest.approx({1: 0.0, 2: 1.0, 3: 0.0})


def test_many_stages_show_fewer_steps():
    """A window of 128 stages stays drawable."""
    trace = trace_of(**{f"s{stage}": timeline(60) for stage in range(1, 129)})
    assert windows(trace)[0].title == "Steps 1\u20134"
