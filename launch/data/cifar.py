"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 x 32 pixels, in the archives for Python.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009),
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import DataConfig
from .archive import read_members
from .download import RemoteFile
from .error import DataError
from .labels import check_labels
from .part import MemoryPart, Parts, Statistics
from .place import Source, obtain
from .unpickler import read_pickle

__all__ = ["CIFAR10", "CIFAR100", "SOURCE10", "SOURCE100", "cifar10", "cifar100"]

SHAPE = (3, 32, 32)
MOST_BYTES = 1 << 28  # of one batch file; the largest that is published has 155 MB


@dataclass(frozen=True)
class Layout:
    """What is in an archive.

    Attributes:
        folder: name of the folder inside.
        train: names of the files with training images, in order.
        test: name of the file with test images.
        labels: key of the labels.
        classes: number of classes.
        archive: the published file.
        statistics: of all pixels of the 50,000 training images, rounded to four digits.
    """

    folder: str
    train: tuple[str, ...]
    test: str
    labels: str
    classes: int
    archive: RemoteFile
    statistics: Statistics


CIFAR10 = Layout(
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    labels="labels",
    classes=10,
    archive=RemoteFile(
        "cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        170_498_071,
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    statistics=Statistics((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
)

CIFAR100 = Layout(
    folder="cifar-100-python",
    train=("train",),
    test="test",
    labels="fine_labels",
    classes=100,
    archive=RemoteFile(
        "cifar-100-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        169_001_437,
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
    statistics=Statistics((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
)


def _source(name: str, folders: tuple[str, ...], layout: Layout) -> Source[Path]:
    archive = layout.archive
    wanted = f"{archive.name} (from {archive.url}, {archive.size:,} bytes), or its folder"
    text = f"{wanted} {layout.folder},"
    return Source(name, folders, (archive,), text, partial(_recognise, layout=layout))


def _recognise(folder: Path, layout: Layout) -> Path | None:
    """The archive or the folder with its content, if it is here."""
    for path in (folder / layout.folder, folder):
        if all((path / file).is_file() for file in (*layout.train, layout.test)):
            return path
    archive = folder / layout.archive.name
    return archive if archive.is_file() else None


SOURCE10 = _source("cifar10", ("cifar10", "cifar-10", "CIFAR10"), CIFAR10)
SOURCE100 = _source("cifar100", ("cifar100", "cifar-100", "CIFAR100"), CIFAR100)


def cifar10(config: DataConfig) -> Parts:
    """50,000 / 10,000 images (3, 32, 32) of 10 classes.

    Raises:
        DataError: the archive is missing or damaged.
    """
    return _read(SOURCE10, CIFAR10, config)


def cifar100(config: DataConfig) -> Parts:
    """50,000 / 10,000 images (3, 32, 32) of 100 classes.

    Raises:
        DataError: the archive is missing or damaged.
    """
    return _read(SOURCE100, CIFAR100, config)


def _read(source: Source[Path], layout: Layout, config: DataConfig) -> Parts:
    path = obtain(source, config)
    files = _files(path, layout)
    return Parts(
        source.name,
        classes=layout.classes,
        train=_joined([_part(files[file], path, file, layout) for file in layout.train]),
        test=_part(files[layout.test], path, layout.test, layout),
        statistics=layout.statistics,
    )


def _files(path: Path, layout: Layout) -> Mapping[str, bytes]:
    names = (*layout.train, layout.test)
    if not path.is_dir():
        members = read_members(path, [f"{layout.folder}/{name}" for name in names])
        return {name.rpartition("/")[2]: content for name, content in members.items()}
    return {name: _content(path / name) for name in names}


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{path}: it has {path.stat().st_size:,} bytes, expected at most {MOST_BYTES:,}"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _part(content: bytes, path: Path, file: str, layout: Layout) -> MemoryPart:
    source = f"{path}: {file}"
    batch = read_pickle(content, source=source)
    images, labels = batch.get("data"), batch.get(layout.labels)
    width = int(np.prod(SHAPE))
    if not isinstance(images, np.ndarray) or images.dtype != "u1" or images.ndim != 2:
        raise DataError(f"{source}: expected 'data' to be bytes of shape (N, {width})")
    if images.shape[1] != width:
        raise DataError(f"{source}: expected {width} bytes per image, found {images.shape[1]}")
    numbers = _labels(labels, len(images), f"{source}: {layout.labels}")
    check_labels(numbers, layout.classes, source=source)
    return MemoryPart(torch.from_numpy(images.copy()).view(-1, *SHAPE), numbers)


def _labels(labels: Any, count: int, source: str) -> torch.Tensor:
    """``labels`` as int64 (count,)."""
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{source}: expected a list of integers")
    if len(labels) != count:
        raise DataError(f"{source}: expected {count} labels, one per image, found {len(labels)}")
    try:
        return torch.from_numpy(np.array(labels, dtype=np.int64))
    except OverflowError as error:
        raise DataError(f"{source}: a label is no 64-bit integer") from error


def _joined(parts: Sequence[MemoryPart]) -> MemoryPart:
    return MemoryPart(
        torch.cat([part.x for part in parts]), torch.cat([part.labels for part in parts])
    )
