"""Shards that an earlier checkpoint has already: taken over, not written again."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.pipeline import checkpoint as module
from blockstep.pipeline.checkpoint import CheckpointError, Checkpoints, Shard

from tests.pipeline.shards import FACTS, STATE, files

NAME = "snapshot-7.pt"


@pytest.fixture
def shard(checkpoints: Checkpoints) -> Shard:
    """A shard of the checkpoint after step 1, which is committed."""
    shard = checkpoints.write(1, NAME, STATE)
    checkpoints.commit(1, FACTS, [shard])
    return shard


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links."""

    def refuse(*paths: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(module.os, "link", refuse)


def inode(checkpoints: Checkpoints, step: int) -> int:
    return (checkpoints.path(step) / NAME).stat().st_ino


def check_step_2(checkpoints: Checkpoints, shard: Shard) -> None:
    """The checkpoint after step 2 is whole and has the same content."""
    assert checkpoints.take_over(2, shard, source=1) == shard
    checkpoints.commit(2, FACTS, [shard])
    read = checkpoints.read(checkpoints.path(2))
    read.verify()
    assert torch.equal(read.load(NAME)["weights"]["a"], STATE["weights"]["a"])


def test_a_shard_gets_a_second_name(checkpoints: Checkpoints, shard: Shard) -> None:
    """It takes no further room on the disk."""
    check_step_2(checkpoints, shard)
    assert inode(checkpoints, 1) == inode(checkpoints, 2)


def test_it_outlives_the_earlier_checkpoint(checkpoints: Checkpoints, shard: Shard) -> None:
    """Pruning removes a name, not the content; it can be taken over again and again."""
    check_step_2(checkpoints, shard)
    assert checkpoints.prune(keep=1) == [1]
    assert not checkpoints.path(1).exists()
    checkpoints.take_over(3, shard, source=2)
    checkpoints.commit(3, FACTS, [shard]).verify()


@pytest.mark.usefixtures("no_links")
def test_without_hard_links_it_is_copied(checkpoints: Checkpoints, shard: Shard) -> None:
    """Another file with the same content, and no temporary one."""
    check_step_2(checkpoints, shard)
    assert inode(checkpoints, 1) != inode(checkpoints, 2)
    assert f"step-2/{NAME}" in files(checkpoints)
    assert not [name for name in files(checkpoints) if name.endswith(".part")]


def test_what_an_interrupted_attempt_left_is_replaced(
    checkpoints: Checkpoints, shard: Shard
) -> None:
    """Be it torn, or linked already."""
    torn = checkpoints.path(2) / NAME
    torn.parent.mkdir()
    torn.write_bytes(b"torn")
    check_step_2(checkpoints, shard)
    check_step_2(checkpoints, shard)


def test_taking_over_within_a_checkpoint_changes_nothing(
    checkpoints: Checkpoints, shard: Shard
) -> None:
    """A checkpoint that is written twice keeps its file."""
    assert checkpoints.take_over(1, shard, source=1) == shard
    checkpoints.read(checkpoints.path(1)).verify()


def test_a_missing_or_torn_shard_is_refused(checkpoints: Checkpoints, shard: Shard) -> None:
    """By name, and with both sizes; nothing is made."""
    with pytest.raises(CheckpointError, match=rf"cannot take .*step-5/{NAME} over"):
        checkpoints.take_over(2, shard, source=5)
    path = checkpoints.path(1) / NAME
    path.write_bytes(path.read_bytes()[:-10])
    text = rf"step-1/{NAME} has {shard.bytes - 10} bytes, not {shard.bytes}: it is torn"
    with pytest.raises(CheckpointError, match=text):
        checkpoints.take_over(2, shard, source=1)
    assert not checkpoints.path(2).exists()


@pytest.mark.usefixtures("no_links")
def test_a_copy_is_compared_with_its_digest(checkpoints: Checkpoints, shard: Shard) -> None:
    """A damaged file of the right size is not carried on."""
    path = checkpoints.path(1) / NAME
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoints.take_over(2, shard, source=1)
    assert files(checkpoints) == ["step-1", "step-1/manifest.json", f"step-1/{NAME}", "step-2"]


def test_damage_after_a_link_is_found_in_both(checkpoints: Checkpoints, shard: Shard) -> None:
    """The price of a link: one file. Verification names it in each checkpoint."""
    check_step_2(checkpoints, shard)
    with (checkpoints.path(1) / NAME).open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    for step in (1, 2):
        with pytest.raises(CheckpointError, match=rf"step-{step}/{NAME} is damaged"):
            checkpoints.read(checkpoints.path(step)).verify()


def test_a_full_disk_is_told(
    checkpoints: Checkpoints, shard: Shard, no_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that does not fit leaves nothing behind."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        checkpoints.take_over(2, shard, source=1)
    assert not list(checkpoints.path(2).iterdir())


def test_another_folder_has_no_part_in_it(tmp_path: Path, shard: Shard) -> None:
    """A run that was copied to another disk is a run of its own."""
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "run", moved)
    copied = Checkpoints(moved / "checkpoints")
    copied.take_over(2, shard, source=1)
    assert (copied.path(2) / NAME).stat().st_nlink == 2
