"""Who is taken for hung in a search: never the rank that waits while another pretrains."""

from __future__ import annotations

import json
import time
import types
from typing import Any

import pytest
import torch.distributed as dist
from blockstep.launch.compose import compose
from blockstep.launch.search.config import SearchConfig
from blockstep.pipeline import watchdog
from blockstep.pipeline.watchdog import Watch

HOUR = 3600.0


class Scene:
    """Two ranks of a search whose pulses are written by hand, and a clock set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: SearchConfig) -> None:
        self._now = time.perf_counter()
        clock = types.SimpleNamespace(perf_counter=lambda: self._now)
        monkeypatch.setattr(watchdog, "time", clock)
        self._store = dist.HashStore()
        waits = config.pipeline
        self._watch = Watch(
            self._store, ["rank 0", "rank 1"],
            start_timeout=waits.start_timeout, timeout=waits.timeout,
        )  # fmt: skip
        self._beats = 0

    def after(self, seconds: float, *pulses: dict[str, Any]) -> Any:
        """Let time pass; then each rank tells what it does."""
        self._now += seconds
        self._beats += 1
        for rank, pulse in enumerate(pulses):
            told = {"beat": self._beats, "step": 40, "ended": False, **pulse}
            self._store.set(f"pulse/{rank}", json.dumps(told))
        self._watch.look()
        return self._watch.examine()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The limits are those of `blockstep search`."""
    return Scene(monkeypatch, compose("search", []))


def waits(seconds: float) -> dict[str, Any]:
    """Rank 1 before the search: no step was done, and it has been waiting."""
    return {"state": "wait_in", "seconds": seconds, "turns": 0}


def test_a_rank_may_wait_for_hours(scene: Scene) -> None:
    """Rank 0 does one pretraining step after the other."""
    for hour in range(1, 40):
        busy = {"state": "busy", "seconds": 3.0, "turns": 900 * hour}
        assert scene.after(HOUR, busy, waits(hour * HOUR)) is None


def test_the_rank_that_is_waited_for_is_blamed(scene: Scene) -> None:
    """A pretraining step that takes longer than the limit is a hang of rank 0."""
    busy = {"state": "busy", "seconds": 3.0, "turns": 50}
    assert scene.after(HOUR, busy, waits(HOUR)) is None
    hang = scene.after(1000.0, {**busy, "seconds": 1000.0}, waits(2 * HOUR))
    assert hang is not None
    assert hang.rank == 0
    assert "rank 1 waits for input since 7200 s" in hang.text


def test_ranks_that_all_wait_are_a_hang(scene: Scene) -> None:
    """Nobody is left to wait for."""
    hang = scene.after(HOUR, {**waits(2000.0), "turns": 9}, waits(HOUR))
    assert hang is not None
    assert "all others wait" in hang.text
