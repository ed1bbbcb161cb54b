"""What the first stage is told to do, and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from blockstep.pipeline.feed import Agenda, Feed, StopRequest
from blockstep.pipeline.message import Kind, Message
from torch import Tensor

STEPS_PER_SPLIT = {"validation": 2, "test": 1}


class Numbers:
    """A data set whose x is the step, or the number of the evaluation's batch."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def train(self, *, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Count from the step after ``start``."""
        self.asked.append(("train", batch_size, start))
        step = start
        while True:
            step += 1
            yield torch.tensor(step), torch.tensor(-step)

    def evaluation(self, split: str, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Count the split's batches."""
        self.asked.append((split, batch_size))
        for number in range(STEPS_PER_SPLIT[split]):
            yield torch.tensor(100 + number), torch.tensor(0)


def word(message: Message) -> str:
    """Write a message as text: its kind's first letters, its step, its split or its batch."""
    names = {
        Kind.BATCH: "B",
        Kind.EVALUATE: "E",
        Kind.SAMPLE: "s",
        Kind.EVALUATED: "e",
        Kind.CHECKPOINT: "C",
        Kind.STOP: "STOP",
    }
    if message.kind == Kind.BATCH:
        x, y = message.tensors
        assert (x.item(), y.item()) == (message.step, -message.step)
    split = f"({message.text})" if message.text else ""
    return f"{names[message.kind]}{message.step}{split}"


def told(agenda: Agenda, *, stop_at: str = "") -> str:
    """Return all that a feed says; a stop is requested when it has said ``stop_at``."""
    stop = StopRequest()
    feed = Feed(Numbers(), agenda, stop=stop)
    words = []
    if stop_at == "start":
        stop.set()
    while not words or not words[-1].startswith("STOP"):
        words.append(word(feed.get()))
        if words[-1] == stop_at:
            stop.set()
    return " ".join(words)


def agenda(**keys: Any) -> Agenda:
    """Make an agenda of four steps."""
    return Agenda(**{"start": 0, "steps": 4, "batch_size": 8, **keys})


VALIDATION = "E2(validation) s2 s2 e2(validation)"

CASES = {
    "steps only": ({}, "B1 B2 B3 B4 C4 STOP4"),
    "one step": ({"steps": 1}, "B1 C1 STOP1"),
    "no steps": ({"steps": 0}, "STOP0"),
    "evaluations on the way": (
        {"evaluate_every": 2, "splits": ("validation",)},
        f"B1 B2 {VALIDATION} B3 B4 C4 STOP4",
    ),
    "final splits at the end only": (
        {"final_splits": ("validation", "test")},
        "B1 B2 B3 B4 E4(validation) s4 s4 e4(validation) E4(test) s4 e4(test) C4 STOP4",
    ),
    "both": (
        {"evaluate_every": 2, "splits": ("validation",), "final_splits": ("test",)},
        f"B1 B2 {VALIDATION} B3 B4 E4(test) s4 e4(test) C4 STOP4",
    ),
    "evaluate_every=0 ignores splits": (
        {"evaluate_every": 0, "splits": ("validation",)},
        "B1 B2 B3 B4 C4 STOP4",
    ),
    "evaluate_every that does not divide": (
        {"evaluate_every": 3, "splits": ("test",), "final_splits": ("test",)},
        "B1 B2 B3 E3(test) s3 e3(test) B4 E4(test) s4 e4(test) C4 STOP4",
    ),
    "checkpoints": ({"checkpoint_every": 1}, "B1 C1 B2 C2 B3 C3 B4 C4 STOP4"),
    "the last step is written once": ({"checkpoint_every": 2}, "B1 B2 C2 B3 B4 C4 STOP4"),
    "an evaluation comes before the checkpoint of its step": (
        {"evaluate_every": 2, "splits": ("validation",), "checkpoint_every": 2},
        f"B1 B2 {VALIDATION} C2 B3 B4 C4 STOP4",
    ),
    "every evaluation is written": (
        {"evaluate_every": 2, "splits": ("validation",), "checkpoint_evaluated": True},
        f"B1 B2 {VALIDATION} C2 B3 B4 C4 STOP4",
    ),
    "evaluated and due at once is written once": (
        {
            "evaluate_every": 2,
            "splits": ("validation",),
            "checkpoint_every": 1,
            "checkpoint_evaluated": True,
        },
        f"B1 C1 B2 {VALIDATION} C2 B3 C3 B4 C4 STOP4",
    ),
    "continued": ({"start": 2}, "B3 B4 C4 STOP4"),
    "continued: steps count from the beginning of the run": (
        {"start": 1, "evaluate_every": 2, "splits": ("validation",), "checkpoint_every": 3},
        f"B2 {VALIDATION} B3 C3 B4 C4 STOP4",
    ),
    "continued at the end": ({"start": 4, "final_splits": ("test",)}, "STOP4"),
    "continued beyond the end": ({"start": 6}, "STOP6"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_feed_says_what_the_agenda_asks_for(case: str) -> None:
    """Batches, evaluations, checkpoints and the stop come in exactly this order."""
    keys, expected = CASES[case]
    assert told(agenda(**keys)) == expected


EVALUATIONS = {"evaluate_every": 2, "splits": ("validation",), "checkpoint_every": 2}

STOPS = {
    "before the first step": ("start", {}, "C0 STOP0"),
    "after a step": ("B2", {}, "B1 B2 C2 STOP2"),
    "after the last step": (
        "B4",
        {"final_splits": ("test",)},
        "B1 B2 B3 B4 E4(test) s4 e4(test) C4 STOP4",
    ),
    "before an evaluation that is due": ("B2", EVALUATIONS, "B1 B2 C2 STOP2"),
    "within an evaluation": ("s2", EVALUATIONS, f"B1 B2 {VALIDATION} C2 STOP2"),
    "within an evaluation without a checkpoint": (
        "s2",
        {**EVALUATIONS, "checkpoint_every": 0},
        f"B1 B2 {VALIDATION} C2 STOP2",
    ),
    "after a checkpoint": ("C2", {"checkpoint_every": 2}, "B1 B2 C2 STOP2"),
    "continued, after a step": ("B3", {"start": 2}, "B3 C3 STOP3"),
    "continued, before the first step": ("start", {"start": 2}, "STOP2"),
}


@pytest.mark.parametrize("case", STOPS)
def test_a_stop_request_ends_the_run_with_one_checkpoint(case: str) -> None:
    """After a stop request nothing is begun, and the last step is written exactly once."""
    stop_at, keys, expected = STOPS[case]
    assert told(agenda(**keys), stop_at=stop_at) == expected


def test_the_source_is_asked_for_what_the_agenda_says() -> None:
    """Batch sizes and the first step reach the data set."""
    source = Numbers()
    keys = {"start": 3, "evaluate_batch_size": 99, "final_splits": ("test",)}
    feed = Feed(source, agenda(**keys), stop=StopRequest())
    while feed.get().kind != Kind.STOP:
        pass
    assert source.asked == [("train", 8, 3), ("test", 99)]


def test_a_batch_is_made_when_it_is_asked_for() -> None:
    """Nothing waits in a feed, and a closed feed asks its source for nothing."""
    source = Numbers()
    feed = Feed(source, agenda(), stop=StopRequest())
    assert feed.depth() == (0, 0)
    feed.close()
    assert source.asked == []


def test_an_error_of_the_source_reaches_the_worker() -> None:
    """What goes wrong while a batch is made is raised by the get that asked for it."""

    class Broken(Numbers):
        def train(self, *, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
            yield torch.tensor(1), torch.tensor(-1)
            raise OSError("image 7 is damaged")

    feed = Feed(Broken(), agenda(), stop=StopRequest())
    feed.get()
    with pytest.raises(OSError, match="image 7"):
        feed.get()
