"""Steps that last longer than they must: a slow stage where there is no slow device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..config import PipelineConfig
from .profiler import StepContext

__all__ = ["delay_of", "slowed"]


def delay_of(config: PipelineConfig, stage: int) -> float:
    """Return the seconds that a step of ``stage``, from 1, is made longer by."""
    return 0.0 if config.delay is None else config.delay[stage - 1]


def slowed(around: StepContext, seconds: float) -> StepContext:
    """Return what to enter around each step so that it lasts longer.

    Args:
        around: What is entered anyway.
        seconds: How much longer; nothing changes for 0.
    """
    if not seconds:
        return around

    @contextmanager
    def step(number: int) -> Iterator[None]:
        with around(number):
            yield
            time.sleep(seconds)

    return step
