"""What a stage tells of its speed."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from blockstep.pipeline.mailbox import LocalMailbox
from blockstep.pipeline.recorder import (
    WARM_UP_STEPS,
    Recorder,
    memory_bytes,
    peak_memory_bytes,
)
from blockstep.pipeline.stage import Stage
from blockstep.pipeline.timeline import StepTimes

from tests.pipeline.parts import CPU


class Told:
    """A stage that has something to report, and a GPU."""

    index = 2

    def __init__(self) -> None:
        self.asked = 0

    def progress(self) -> dict[str, float]:
        """Count the calls."""
        self.asked += 1
        return {"loss": float(self.asked), "accuracy": 0.5, "lr": 0.1}

    def sample(self) -> dict[str, float]:
        """Read the GPU."""
        return {"utilization": 50.0}


def make(every: int = 3) -> tuple[Recorder, LocalMailbox]:
    """Make a recorder for batches of 16."""
    mailbox, told = LocalMailbox(), Told()
    stage = cast(Stage, told)
    recorder = Recorder(stage, mailbox, every=every, batch_size=16, device=CPU, gpu=told)
    return recorder, mailbox


def step(
    recorder: Recorder,
    number: int,
    seconds: tuple[float, float, float] = (0.25, 0.5, 0.25),
    depth: tuple[int, int] = (1, 100),
) -> None:
    """Note a step."""
    recorder.step(StepTimes(number, float(number), *seconds), depth=depth)


def test_a_report_has_the_means_since_the_report_before() -> None:
    """Every ``every`` steps a report gives means per step, and the queue after its last step."""
    recorder, mailbox = make()
    for number in range(1, 4):
        step(recorder, number, (9.0, 9.0, 9.0), (9, 9))
    mailbox.take()
    step(recorder, 4, (0.5, 1.0, 0.0), (2, 200))
    step(recorder, 5, (0.5, 2.0, 0.0), (0, 0))
    assert mailbox.take() == []
    step(recorder, 6, (2.0, 3.0, 3.0), (4, 400))
    (report,) = mailbox.take()
    memory = report.pop("memory_bytes")
    assert memory > 10 << 20
    assert report == {
        "event": "train",
        "step": 6,
        "stage": 2,
        "loss": 2.0,
        "accuracy": 0.5,
        "lr": 0.1,
        "images_per_second": 3 * 16 / 12.0,
        "busy": 2.0,
        "wait_in": 1.0,
        "wait_out": 1.0,
        "queue_depth": 4,
        "queue_bytes": 400,
        "staleness": 2.0,
        "gpu": {"utilization": 50.0},
    }


def test_reports_fall_on_multiples_of_every_in_a_continued_run() -> None:
    """A run that continues at step 5 reports at step 6, over the steps that it made."""
    recorder, mailbox = make(every=3)
    step(recorder, 5, (0.0, 1.0, 0.0))
    step(recorder, 6, (0.0, 3.0, 0.0))
    (report,) = mailbox.take()
    assert (report["step"], report["busy"], report["images_per_second"]) == (6, 2.0, 8.0)


def test_the_speed_leaves_out_the_steps_that_warm_up() -> None:
    """images_per_second is steps x batch / seconds of the steps after the first ten."""
    recorder, _ = make()
    assert recorder.summary()["images_per_second"] is None
    for number in range(1, WARM_UP_STEPS + 1):
        step(recorder, number, (50.0, 50.0, 50.0))
    assert recorder.summary()["images_per_second"] is None
    for number in range(11, 15):
        step(recorder, number, (0.25, 0.5, 0.25))
    assert recorder.summary()["images_per_second"] == pytest.approx(16.0)


def test_the_speed_leaves_out_the_steps_after_a_marker() -> None:
    """After an evaluation or a checkpoint ten steps do not count, nor does the marker itself."""
    recorder, _ = make()
    for number in range(1, 13):
        step(recorder, number)
    recorder.mark("evaluate", step=12, begin=0.0, seconds=1000.0)
    for number in range(13, 23):
        step(recorder, number, (9.0, 9.0, 9.0))
    assert recorder.summary()["images_per_second"] == pytest.approx(16.0)
    step(recorder, 23, (0.0, 3.0, 0.0))
    assert recorder.summary()["images_per_second"] == pytest.approx(3 * 16 / 5.0)


def test_markers_stand_in_the_timeline() -> None:
    """A mark becomes a span with its name, its step and its length."""
    recorder, _ = make()
    recorder.mark("checkpoint", step=8, begin=1.0, seconds=0.5)
    (event,) = recorder.timeline.events(2)
    told: dict[str, Any] = {key: event[key] for key in ("name", "ts", "dur", "args")}
    assert told == {"name": "checkpoint", "ts": 1e6, "dur": 5e5, "args": {"step": 8}}


def test_the_summary_has_busy_waits_and_memory() -> None:
    """The summary gives the median of computing, the mean waits and the peak of memory."""
    recorder, _ = make()
    for number in range(1, 31):
        step(recorder, number, (0.125, 0.5, 0.25))
    summary = recorder.summary()
    assert (summary["busy"], summary["wait_in"], summary["wait_out"]) == (0.5, 0.125, 0.25)
    assert summary["peak_memory_bytes"] >= memory_bytes() > 0


def test_memory_is_that_of_this_process() -> None:
    """64 MiB more are seen, and the peak remembers them when they are gone."""
    before = memory_bytes()
    held = torch.ones(64 << 20, dtype=torch.uint8)
    assert memory_bytes() - before > 60 << 20
    del held
    assert peak_memory_bytes(CPU) - before > 60 << 20
