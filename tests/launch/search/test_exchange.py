"""Tests of `blockstep.launch.search.exchange`, in a world of gloo processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from blockstep.launch.search.exchange import GlooExchange
from blockstep.pipeline.link import LinkClosedError
from blockstep.pipeline.worker import Activity
from torch import Tensor

from tests.world import World, WorldError


def exchange(folder: str) -> tuple[GlooExchange, Activity]:
    """The exchange of this rank; the store is a file in ``folder``."""
    store = dist.FileStore(f"{folder}/store", dist.get_world_size())
    activity = Activity()
    return GlooExchange(store, activity), activity


def content(rank: int) -> list[Tensor]:
    """Tensors of several types, shapes and layouts that differ between ranks."""
    torch.manual_seed(rank)
    return [
        torch.randn(3, 4),
        torch.tensor(float("nan") if rank == 1 else 1.5 + rank, dtype=torch.float64),
        torch.randint(0, 9, (2, 2)),
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.tensor([]),
        torch.tensor(rank),
        torch.randn(7),
    ]


def share_everything(rank: int, folder: str) -> None:
    """Every rank gets what each source has, bit for bit, and keeps what it has."""
    ranks, _ = exchange(folder)
    assert (ranks.rank, ranks.size) == (rank, 3)
    for source in (0, 1, 2, 1):
        own = content(rank)
        found = ranks.share(own, source=source)
        for mine, before, got, expected in zip(
            own, content(rank), found, content(source), strict=True
        ):
            assert got.dtype == expected.dtype
            assert got.shape == expected.shape
            assert got.stride() == expected.stride()
            assert torch.equal(got.nan_to_num(-1), expected.nan_to_num(-1))
            assert torch.equal(mine.nan_to_num(-1), before.nan_to_num(-1))
            assert got.untyped_storage().nbytes() == got.nbytes


def test_every_rank_gets_what_the_source_has(world: World, tmp_path: Path) -> None:
    """Values, types, shapes and layouts; what goes in is not changed; nothing is a view."""
    world.run(share_everything, str(tmp_path))


def wait_long(rank: int, folder: str) -> Any:
    """Rank 0 comes two seconds late; return what the others did meanwhile."""
    ranks, activity = exchange(folder)
    activity.enter("busy", time.perf_counter(), 5)
    if rank == 0:
        time.sleep(2.0)
    begin = time.perf_counter()
    seen: list[str] = []
    sleep = time.sleep
    time.sleep = lambda seconds: (seen.append(activity.state), sleep(seconds))[1]  # type: ignore
    try:
        ranks.share([torch.ones(1)], source=0)
    finally:
        time.sleep = sleep
    return time.perf_counter() - begin, set(seen), len(seen), activity.state, activity.step


def test_who_waits_says_so(world: World, tmp_path: Path) -> None:
    """A waiting rank is seen as waiting, not as computing, and looks at the store less and less."""
    late, *others = world.run(wait_long, str(tmp_path))
    assert late[0] < 1.0
    assert late[1] == set()
    for seconds, states, looks, after, step in others:
        assert seconds > 1.0
        assert states == {"wait_in"}
        assert looks < 200
        assert (after, step) == ("busy", 5)


def disagree(rank: int, folder: str) -> None:
    """Rank 2 expects fewer numbers than rank 0 sends."""
    ranks, _ = exchange(folder)
    ranks.share([torch.zeros(2 if rank == 2 else 3)], source=0)


def test_ranks_that_expect_other_tensors_are_told_so(world: World, tmp_path: Path) -> None:
    """Gloo would end the process; both sizes are named instead."""
    with pytest.raises(WorldError, match="rank 2 expects 1 tensors of 8 bytes, rank 0 has 1 of 12"):
        world.run(disagree, str(tmp_path))


def lose_a_rank(rank: int, folder: str) -> str:
    """Rank 1 ends after it has come to the meeting."""
    ranks, _ = exchange(folder)
    ranks.share([torch.zeros(1)], source=0)
    if rank == 1:
        ranks._store.add("exchange", 1)
        os._exit(3)
    time.sleep(0.5)
    try:
        for _ in range(5):
            ranks.share([torch.zeros(100_000)], source=1)
    except LinkClosedError as error:
        return str(error)
    return "nothing"


def test_a_lost_rank_closes_the_exchange(world: World, tmp_path: Path) -> None:
    """What the others see is only an echo of the loss: a closed link."""
    told = world.run(lose_a_rank, str(tmp_path), dying=[1])
    assert "the exchange with rank 1 broke" in told[0]
    assert "the exchange with rank 1 broke" in told[2]


def grow(rank: int, folder: str) -> int:
    """Share many times; return how many keys the store has."""
    ranks, _ = exchange(folder)
    for step in range(60):
        (found,) = ranks.share([torch.tensor(step * (rank == 0))], source=0)
        assert int(found) == step
    return ranks._store.num_keys()


def test_the_store_does_not_grow(world: World, tmp_path: Path) -> None:
    """Nothing grows with the number of steps."""
    assert max(world.run(grow, str(tmp_path))) < 5
