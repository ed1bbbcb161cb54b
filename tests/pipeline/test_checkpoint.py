"""Checkpoints: all of one or nothing, and nothing in them is executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.pipeline.checkpoint import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    Shard,
)

from tests.pipeline.parts import differences
from tests.pipeline.shards import FACTS, STATE, commit, files


def rewrite(checkpoint: Checkpoint, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the manifest of a checkpoint."""
    path = checkpoint.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return checkpoint.folder


def test_what_is_written_is_read(checkpoints: Checkpoints) -> None:
    """Step, facts and every shard come back bit for bit, strides included."""
    written = commit(checkpoints, 50)
    read = checkpoints.read(checkpoints.path(50))
    assert read == written
    assert (read.step, read.facts) == (50, FACTS)
    assert read.bytes == sum(path.stat().st_size for path in read.folder.glob("*.pt"))
    for stage in (1, 2):
        state = read.load(f"stage-{stage}.pt")
        assert differences({**STATE, "stage": stage, "step": 50}, state) == []


def test_a_shards_digest_is_that_of_its_file(checkpoints: Checkpoints) -> None:
    """Size and SHA-256 in the manifest are those of the file on the disk."""
    shard = checkpoints.write(1, "stage-1.pt", STATE)
    content = (checkpoints.path(1) / "stage-1.pt").read_bytes()
    assert shard == Shard("stage-1.pt", len(content), hashlib.sha256(content).hexdigest())


def test_without_a_manifest_there_is_no_checkpoint(checkpoints: Checkpoints) -> None:
    """Shards alone are not a checkpoint: nothing is listed, and reading them is refused."""
    assert checkpoints.newest() is None
    checkpoints.write(50, "stage-1.pt", STATE)
    assert checkpoints.steps() == []
    assert checkpoints.newest() is None
    with pytest.raises(CheckpointError, match=r"step-50/manifest\.json.*never finished"):
        checkpoints.read(checkpoints.path(50))


def test_nothing_but_the_files_is_left(checkpoints: Checkpoints) -> None:
    """A committed checkpoint has its shards and its manifest and no temporary file."""
    commit(checkpoints, 5)
    assert files(checkpoints) == [
        "step-5",
        "step-5/manifest.json",
        "step-5/stage-1.pt",
        "step-5/stage-2.pt",
    ]


def test_the_newest_is_the_one_with_the_highest_step(checkpoints: Checkpoints) -> None:
    """Steps are compared as numbers, and other folders are not looked at."""
    for step in (100, 9, 20):
        commit(checkpoints, step)
    (checkpoints.folder / "step-999").mkdir()
    (checkpoints.folder / "step-best").mkdir()
    (checkpoints.folder / "step-best" / "manifest.json").write_text("{}")
    assert checkpoints.steps() == [9, 20, 100]
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 100


def truncate(path: Path) -> None:
    """Cut off the last byte."""
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    """Leave nothing."""
    path.write_bytes(b"")


def flip_bit(path: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def append(path: Path) -> None:
    """Add a byte."""
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (truncate, "torn"),
        (empty, "has 0 bytes"),
        (append, "torn"),
        (flip_bit, "damaged.*SHA-256"),
        (Path.unlink, "missing"),
    ],
)
def test_a_shard_that_is_not_what_was_written_is_refused(
    checkpoints: Checkpoints, harm: Callable[[Path], Any], text: str
) -> None:
    """A torn, damaged or missing shard is refused by name; the other shards can be read."""
    checkpoint = commit(checkpoints, 50)
    harm(checkpoint.folder / "stage-2.pt")
    read = checkpoints.read(checkpoint.folder)
    with pytest.raises(CheckpointError, match=f"stage-2.pt.*{text}"):
        read.verify()
    with pytest.raises(CheckpointError, match=f"stage-2.pt.*{text}"):
        read.load("stage-2.pt")
    assert read.load("stage-1.pt")["stage"] == 1


def test_a_whole_checkpoint_passes(checkpoints: Checkpoints) -> None:
    """verify() is silent when every shard is what was written."""
    commit(checkpoints, 50).verify()


def test_a_shard_that_is_not_part_of_it_is_refused(checkpoints: Checkpoints) -> None:
    """Asking for another stage's shard names what there is."""
    checkpoint = commit(checkpoints, 50)
    (checkpoint.folder / "stage-3.pt").write_bytes(b"stray")
    with pytest.raises(
        CheckpointError, match=r"has no stage-3\.pt; it has stage-1\.pt, stage-2\.pt"
    ):
        checkpoint.load("stage-3.pt")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "..", ".", "", "sub/x", "./x"]
)
def test_a_manifest_that_names_other_folders_is_refused(
    checkpoints: Checkpoints, name: str
) -> None:
    """A shard's name is a plain file name."""
    folder = rewrite(
        commit(checkpoints, 50), lambda manifest: manifest["shards"][0].update(name=name)
    )
    with pytest.raises(CheckpointError, match="outside its folder"):
        checkpoints.read(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '"text"',
        "{}",
        '{"format": 1}',
        '{"format": 1, "step": 1, "facts": {}, "shards": 7}',
        '{"format": 1, "step": 1, "facts": {}, "shards": ["x"]}',
        '{"format": 1, "step": 1, "facts": {}, "shards": [{"name": "x"}]}',
        '{"format": 1, "step": "x", "facts": {}, "shards": []}',
        '{"format": 1, "step": Infinity, "facts": {}, "shards": []}',
        '{"format": 1, "step": NaN, "facts": {}, "shards": []}',
        '{"format": 1, "step": null, "facts": {}, "shards": []}',
        '{"format": 1, "step": 1, "facts": 7, "shards": []}',
        '{"format": 1, "step": 1, "facts": [1], "shards": []}',
        "[" * 100_000,
        "\ud800",
    ],
)
def test_a_manifest_that_is_not_one_is_refused(checkpoints: Checkpoints, text: str) -> None:
    """Whatever stands in a manifest, reading it gives a checkpoint or a CheckpointError."""
    folder = commit(checkpoints, 50).folder
    (folder / "manifest.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        checkpoints.read(folder)


def test_a_foreign_format_is_refused_with_both_numbers(checkpoints: Checkpoints) -> None:
    """A manifest of a later version is not guessed at."""
    folder = rewrite(commit(checkpoints, 50), lambda manifest: manifest.update(format=2))
    with pytest.raises(CheckpointError, match="has format 2; this version reads format 1"):
        checkpoints.read(folder)


def test_a_huge_manifest_is_refused_before_it_is_read(checkpoints: Checkpoints) -> None:
    """A manifest of 17 MiB is refused by its size."""
    folder = commit(checkpoints, 50).folder
    os.truncate(folder / "manifest.json", 17 << 20)
    with pytest.raises(CheckpointError, match="larger than 16777216 bytes"):
        checkpoints.read(folder)


class Malice:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "pickle"])
def test_a_malicious_shard_executes_nothing(
    checkpoints: Checkpoints, tmp_path: Path, legacy: bool
) -> None:
    """A shard whose digest is right but which holds code is refused, and the code never runs."""
    trap = tmp_path / "executed"
    path = checkpoints.path(1) / "stage-1.pt"
    path.parent.mkdir(parents=True)
    if legacy:
        path.write_bytes(pickle.dumps(Malice(trap), protocol=2))
    else:
        torch.save({"body": Malice(trap)}, path)
    content = path.read_bytes()
    shard = Shard(path.name, len(content), hashlib.sha256(content).hexdigest())
    checkpoint = checkpoints.commit(1, {}, [shard])
    with pytest.raises(CheckpointError, match=r"stage-1\.pt"):
        checkpoint.load("stage-1.pt")
    assert not trap.exists()


def test_prune_keeps_the_newest_and_the_protected(checkpoints: Checkpoints) -> None:
    """All but the newest ``keep`` and the protected are removed, with their folders."""
    for step in (10, 20, 30, 40, 50):
        commit(checkpoints, step)
    assert checkpoints.prune(keep=2, protect=[20]) == [10, 30]
    assert checkpoints.steps() == [20, 40, 50]
    assert [name for name in files(checkpoints) if "/" not in name] == [
        "step-20",
        "step-40",
        "step-50",
    ]
    assert checkpoints.prune(keep=2, protect=[20]) == []
    assert checkpoints.prune(keep=1, protect=[]) == [20, 40]
    for step in checkpoints.steps():
        checkpoints.read(checkpoints.path(step)).verify()


def test_prune_removes_what_was_never_finished(checkpoints: Checkpoints) -> None:
    """Unfinished folders before the newest checkpoint go; one that is being written stays."""
    commit(checkpoints, 20)
    for step in (10, 15, 30):
        checkpoints.write(step, "stage-1.pt", STATE)
    (checkpoints.path(15) / "stage-2.part").write_bytes(b"torn")
    other = checkpoints.folder / "step-notes"
    other.mkdir()
    assert checkpoints.prune(keep=1) == []
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        "step-20",
        "step-30",
        "step-notes",
    ]


def test_prune_of_nothing_is_nothing(checkpoints: Checkpoints) -> None:
    """A run without checkpoints can be pruned."""
    assert checkpoints.prune(keep=2) == []
    assert checkpoints.steps() == []


def test_a_damaged_checkpoint_set_aside_is_neither_newest_nor_pruned(tmp_path: Path) -> None:
    """What was passed over on resume must not push whole checkpoints out."""
    checkpoints = Checkpoints(tmp_path)
    for step in (20, 50):
        checkpoints.commit(step, {}, [checkpoints.write(step, "stage-1.pt", {"step": step})])
    aside = checkpoints.set_aside(50)
    checkpoints.commit(30, {}, [checkpoints.write(30, "stage-1.pt", {"step": 30})])
    assert checkpoints.prune(keep=1) == [20]
    assert checkpoints.steps() == [30]
    assert (aside / "manifest.json").exists()
