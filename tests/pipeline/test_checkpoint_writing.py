"""Writing checkpoints where it fails, is interrupted, and is continued from."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.pipeline.checkpoint import (
    CheckpointError,
    Checkpoints,
    Shard,
    write_atomically,
)
from blockstep.pipeline.optimization import OptimizationConfig

from tests.pipeline.parts import batch, differences, make_block
from tests.pipeline.shards import FACTS, STATE, commit, files


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``limit`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_failed_write(checkpoints: Checkpoints, text: str, state: dict[str, Any]) -> None:
    """The write is refused by name and reason, and leaves only what was there before."""
    before = [name for name in files(checkpoints) if not name.startswith("step-2")]
    with pytest.raises(CheckpointError, match=rf"cannot write .*step-2/stage-1\.pt: .*{text}"):
        checkpoints.write(2, "stage-1.pt", state)
    assert files(checkpoints) == [*before, "step-2"]
    newest = checkpoints.newest()
    assert newest is not None
    newest.verify()
    assert newest.step == 1


@pytest.mark.parametrize("elements", [5_000, 20_000, 1_000_000])
def test_a_write_that_the_disk_refuses_leaves_nothing(
    checkpoints: Checkpoints, elements: int
) -> None:
    """A file that cannot grow costs the checkpoint and its temporary file, nothing older."""
    commit(checkpoints, 1)
    with small_files(10_000):
        check_failed_write(checkpoints, "File too large", {"weights": torch.ones(elements)})
    commit(checkpoints, 2).verify()


def test_a_full_disk_leaves_nothing(checkpoints: Checkpoints) -> None:
    """Where no space is left, the error says so and the temporary file is gone."""
    if not Path("/dev/full").is_char_device():
        pytest.skip("this system has no /dev/full")
    commit(checkpoints, 1)
    checkpoints.path(2).mkdir()
    (checkpoints.path(2) / "stage-1.part").symlink_to("/dev/full")
    check_failed_write(checkpoints, "No space left", {"weights": torch.ones(1_000_000)})


def test_a_disk_that_fails_at_the_last_moment_leaves_nothing(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write-back error that only fsync reports counts as much."""

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    commit(checkpoints, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        check_failed_write(checkpoints, "Input/output error", STATE)


def test_a_state_that_cannot_be_saved_leaves_nothing(checkpoints: Checkpoints) -> None:
    """A stage's state with something that cannot be pickled is refused, without a trace."""
    commit(checkpoints, 1)
    check_failed_write(checkpoints, "lambda", {"body": lambda: None})


def test_a_state_that_could_not_be_read_again_is_named_when_it_is_read(
    checkpoints: Checkpoints,
) -> None:
    """Objects other than tensors and plain values are refused by the reader, by name."""
    shard = checkpoints.write(1, "stage-1.pt", {"body": Shard("x", 1, "y")})
    with pytest.raises(CheckpointError, match=r"stage-1\.pt"):
        checkpoints.commit(1, {}, [shard]).load("stage-1.pt")


def test_a_folder_that_cannot_be_made_is_a_checkpoint_error(tmp_path: Path) -> None:
    """A file where the folder should be is reported with the path."""
    (tmp_path / "checkpoints").write_text("in the way")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match=r"step-3/stage-1\.pt"):
        checkpoints.write(3, "stage-1.pt", STATE)
    with pytest.raises(CheckpointError, match=r"step-3/manifest\.json"):
        checkpoints.commit(3, FACTS, [])


def test_a_manifest_that_cannot_be_written_commits_nothing(checkpoints: Checkpoints) -> None:
    """A disk that is full at the very end leaves no checkpoint and no temporary file."""
    shard = checkpoints.write(2, "stage-1.pt", STATE)
    with small_files(10), pytest.raises(CheckpointError, match=r"manifest\.json.*too large"):
        checkpoints.commit(2, FACTS, [shard])
    assert files(checkpoints) == ["step-2", "step-2/stage-1.pt"]


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """write_atomically keeps the old text when the new one does not fit."""
    path = tmp_path / "summary.json"
    write_atomically(path, "old")
    with small_files(100), pytest.raises(OSError, match="too large"):
        write_atomically(path, "x" * 1000)
    assert path.read_text() == "old"
    write_atomically(path, "new: Prüfung")
    assert path.read_text(encoding="utf-8") == "new: Prüfung"
    assert [each.name for each in tmp_path.iterdir()] == ["summary.json"]


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from blockstep.pipeline.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
fsync = os.fsync
def die(descriptor):
    fsync(descriptor)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = die
checkpoints.write(2, "stage-1.pt", {"weights": torch.zeros(1000)})
"""


def test_a_process_that_is_killed_while_it_writes_harms_nothing(checkpoints: Checkpoints) -> None:
    """SIGKILL between the write and its commit leaves the older checkpoint the newest."""
    commit(checkpoints, 1)
    command = [sys.executable, "-c", KILLED, str(checkpoints.folder)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    assert files(checkpoints)[-1] == "step-2/stage-1.part"
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 1
    newest.verify()
    commit(checkpoints, 2).verify()
    assert not (checkpoints.path(2) / "stage-1.part").exists()


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizer": "sgd", "nesterov": True},
        {"optimizer": "adamw", "clip": 1.0},
        {"precision": "float16"},
        {"channels_last": True, "chunk": 3},
    ],
    ids=str,
)
def test_a_resumed_block_ends_where_the_uninterrupted_one_ends(
    checkpoints: Checkpoints, keys: dict[str, Any]
) -> None:
    """Twelve steps equal five, a checkpoint on disk, and seven in a new block, bit for bit."""
    config = OptimizationConfig(steps=12, lr=0.01, **keys)
    whole = make_block(config, dropout=0.3)
    for step in range(1, 13):
        whole.step(batch(step))
    first, second = make_block(config, dropout=0.3), make_block(config, dropout=0.3)
    for step in range(1, 6):
        first.step(batch(step))
    shard = checkpoints.write(5, "stage-1.pt", first.state_dict())
    second.step(batch(99))
    second.load_state_dict(checkpoints.commit(5, {}, [shard]).load("stage-1.pt"))
    torch.manual_seed(0)
    for step in range(6, 13):
        second.step(batch(step))
    assert differences(whole.state_dict(), second.state_dict()) == []
