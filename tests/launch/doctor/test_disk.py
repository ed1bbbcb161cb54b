"""Lines about the disk of the runs."""

from __future__ import annotations

import os
import shutil
import types
from pathlib import Path

import pytest
from blockstep.launch.doctor import disk
from blockstep.launch.doctor.disk import GIB, MIB, check_disk, write_speed
from blockstep.launch.doctor.finding import Level


@pytest.fixture
def usage(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A disk with as much room as a test wants."""
    usage = types.SimpleNamespace(free=100 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    return usage


def test_nothing_is_left_in_a_folder_that_need_not_exist(tmp_path: Path):
    """The nearest folder above it is written to, and is as it was."""
    (finding,) = check_disk(tmp_path / "runs" / "deep")
    assert f"GiB free in {tmp_path}, written at" in finding.text
    assert finding.figures["bytes_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("free", "speed", "level", "advice"),
    [
        (100 * GIB, 500 * MIB, Level.OK, ""),
        (2 * GIB, 500 * MIB, Level.WARN, "dry_run=true says how much"),
        (100 * GIB, 10 * MIB, Level.WARN, "checkpoints take long"),
        (100 * MIB, 500 * MIB, Level.FAIL, "make room"),
    ],
)
def test_room_and_speed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    usage: types.SimpleNamespace,
    free: int,
    speed: int,
    level: Level,
    advice: str,
):
    """Little room and a slow disk are told; almost no room fails, and nothing is written then."""
    usage.free = free
    asked: list[int] = []
    monkeypatch.setattr(disk, "write_speed", lambda folder, most: asked.append(most) or speed)
    (finding,) = check_disk(tmp_path)
    assert (finding.level, advice in finding.advice) == (level, True)
    assert all(most <= free / 4 for most in asked)
    assert bool(asked) == (level is not Level.FAIL)


def test_a_folder_that_cannot_be_written(tmp_path: Path, usage: types.SimpleNamespace):
    """A file in its place, whatever the rights of whoever runs this."""
    path = tmp_path / "runs"
    path.touch()
    (finding,) = check_disk(path)
    assert (finding.level, finding.advice) == (Level.FAIL, "choose another runs=FOLDER")
    assert f"{path} cannot be written: Not a directory" in finding.text


def test_bytes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All that was written, over the time until it was on the disk."""
    times = iter([0.0, 0.25, 0.5, 2.0, 4.0])
    monkeypatch.setattr(disk, "time", types.SimpleNamespace(perf_counter=lambda: next(times)))
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.fstat(number).st_size))
    assert write_speed(tmp_path, most=64 * MIB) == 8 * MIB / 4
    assert flushed == [8 * MIB]
