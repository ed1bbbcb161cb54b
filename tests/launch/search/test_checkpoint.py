"""Tests of `blockstep.launch.search.checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.assembly import build_network
from blockstep.launch.compose import compose
from blockstep.launch.data import load_data
from blockstep.launch.job import Objects, Task
from blockstep.launch.search.checkpoint import SearchCheckpoints
from blockstep.launch.search.config import SearchConfig
from blockstep.launch.search.relaxation import build_relaxation
from blockstep.launch.search.source import DataSource
from blockstep.pipeline.checkpoint import CheckpointError, Checkpoints, Shard
from blockstep.search.sedona import Search

from tests.launch.runs import same

CPU = torch.device("cpu")
TASK = Task("digits", 10, (1, 8, 8), "float32", {"train": 1257, "validation": 180, "test": 360})
WORDS = (
    "model=mlp", "model.hidden=8", "model.depth=3", "data=digits", "search.heads=[linear]",
    "train.steps=6", "train.batch_size=16", "search.pretrain_every=1", "search.memory=3",
    "search.steps=6", "search.inner_steps=2", "search.validation_batch=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def config() -> SearchConfig:
    """A search of a few milliseconds per step."""
    return compose("search", WORDS)


def make(config: SearchConfig) -> Search:
    """Begin the search."""
    network = build_network(config, Objects(), TASK)
    source = DataSource(
        load_data(config.data, seed=0, device=CPU), batch_size=16, validation_batch=20
    )
    return Search(
        build_relaxation(config, network, TASK, device=CPU),
        source,
        settings=config.search,
        optimization=config.train,
        seed=0,
    )


def advance(search: Search, steps: int) -> Search:
    for _ in range(steps):
        search.advance()
    return search


def state(search: Search) -> Any:
    """Everything that a search is, as plain data."""
    snapshots = [one.state_dict() for one in search.snapshots]
    # NaN is not equal to itself.
    return search.state_dict(), [{**one, "accuracy": str(one["accuracy"])} for one in snapshots]


def numbers(shards: list[Shard]) -> list[str]:
    return [shard.name for shard in shards]


def commit(checkpoints: Checkpoints, step: int, shards: list[Shard]) -> None:
    checkpoints.commit(step, {}, shards)


@pytest.mark.parametrize("steps", [1, 3, 6, 7, 9])
def test_what_is_written_continues_bit_for_bit(
    config: SearchConfig, tmp_path: Path, steps: int
) -> None:
    """In either phase: the continued search ends where the uninterrupted one ends."""
    checkpoints = Checkpoints(tmp_path)
    search = advance(make(config), steps)
    commit(checkpoints, steps, SearchCheckpoints(checkpoints).write(steps, search))
    resumed = make(config)
    SearchCheckpoints(checkpoints).read(steps, resumed)
    left, right = state(search), state(resumed)
    assert same(left[0], right[0])
    assert same(left[1], right[1])
    while not search.done:
        expected, found = search.advance(), resumed.advance()
        assert str(expected) == str(found)
    assert torch.equal(search.alpha, resumed.alpha)
    assert torch.equal(search.beta, resumed.beta)
    assert same(state(search)[1], state(resumed)[1])


def test_only_new_snapshots_are_written(config: SearchConfig, tmp_path: Path) -> None:
    """The others are second names of the files that the checkpoint before has."""
    checkpoints = Checkpoints(tmp_path)
    writer, search = SearchCheckpoints(checkpoints), advance(make(config), 7)
    first = writer.write(7, search)
    commit(checkpoints, 7, first)
    second = writer.write(8, advance(search, 1))
    commit(checkpoints, 8, second)
    kept = set(numbers(first)) & set(numbers(second)) - {"search.pt"}
    assert len(kept) == 2
    assert len(second) == 4
    for name in numbers(second):
        links = (checkpoints.path(8) / name).stat().st_nlink
        assert links == (2 if name in kept else 1), name
    checkpoints.read(checkpoints.path(8)).verify()


def test_a_resumed_search_takes_over_what_it_read(config: SearchConfig, tmp_path: Path) -> None:
    """The first checkpoint after a resume writes only what is new, too."""
    checkpoints = Checkpoints(tmp_path)
    commit(checkpoints, 7, SearchCheckpoints(checkpoints).write(7, advance(make(config), 7)))
    writer, resumed = SearchCheckpoints(checkpoints), make(config)
    writer.read(7, resumed)
    shards = writer.write(8, advance(resumed, 1))
    linked = [s.name for s in shards if (checkpoints.path(8) / s.name).stat().st_nlink == 2]
    assert len(linked) == 2


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_what_the_disk_has_lost_is_written_again(
    config: SearchConfig, tmp_path: Path, damage: str
) -> None:
    """A checkpoint is whole although the one before is not."""
    checkpoints = Checkpoints(tmp_path)
    writer, search = SearchCheckpoints(checkpoints), advance(make(config), 7)
    commit(checkpoints, 7, writer.write(7, search))
    for path in checkpoints.path(7).glob("snapshot-*.pt"):
        path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:100])
    shards = writer.write(8, advance(search, 1))
    commit(checkpoints, 8, shards)
    checkpoints.read(checkpoints.path(8)).verify()
    resumed = make(config)
    SearchCheckpoints(checkpoints).read(8, resumed)
    assert same(state(search)[1], state(resumed)[1])


def test_a_damaged_snapshot_is_named(config: SearchConfig, tmp_path: Path) -> None:
    """A search does not go on from weights that are not those it had."""
    checkpoints = Checkpoints(tmp_path)
    commit(checkpoints, 7, SearchCheckpoints(checkpoints).write(7, advance(make(config), 7)))
    path = sorted(checkpoints.path(7).glob("snapshot-*.pt"))[0]
    content = bytearray(path.read_bytes())
    content[-200] ^= 255
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=path.name):
        SearchCheckpoints(checkpoints).read(7, make(config))
