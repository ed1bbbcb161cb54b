"""Folders of images, one subfolder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .error import DataError

__all__ = ["ImageKeys", "classes_of", "list_images"]

SUFFIXES = (".jpeg", ".jpg", ".png")


class ImageKeys:
    """Paths and labels of many images, held compactly: a million Python texts fill 100 MB.

    Args:
        folder: that all names are relative to.
        names: (N,) of numpy's bytes.
        labels: int64 (N,).
    """

    def __init__(self, folder: Path, names: np.ndarray, labels: Tensor) -> None:
        self._folder = str(folder)
        self._names = names
        self.labels = labels

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[str, int]:
        name = os.fsdecode(bytes(self._names[index]))
        return os.path.join(self._folder, name), int(self.labels[index])


def classes_of(folder: Path) -> list[str]:
    """The names of the subfolders, sorted: the class of label i is the i-th.

    Raises:
        DataError: there are fewer than two.
    """
    classes = sorted(name for name in _entries(folder, folders=True) if name[0] != ".")
    if len(classes) < 2:
        raise DataError(
            f"{folder}: expected one subfolder of images per class, found {len(classes)}"
        )
    return classes


def list_images(folder: Path, classes: Sequence[str]) -> ImageKeys:
    """The images of all classes, by class, then by name.

    Args:
        folder: with a subfolder for each class. Files that are not .jpeg, .jpg or .png are left
            out.
        classes: names of the subfolders, in the order of the labels.

    Raises:
        DataError: there are other subfolders than these, or one has no image.
    """
    found = classes_of(folder)
    if set(found) != set(classes):
        differing = sorted(set(found) ^ set(classes))
        raise DataError(
            f"{folder}: it has {len(found)} classes, expected {len(classes)}; the first that is "
            f"only on one side is {differing[0]}"
        )
    names, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(
            file
            for file in _entries(folder / name, folders=False)
            if file.lower().endswith(SUFFIXES) and file[0] != "."
        )
        if not files:
            raise DataError(f"{folder / name}: no images ({', '.join(SUFFIXES)})")
        names += [os.fsencode(os.path.join(name, file)) for file in files]
        labels.append(torch.full((len(files),), label))
    return ImageKeys(folder, np.array(names, dtype=np.bytes_), torch.cat(labels))


def _entries(folder: Path, *, folders: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir() == folders]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from error
