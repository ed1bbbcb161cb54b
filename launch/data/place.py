"""Where the files of a data set are: a given folder, the usual places, or the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ..config import DataConfig
from .download import RemoteFile, download
from .error import DataError

__all__ = ["Source", "find", "obtain", "target_of"]

T = TypeVar("T")

SYSTEM = Path("/usr/share/datasets")


@dataclass(frozen=True)
class Source(Generic[T]):
    """How a published data set can be had.

    Attributes:
        name: of the data set.
        folders: names of subfolders in which it is usually found.
        files: the published files; empty where they cannot be downloaded.
        help: which files to put where, to complete "put ... into one of these folders".
        recognise: what is needed of a folder, or None if the files are not in it.
    """

    name: str
    folders: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    help: str
    recognise: Callable[[Path], T | None]


def obtain(source: Source[T], config: DataConfig) -> T:
    """Finds a data set, or downloads it.

    Searched are ``data.root``, its subfolders of the usual names, and these subfolders of
    ``/usr/share/datasets`` and of the cache (``$XDG_CACHE_HOME/blockstep``). Downloads go to
    ``data.root``, or to the cache.

    Args:
        source: how the data set can be had.
        config: ``root`` and ``download``.

    Returns:
        What ``source.recognise`` made of the first folder that has the files.

    Raises:
        DataError: it was not found and could not be downloaded; the message says which files to
            put where.
    """
    found = find(source, config)
    if found is not None:
        return found[1]
    target = target_of(source, config)
    reason = _download(source, config, target)
    made = source.recognise(target) if not reason else None
    if made is not None:
        return made
    looked = "\n".join(f"  {folder}" for folder in _searched(source, config))
    raise DataError(
        f"data={source.name}: its files were not found in\n{looked}\n{reason}\n"
        f"Put {source.help} into one of these folders, or name another folder by data.root=DIR"
    )


def find(source: Source[T], config: DataConfig) -> tuple[Path, T] | None:
    """The first folder that has the files, and what was recognised there; reads nothing else."""
    for folder in _searched(source, config):
        found = source.recognise(folder)
        if found is not None:
            return folder, found
    return None


def target_of(source: Source[T], config: DataConfig) -> Path:
    """The folder that a download goes to."""
    return Path(config.root).expanduser() if config.root else _cache() / source.folders[0]


def _searched(source: Source[T], config: DataConfig) -> Sequence[Path]:
    folders = []
    if config.root:
        root = Path(config.root).expanduser()
        folders = [root, *(root / name for name in source.folders)]
    return folders + [base / name for base in (SYSTEM, _cache()) for name in source.folders]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blockstep"


def _download(source: Source[T], config: DataConfig, target: Path) -> str:
    """Why there was no download, or nothing."""
    if not source.files:
        return "It cannot be downloaded without an account."
    if not config.download:
        return "It was not downloaded, because data.download=false."
    try:
        for file in source.files:
            if not (target / file.name).exists():
                download(file, target)
    except DataError as error:
        return f"It could not be downloaded: {error}"
    return ""
