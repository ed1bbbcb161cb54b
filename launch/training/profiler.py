"""A window of ``torch.profiler`` on one stage, written as a trace that Perfetto opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ..config import ProfileConfig

__all__ = ["StepContext", "profiler_of"]

StepContext = Callable[[int], AbstractContextManager[Any]]
"""From a step's number to what is entered around it."""


def profiler_of(stage: int, config: ProfileConfig, folder: Path) -> StepContext:
    """Return what to enter around each step of ``stage``.

    Args:
        stage: The stage, from 1.
        config: Which stage and which steps to profile.
        folder: Gets ``profile-stage-N.json``.
    """
    if config.stage != stage:
        return lambda step: nullcontext()
    return _Window(config, folder / f"profile-stage-{stage}.json").step


class _Window:
    """Steps ``start`` to ``start + steps - 1``."""

    def __init__(self, config: ProfileConfig, path: Path) -> None:
        self._first = config.start
        self._last = config.start + config.steps - 1
        self._path = path
        self._profile: torch.profiler.profile | None = None

    @contextmanager
    def step(self, step: int) -> Iterator[None]:
        if self._profile is None and self._first <= step <= self._last:
            self._profile = torch.profiler.profile(record_shapes=True)
            self._profile.start()
        yield
        if self._profile is not None and step >= self._last:
            self._profile.stop()
            self._profile.export_chrome_trace(str(self._path))
            self._profile = None
            self._last = -1
