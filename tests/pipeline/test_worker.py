"""The loop of one rank, with a stage and links that are watched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from blockstep.pipeline.link import LinkClosedError, LocalLink, Sink
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.stage import NonFiniteLossError, Stage
from blockstep.pipeline.worker import Activity, RemoteError, Worker

from tests.pipeline.parts import Blocked, Records, make_worker

SLEEP = 0.05


class Noting(Stage):
    """A stage that notes what it is asked to do, and can be slow or fail."""

    index = 2

    def __init__(self, *, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.calls: list[Any] = []
        self._seconds = seconds
        self._error = error

    def step(self, message: Message) -> Message:
        """Double x."""
        self.calls.append(("step", message.step))
        time.sleep(self._seconds)
        x, y = message.tensors
        return Message(Kind.BATCH, message.step, (2 * x, y))

    def evaluate(self, message: Message) -> Message:
        """Hand on."""
        self.calls.append((message.kind.name, message.step))
        return message

    def evaluation(self) -> dict[str, Any]:
        """Tell a result."""
        return {"split": "test", "accuracy": 0.75}

    def progress(self) -> dict[str, Any]:
        """Tell nothing."""
        return {}

    def check(self) -> None:
        """Fail if asked to."""
        self.calls.append("check")
        if self._error is not None:
            raise self._error

    def state_dict(self) -> dict[str, Any]:
        """Tell how far it is."""
        return {"calls": len(self.calls)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class Slow:
    """An inlet whose messages are late."""

    def __init__(self, messages: list[Message], *, seconds: float) -> None:
        self._messages = iter(messages)
        self._seconds = seconds

    def get(self) -> Message:
        """Wait, then give the next."""
        time.sleep(self._seconds)
        return next(self._messages)

    def waits(self) -> bool:
        """Never be empty."""
        return False

    def depth(self) -> tuple[int, int]:
        """Pretend that three messages wait."""
        return 3, 300

    def close(self) -> None:
        """Do nothing."""


def batch(step: int) -> Message:
    """Make a message of two numbers."""
    return Message(Kind.BATCH, step, (torch.tensor([float(step)]), torch.tensor([step])))


def filled(*messages: Message) -> LocalLink:
    """Make a link that holds ``messages`` and ends."""
    link = LocalLink("link 1->2", max_messages=100, max_bytes=1 << 20)
    for message in messages:
        link.put(message)
    link.end("the test has no more")
    return link


def drain(link: LocalLink) -> list[tuple[str, int, str]]:
    """Take all that a worker has put."""
    link.end("")
    return [
        (message.kind.name, message.step, message.text)
        for message in (link.get() for _ in range(link.depth()[0]))
    ]


RUN = (
    Message(Kind.HELLO, 0),
    batch(1),
    Message(Kind.EVALUATE, 1, text="test"),
    Message(Kind.SAMPLE, 1, (torch.ones(1), torch.ones(1))),
    Message(Kind.EVALUATED, 1, text="test"),
    Message(Kind.CHECKPOINT, 1),
    batch(2),
    Message(Kind.STOP, 2),
)


def test_every_message_is_handled_and_handed_on_in_order() -> None:
    """A worker hands on each message after its stage has handled it, and returns the last step."""
    stage, outlet, records = Noting(), filled(), Records()
    saved: list[tuple[int, Any]] = []
    worker = make_worker(
        stage,
        filled(*RUN),
        outlet,
        records=records,
        save=lambda step, stage: saved.append((step, stage)),
    )
    assert worker.run() == 2
    assert drain(outlet) == [(message.kind.name, message.step, message.text) for message in RUN]
    assert stage.calls == [
        ("step", 1),
        ("EVALUATE", 1),
        ("SAMPLE", 1),
        ("EVALUATED", 1),
        "check",
        ("step", 2),
        "check",
    ]
    assert saved == [(1, stage)]
    assert records.evaluations == [{"split": "test", "accuracy": 0.75}]


def test_the_result_of_the_stage_is_handed_on() -> None:
    """The next stage gets the stage's output, not its input."""
    outlet = filled()
    make_worker(Noting(), filled(batch(3), Message(Kind.STOP, 3)), outlet).run()
    assert outlet.get().tensors[0].tolist() == [6.0]


def test_the_total_of_what_was_taken_is_handed_on() -> None:
    """The next stage learns how large the batch was that a part is of; markers have none."""
    outlet = filled()
    part = replace(batch(1), total=24)
    make_worker(Noting(), filled(part, batch(2), Message(Kind.STOP, 2)), outlet).run()
    assert [outlet.get().total for _ in range(3)] == [24, 0, 0]


def test_turn_handles_exactly_one_message() -> None:
    """turn() returns the message it took; the next one still waits."""
    inlet = filled(batch(1), batch(2))
    worker = make_worker(Noting(), inlet, Sink())
    assert worker.turn().step == 1
    assert inlet.depth()[0] == 1
    assert worker.activity.turns == 1


def test_an_error_from_before_ends_the_worker() -> None:
    """An ERROR message becomes a RemoteError with its text, after what came before it."""
    stage = Noting()
    inlet = filled(batch(1), Message(Kind.ERROR, 1, text="stage 1: ValueError: no data"))
    with pytest.raises(RemoteError, match="stage 1: ValueError: no data"):
        make_worker(stage, inlet, Sink()).run()
    assert stage.calls == [("step", 1)]


def test_a_closed_link_ends_the_worker() -> None:
    """Without a stop the end of the link is an error that names it."""
    with pytest.raises(LinkClosedError, match="link 1->2"):
        make_worker(Noting(), filled(batch(1)), Sink()).run()


@pytest.mark.parametrize("kind", [Kind.CHECKPOINT, Kind.STOP])
def test_losses_are_checked_before_a_checkpoint_and_before_the_end(kind: Kind) -> None:
    """A loss that is not finite is never written, and never ends a run that looks good."""
    stage = Noting(error=NonFiniteLossError("stage 2: the loss of step 1 is nan"))
    outlet = filled()
    saved: list[int] = []
    inlet = filled(batch(1), Message(kind, 1))
    worker = make_worker(stage, inlet, outlet, save=lambda step, stage: saved.append(step))
    with pytest.raises(NonFiniteLossError, match="stage 2"):
        worker.run()
    assert saved == []
    assert [kind for kind, _, _ in drain(outlet)] == ["BATCH"]


def spans(worker: Worker) -> dict[str, float]:
    """Return the seconds that a worker's timeline gives to each kind of span."""
    seconds: dict[str, float] = {}
    for event in worker.recorder.timeline.events(2):
        seconds[event["name"]] = seconds.get(event["name"], 0.0) + event["dur"] / 1e6
    return seconds


def test_time_is_attributed_to_the_slow_inlet() -> None:
    """When the input is late, the worker waits for input."""
    inlet = Slow([batch(1), batch(2), Message(Kind.STOP, 2)], seconds=SLEEP)
    worker = make_worker(Noting(), inlet, Sink())
    worker.run()
    seconds = spans(worker)
    assert seconds["wait_in"] >= 2 * SLEEP * 0.99
    assert seconds["wait_in"] > seconds["busy"]


def test_time_is_attributed_to_the_slow_stage() -> None:
    """When the stage is slow, the worker is busy."""
    worker = make_worker(
        Noting(seconds=SLEEP), filled(batch(1), batch(2), Message(Kind.STOP, 2)), Sink()
    )
    worker.run()
    seconds = spans(worker)
    assert seconds["busy"] >= 2 * SLEEP * 0.99
    assert seconds["busy"] > seconds["wait_in"] + seconds["wait_out"]


def test_time_is_attributed_to_the_full_link() -> None:
    """When the link is full, the worker waits for room."""
    outlet = LocalLink("link 2->3", max_messages=1, max_bytes=1 << 20)
    outlet.put(batch(0))
    worker = make_worker(Noting(), filled(batch(1), Message(Kind.STOP, 1)), outlet)
    call = Blocked(worker.run)
    assert call.waits(SLEEP)
    for _ in range(3):
        outlet.get()
    assert call.result() == 1
    seconds = spans(worker)
    assert seconds["wait_out"] >= SLEEP * 0.9
    assert seconds["wait_out"] > seconds["wait_in"] + seconds["busy"]


def test_markers_are_spans_of_their_own() -> None:
    """An evaluation and a checkpoint stand in the timeline beside the steps."""
    worker = make_worker(Noting(), filled(*RUN), filled())
    worker.run()
    assert {"evaluate", "checkpoint"} <= spans(worker).keys()
    steps = [times.step for times in worker.recorder.timeline.first]
    assert steps == [1, 2]


def test_the_depth_of_the_link_is_recorded() -> None:
    """A report tells the messages and bytes behind the input that was taken."""
    records = Records()
    inlet = Slow([batch(1), Message(Kind.STOP, 1)], seconds=0.0)
    make_worker(Noting(), inlet, Sink(), records=records, every=1).run()
    (report,) = records.mailbox.take()
    assert (report["queue_depth"], report["queue_bytes"], report["staleness"]) == (3, 300, 3.0)


def test_the_activity_tells_what_the_worker_does() -> None:
    """The activity follows the worker: waiting for input, computing, waiting for room, done."""
    inlet = LocalLink("link 1->2", max_messages=9, max_bytes=1 << 20)
    outlet = LocalLink("link 2->3", max_messages=1, max_bytes=1 << 20)
    outlet.put(batch(0))
    activity, seen = Activity(), []

    class Watched(Noting):
        def step(self, message: Message) -> Message:
            seen.append((activity.state, activity.step))
            return super().step(message)

    assert activity.state == "starting"
    call = Blocked(make_worker(Watched(), inlet, outlet, activity=activity).run)
    assert call.waits()
    assert (activity.state, activity.step, activity.turns) == ("wait_in", 0, 0)
    since = activity.since
    inlet.put(batch(7))
    assert call.waits()
    assert (activity.state, activity.step, activity.turns) == ("wait_out", 7, 0)
    assert activity.since > since
    outlet.get()
    assert call.waits()
    assert (activity.state, activity.step, activity.turns) == ("wait_in", 7, 1)
    outlet.get()
    inlet.put(Message(Kind.STOP, 7))
    call.result()
    assert (activity.state, activity.turns) == ("done", 2)
    assert seen == [("busy", 7)]


def test_the_profiler_surrounds_training_steps_only() -> None:
    """A profiler is entered once per training step, with its number, and left after it."""
    stage = Noting()

    @contextmanager
    def profiler(step: int) -> Iterator[None]:
        stage.calls.append(f"enter {step}")
        yield
        stage.calls.append(f"leave {step}")

    make_worker(stage, filled(*RUN), filled(), around=profiler).run()
    assert stage.calls[:4] == ["enter 1", ("step", 1), "leave 1", ("EVALUATE", 1)]
    assert stage.calls[-5:] == ["check", "enter 2", ("step", 2), "leave 2", "check"]
    assert len([call for call in stage.calls if str(call).startswith("enter")]) == 2


def test_an_evaluation_is_reported_with_its_seconds() -> None:
    """The results of an evaluation come with the time from its beginning to its end."""
    told: list[dict[str, Any]] = []
    make_worker(Noting(), Slow([*RUN], seconds=0.01), filled(), evaluated=told.append).run()
    (result,) = told
    assert result["accuracy"] == 0.75
    assert 0.02 * 0.99 <= result["seconds"] < 5.0
