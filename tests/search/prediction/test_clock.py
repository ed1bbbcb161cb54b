"""The clock that jumps from event to event."""

from __future__ import annotations

import pytest
from blockstep.search.prediction.clock import Clock, Process, StuckError


def test_processes_wait_for_time_and_for_each_other():
    """A process that waits for a condition goes on at the moment when another made it true."""
    clock, told = Clock(), []
    flag: list[str] = []

    def early() -> Process:
        yield lambda: bool(flag)
        told.append(("early", clock.now))
        yield 0.5
        told.append(("early", clock.now))

    def late() -> Process:
        yield 2.0
        flag.append("set")
        yield 0.25
        told.append(("late", clock.now))

    clock.start("early", early())
    clock.start("late", late())
    clock.run()
    assert told == [("early", 2.0), ("late", 2.25), ("early", 2.5)]


def test_those_who_wait_for_ever_are_named():
    """A deadlock is an error, not a hang."""
    clock = Clock()

    def never() -> Process:
        yield lambda: False

    clock.start("stage 2", never())
    with pytest.raises(StuckError, match="these wait for ever: stage 2"):
        clock.run()
