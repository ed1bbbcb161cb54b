"""What a stage tells of itself: its progress at intervals, its speed at the end."""

from __future__ import annotations

from typing import Any

import torch

from .gpu import GpuMonitor
from .mailbox import Post
from .replay import NoReplay
from .stage import Stage
from .timeline import StepTimes, Timeline

__all__ = ["Recorder", "memory_bytes", "peak_memory_bytes"]

WARM_UP_STEPS = 10
"""Steps at the start, and after each evaluation or checkpoint, that do not count for speed: the
pipeline fills, caches warm, and what the links held meanwhile would flatter it."""


def memory_bytes() -> int:
    """Return this process's resident memory."""
    return _status_kib("VmRSS") * 1024


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of the memory a stage needs: of the GPU, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status_kib("VmHWM") * 1024


def _status_kib(key: str) -> int:
    """Read a field of /proc/self/status; 0 where there is none.

    ``getrusage`` would be wrong here: its peak survives exec and includes the parent's.
    """
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(f"{key}:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


class Recorder:
    """Collects the times of one stage and posts them with its losses.

    Args:
        stage: The stage.
        post: Where reports go.
        every: Steps between reports.
        batch_size: Examples per step, those of all replicas of the stage together.
        device: Where the stage computes.
        gpu: Reads the GPU.
        replay: What the stage learns from again; None: nothing.
    """

    def __init__(
        self,
        stage: Stage,
        post: Post,
        *,
        every: int,
        batch_size: int,
        device: torch.device,
        gpu: GpuMonitor,
        replay: NoReplay | None = None,
    ) -> None:
        self.timeline = Timeline()
        self._stage = stage
        self._post = post
        self._every = every
        self._batch_size = batch_size
        self._device = device
        self._gpu = gpu
        self._replay = replay or NoReplay()
        self._interval: list[StepTimes] = []
        self._interval_seconds = 0.0
        self._last_end: float | None = None
        self._staleness = 0
        self._to_skip = WARM_UP_STEPS
        self._counted_steps = 0
        self._counted_seconds = 0.0

    def step(self, times: StepTimes, *, depth: tuple[int, int]) -> None:
        """Note one training step.

        Args:
            times: Where its time went.
            depth: Messages and bytes in the link after the input was taken.
        """
        self.timeline.add(times)
        self._interval.append(times)
        seconds = self._elapsed(times)
        self._interval_seconds += seconds
        self._staleness += depth[0]
        if self._to_skip:
            self._to_skip -= 1
        else:
            self._counted_steps += 1
            self._counted_seconds += seconds
        if times.step % self._every == 0:
            self._report(times.step, depth)

    def mark(self, name: str, *, step: int, begin: float, seconds: float) -> None:
        """Note an evaluation or a checkpoint."""
        self.timeline.mark(name, step=step, begin=begin, seconds=seconds)
        self._to_skip = WARM_UP_STEPS
        self._last_end = None

    def summary(self) -> dict[str, Any]:
        """Return the stage's figures over the whole run; null where nothing was measured."""
        steps, seconds = self._counted_steps, self._counted_seconds
        waits = self.timeline.mean_waits()
        return {
            "wait_in": waits[0],
            "wait_out": waits[1],
            "images_per_second": steps * self._batch_size / seconds if steps else None,
            "busy": self.timeline.median_busy(),
            "peak_memory_bytes": peak_memory_bytes(self._device),
            **self._replay.summary(),
        }

    def _report(self, step: int, depth: tuple[int, int]) -> None:
        interval = self._interval
        count = len(interval)
        self._post.post(
            {
                "event": "train",
                "step": step,
                "stage": self._stage.index,
                **self._stage.progress(),
                "images_per_second": count * self._batch_size / self._interval_seconds,
                "busy": sum(times.busy for times in interval) / count,
                "wait_in": sum(times.wait_in for times in interval) / count,
                "wait_out": sum(times.wait_out for times in interval) / count,
                "queue_depth": depth[0],
                "queue_bytes": depth[1],
                "staleness": self._staleness / count,
                **self._replay.progress(interval),
                "memory_bytes": memory_bytes(),
                "gpu": self._gpu.sample(),
            }
        )
        self._interval = []
        self._interval_seconds = 0.0
        self._staleness = 0

    def _elapsed(self, times: StepTimes) -> float:
        """Return the seconds from the end of the step before to the end of this one.

        Where stages take turns, that includes the turns of the others.
        """
        end = times.begin + times.seconds
        elapsed = times.seconds if self._last_end is None else end - self._last_end
        self._last_end = end
        return elapsed
