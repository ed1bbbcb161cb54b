"""Seconds of computing, in laps with waiting between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Laps"]


class Laps:
    """Adds up what a device computes in a step that also waits for others.

    On a CPU these are the seconds that passed in the laps. On a GPU the host only enqueues, so a
    lap lies between two events of its stream.

    Args:
        device: Where the laps run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._earlier: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def lap(self) -> Iterator[None]:
        """Count what is computed in here."""
        if self._device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            stream = torch.cuda.current_stream(self._device)
            begin.record(stream)
            yield
            end.record(stream)
            self._events.append((begin, end))
            return
        begun = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - begun

    def take(self) -> float:
        """Return the seconds since the last call; on a GPU, those before the last call.

        Waiting for them keeps the host one step ahead of the GPU and no more.
        """
        if self._device.type == "cuda":
            finished, self._earlier, self._events = self._earlier, self._events, []
            if finished:
                finished[-1][1].synchronize()
            return sum(begin.elapsed_time(end) for begin, end in finished) / 1e3
        seconds, self._seconds = self._seconds, 0.0
        return seconds
