"""Checkpoints: all of one or nothing, and nothing in them is executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.pipeline.checkpoint import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    Shard,
    write_atomically,
)
from blockstep.pipeline.optimization import OptimizationConfig

from tests.pipeline.parts import batch, differences, make_block

FACTS = {"network": "resnet50", "cuts": [3, 7], "accuracy": None}
STATE: dict[str, Any] = {
    "weights": {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, 4, 3, 3)},
    "images": torch.ones(2, 4, 3, 3).to(memory_format=torch.channels_last),
    "half": torch.tensor(1.5, dtype=torch.bfloat16),
    "numbers": [1, 2.5, None, True, "text"],
}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """An empty folder's checkpoints."""
    return Checkpoints(tmp_path / "run" / "checkpoints")


def commit(checkpoints: Checkpoints, step: int, *, stages: int = 2) -> Checkpoint:
    """Write and commit a checkpoint of a few shards."""
    shards = [
        checkpoints.write(step, f"stage-{stage}.pt", {**STATE, "stage": stage, "step": step})
        for stage in range(1, stages + 1)
    ]
    return checkpoints.commit(step, FACTS, shards)


def files(checkpoints: Checkpoints) -> list[str]:
    """Return every file and folder below, by relative path."""
    found = (str(path.relative_to(checkpoints.folder)) for path in checkpoints.folder.rglob("*"))
    return sorted(found)


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
