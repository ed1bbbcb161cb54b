"""Checkpoints: a folder per step, one shard per stage, and a manifest that is written last.

    checkpoints/step-500/
        stage-1.pt  stage-2.pt  ...     written by each stage when the marker passes it
        manifest.json                   written when every shard is on disk: the commit

A marker that follows step n cuts the whole pipeline consistently although no two stages are at
step n at the same moment. A folder without a manifest does not exist for a reader. Shards are
read with ``weights_only``: nothing in them is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch

__all__ = ["Checkpoint", "CheckpointError", "Checkpoints", "Shard", "write_atomically"]

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or must not be read; the text names it."""


@dataclass(frozen=True)
class Shard:
    """One stage's part of a checkpoint.

    Attributes:
        name: File name.
        bytes: Size of the file.
        sha256: Digest of the file.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint.

    Attributes:
        folder: Where it is.
        step: The training step it was taken after.
        facts: What the run was: network, cuts, heads, ... (compared on resume).
        shards: Its files.
    """

    folder: Path
    step: int
    facts: Mapping[str, Any]
    shards: tuple[Shard, ...]

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    def load(self, name: str, *, device: torch.device | str = "cpu") -> dict[str, Any]:
        """Read one shard after its size and digest were compared with the manifest.

        Raises:
            CheckpointError: The shard is not part of it, is not the file that was written, or
                holds more than tensors and plain values.
        """
        shards = {shard.name: shard for shard in self.shards}
        if name not in shards:
            raise CheckpointError(
                f"{self.folder} has no {name}; it has {', '.join(sorted(shards))}"
            )
        self._verify(shards[name])
        path = self.folder / name
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"{path} was not loaded: it holds something other than tensors and plain values "
                f"({type(error).__name__})"
            ) from error

    def verify(self) -> None:
        """Compare every shard's size and digest with the manifest.

        Raises:
            CheckpointError: A shard is missing, torn or damaged; it is named.
        """
        for shard in self.shards:
            self._verify(shard)

    def _verify(self, shard: Shard) -> None:
        path = self.folder / shard.name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; the checkpoint cannot be used")
        size = path.stat().st_size
        if size != shard.bytes:
            raise CheckpointError(
                f"{path} has {size} bytes, its manifest says {shard.bytes}: it is torn; "
                "resume from an older checkpoint"
            )
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        if digest.hexdigest() != shard.sha256:
            raise CheckpointError(
                f"{path} is damaged: its SHA-256 is {digest.hexdigest()[:16]}..., its manifest "
                f"says {shard.sha256[:16]}...; resume from an older checkpoint"
            )


class _HashingFile:
    """A file that computes the digest of what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self.digest.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()


class Checkpoints:
    """All checkpoints of a run.

    Args:
        folder: ``runs/NAME/checkpoints``; made when the first shard is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint after ``step``."""
        return self.folder / f"step-{step}"

    def write(self, step: int, name: str, state: Mapping[str, Any]) -> Shard:
        """Write one shard atomically.

        Raises:
            CheckpointError: The disk is full, the folder cannot be written, or the state cannot
                be pickled. What was written is removed; older checkpoints stay as they are.
        """
        path = self.path(step) / name
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                hashing = _HashingFile(file)
                torch.save(dict(state), hashing)  # pyright: ignore[reportArgumentType]
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            _sync_folder(path.parent)
        except Exception as error:
            with suppress(OSError):
                part.unlink()
            raise CheckpointError(f"cannot write {path}: {_origin(error)}") from error
        return Shard(name, hashing.bytes, hashing.digest.hexdigest())

    def take_over(self, step: int, shard: Shard, *, source: int) -> Shard:
        """Make a shard of an earlier checkpoint a shard of this one too, without writing it again.

        It becomes a second name of the same file; where the file system has no such names, a
        copy. For content that does not change any more: what damages the file later damages both
        checkpoints.

        Args:
            step: The checkpoint that gets it.
            shard: The shard.
            source: The step of the checkpoint that has it.

        Raises:
            CheckpointError: The earlier file is missing or torn, or the new one cannot be made.
        """
        old, new = self.path(source) / shard.name, self.path(step) / shard.name
        try:
            size = old.stat().st_size
            if size != shard.bytes:
                raise CheckpointError(f"{old} has {size} bytes, not {shard.bytes}: it is torn")
            if step == source:
                return shard
            new.parent.mkdir(parents=True, exist_ok=True)
            # An interrupted attempt may have left a file of this name, linked or torn.
            new.unlink(missing_ok=True)
            try:
                os.link(old, new)
            except OSError:
                _copy(old, new, shard)
        except OSError as error:
            raise CheckpointError(f"cannot take {old} over to {new}: {error}") from error
        return shard

    def commit(self, step: int, facts: Mapping[str, Any], shards: Sequence[Shard]) -> Checkpoint:
        """Write the manifest: from now on the checkpoint exists.

        Raises:
            CheckpointError: The manifest cannot be written.
        """
        manifest = {
            "format": FORMAT,
            "step": step,
            "facts": dict(facts),
            "shards": [asdict(shard) for shard in shards],
        }
        folder = self.path(step)
        try:
            write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1))
        except OSError as error:
            raise CheckpointError(f"cannot write {folder / MANIFEST}: {error}") from error
        return Checkpoint(folder, step, facts, tuple(shards))

    def read(self, folder: Path) -> Checkpoint:
        """Read the manifest in ``folder``.

        Raises:
            CheckpointError: It is missing, damaged, or of another format.
        """
        path = folder / MANIFEST
        try:
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise CheckpointError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
            manifest = json.loads(path.read_text())
            if manifest["format"] != FORMAT:
                raise CheckpointError(
                    f"{path} has format {manifest['format']}; this version reads format {FORMAT}"
                )
            shards = tuple(
                Shard(str(item["name"]), int(item["bytes"]), str(item["sha256"]))
                for item in manifest["shards"]
            )
            if any(_leaves_folder(shard.name) for shard in shards):
                raise CheckpointError(f"{path} names a shard outside its folder")
            return Checkpoint(folder, int(manifest["step"]), dict(manifest["facts"]), shards)
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise CheckpointError(
                f"{path} cannot be read ({type(error).__name__}: {error}); "
                "the checkpoint was never finished or is not one"
            ) from error

    def steps(self) -> list[int]:
        """Return the steps of all committed checkpoints, oldest first."""
        found = []
        for manifest in self.folder.glob(f"step-*/{MANIFEST}"):
            number = manifest.parent.name.removeprefix("step-")
            if number.isdecimal():
                found.append(int(number))
        return sorted(found)

    def newest(self) -> Checkpoint | None:
        """Return the newest committed checkpoint; None if there is none."""
        steps = self.steps()
        return self.read(self.path(steps[-1])) if steps else None

    def set_aside(self, step: int) -> Path:
        """Rename a damaged checkpoint, so that it is neither the newest nor ever pruned.

        Returns:
            Where it is now.
        """
        folder = self.path(step)
        aside = folder.with_name(f"damaged-{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        return aside

    def prune(self, *, keep: int, protect: Sequence[int] = ()) -> list[int]:
        """Remove all but the newest ``keep`` checkpoints and those in ``protect``.

        Unfinished folders older than the newest checkpoint are removed as well.

        Returns:
            The steps that were removed.
        """
        steps = self.steps()
        kept = {*steps[max(0, len(steps) - keep) :], *protect}
        removed = []
        for step in [step for step in steps if step not in kept]:
            # The manifest goes first: a half-removed checkpoint must not look whole.
            (self.path(step) / MANIFEST).unlink(missing_ok=True)
            removed.append(step)
        newest = steps[-1] if steps else 0
        for folder in self.folder.glob("step-*"):
            number = folder.name.removeprefix("step-")
            unfinished = number.isdecimal() and not (folder / MANIFEST).exists()
            if unfinished and int(number) < newest:
                shutil.rmtree(folder, ignore_errors=True)
        return removed


def _copy(old: Path, new: Path, shard: Shard) -> None:
    """Copy a shard atomically.

    Raises:
        CheckpointError: It is not what was written.
        OSError: The disk is full, or the like.
    """
    part = new.with_suffix(".part")
    try:
        with old.open("rb") as source, part.open("wb") as file:
            hashing = _HashingFile(file)
            while piece := source.read(1 << 20):
                hashing.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if hashing.digest.hexdigest() != shard.sha256:
            raise CheckpointError(f"{old} is damaged: its SHA-256 is not that of its manifest")
        os.replace(part, new)
    finally:
        part.unlink(missing_ok=True)


def _origin(error: BaseException) -> BaseException:
    """Return what went wrong first: torch hides a full disk behind a complaint of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _leaves_folder(name: str) -> bool:
    """Whether ``name`` is anything but the plain name of a file."""
    return name in ("", ".", "..") or Path(name).name != name


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power loss; where folders cannot be opened, do without."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees all of it or nothing.

    Raises:
        OSError: It cannot be written; ``path`` is as it was.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError:
        part.unlink(missing_ok=True)
        raise
