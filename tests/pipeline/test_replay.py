"""Learning again while the link is empty: the ring, the worker's turn, and what is told of it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from blockstep.pipeline.block import Block
from blockstep.pipeline.crew import run_in_turns
from blockstep.pipeline.junction import Gather
from blockstep.pipeline.link import LinkClosedError, LocalLink, Sink
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.pipeline.replay import InPlaceInputError, Replay, Ring
from blockstep.pipeline.stage import Stage
from blockstep.pipeline.worker import Activity, Worker
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.pipeline.parts import (
    AGENDA,
    Blocked,
    Records,
    batch,
    differences,
    make_block,
    make_crew,
    make_worker,
    until,
)

# --- The ring -----------------------------------------------------------------------------------


@given(
    batches=st.integers(1, 5),
    reuse=st.none() | st.integers(1, 3),
    kept=st.lists(st.booleans(), max_size=60),
)
def test_the_ring_follows_the_rule(batches: int, reuse: int | None, kept: list[bool]) -> None:
    """Any history of keeping and taking: the least used, of those the newest, within the limit.

    The model is a plain list of [step, uses], newest last, which is sorted anew for every take.
    """
    ring = Ring(batches, reuse=reuse)
    model: list[list[int]] = []
    for step, keeps in enumerate(kept, start=1):
        if keeps:
            ring.keep(batch(step, size=1))
            model = [*model, [step, 1]][-batches:]
            continue
        left = [one for one in model if reuse is None or one[1] - 1 < reuse]
        assert ring.ready() == bool(left)
        if left:
            chosen = sorted(left, key=lambda one: (one[1], -one[0]))[0]
            chosen[1] += 1
            message, use, age = ring.take()
            assert [message.step, use] == chosen
            assert age == model[-1][0] - chosen[0]


def test_a_taken_batch_is_the_one_that_was_kept() -> None:
    """The tensors are the same objects: nothing is copied, on whatever device they are."""
    ring, kept = Ring(2), batch(4)
    ring.keep(kept)
    assert ring.take().message is kept


# --- A stage and a link that follow a script ----------------------------------------------------


class Noting(Stage):
    """A stage that notes what it learns from."""

    index = 2

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def step(self, message: Message) -> Message:
        """Note the step."""
        self.calls.append(message.step)
        return message

    def again(self, message: Message, *, use: int) -> None:
        """Note the step and the use."""
        self.calls.append((message.step, use))

    def evaluate(self, message: Message) -> Message:
        """Note the marker."""
        self.calls.append(message.kind.name)
        return message

    def evaluation(self) -> dict[str, Any]:
        """Tell nothing."""
        return {}

    def progress(self) -> dict[str, Any]:
        """Tell nothing."""
        return {}

    def check(self) -> None:
        """Accept everything."""

    def state_dict(self) -> dict[str, Any]:
        """Have no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class Scripted:
    """A link that is found empty so many times before each message."""

    def __init__(self, script: Sequence[tuple[int, Message]]) -> None:
        self._script = iter(script)
        self._next()

    def _next(self) -> None:
        self._empty, self._message = next(self._script, (0, None))

    def waits(self) -> bool:
        """Be empty as often as is written."""
        self._empty -= 1
        return self._empty >= 0

    def get(self) -> Message:
        """Return the next message."""
        message = self._message
        assert message is not None
        self._next()
        return message

    def depth(self) -> tuple[int, int]:
        """Pretend that nothing waits."""
        return 0, 0

    def close(self) -> None:
        """Do nothing."""


def make_replaying(
    stage: Any, inlet: Any, outlet: Any, *, batches: int = 3, reuse: int | None = None, **more: Any
) -> Worker:
    """Make a worker whose stage learns again."""
    ring = Ring(batches, reuse=reuse)
    return make_worker(stage, inlet, outlet, replay=Replay(stage, inlet, ring), **more)


def marker(kind: Kind, step: int) -> Message:
    """Make a message without tensors."""
    return Message(kind, step, text="test")


def test_a_stage_learns_again_exactly_while_its_link_is_empty() -> None:
    """As often as the link is found empty, in the ring's order; each batch is handed on once."""
    stage, outlet = Noting(), LocalLink("out", max_messages=99, max_bytes=1 << 30)
    script = [(5, batch(1)), (2, batch(2)), (0, batch(3)), (4, batch(4))]
    make_replaying(stage, Scripted([*script, (1, marker(Kind.STOP, 4))]), outlet).run()
    assert stage.calls == [
        1,  # before the first batch there is nothing to learn from
        *[(1, 2), (1, 3)],
        2,
        3,
        *[(3, 2), (2, 2), (3, 3), (2, 3)],  # batch 1 was used most
        4,
        (4, 2),  # three fit, so batch 1 is gone
    ]
    handed_on = [outlet.get().step for _ in range(outlet.depth()[0])]
    assert handed_on == [1, 2, 3, 4, 4]


def test_at_the_reuse_limit_the_stage_waits() -> None:
    """With reuse=1 three batches give three replays, however often the link is empty."""
    stage = Noting()
    script = [(0, batch(1)), (0, batch(2)), (0, batch(3)), (99, marker(Kind.STOP, 3))]
    make_replaying(stage, Scripted(script), Sink(), reuse=1).run()
    assert stage.calls == [1, 2, 3, (3, 2), (2, 2), (1, 2)]


def test_between_markers_nothing_is_learned() -> None:
    """From an evaluation to its checkpoint, and on to the next batch, a stage stays as it is."""
    stage = Noting()
    sample = Message(Kind.SAMPLE, 1, batch(1).tensors)
    script = [
        (0, batch(1)),
        (1, marker(Kind.EVALUATE, 1)),
        (9, sample),
        (9, sample),
        (9, marker(Kind.EVALUATED, 1)),
        (9, marker(Kind.CHECKPOINT, 1)),
        (9, batch(2)),
        (1, marker(Kind.STOP, 2)),
    ]
    saved: list[int] = []
    worker = make_replaying(
        stage, Scripted(script), Sink(), save=lambda step, stage: saved.append(len(stage.calls))
    )
    worker.run()
    markers = ["EVALUATE", "SAMPLE", "SAMPLE", "EVALUATED"]
    assert stage.calls == [1, (1, 2), *markers, 2, (2, 2)]
    assert saved == [2 + len(markers)]


def test_every_replay_is_surrounded_like_a_step() -> None:
    """A profiler and a delay also see what is learned again, as part of the newest step."""
    stage = Noting()

    @contextmanager
    def around(step: int) -> Iterator[None]:
        stage.calls.append(f"enter {step}")
        yield
        stage.calls.append("leave")

    script = [(0, batch(1)), (0, batch(2)), (2, marker(Kind.STOP, 2))]
    make_replaying(stage, Scripted(script), Sink(), around=around).run()
    inside = [1, 2, (2, 2), (1, 2)]
    wanted = zip([1, 2, 2, 2], inside, strict=True)
    assert stage.calls == [
        call for step, what in wanted for call in (f"enter {step}", what, "leave")
    ]


# --- Links --------------------------------------------------------------------------------------


def test_a_link_waits_only_while_something_may_come() -> None:
    """An empty link waits; a filled, an ended and a closed one do not: there is news in them."""
    link = LocalLink("link 1->2", max_messages=2, max_bytes=1 << 20)
    assert link.waits()
    link.put(batch(1))
    assert not link.waits()
    link.get()
    assert link.waits()
    link.end("the sending side is gone")
    assert not link.waits()
    closed = LocalLink("link 1->2", max_messages=2, max_bytes=1 << 20)
    closed.close()
    assert not closed.waits()


def test_a_message_in_parts_is_there_when_all_parts_are() -> None:
    """A stage behind two replicas waits until both have sent their share."""
    links = [LocalLink(f"part {n}", max_messages=2, max_bytes=1 << 20) for n in (1, 2)]
    gather = Gather(links)
    for link in links:
        assert gather.waits()
        link.put(batch(1))
    assert not gather.waits()


def test_the_end_of_the_link_ends_the_learning() -> None:
    """A stage that may learn again without limit still notices that its producer is gone."""
    link = LocalLink("link 1->2", max_messages=2, max_bytes=1 << 20)
    link.put(batch(1))
    stage, activity = Noting(), Activity()
    call = Blocked(make_replaying(stage, link, Sink(), activity=activity).run)
    until(lambda: len(stage.calls) > 3)
    # It would hide that another stage hangs if it did not count as waiting.
    assert activity.state == "wait_in"
    assert activity.turns == 1
    since = activity.since
    seen = len(stage.calls)
    until(lambda: len(stage.calls) > seen)
    assert activity.since == since
    link.end("the sending side is gone")
    with pytest.raises(LinkClosedError, match="the sending side is gone"):
        call.result()


# --- What is told -------------------------------------------------------------------------------


def test_replays_are_counted_and_their_age_is_told() -> None:
    """Per interval and for the whole run: how many, how old on average, and their time."""
    stage, records = Noting(), Records()
    script = [(0, batch(n)) for n in (1, 2)]
    script += [(2, batch(3)), (3, batch(4)), (0, batch(5)), (0, batch(6))]
    worker = make_replaying(
        stage, Scripted([*script, (0, marker(Kind.STOP, 6))]), Sink(), records=records, every=2
    )
    worker.run()
    again = [call for call in stage.calls if isinstance(call, tuple)]
    assert again == [(2, 2), (1, 2), (3, 2), (3, 3), (2, 3)]
    reports = records.mailbox.take()
    assert [report["replayed"] for report in reports] == [0, 5, 0]
    ages = [report["replay_staleness"] for report in reports]
    assert ages == [None, (0 + 1 + 0 + 0 + 1) / 5, None]
    assert [report["replay"] > 0 for report in reports] == [False, True, False]
    summary = worker.recorder.summary()
    assert (summary["replayed"], summary["replay_staleness"]) == (5, 0.4)


def test_without_a_ring_nothing_is_told() -> None:
    """A record of a run without replay has no word of it; its summary says 0."""
    records = Records()
    inlet = Scripted([(9, batch(1)), (9, marker(Kind.STOP, 1))])
    worker = make_worker(Noting(), inlet, Sink(), records=records, every=1)
    worker.run()
    (report,) = records.mailbox.take()
    assert not [key for key in report if "replay" in key]
    summary = worker.recorder.summary()
    assert (summary["replayed"], summary["replay_staleness"]) == (0, None)


def test_replays_are_spans_of_their_own() -> None:
    """In the timeline a step's replays come first, then its wait, its learning, its way out."""
    worker = make_replaying(
        Noting(), Scripted([(0, batch(1)), (3, batch(2)), (0, marker(Kind.STOP, 2))]), Sink()
    )
    worker.run()
    first, second = worker.recorder.timeline.first
    assert first.replay == 0
    assert second.replay > 0
    events = [one for one in worker.recorder.timeline.events(2) if one["args"]["step"] == 2]
    assert [one["name"] for one in events][:3] == ["replay", "wait_in", "busy"]


# --- Blocks -------------------------------------------------------------------------------------

CONFIG = OptimizationConfig(
    steps=20, lr=0.1, schedule="multistep", milestones=[2], gamma=0.5, reset_momentum=True
)


def test_learning_again_is_a_step_at_the_rate_of_the_newest() -> None:
    """again() of batch 1 after step 3 equals plain SGD on it with step 3's rate and momentum."""
    block = make_block(CONFIG, index=1, blocks=2)
    for step in (1, 2, 3):
        block.step(batch(step))
    # A copy that learns from batch 1 by hand.
    twin = make_block(CONFIG, index=1, blocks=2)
    twin.load_state_dict(copy.deepcopy(block.state_dict()))
    x, y = batch(1).tensors
    optimizer = torch.optim.SGD(twin.parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)
    optimizer.load_state_dict(twin.optimizer.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.05
    optimizer.zero_grad()
    twin.body.train()
    twin.head.train()
    nn.functional.cross_entropy(twin.head(twin.body(x)), y).backward()
    optimizer.step()
    block.again(batch(1), use=2)
    wanted = {"body": twin.body.state_dict(), "head": twin.head.state_dict()}
    assert differences({name: block.state_dict()[name] for name in wanted}, wanted) == []


def test_every_use_drops_other_units() -> None:
    """Random numbers depend on the batch's step and the use, and on nothing else."""

    def learned(*calls: tuple[int, int]) -> Any:
        block = make_block(OptimizationConfig(lr=0.1), index=1, blocks=2, dropout=0.5)
        for step, use in calls:
            torch.manual_seed(torch.seed() % 1000)
            block.step(batch(step)) if use == 1 else block.again(batch(step), use=use)
        return block.body.state_dict()

    assert differences(learned((1, 2)), learned((1, 2))) == []
    assert differences(learned((1, 2)), learned((1, 3))) != []
    assert differences(learned((1, 2)), learned((1, 1))) != []


def test_a_batch_that_was_changed_in_place_is_refused() -> None:
    """A block whose first operation works in place has spoilt the batch; the error says so."""
    body = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 6, 3, padding=1))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    block = make_block(OptimizationConfig(), index=2, blocks=3, parts=(body, head))
    inlet = Scripted([(0, batch(7)), (1, marker(Kind.STOP, 7))])
    with pytest.raises(InPlaceInputError, match=r"step 7 was changed in place.*inplace=False"):
        make_replaying(block, inlet, Sink()).run()


# --- Whole pipelines ----------------------------------------------------------------------------


def test_an_always_full_link_equals_no_replay() -> None:
    """In turns no link is ever empty: with a ring the weights are those without, to the bit."""
    replays: list[Replay] = []

    def replay(block: Block, link: LocalLink) -> Replay:
        replays.append(Replay(block, link, Ring(4)))
        return replays[-1]

    plain, ringed = (make_crew(3, AGENDA, dropout=0.3, replay=kind) for kind in (None, replay))
    assert run_in_turns(plain.workers) == run_in_turns(ringed.workers) == AGENDA.steps
    assert differences(plain.states(), ringed.states()) == []
    assert plain.records[-1].evaluations == ringed.records[-1].evaluations
    assert [one.summary()["replayed"] for one in replays] == [0, 0]


def test_behind_a_slow_stage_a_stage_learns_again() -> None:
    """Two workers in threads: stage 1 is held until stage 2 has replayed as often as is written."""
    link = LocalLink("link 1->2", max_messages=1, max_bytes=1 << 20)
    behind = Counting({1: 2, 2: 0, 3: 3}, link)
    script = [(0, batch(1)), (0, batch(2)), (0, batch(3)), (0, marker(Kind.STOP, 3))]
    before = make_worker(Held(behind), Scripted(script), link)
    worker = make_replaying(behind, link, Sink(), batches=2)
    calls = [Blocked(one.run) for one in (before, worker)]
    assert [call.result() for call in calls] == [3, 3]
    assert behind.calls == [1, (1, 2), (1, 3), 2, 3, (3, 2), (2, 2), (3, 3)]
    summary = worker.recorder.summary()
    assert summary["replayed"] == 5
    assert summary["replay_staleness"] == 1 / 5  # batch 2 was one step old, the others none


class Counting(Noting):
    """A stage that lets the one before go on when it has learned again often enough.

    Args:
        wanted: How often, after the batch of each step.
        link: Into it; it has the next message before another replay can be due.
    """

    def __init__(self, wanted: dict[int, int], link: LocalLink) -> None:
        super().__init__()
        self._wanted = wanted
        self._link = link
        self._step = self._left = 0
        self.enough = {step: threading.Event() for step in wanted}

    def step(self, message: Message) -> Message:
        """Begin to count."""
        self._step, self._left = message.step, self._wanted[message.step]
        self._go_on()
        return super().step(message)

    def again(self, message: Message, *, use: int) -> None:
        """Count."""
        super().again(message, use=use)
        self._left -= 1
        self._go_on()

    def _go_on(self) -> None:
        if self._left == 0:
            self.enough[self._step].set()
            until(lambda: not self._link.waits())


class Held(Noting):
    """A first stage that is slow: each step lasts until the stage behind has replayed enough."""

    def __init__(self, behind: Counting) -> None:
        super().__init__()
        self._behind = behind

    def step(self, message: Message) -> Message:
        """Wait."""
        if message.step > 1:
            assert self._behind.enough[message.step - 1].wait(10)
        return super().step(message)

    def check(self) -> None:
        """Wait before the stop, too."""
        assert self._behind.enough[3].wait(10)
