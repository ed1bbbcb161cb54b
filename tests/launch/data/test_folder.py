"""Tests of `blockstep.launch.data.folder`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blockstep.launch.data import DataError
from blockstep.launch.data.folder import classes_of, list_images


def tree(root: Path, *files: str) -> Path:
    """Empty files below a folder."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_images_are_listed_by_class_and_name(tmp_path: Path):
    """Sorted, with the labels of the sorted classes; other files are left out."""
    tree(tmp_path, "b/2.JPEG", "b/1.jpg", "a/9.png", "a/10.jpeg", "a/notes.txt", "a/._9.png")
    tree(tmp_path, "b/ü and spaces.jpg", ".hidden/1.jpg", "list.txt")
    keys = list_images(tmp_path, classes_of(tmp_path))
    listed = [(os.path.relpath(path, tmp_path), label) for path, label in keys]  # pyright: ignore
    assert listed == [
        ("a/10.jpeg", 0),
        ("a/9.png", 0),
        ("b/1.jpg", 1),
        ("b/2.JPEG", 1),
        ("b/ü and spaces.jpg", 1),
    ]
    assert keys.labels.tolist() == [0, 0, 1, 1, 1]


def test_folders_without_images_are_refused(tmp_path: Path):
    """An empty class, no classes, other classes, and no folder at all."""
    tree(tmp_path / "one", "a/1.jpg", "b/notes.txt")
    with pytest.raises(DataError, match=r"one/b: no images"):
        list_images(tmp_path / "one", ["a", "b"])
    with pytest.raises(DataError, match=r"one: it has 2 classes, expected 3; .* is c"):
        list_images(tmp_path / "one", ["a", "b", "c"])
    with pytest.raises(DataError, match="one subfolder of images per class, found 0"):
        classes_of(tmp_path / "one" / "a")
    with pytest.raises(DataError, match=r"nowhere: cannot be read"):
        classes_of(tmp_path / "nowhere")
