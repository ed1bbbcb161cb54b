"""Which process ends a run under torchrun, and what it leaves for torchrun's summary."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
from blockstep.launch import torchrun
from blockstep.launch.outcome import Failure
from blockstep.launch.torchrun import Watching


class FailedMonitor:
    """A monitor that has heard of a failure, and of which ranks said that they fail."""

    def __init__(self, heard: set[int]) -> None:
        self.failure = Failure("stage 1 (rank 0)", 5, "ValueError: the head is broken")
        self.done = False
        self.closed = threading.Event()
        self.polls = 0
        self._heard = heard

    def poll(self) -> None:
        self.polls += 1

    def heard_of_failure(self, rank: int) -> bool:
        return rank in self._heard

    def close(self, summary: Any) -> None:
        self.closed.set()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Codes with which the watching thread ended the process; the error file is in tmp_path."""
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(torchrun, "FAILURE_SECONDS", 0.05)
    monkeypatch.setattr(torchrun.os, "_exit", leave)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    return codes


def watching(*, heard: set[int]) -> tuple[Watching, FailedMonitor]:
    monitor = FailedMonitor(heard)
    member = cast(Any, type("Member", (), {"rank": 0})())
    return Watching(cast(Any, monitor), member), monitor


def test_a_rank_that_raises_is_left_to_its_own_traceback(
    monkeypatch: pytest.MonkeyPatch, ended: list[int], tmp_path: Path
) -> None:
    """However long rank 0 takes to warn its neighbours, its own error reaches torchrun."""
    thread, monitor = watching(heard={0})
    thread.start()
    time.sleep(0.5)
    thread.abandon()
    assert monitor.closed.is_set()
    assert monitor.polls >= 2
    assert ended == []
    assert not (tmp_path / "error.json").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_rank_zero_ends_itself_for_another_ranks_failure(
    monkeypatch: pytest.MonkeyPatch, ended: list[int], tmp_path: Path
) -> None:
    """torchrun only ends the others when one ends; the cause is in the error file."""
    thread, monitor = watching(heard={1})
    thread.start()
    assert monitor.closed.wait(5.0)
    thread._thread.join(5.0)
    assert ended == [1]
    written = json.loads((tmp_path / "error.json").read_text())["message"]
    assert "ValueError: the head is broken" in written["extraInfo"]["py_callstack"]
