"""Nothing grows with the number of steps."""

from __future__ import annotations

import gc
import os
import threading

import pytest
from blockstep.pipeline import timeline
from blockstep.pipeline.crew import run_in_threads
from blockstep.pipeline.feed import Agenda
from blockstep.pipeline.recorder import memory_bytes

from tests.pipeline.parts import make_crew

SLACK_OBJECTS = 200
SLACK_BYTES = 8 << 20


def run(steps: int) -> tuple[int, int, int, int]:
    """Run a pipeline of two threads; count threads, open files, Python objects and bytes."""
    agenda = Agenda(
        start=0,
        steps=steps,
        batch_size=2,
        evaluate_every=100,
        splits=("test",),
        checkpoint_every=100,
    )
    crew = make_crew(2, agenda, depth=4)
    run_in_threads(crew.workers, crew.links)
    for records in crew.records:
        assert len(records.mailbox.take()) == steps // 5
        assert len(records.evaluations) == steps // 100 - 1
        records.evaluations.clear()
    gc.collect()
    files = len(os.listdir("/proc/self/fd"))
    return threading.active_count(), files, len(gc.get_objects()), memory_bytes()


def test_nothing_grows_with_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 steps leave the threads, files, objects and memory of 300, with evaluations."""
    # The spans that a timeline keeps by design reach their bounds within the shorter run.
    monkeypatch.setattr(timeline, "FIRST_STEPS", 10)
    monkeypatch.setattr(timeline, "LAST_STEPS", 50)
    monkeypatch.setattr(timeline, "MAX_AGGREGATES", 16)
    monkeypatch.setattr(timeline, "MAX_MARKS", 4)
    run(100)
    short = run(300)
    long = run(3000)
    assert long[0] == short[0]
    assert long[1] == short[1]
    assert abs(long[2] - short[2]) < SLACK_OBJECTS
    assert long[3] - short[3] < SLACK_BYTES
