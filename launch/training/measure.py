"""What a run is compared with, timed in the run itself while everything else is idle."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from ...models import Network
from ...pipeline.message import Kind, Message
from ...pipeline.stage import Stage
from .blocks import whole_network_block
from .job import TrainJob
from .profiler import StepContext

__all__ = ["reset_peak_memory", "seconds_alone", "seconds_of_backprop"]

WARM_UP_STEPS = 2


def seconds_of_backprop(
    job: TrainJob,
    network: Network,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    steps: int,
    device: torch.device,
) -> float:
    """Time plain backpropagation of the whole network on this rank's device and threads.

    A copy of the network is trained, with the run's optimizer, batch size and precision.

    Args:
        job: The run.
        network: The network; it stays as it is.
        batches: Training batches.
        steps: Steps to time, after two that are not counted.
        device: Where.

    Returns:
        Median seconds per step, including the making of the batch.
    """
    block = whole_network_block(job, network, device)
    seconds = []
    for step in range(1, steps + WARM_UP_STEPS + 1):
        begin = time.perf_counter()
        x, y = next(batches)
        block.step(Message(Kind.BATCH, step, (x, y)))
        _synchronize(device)
        seconds.append(time.perf_counter() - begin)
    del block
    reset_peak_memory(device)
    return statistics.median(seconds[WARM_UP_STEPS:])


def seconds_alone(
    stage: Stage,
    message: Message,
    *,
    steps: int,
    device: torch.device,
    around: StepContext = lambda step: nullcontext(),
) -> float:
    """Time a stage with nothing else running. It goes on learning: save it before.

    Args:
        stage: The stage.
        message: A batch that it has seen.
        steps: Steps to time, after two that are not counted.
        device: Where it computes.
        around: Entered around each step.

    Returns:
        Median seconds per step.
    """
    seconds = []
    for _ in range(steps + WARM_UP_STEPS):
        begin = time.perf_counter()
        with around(message.step):
            stage.step(message)
        _synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[WARM_UP_STEPS:])


def reset_peak_memory(device: torch.device) -> None:
    """Forget the peak so far: what was measured must not count as a stage's memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
