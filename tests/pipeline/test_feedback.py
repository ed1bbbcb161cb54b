"""The loop of a stage with two phases, and three processes whose errors travel back."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.pipeline.channel import Receiver, Sender
from blockstep.pipeline.checkpoint import Checkpoints
from blockstep.pipeline.crew import run_in_threads, run_in_turns
from blockstep.pipeline.delayed_gradients import DelayedGradientsBlock
from blockstep.pipeline.edge import Edge, connect
from blockstep.pipeline.features_replay import FeaturesReplayBlock
from blockstep.pipeline.feed import Agenda, Feed, StopRequest
from blockstep.pipeline.feedback import FeedbackStage, FeedbackWorker, NoSignals
from blockstep.pipeline.feedback_block import FeedbackBlock, InPlaceInputError
from blockstep.pipeline.link import Inlet, LinkClosedError, LocalLink, Outlet, Sink
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.stage import NonFiniteLossError
from blockstep.pipeline.transfer import make_transfer
from blockstep.pipeline.worker import Activity, RemoteError, Worker
from torch import nn

from tests.pipeline.feedback_parts import make_feedback_block, make_feedback_crew
from tests.pipeline.parts import (
    AGENDA,
    CPU,
    WIDTH,
    Blocked,
    Images,
    Records,
    batch,
    differences,
    make_parts,
    make_worker,
    until,
)
from tests.world import World

BLOCKS = 3
DROPOUT = 0.3
CONFIG = OptimizationConfig(steps=25, lr=0.05)
METHODS: dict[str, type[FeedbackBlock[Any]]] = {
    "features_replay": FeaturesReplayBlock,
    "ddg": DelayedGradientsBlock,
}
BOTH = pytest.mark.parametrize("method", METHODS)


def link(*messages: Message, room: int = 100) -> LocalLink:
    """Make a link with messages in it."""
    made = LocalLink("link", max_messages=room, max_bytes=1 << 20)
    for message in messages:
        made.put(message)
    return made


def taken(link: LocalLink) -> list[tuple[str, int]]:
    """Take all that waits in a link."""
    return [(m.kind.name, m.step) for m in (link.get() for _ in range(link.depth()[0]))]


class Noting(FeedbackStage):
    """A stage of delay 1 that notes what it is asked to do."""

    index = 2
    delay = 1

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.signal: Message | None = None

    def forward(self, message: Message) -> Message:
        """Hand on."""
        self.calls.append(("forward", message.step))
        return message

    def awaits(self, step: int) -> bool:
        """From the first step on."""
        return step >= 1 and self.signal is None

    def receive(self, signal: Message) -> None:
        """Keep it."""
        self.signal = signal
        self.calls.append(("receive", signal.step))

    def learn(self, step: int) -> Message | None:
        """Use it up."""
        self.calls.append(("learn", step))
        if self.signal is None:
            return None
        self.signal = None
        return Message(Kind.ERROR_SIGNAL, step)

    def step(self, message: Message) -> Message:
        """Never called by a worker."""
        raise AssertionError

    def evaluate(self, message: Message) -> Message:
        """Hand on."""
        return message

    def evaluation(self) -> dict[str, Any]:
        """Tell nothing."""
        return {}

    def progress(self) -> dict[str, Any]:
        """Tell nothing."""
        return {}

    def check(self) -> None:
        """Note it."""
        self.calls.append("check")

    def state_dict(self) -> dict[str, Any]:
        """Tell nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def signal(step: int) -> Message:
    """Make an error signal."""
    return Message(Kind.ERROR_SIGNAL, step)


def hire(stage: FeedbackStage, inlet: Inlet, outlet: Outlet, **options: Any) -> Worker:
    """Make a worker between links."""
    return make_worker(stage, inlet, outlet, kind=FeedbackWorker, **options)


def test_a_worker_hands_on_before_it_learns_and_takes_signals_when_they_are_due() -> None:
    """The order of calls; a checkpoint and a stop take the signal of their step, once."""
    stage, outlet, back = Noting(), link(), link()
    inlet = link(batch(1), batch(2), Message(Kind.CHECKPOINT, 2), batch(3), Message(Kind.STOP, 3))
    worker = hire(stage, inlet, outlet, signals=link(*map(signal, (1, 2, 3))), back=back)
    assert worker.run() == 3
    assert stage.calls == [
        ("forward", 1), ("learn", 1),
        ("forward", 2), ("receive", 1), ("learn", 2),
        ("receive", 2), "check",
        ("forward", 3), ("learn", 3),
        ("receive", 3), "check",
    ]  # fmt: skip
    assert taken(back) == [("ERROR_SIGNAL", 2), ("ERROR_SIGNAL", 3), ("STOP", 3)]
    assert [name for name, _ in taken(outlet)] == ["BATCH", "BATCH", "CHECKPOINT", "BATCH", "STOP"]


def test_the_output_is_on_its_way_while_the_stage_waits_for_its_signal() -> None:
    """Waiting for the signal holds nobody up, is seen by the watchdog, and counts as input."""
    stage, outlet, signals, activity = Noting(), link(), link(), Activity()
    worker = hire(
        stage, link(batch(1), batch(2)), outlet, signals=signals, back=link(), activity=activity
    )
    worker.turn()
    call = Blocked(worker.turn)
    until(lambda: outlet.depth()[0] == 2)
    assert call.waits(0.2)
    assert (activity.state, activity.step) == ("wait_in", 2)
    signals.put(signal(1))
    call.result()
    assert worker.recorder.timeline.first[1].wait_in > 0.2
    assert worker.recorder.timeline.first[1].busy < 0.2


def test_the_times_of_a_step_are_those_of_both_phases() -> None:
    """Computing in either phase is busy; waiting for room in the link back is waiting for room."""

    class Slow(Noting):
        def forward(self, message: Message) -> Message:
            time.sleep(0.05)
            return message

        def learn(self, step: int) -> Message | None:
            time.sleep(0.05)
            return signal(step)

    back = link(signal(0), room=1)
    worker = hire(Slow(), link(batch(1)), link(), signals=link(), back=back)
    call = Blocked(worker.turn)
    assert call.waits(0.6)
    back.get()
    call.result()
    (times,) = worker.recorder.timeline.first
    assert 0.1 <= times.busy < 0.4
    assert times.wait_out > 0.1


def test_an_error_of_the_stage_behind_ends_the_stage() -> None:
    """What is told over the link back is raised, as is its end."""
    told = Message(Kind.ERROR, 0, text="stage 3 exploded")
    worker = hire(Noting(), link(batch(1), batch(2)), link(), signals=link(told), back=link())
    worker.turn()
    with pytest.raises(RemoteError, match="stage 3 exploded"):
        worker.turn()


def test_the_last_stage_is_never_asked_to_wait() -> None:
    """Its place for signals says so if it is."""
    with pytest.raises(RuntimeError, match="the last stage waits"):
        NoSignals().get()


@BOTH
def test_a_signal_of_another_step_is_refused(method: str) -> None:
    """A signal out of order, none, or something else is named with the stage and the steps."""
    block = make_feedback_block(METHODS[method], CONFIG, index=1, blocks=2)
    block.forward(batch(1))
    assert block.learn(1) is None
    h = block.forward(batch(2)).tensors[0]
    with pytest.raises(RuntimeError, match=r"signal of step 1, but none came"):
        block.learn(2)
    block.receive(Message(Kind.ERROR_SIGNAL, 5, (h,)))
    with pytest.raises(RuntimeError, match="that of step 5 came"):
        block.learn(2)
    with pytest.raises(RuntimeError, match="expected an error signal, got BATCH of step 2"):
        block.receive(batch(2))


@BOTH
@pytest.mark.parametrize("index", [1, 2])
def test_work_in_place_on_the_input_is_refused(method: str, index: int) -> None:
    """The input is needed again: for the replay, the graph or the error signal."""
    body, head = make_parts(index, 2)
    parts = nn.Sequential(nn.ReLU(inplace=True), body), head
    block = make_feedback_block(METHODS[method], CONFIG, index=index, blocks=2, parts=parts)
    message = batch(1)
    if index == 2:
        y = message.tensors[1]
        message = Message(Kind.BATCH, 1, (torch.randn(8, WIDTH, 8, 8), y))
    with pytest.raises(InPlaceInputError, match=f"stage {index}: .*ReLU"):
        block.forward(message)


@BOTH
def test_a_block_without_a_head_tells_no_loss(method: str) -> None:
    """Evaluations of all but the last are empty, nobody votes, and progress has the delay."""
    crew = make_feedback_crew(METHODS[method], BLOCKS, AGENDA, config=CONFIG)
    run_in_turns(crew.workers)
    first, second, last = (records.evaluations for records in crew.records)
    assert [one["step"] for one in last] == [10, 20, 25]
    for one in (*first, *second):
        assert (one["loss"], one["accuracy"], one["metrics"]) == (None, None, {})
    for one in last:
        assert one["accuracy"] is not None
        assert one["ensemble_accuracy"] is None
    told = [records.mailbox.take()[-1] for records in crew.records]
    assert [one["error_delay"] for one in told] == [2, 1, 0]
    assert [one["loss"] is None for one in told] == [True, True, False]
    assert len({one["lr"] for one in told}) == 1


@BOTH
def test_weights_that_are_not_finite_stop_the_run(method: str) -> None:
    """A block without a loss looks at its weights before a checkpoint."""
    block = make_feedback_block(METHODS[method], CONFIG, index=1, blocks=2)
    block.check()
    with torch.no_grad():
        block.parameters[0].view(-1)[3] = float("inf")
    with pytest.raises(NonFiniteLossError, match="stage 1: a weight is nan or infinite"):
        block.check()


@BOTH
def test_a_stage_that_fails_ends_all_threads(method: str) -> None:
    """Stages before and behind the one that fails end, and its error is raised."""
    crew = make_feedback_crew(
        METHODS[method], BLOCKS, AGENDA, config=CONFIG, source=Images(broken_at=7)
    )
    with pytest.raises(NonFiniteLossError, match="stage 3: the loss of step 7"):
        run_in_threads(crew.workers, crew.links)


# --- Three processes ----------------------------------------------------------------------------


def ends(rank: int, feed: Inlet, depth: int) -> tuple[Inlet, Outlet, Inlet, Outlet]:
    """Connect the ranks in a row, then back; return this rank's ends, greeted by HELLO."""
    inlet, outlet, signals, back = feed, Sink(), NoSignals(), Sink()
    forward = [Edge(source, source + 1, f"link {source + 1}->{source + 2}") for source in (0, 1)]
    backward = [Edge(edge.target, edge.source, f"{edge.label} back") for edge in forward]
    for edge, connection in connect([*forward, *backward]).items():
        transfer = make_transfer(connection, CPU)
        if edge.source == rank:
            sender = Sender(connection, transfer)
            sender.put(Message(Kind.HELLO, 0))
            outlet, back = (sender, back) if edge in forward else (outlet, sender)
        else:
            receiver = Receiver(connection, transfer, max_messages=depth, max_bytes=1 << 20)
            inlet, signals = (receiver, signals) if edge in forward else (inlet, receiver)
    for end in (inlet, signals):
        if isinstance(end, Receiver):
            assert end.get().kind == Kind.HELLO
    return inlet, outlet, signals, back


def train(
    rank: int,
    method: str,
    config: OptimizationConfig,
    agenda: Agenda,
    depth: int,
    folder: str,
    states: list[dict[str, Any]],
) -> list[Any]:
    """Train this rank's block; return its state, its evaluations and its shards."""
    feed = Feed(Images(), agenda, stop=StopRequest())
    inlet, outlet, signals, back = ends(rank, feed, depth)
    block = make_feedback_block(
        METHODS[method], config, index=rank + 1, blocks=BLOCKS, dropout=DROPOUT
    )
    if states:
        block.load_state_dict(states[rank])
    records = Records()
    worker = hire(
        block, inlet, outlet, signals=signals, back=back, records=records, folder=Path(folder)
    )
    assert worker.run() == agenda.steps
    outlet.close()
    back.close()
    return [block.state_dict(), records.evaluations, records.shards]


@BOTH
@pytest.mark.parametrize(
    ("depth", "keys"),
    [
        (1, {}),
        (4, {"channels_last": True}),
        (4, {"optimizer": "adamw", "lr": 0.003, "clip": 0.5, "precision": "bfloat16"}),
    ],
    ids=["depth 1", "channels-last 4", "bfloat16 adamw 4"],
)
def test_three_processes_are_one_process_that_takes_turns(
    world: World, tmp_path: Path, method: str, depth: int, keys: dict[str, Any]
) -> None:
    """Weights, buffers, histories, signals, evaluations and shards are equal to the bit.

    With dropout in all blocks, flips in the data, evaluations and checkpoints on the way.
    """
    config = replace(CONFIG, **{"warmup": 3, **keys})
    crew = make_feedback_crew(
        METHODS[method],
        BLOCKS,
        AGENDA,
        config=config,
        dropout=DROPOUT,
        folder=tmp_path / "turns",
    )
    run_in_turns(crew.workers)
    expected = [
        [state, records.evaluations, records.shards]
        for state, records in zip(crew.states(), crew.records, strict=True)
    ]
    found = world.run(train, method, config, AGENDA, depth, str(tmp_path / "processes"), [])
    assert differences(expected, found) == []
    assert list(found[0][2]) == [8, 16, 24, 25]


@BOTH
def test_a_resumed_pipeline_ends_where_the_uninterrupted_one_ends(
    world: World, tmp_path: Path, method: str
) -> None:
    """Three processes that continue from a checkpoint end like those that never stopped."""
    whole = world.run(train, method, CONFIG, AGENDA, 4, str(tmp_path / "whole"), [])
    checkpoint = Checkpoints(tmp_path / "whole").commit(16, {}, [rank[2][16] for rank in whole])
    states = [checkpoint.load(shard.name) for shard in checkpoint.shards]
    agenda = replace(AGENDA, start=16)
    resumed = world.run(train, method, CONFIG, agenda, 1, str(tmp_path / "resumed"), states)
    for left, right in zip(whole, resumed, strict=True):
        assert differences(left[0], right[0]) == []


def disturb(rank: int, kind: str) -> tuple[str, str]:
    """Train until stage 2 fails or dies in its ninth step; tell what each rank raised."""
    agenda = Agenda(start=0, steps=1000, batch_size=4)
    inlet, outlet, signals, back = ends(rank, Feed(Images(), agenda, stop=StopRequest()), 4)
    block = make_feedback_block(
        FeaturesReplayBlock, OptimizationConfig(), index=rank + 1, blocks=BLOCKS
    )
    worker = hire(block, inlet, outlet, signals=signals, back=back)
    if rank == 1:
        learn = block.learn

        def explode(step: int) -> Message | None:
            if step == 9 and kind == "dies":
                os._exit(7)
            if step == 9:
                raise ValueError("stage 2 exploded")
            return learn(step)

        block.learn = explode
    try:
        worker.run()
    except Exception as error:
        for end in (outlet, back):
            if isinstance(end, Sender) and not isinstance(error, LinkClosedError | RemoteError):
                # What the launcher does when a rank fails.
                end.put_within(Message(Kind.ERROR, 9, text=str(error)), 5.0)
        return type(error).__name__, str(error)
    return "", ""


def test_an_error_reaches_the_stages_on_both_sides(world: World) -> None:
    """When stage 2 fails while it learns, the stages before and behind end with its text."""
    first, second, third = world.run(disturb, "raises")
    assert second == ("ValueError", "stage 2 exploded")
    assert first == third == ("RemoteError", "stage 2 exploded")


def test_a_stage_that_dies_ends_the_stages_on_both_sides(world: World) -> None:
    """Nobody waits for a dead process, in either direction."""
    first, second, third = world.run(disturb, "dies", dying=[1])
    assert second is None
    assert first[0] == third[0] == "LinkClosedError"
