"""Pipelines without a schedule: closed forms, bounds, and an independent simulation in ticks."""

from __future__ import annotations

import math

import pytest
from blockstep.search.prediction.asynchronous import Work, simulate
from blockstep.search.prediction.link import Room, Wire
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.prediction.ticks import Belt, ends_of_errors_back, ends_of_forward_only

FREE = Wire()
STEPS = 12


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_equal_stages_work_all_the_time(blocks: int):
    """Without feedback and with free links a step takes what a stage takes: no bubble."""
    course = simulate([Work(2.0, 1.0)] * blocks, wires=[FREE] * (blocks - 1), room=Room())
    assert course.seconds == pytest.approx(3.0)
    for stage in course.stages:
        assert (stage.busy, stage.wait_in, stage.wait_out) == pytest.approx((3.0, 0.0, 0.0))


def test_the_slowest_stage_sets_the_pace():
    """Those before it wait for room behind them, those behind it for an input."""
    times = [1.0, 4.0, 2.0]
    course = simulate([Work(one) for one in times], wires=[FREE] * 2, room=Room(messages=2))
    assert course.seconds == pytest.approx(4.0)
    assert [stage.busy for stage in course.stages] == pytest.approx(times)
    assert course.stages[0].wait_out == pytest.approx(3.0)
    assert course.stages[2].wait_in == pytest.approx(2.0)
    assert course.deepest[0] == 2


def test_a_slow_link_sets_the_pace():
    """A message takes latency + bytes / bandwidth, while the stages compute."""
    works = [Work(1.0, out_bytes=30.0), Work(1.0)]
    course = simulate(works, wires=[Wire(0.5, 10.0)], room=Room())
    assert course.seconds == pytest.approx(3.5)
    quick = simulate(works, wires=[Wire(0.5, 100.0)], room=Room())
    assert quick.seconds == pytest.approx(1.0)


def test_feedback_needs_every_error_one_step_later():
    """With free links and room, equal stages of a feedback method do not wait either."""
    for blocks in (1, 2, 4):
        course = simulate(
            [Work(1.0, 2.0)] * blocks, wires=[FREE] * (blocks - 1), room=Room(), feedback=True
        )
        assert course.seconds == pytest.approx(3.0)


def test_feedback_over_a_slow_link_waits():
    """Stage 1 is one step ahead of what it learns from, so a round takes two steps.

    Its forward (1 s), the way on (10), the last stage's step (2), the way back (10), learning (1):
    24 seconds for two steps.
    """
    works = [Work(1.0, 1.0, out_bytes=10.0), Work(1.0, 1.0)]
    course = simulate(works, wires=[Wire(0.0, 1.0)], room=Room(), feedback=True, steps=200)
    assert course.seconds == pytest.approx(12.0, rel=0.02)
    assert course.stages[0].wait_in > 8.0


@pytest.mark.parametrize("messages", [1, 2, 5])
def test_a_queue_is_never_deeper_than_its_room(messages: int):
    """In messages and in bytes; a message that is larger than all room travels alone."""
    works = [Work(1.0, out_bytes=10.0), Work(5.0)]
    for room, most in (
        (Room(messages), messages),
        (Room(9, 10.0 * messages), messages),
        (Room(9, 5.0), 1),
    ):
        for wire in (FREE, None):
            course = simulate(works, wires=[wire], room=room)
            assert course.deepest == (most,)


def test_numbers_must_fit():
    """There is one wire between each two stages; wires are not slower than for ever."""
    with pytest.raises(ValueError, match="2 stages have 1 links, not 2"):
        simulate([Work(1.0)] * 2, wires=[FREE] * 2, room=Room())
    for latency, bandwidth in ((-1.0, 1.0), (0.0, 0.0), (math.inf, 1.0)):
        with pytest.raises(ValueError, match="give at least 0 seconds"):
            Wire(latency, bandwidth)


TICKS = st.integers(0, 9)
BELTS = st.builds(Belt, latency=TICKS, carriage=TICKS, depth=st.integers(1, 3), local=st.booleans())


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_the_same_as_in_ticks(data: st.DataObject):
    """Any stages whose times differ from step to step, over any links, end when machines do that
    go through time tick by tick."""
    blocks = data.draw(st.integers(1, 4))
    table = data.draw(st.lists(st.lists(st.integers(1, 9), min_size=STEPS, max_size=STEPS),
                               min_size=blocks, max_size=blocks))  # fmt: skip
    depth = data.draw(st.integers(1, 3))
    belts = [data.draw(BELTS) for _ in range(blocks - 1)]
    for belt in belts:
        belt.depth = depth
    ends = ends_of_forward_only(lambda stage, step: table[stage][step], belts, steps=STEPS)
    course = simulate(
        [Work(1.0, out_bytes=belt.carriage) for belt in belts] + [Work(1.0)],
        wires=[None if belt.local else Wire(belt.latency, 1.0) for belt in belts],
        room=Room(depth),
        steps=STEPS,
        warmup=0,
        factor=lambda stage, step: table[stage][step],
    )
    assert list(course.ends) == ends[-1]
    assert list(course.deepest) == [belt.deepest for belt in belts]


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_feedback_is_the_same_as_in_ticks(data: st.DataObject):
    """Errors travel back over links of their own, and are taken one step late."""
    blocks = data.draw(st.integers(1, 4))
    numbers = st.lists(st.integers(1, 9), min_size=blocks, max_size=blocks)
    forward, learn = data.draw(numbers), data.draw(numbers)
    depth = data.draw(st.integers(1, 3))
    shapes = [data.draw(BELTS) for _ in range(blocks - 1)]
    pairs = [
        [Belt(one.latency, one.carriage, depth, one.local) for one in shapes] for _ in range(2)
    ]
    ends = ends_of_errors_back(forward, learn, *pairs, steps=STEPS)
    sizes = [*(one.carriage for one in shapes), 0]
    course = simulate(
        [Work(*times) for times in zip(forward, learn, sizes, strict=True)],
        wires=[None if one.local else Wire(one.latency, 1.0) for one in shapes],
        room=Room(depth),
        feedback=True,
        steps=STEPS,
        warmup=0,
    )
    assert list(course.ends) == ends[-1]


POSITIVE = st.floats(0.125, 8.0)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.lists(POSITIVE, min_size=2, max_size=4),
    POSITIVE,
    st.floats(1.0, 4.0),
    st.booleans(),
    st.integers(1, 3),
)
def test_more_bandwidth_is_never_slower(
    times: list[float], bandwidth: float, factor: float, feedback: bool, messages: int
):
    """And no pipeline is faster than its slowest stage or, without feedback, than its link."""
    works = [Work(one / 2, one / 2, 3.0) for one in times]

    def seconds(speed: float) -> float:
        wires = [Wire(0.125, speed)] * (len(works) - 1)
        return simulate(works, wires=wires, room=Room(messages), feedback=feedback).seconds

    slow, fast = seconds(bandwidth), seconds(bandwidth * factor)
    assert fast <= slow * (1 + 1e-9)
    assert slow >= max(times) * (1 - 1e-9)
    if not feedback:
        assert slow == pytest.approx(max(*times, 0.125 + 3.0 / bandwidth))
