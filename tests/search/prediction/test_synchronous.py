"""Pipelines with micro-batches: orders, bubbles, communication, and torch's own schedules."""

from __future__ import annotations

from collections import Counter

import pytest
from blockstep.search.prediction.link import Wire
from blockstep.search.prediction.schedule import (
    SCHEDULES,
    Action,
    Program,
    chunks_per_rank,
    most_alive,
    program,
)
from blockstep.search.prediction.synchronous import Part, follow
from hypothesis import given, settings
from hypothesis import strategies as st

FREE = Wire()
COMPUTE = (Action.FORWARD, Action.BACKWARD)


def computed(steps: Program) -> list[tuple[str, int, int]]:
    """Return the computations of a program: F or B, stage, micro-batch."""
    letters = {Action.FORWARD: "F", Action.BACKWARD: "B"}
    return [
        (letters[step.action], step.stage, step.part) for step in steps if step.action in letters
    ]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("ranks", "parts"), [(2, 2), (2, 6), (3, 3), (4, 8)])
def test_every_micro_batch_goes_forward_and_back_once(schedule: str, ranks: int, parts: int):
    """Each stage computes both for each micro-batch, backward behind forward; what one rank sends
    its neighbour receives."""
    stages = ranks * chunks_per_rank(schedule)
    sent, received, done = Counter(), Counter(), Counter()
    for rank in range(ranks):
        steps = program(schedule, rank, ranks=ranks, parts=parts)
        order = computed(steps)
        done.update(order)
        for way, stage, part in order:
            assert stage % ranks == rank
            if way == "B":
                assert order.index(("F", stage, part)) < order.index((way, stage, part))
        sent.update((s.stage + 1, s.part, "F") for s in steps if s.action == Action.SEND_FORWARD)
        sent.update((s.stage - 1, s.part, "B") for s in steps if s.action == Action.SEND_BACKWARD)
        received.update((s.stage, s.part, "F") for s in steps if s.action == Action.RECEIVE_FORWARD)
        received.update(
            (s.stage, s.part, "B") for s in steps if s.action == Action.RECEIVE_BACKWARD
        )
    assert sent == received
    assert len(sent) == 2 * (stages - 1) * parts
    assert done == Counter(
        {(way, stage, part): 1 for way in "FB" for stage in range(stages) for part in range(parts)}
    )


@pytest.mark.parametrize(("ranks", "parts"), [(2, 2), (2, 4), (3, 6), (4, 4), (4, 16)])
def test_the_interleaved_order_is_that_of_torch(ranks: int, parts: int):
    """Computation by computation, as torch's schedule works it out for each rank."""
    schedules = pytest.importorskip("torch.distributed.pipelining.schedules")
    chunks = 2
    for rank in range(ranks):
        ahead = schedules._get_warmup_ops(rank, chunks, ranks, ranks, parts)
        total = chunks * parts
        theirs = schedules._get_1f1b_rank_ops(
            chunks, ranks, ahead, total - ahead, ahead, rank,
            lambda step, rank=rank: step // ranks % chunks * ranks + rank,
            lambda step, rank=rank, ahead=ahead:
                (chunks - 1 - (step - ahead) // ranks % chunks) * ranks + rank,
        )  # fmt: skip
        letters = {schedules.FORWARD: "F", schedules.FULL_BACKWARD: "B"}
        order = [
            (letters[one.computation_type], one.stage_index, one.microbatch_index)
            for one in theirs
            if one is not None
        ]
        assert computed(program("interleaved_1f1b", rank, ranks=ranks, parts=parts)) == order


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("parts", [4, 8])
def test_the_bubble_of_equal_stages(ranks: int, parts: int):
    """A step takes (n + K - 1) micro-batches of one stage, by GPipe as by 1F1B; the bubble is
    (K - 1) / (n + K - 1)."""
    for schedule in ("gpipe", "1f1b"):
        found = follow(schedule, [Part(1.0, 2.0)] * ranks, parts=parts, wire=FREE)
        assert found.seconds == pytest.approx((parts + ranks - 1) * 3.0)
        bubble = 1 - found.busy[0] / found.seconds
        assert bubble == pytest.approx((ranks - 1) / (parts + ranks - 1))


@pytest.mark.parametrize("ranks", [2, 4])
def test_interleaving_halves_the_bubble(ranks: int):
    """Two stages per rank, each half as long: n + (K - 1) / 2 micro-batches."""
    found = follow("interleaved_1f1b", [Part(0.5, 1.0)] * (2 * ranks), parts=2 * ranks, wire=FREE)
    assert found.seconds == pytest.approx((2 * ranks + (ranks - 1) / 2) * 3.0)
    assert found.busy == pytest.approx([2 * ranks * 3.0] * ranks)


def test_updates_follow_the_last_micro_batch():
    """The longest update of the last rank to finish shows; one rank has no bubble."""
    assert follow("1f1b", [Part(1.0, 2.0, 4.0)], parts=3, wire=FREE).seconds == pytest.approx(13.0)
    slow = follow("gpipe", [Part(1.0, 1.0, 5.0), Part(1.0, 1.0)], parts=2, wire=FREE)
    assert slow.seconds == pytest.approx(2 * 3 + 5.0)


def test_travelling_is_waited_for():
    """Two ranks, one micro-batch: forward, way, forward and backward, way, backward."""
    stages = [Part(1.0, 2.0, out_bytes=10.0), Part(1.0, 2.0)]
    for schedule in ("gpipe", "1f1b"):
        if schedule == "gpipe":
            found = follow(schedule, stages, parts=1, wire=Wire(0.5, 10.0))
            assert found.seconds == pytest.approx(1 + 1.5 + 3 + 1.5 + 2)
    # 1F1B, two micro-batches: the second way on passes while the last rank computes.
    found = follow("1f1b", stages, parts=2, wire=Wire(0.0, 10.0))
    assert found.seconds == pytest.approx(1 + 1 + 1 + 3 + 1 + 2 + 2 + 1)


@pytest.mark.parametrize(
    ("schedule", "kept"),
    [("gpipe", [8, 8, 8, 8]), ("1f1b", [4, 3, 2, 1]), ("interleaved_1f1b", [11, 9, 7, 5])],
)
def test_what_is_kept(schedule: str, kept: list[int]):
    """GPipe keeps every micro-batch, 1F1B at most as many as there are stages from here on."""
    for rank in range(4):
        stages = range(rank, 4 * chunks_per_rank(schedule), 4)
        sizes = dict.fromkeys(stages, 1.0)
        assert most_alive(program(schedule, rank, ranks=4, parts=8), sizes) == kept[rank]


@pytest.mark.parametrize(
    ("schedule", "ranks", "parts", "message"),
    [
        ("zb", 2, 2, "schedule 'zb': must be one of gpipe, 1f1b, interleaved_1f1b"),
        ("1f1b", 4, 3, "1f1b over 4 ranks has at least 4 micro-batches, not 3"),
        (
            "interleaved_1f1b",
            4,
            6,
            "interleaved_1f1b over 4 ranks has a multiple of 4 micro-batches, not 6",
        ),
        ("gpipe", 4, 0, "at least 1 micro-batches, not 0"),
    ],
)
def test_impossible_schedules(schedule: str, ranks: int, parts: int, message: str):
    """The refusal has both numbers."""
    with pytest.raises(ValueError, match=message):
        program(schedule, 0, ranks=ranks, parts=parts)


def test_stages_must_fill_the_ranks():
    """Interleaved needs two stages per rank."""
    with pytest.raises(ValueError, match="2 stages per rank, so not 3"):
        follow("interleaved_1f1b", [Part(1.0, 1.0)] * 3, parts=4, wire=FREE)


def recurrence(schedule: str, stages: list[Part], parts: int, wire: Wire) -> float:
    """Return when the first step is over, by longest paths through a table: an independent
    implementation for free and for slow wires, GPipe only.

    A receive is posted when the receiver has come to it, so a message travels from then, and
    messages of one direction between two ranks one after the other.
    """
    ranks = len(stages)
    free = [0.0] * ranks
    arrived: dict[tuple[str, int, int], float] = {}
    sent: dict[tuple[str, int, int], float] = {}
    busy: dict[tuple[int, int], float] = {}
    for way, order in (("F", range(ranks)), ("B", range(ranks - 1, -1, -1))):
        if way == "B":
            for rank in range(ranks - 1):
                free[rank] = max(free[rank], *(arrived["F", rank + 1, p] for p in range(parts)))
        for rank in order:
            source = rank - 1 if way == "F" else rank + 1
            for part in range(parts):
                if 0 <= source < ranks:
                    size = stages[min(rank, source)].out_bytes
                    begin = max(sent[way, source, part], free[rank], busy.get((source, rank), 0.0))
                    busy[source, rank] = begin + wire.seconds(size)
                    arrived[way, rank, part] = busy[source, rank]
                    free[rank] = busy[source, rank]
                free[rank] += stages[rank].forward if way == "F" else stages[rank].backward
                sent[way, rank, part] = free[rank]
    for rank in range(1, ranks):
        free[rank] = max(free[rank], *(arrived["B", rank - 1, part] for part in range(parts)))
    return max(end + stage.update for end, stage in zip(free, stages, strict=True))


SECONDS = st.floats(0.125, 4.0)
PARTS = st.lists(st.builds(Part, SECONDS, SECONDS, SECONDS, SECONDS), min_size=2, max_size=4)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(PARTS, st.integers(1, 6), st.floats(0.0, 2.0), st.floats(0.125, 8.0))
def test_gpipe_is_the_longest_path(
    stages: list[Part], parts: int, latency: float, bandwidth: float
):
    """Any stages over any wire take as long as the longest chain of what waits for what."""
    wire = Wire(latency, bandwidth)
    from blockstep.search.prediction.synchronous import _Run

    (end,) = _Run("gpipe", stages, len(stages), parts, wire, 1).ends()
    assert end == pytest.approx(recurrence("gpipe", stages, parts, wire))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(PARTS, st.sampled_from(list(SCHEDULES)), st.integers(1, 3), SECONDS, st.floats(1.0, 4.0))
def test_more_bandwidth_is_not_slower_and_no_schedule_beats_its_ranks(
    stages: list[Part], schedule: str, rounds: int, bandwidth: float, factor: float
):
    """A step takes at least what its busiest rank computes."""
    stages = stages[: len(stages) // 2 * 2]
    ranks = len(stages) // chunks_per_rank(schedule)
    parts = ranks * rounds
    slow, fast = (
        follow(schedule, stages, parts=parts, wire=Wire(0.125, one))
        for one in (bandwidth, bandwidth * factor)
    )
    if ranks > 1:
        assert fast.seconds <= slow.seconds * (1 + 1e-9)
    assert fast.seconds >= max(fast.busy) * (1 - 1e-9)
