"""Tiny-ImageNet: 110,000 colour images of 64 x 64 pixels and 200 classes.

    wnids.txt                                 names of the classes
    train/WNID/images/*.JPEG                  500 images per class
    val/images/*.JPEG, val_annotations.txt    10,000 images and their classes

Y. Le and X. Yang, Tiny ImageNet Visual Recognition Challenge, CS 231N (2015). The labels of its
test images were never published, so its ``val`` is the test part here.

The images are decoded once at the start (110,000 small files, some 20 seconds of one core) and
held in memory as bytes: 1.4 GB. Decoding them again in every epoch would keep several cores busy.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Protocol

import torch

from ..config import DataConfig
from .download import RemoteFile
from .error import DataError
from .part import MemoryPart, Parts, Statistics
from .picture import decode_bytes
from .place import Source, obtain

__all__ = ["TINY_IMAGENET", "tiny_imagenet"]

FOLDER = "tiny-imagenet-200"
ARCHIVE = RemoteFile(
    f"{FOLDER}.zip",
    f"http://cs231n.stanford.edu/{FOLDER}.zip",
    248_100_043,
    "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
)


def _recognise(folder: Path) -> Path | None:
    for path in (folder / FOLDER, folder):
        if (path / "wnids.txt").is_file():
            return path
    archive = folder / ARCHIVE.name
    return archive if archive.is_file() else None


TINY_IMAGENET = Source(
    "tiny_imagenet",
    ("tiny_imagenet", "tiny-imagenet", "TinyImageNet"),
    (ARCHIVE,),
    f"{ARCHIVE.name} (from {ARCHIVE.url}, {ARCHIVE.size:,} bytes), or its folder {FOLDER},",
    _recognise,
)
# Over all pixels of the 100,000 training images, rounded to four digits.
STATISTICS = Statistics((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821))
SHAPE = (3, 64, 64)
MOST_BYTES = 1 << 22  # of one file; images have 2 KB, the largest text 0.5 MB


def tiny_imagenet(config: DataConfig) -> Parts:
    """100,000 / 10,000 images (3, 64, 64) of 200 classes; labels follow the sorted names.

    Args:
        config: ``root``, ``download``, and ``workers`` for the threads that decode.

    Raises:
        DataError: the files are missing or damaged.
    """
    path = obtain(TINY_IMAGENET, config)
    with ThreadPoolExecutor(max(1, config.workers)) as threads:
        files = _Zip(path) if path.is_file() else _Folder(path)
        labels = {name: label for label, name in enumerate(_classes(files))}
        return Parts(
            TINY_IMAGENET.name,
            classes=len(labels),
            train=_part(files, _train(files, labels), threads),
            test=_part(files, _annotated(files, labels), threads),
            statistics=STATISTICS,
        )


class _Files(Protocol):
    """The files of the data set, by names relative to its folder."""

    path: Path

    def names(self) -> Sequence[str]: ...

    def read(self, name: str) -> bytes: ...


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> Sequence[str]:
        return [
            PurePosixPath(Path(folder).relative_to(self.path), file).as_posix()
            for folder, _, files in os.walk(self.path)
            for file in files
        ]

    def read(self, name: str) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                return _bounded(file.read(MOST_BYTES + 1), f"{self.path}: {name}")
        except OSError as error:
            raise DataError(
                f"{self.path}: {name}: cannot be read: {error.strerror or error}"
            ) from error


class _Zip:
    """Read in memory: nothing is unpacked to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise DataError(f"{path}: damaged ({error}); fetch the file again") from error

    def names(self) -> Sequence[str]:
        prefix = f"{FOLDER}/"
        return [
            name.removeprefix(prefix)
            for name in self._archive.namelist()
            if name.startswith(prefix) and not name.endswith("/")
        ]

    def read(self, name: str) -> bytes:
        try:
            with self._archive.open(f"{FOLDER}/{name}") as file:
                return _bounded(file.read(MOST_BYTES + 1), f"{self.path}: {name}")
        except DataError:
            raise
        except Exception as error:
            # zipfile lets the errors of all its decompressors through.
            raise DataError(f"{self.path}: {name}: damaged ({error})") from error


def _bounded(content: bytes, source: str) -> bytes:
    if len(content) > MOST_BYTES:
        raise DataError(f"{source}: it has more than {MOST_BYTES:,} bytes")
    return content


def _classes(files: _Files) -> list[str]:
    names = _lines(files, "wnids.txt")
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(f"{files.path}: wnids.txt: expected different names, one per line")
    return sorted(names)


def _train(files: _Files, labels: dict[str, int]) -> list[tuple[str, int]]:
    found = []
    for name in sorted(files.names()):
        match name.split("/"):
            case ["train", wnid, "images", file] if file.endswith(".JPEG"):
                if wnid not in labels:
                    raise DataError(f"{files.path}: {name}: {wnid} is not in wnids.txt")
                found.append((name, labels[wnid]))
    missing = sorted(set(labels.values()) - {label for _, label in found})
    if missing:
        wnid = next(wnid for wnid, label in labels.items() if label == missing[0])
        raise DataError(f"{files.path}: train/{wnid}/images: expected images, found none")
    return found


def _annotated(files: _Files, labels: dict[str, int]) -> list[tuple[str, int]]:
    found = []
    for number, line in enumerate(_lines(files, "val/val_annotations.txt"), 1):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in labels or PurePosixPath(file).name != file:
            raise DataError(
                f"{files.path}: val/val_annotations.txt: line {number}: expected an image and a "
                f"name of wnids.txt, found {line[:80]!r}"
            )
        found.append((f"val/images/{file}", labels[wnid]))
    return found


def _lines(files: _Files, name: str) -> list[str]:
    text = files.read(name).decode("utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _part(
    files: _Files, images: Sequence[tuple[str, int]], threads: ThreadPoolExecutor
) -> MemoryPart:
    x = torch.empty(len(images), *SHAPE, dtype=torch.uint8)

    def fill(index: int) -> None:
        name = images[index][0]
        image = decode_bytes(files.read(name), source=f"{files.path}: {name}")
        if image.shape != SHAPE:
            raise DataError(
                f"{files.path}: {name}: expected shape {SHAPE}, found {tuple(image.shape)}"
            )
        x[index] = image

    for _ in threads.map(fill, range(len(images))):
        pass
    return MemoryPart(x, torch.tensor([label for _, label in images], dtype=torch.int64))
