"""Predictions of whole methods: closed forms, memory, traffic, and what cannot be had."""

from __future__ import annotations

import itertools
import math

import pytest
from blockstep.search import DecouplingError, ProfileError, predicted
from blockstep.search.decoupling import NO_HEAD
from blockstep.search.prediction.cluster import Cluster
from blockstep.search.prediction.costs import Costs
from blockstep.search.prediction.link import Room, Wire
from blockstep.search.prediction.measurements import Measurements
from blockstep.search.prediction.method import Method
from blockstep.search.prediction.planner import Planner
from blockstep.search.prediction.prediction import PredictionError
from blockstep.search.replication import divide
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.prediction.parts import measurements, profile

FREE = Wire()
LAYERS, BATCH = 9, 32
BACKPROP, DDP = Method("backprop", "backprop"), Method("ddp", "ddp")
SEDONA = Method("sedona", "decoupled", "aux1")
REPLAY, DDG = Method("features_replay", "features_replay"), Method("ddg", "ddg")
GPIPE, ONE, INTERLEAVED = (
    Method("gpipe", "gpipe"),
    Method("1f1b", "1f1b"),
    Method("interleaved_1f1b", "interleaved_1f1b"),
)
EVERY = (DDP, SEDONA, REPLAY, DDG, GPIPE, ONE, INTERLEAVED)


def planner(
    devices: int,
    wire: Wire = FREE,
    *,
    microbatches: int | None = None,
    overlap: float = 1.0,
    parameters: int = 100,
    room: Room = Room(),  # noqa: B008
) -> Planner:
    """Make a planner for a network of equal layers whose times are proportional to the batch."""
    costs = Costs(measurements(LAYERS, sizes=(4, BATCH), parameters=parameters))
    cluster = Cluster(devices, wire, overlap=overlap, room=room)
    return Planner(costs, cluster, batch=BATCH, microbatches=microbatches)


WHOLE = profile(LAYERS, batch=BATCH).block_seconds(1, LAYERS)


def test_backprop_is_the_measure():
    """One device, speedup and efficiency 1, nothing travels."""
    found = planner(4).predict(BACKPROP, 3)
    assert found.seconds == pytest.approx(WHOLE)
    assert (found.blocks, found.devices, found.traffic, found.reduced) == (1, 1, (), 0)
    assert (found.speedup, found.efficiency, found.busy) == (1.0, 1.0, (1.0,))
    assert found.images_per_second == pytest.approx(BATCH / WHOLE)


def test_contention_slows_all_but_one_device():
    """Where several compute, all of them take so many times as long; backprop has its own."""
    costs = Costs(measurements(LAYERS, sizes=(4, BATCH)))
    shared = Planner(costs, Cluster(2, FREE, contention=1.25), batch=BATCH)
    for method in EVERY:
        free = planner(2).predict(method, 2)
        assert shared.predict(method, 2).seconds == pytest.approx(1.25 * free.seconds)
    assert shared.predict(BACKPROP, 1).seconds == pytest.approx(WHOLE)
    twice = Planner(costs, Cluster(2, FREE, scale=2.0), batch=BATCH)
    assert twice.predict(SEDONA, 2).seconds == planner(2).predict(SEDONA, 2).seconds / 2


def test_ddp_divides_the_batch_and_agrees():
    """A replica's part of the batch; the ring is waited for unless it hides behind backward."""
    own = profile(LAYERS, batch=BATCH // 4).block_seconds(1, LAYERS)
    assert planner(4).predict(DDP, 1).seconds == pytest.approx(own)
    wire = Wire(0.5, 100.0)
    gradients = 4 * 100 * (LAYERS + 1)
    ring = 2 * 3 * (0.5 + gradients / 4 / 100.0)
    found = planner(4, wire, overlap=0.0).predict(DDP, 1)
    assert found.seconds == pytest.approx(own + ring)
    assert found.reduced == 2 * 3 * gradients // 4
    # One bucket holds all of it, so it begins when backward ends, whatever may overlap.
    assert planner(4, wire).predict(DDP, 1).seconds == pytest.approx(own + ring)


def test_buckets_hide_behind_backward():
    """With more gradients than a bucket, only what sticks out of backward is waited for."""
    wire = Wire(0.0, 1e9)
    many = planner(2, wire, parameters=1 << 20).predict(DDP, 1)
    apart = planner(2, wire, parameters=1 << 20, overlap=0.0).predict(DDP, 1)
    own = profile(LAYERS, batch=BATCH // 2).block_seconds(1, LAYERS)
    assert own < many.seconds < apart.seconds
    half = planner(2, wire, parameters=1 << 20, overlap=0.5).predict(DDP, 1)
    assert half.seconds == pytest.approx((many.seconds + apart.seconds) / 2)


@pytest.mark.parametrize("blocks", [2, 3])
def test_decoupled_blocks_run_at_the_pace_of_the_slowest(blocks: int):
    """One device for each block and a free network: the slowest block as balanced_cuts has it."""
    found = planner(blocks).predict(SEDONA, blocks)
    seconds = predicted(profile(LAYERS, batch=BATCH), found.cuts, "aux1")
    assert found.seconds == pytest.approx(max(seconds))
    assert found.busy == pytest.approx([one / max(seconds) for one in seconds])
    assert found.replicas == (1,) * blocks
    assert found.traffic == ((64 + 8) * BATCH,) * (blocks - 1)
    assert found.reduced == 0


def test_devices_beyond_the_blocks_become_replicas():
    """As many as make the slowest block faster; each takes its part of the batch."""
    found = planner(6).predict(SEDONA, 2)
    assert sum(found.replicas) == found.devices == 6
    times = [
        predicted(profile(LAYERS, batch=math.ceil(BATCH / count)), found.cuts, "aux1")[number]
        for number, count in enumerate(found.replicas)
    ]
    assert found.seconds == pytest.approx(max(times))
    # A network that is too slow to agree over leaves the others idle.
    slow = planner(6, Wire(1e6, 1e9)).predict(SEDONA, 2)
    assert slow.replicas == (1, 1)


@pytest.mark.parametrize("microbatches", [4, 8])
def test_pipelines_of_equal_times_have_the_bubble(microbatches: int):
    """GPipe and 1F1B: (n + K - 1) / n of what the slowest rank computes, plus the update."""
    for method in (GPIPE, ONE):
        found = planner(4, microbatches=microbatches).predict(method, 4)
        assert found.microbatches == microbatches
        assert found.seconds >= WHOLE / 4
        assert found.seconds <= WHOLE / 4 * (microbatches + 3) / microbatches * 1.35
        assert found.traffic == (2 * 64 * BATCH,) * 3


def test_the_best_number_of_micro_batches_is_found():
    """Without latency more are better, with much of it fewer are: each waits on its way."""
    assert planner(2).predict(ONE, 2).microbatches == 16
    assert planner(2, Wire(200.0)).predict(ONE, 2).microbatches == 2


def test_copies_of_a_pipeline():
    """Devices beyond one per block make further pipelines, each with an equal part of the batch:
    32 examples are divided over two of them, not over three."""
    found = planner(7).predict(ONE, 2)
    assert (found.devices, found.replicas) == (4, (2, 2))
    assert found.reduced > 0
    single = planner(2).predict(ONE, 2)
    assert found.seconds < single.seconds * 0.6


def test_interleaved_has_two_stages_per_rank():
    """Twice the cuts, half the bubble."""
    plain, looped = (planner(2, microbatches=4).predict(one, 2) for one in (ONE, INTERLEAVED))
    assert len(plain.cuts) == 1
    assert len(looped.cuts) == 3
    assert plain.blocks == looped.blocks == 2
    assert looped.seconds < plain.seconds


def test_errors_that_come_back():
    """DDG takes what its slowest stage takes, Features Replay one more forward of all but the
    last; both send as much back as forward."""
    ddg, replay = (planner(3).predict(one, 3) for one in (DDG, REPLAY))
    plain = predicted(profile(LAYERS, batch=BATCH), ddg.cuts, NO_HEAD)
    assert ddg.seconds == pytest.approx(max(plain))
    again = [BATCH * (right - left) for left, right in itertools.pairwise((0, *replay.cuts))]
    forwards = [*again, 0.0]
    expected = predicted(profile(LAYERS, batch=BATCH), replay.cuts, NO_HEAD)
    expected = [one + more for one, more in zip(expected, forwards, strict=True)]
    assert replay.seconds == pytest.approx(max(expected))
    assert ddg.traffic == (2 * (64 + 8) * BATCH,) * 2


def test_memory():
    """Weights, gradients and optimizer; activations; queues. Each method keeps what it keeps."""
    small = planner(2, room=Room(2, math.inf), microbatches=2)
    weights = 4 * 3 * 100
    message = (64 + 8) * BATCH
    (whole,) = small.predict(BACKPROP, 1).memory
    assert whole == weights * (LAYERS + 1) + BATCH * (7 + 1000 * LAYERS + 10)
    decoupled = small.predict(SEDONA, 2)
    (cut,) = decoupled.cuts
    first = 4 * 3 * (100 * cut + 30) + BATCH * (7 + 1000 * cut + 100) + message
    behind = LAYERS - cut
    last = weights * (behind + 1) + BATCH * (64 + 1000 * behind + 10) + 2 * message
    assert decoupled.memory == (first, last)
    gpipe, one = small.predict(GPIPE, 2), small.predict(ONE, 2)
    assert gpipe.memory[0] == one.memory[0]  # Two micro-batches of two stages.
    assert (gpipe.memory[1] or 0) > (one.memory[1] or 0)
    replay, ddg = small.predict(REPLAY, 2), small.predict(DDG, 2)
    (cut,) = replay.cuts
    assert (ddg.memory[0] or 0) - (replay.memory[0] or 0) == 1000 * cut * BATCH + 4 * 100 * cut
    unknown = Planner(
        Costs(Measurements((profile(LAYERS),))), Cluster(2, FREE), batch=BATCH, microbatches=2
    )
    for method in EVERY:
        assert unknown.predict(method, 2).most_memory is None


def test_what_cannot_be_had():
    """Each refusal says why."""
    with pytest.raises(PredictionError, match=r"blocks=4 need as many devices, .* devices=2"):
        planner(2).predict(SEDONA, 4)
    with pytest.raises(PredictionError, match="batch_size=32 cannot be divided over 33 devices"):
        planner(33).predict(DDP, 1)
    with pytest.raises(PredictionError, match=r"batch_size=32 .* pipeline of 2 ranks \(3 were"):
        planner(2, microbatches=3).predict(ONE, 2)
    with pytest.raises(DecouplingError, match="blocks=16"):
        planner(8).predict(INTERLEAVED, 8)
    with pytest.raises(ProfileError, match="'linear' was not measured"):
        planner(2).predict(Method("other", "decoupled", "linear"), 2)
    with pytest.raises(ValueError, match="a cluster of 0 devices"):
        Cluster(0, FREE)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(EVERY), st.floats(1e2, 1e6), st.floats(1.0, 10.0), st.integers(2, 6), st.data()
)
def test_a_faster_network_is_not_slower(
    method: Method, bandwidth: float, factor: float, devices: int, data: st.DataObject
):
    """For every method, with the same micro-batches and replicas or better ones; nothing is more
    efficient than one device, except by having less to do."""
    blocks = data.draw(st.integers(2, min(3, devices)))
    try:
        slow, fast = (
            planner(devices, Wire(0.01, one)).predict(method, blocks)
            for one in (bandwidth, bandwidth * factor)
        )
    except PredictionError:
        return
    assert fast.seconds <= slow.seconds * 1.000001
    assert all(0 < busy <= 1 + 1e-9 for busy in (*slow.busy, *fast.busy))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.floats(0.5, 20.0), min_size=1, max_size=4), st.integers(0, 4))
def test_no_division_of_devices_is_better(times: list[float], extra: int):
    """Against all divisions, where replicas always help."""
    devices = len(times) + extra

    def slowest(counts: tuple[int, ...]) -> float:
        return max(time / count for time, count in zip(times, counts, strict=True))

    counts = divide(devices, len(times), lambda block, count: times[block] / count, use_all=False)
    assert sum(counts) == devices
    every = [
        one
        for one in itertools.product(range(1, extra + 2), repeat=len(times))
        if sum(one) <= devices
    ]
    assert slowest(counts) == min(map(slowest, every))
