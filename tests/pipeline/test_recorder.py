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


class Scene:
    """A recorder for batches of 16, and a clock that is set by hand."""

    def __init__(self, *, every: int = 3) -> None:
        told = Told()
        self.mailbox = LocalMailbox()
        self.now = 1000.0
        self.recorder = Recorder(
            cast(Stage, told), self.mailbox, every=every, batch_size=16, device=CPU, gpu=told
        )

    def step(
        self,
        number: int,
        seconds: tuple[float, float, float] = (0.25, 0.5, 0.25),
        depth: tuple[int, int] = (1, 100),
    ) -> None:
        """Note a step that takes that long."""
        self.recorder.step(StepTimes(number, self.now, *seconds), depth=depth)
        self.now += sum(seconds)

    def mark(self, name: str, seconds: float) -> None:
        """Note a marker that takes that long."""
        self.recorder.mark(name, step=0, begin=self.now, seconds=seconds)
        self.now += seconds

    def speed(self) -> float | None:
        """Return images per second over the run."""
        return self.recorder.summary()["images_per_second"]


def test_a_report_has_the_means_since_the_report_before() -> None:
    """Every ``every`` steps a report gives means per step, and the queue after its last step."""
    scene = Scene()
    for number in range(1, 4):
        scene.step(number, (9.0, 9.0, 9.0), (9, 9))
    scene.mailbox.take()
    scene.step(4, (0.5, 1.0, 0.0), (2, 200))
    scene.step(5, (0.5, 2.0, 0.0), (0, 0))
    assert scene.mailbox.take() == []
    scene.step(6, (2.0, 3.0, 3.0), (4, 400))
    (report,) = scene.mailbox.take()
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
    scene = Scene(every=3)
    scene.step(5, (0.0, 1.0, 0.0))
    scene.step(6, (0.0, 3.0, 0.0))
    (report,) = scene.mailbox.take()
    assert (report["step"], report["busy"], report["images_per_second"]) == (6, 2.0, 8.0)


def test_the_speed_leaves_out_the_steps_that_warm_up() -> None:
    """images_per_second is steps x batch / seconds of the steps after the first ten."""
    scene = Scene()
    assert scene.speed() is None
    for number in range(1, WARM_UP_STEPS + 1):
        scene.step(number, (50.0, 50.0, 50.0))
    assert scene.speed() is None
    for number in range(11, 15):
        scene.step(number, (0.25, 0.5, 0.25))
    assert scene.speed() == pytest.approx(16.0)


def test_the_speed_leaves_out_the_steps_after_a_marker() -> None:
    """After an evaluation or a checkpoint ten steps do not count, nor does the marker itself."""
    scene = Scene()
    for number in range(1, 13):
        scene.step(number)
    scene.mark("evaluate", 1000.0)
    for number in range(13, 23):
        scene.step(number, (9.0, 9.0, 9.0))
    assert scene.speed() == pytest.approx(16.0)
    scene.step(23, (0.0, 3.0, 0.0))
    assert scene.speed() == pytest.approx(3 * 16 / 5.0)


def test_the_speed_counts_the_time_between_steps() -> None:
    """Where stages take turns, the seconds of the others' turns count, in both figures."""
    scene = Scene(every=15)
    for number in range(1, 16):
        scene.step(number, (0.0, 1.0, 0.0))
        scene.now += 3.0
    assert scene.speed() == pytest.approx(16 / 4.0)
    (report,) = scene.mailbox.take()
    assert report["images_per_second"] == pytest.approx(15 * 16 / (1.0 + 14 * 4.0))
    assert report["busy"] == 1.0


def test_the_report_after_a_marker_leaves_the_marker_out() -> None:
    """A checkpoint between two reports does not slow down the figures of the steps."""
    scene = Scene(every=4)
    for number in (1, 2):
        scene.step(number)
    scene.mark("checkpoint", 1000.0)
    for number in (3, 4):
        scene.step(number)
    (report,) = scene.mailbox.take()
    assert report["images_per_second"] == pytest.approx(16.0)


def test_markers_stand_in_the_timeline() -> None:
    """A mark becomes a span with its name, its step and its length."""
    scene = Scene()
    scene.recorder.mark("checkpoint", step=8, begin=1.0, seconds=0.5)
    (event,) = scene.recorder.timeline.events(2)
    told: dict[str, Any] = {key: event[key] for key in ("name", "ts", "dur", "args")}
    assert told == {"name": "checkpoint", "ts": 1e6, "dur": 5e5, "args": {"step": 8}}


def test_the_summary_has_busy_waits_and_memory() -> None:
    """The summary gives the median of computing, the mean waits and the peak of memory."""
    scene = Scene()
    for number in range(1, 31):
        scene.step(number, (0.125, 0.5, 0.25))
    summary = scene.recorder.summary()
    assert (summary["busy"], summary["wait_in"], summary["wait_out"]) == (0.5, 0.125, 0.25)
    assert summary["peak_memory_bytes"] >= memory_bytes() > 0


def test_memory_is_that_of_this_process() -> None:
    """64 MiB more are seen, and the peak remembers them when they are gone."""
    before = memory_bytes()
    held = torch.ones(64 << 20, dtype=torch.uint8)
    assert memory_bytes() - before > 60 << 20
    del held
    assert peak_memory_bytes(CPU) - before > 60 << 20
