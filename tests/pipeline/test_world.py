"""The world of processes that other tests use reports what happens in its ranks."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.world import World, WorldError


def double(rank: int, number: int) -> tuple[int, int]:
    """Answer."""
    return rank, 2 * number


def fail_in_rank_1(rank: int) -> None:
    """Raise in one rank and wait in the other."""
    if rank == 1:
        raise KeyError("the cause")
    time.sleep(60)


def end(rank: int) -> None:
    """End without an answer."""
    os._exit(7)


def test_a_world_returns_values_and_reports_what_goes_wrong(tmp_path: Path) -> None:
    """A world returns each rank's value, and names the rank that raised, hung or ended."""
    world = World(2, tmp_path)
    assert world.run(double, 4) == [(0, 8), (1, 8)]
    with pytest.raises(WorldError, match=r"(?s)rank 1: .*the cause.*rank 0: no answer.*in fail_in"):
        world.run(fail_in_rank_1)
    with pytest.raises(WorldError, match="rank 0: it ended with status 7"):
        world.run(end)
    world.close()
