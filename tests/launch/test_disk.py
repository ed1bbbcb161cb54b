"""Tests of `blockstep.launch.training.disk`: what is told is what is written."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest
from blockstep.launch.config import TrainConfig
from blockstep.launch.training import disk
from blockstep.launch.training.disk import disk_line, state_bytes
from torch import nn

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with 100 MiB free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 100 << 20))


@pytest.mark.parametrize(("optimizer", "copies"), [("sgd", 2), ("adam", 3)])
def test_a_checkpoint_has_weights_and_what_the_optimizer_keeps(optimizer: str, copies: int):
    """Four bytes for each number."""
    config = TrainConfig()
    config.train.optimizer = optimizer
    assert state_bytes(config, nn.Linear(9, 10), nn.Linear(4, 5)) == 125 * 4 * copies


def test_the_line_counts_every_checkpoint_that_can_be_there_at_once(free: None):
    """Those that are kept, the best, and the one that is being written."""
    config = TrainConfig()
    config.checkpoint.keep, config.checkpoint.best = 3, True
    config.train.steps, config.log.every, config.blocks = 10_000, 10, 2
    megabytes = 2 * 1000 * disk.RECORD_BYTES / 2**20
    line = disk_line(config, 10 << 20)
    assert "10.0 MiB per checkpoint, at most 5 at a time" in line
    assert f"about {megabytes:.1f} MiB of records: {50 + megabytes:.1f} MiB of 100.0 MiB" in line
    assert "TOO LITTLE" not in line
    config.checkpoint.keep, config.checkpoint.best = 9, False
    assert "lower checkpoint.keep" in disk_line(config, 10 << 20)


def test_without_intervals_only_the_last_checkpoint_is_there(free: None):
    """And the best one."""
    config = TrainConfig()
    config.checkpoint.every = 0
    assert "at least 10.0 MiB per checkpoint, at most 2 " in disk_line(config, 10 << 20, least=True)
