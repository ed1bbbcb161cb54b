"""Tests of `blockstep.launch.data.tiny_imagenet`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from blockstep.launch.config import AugmentConfig, DataConfig
from blockstep.launch.data import DataError, MemoryData, load_data
from blockstep.launch.data.part import MemoryPart
from blockstep.launch.data.picture import decode_bytes
from blockstep.launch.data.tiny_imagenet import tiny_imagenet

CLASSES = ("n02", "n01", "n03")  # not sorted, as in the published file


@pytest.fixture
def folder(write: Any, tmp_path: Path) -> Path:
    """Three classes with four training images and two test images each."""
    root = tmp_path / "tiny-imagenet-200"
    root.mkdir()
    (root / "wnids.txt").write_text("\n".join(CLASSES) + "\n")
    lines = []
    for wnid in CLASSES:
        for index in range(4):
            write.image(root / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", (64, 64))
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("0 0 63 63\n")
        for index in range(2):
            name = f"val_{wnid}_{index}.JPEG"
            write.image(root / "val" / "images" / name, (64, 64))
            lines.append(f"{name}\t{wnid}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    return root


def zipped(folder: Path) -> Path:
    """The published archive of the folder, alone in a folder of its own."""
    path = folder.parent / "packed" / "tiny-imagenet-200.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path.parent


def test_the_layout_becomes_two_parts(folder: Path):
    """Labels follow the sorted names; test images come in the order of their annotations."""
    parts = tiny_imagenet(DataConfig(root=str(folder)))
    assert isinstance(parts.train, MemoryPart)
    assert isinstance(parts.test, MemoryPart)
    assert parts.classes == 3
    assert parts.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert parts.test.labels.tolist() == [2, 2, 0, 0, 1, 1]
    name = "train/n02/images/n02_3.JPEG"
    assert torch.equal(parts.train.x[7], decode_bytes((folder / name).read_bytes(), source=""))
    name = "val/images/val_n01_1.JPEG"
    assert torch.equal(parts.test.x[2], decode_bytes((folder / name).read_bytes(), source=""))


@pytest.mark.parametrize("workers", [0, 3])
def test_the_archive_is_the_same_and_nothing_is_unpacked(folder: Path, workers: int):
    """Read from the zip file, with any number of threads."""
    root = zipped(folder)
    unpacked = tiny_imagenet(DataConfig(root=str(folder.parent)))
    packed = tiny_imagenet(DataConfig(root=str(root), workers=workers))
    assert isinstance(packed.train, MemoryPart)
    assert isinstance(packed.test, MemoryPart)
    assert isinstance(unpacked.train, MemoryPart)
    assert torch.equal(packed.train.x, unpacked.train.x)
    assert torch.equal(packed.test.labels, unpacked.test.labels)
    assert [file.name for file in root.iterdir()] == ["tiny-imagenet-200.zip"]


def test_it_trains_in_memory(folder: Path, cpu: torch.device):
    """With its own augmentation, also with resized crops on the device."""
    augment = AugmentConfig(rotation=20.0, crop=4, flip=True, resized_crop=True)
    config = DataConfig(name="tiny_imagenet", root=str(folder), validation=0.25, augment=augment)
    data = load_data(config, seed=0, device=cpu)
    assert isinstance(data, MemoryData)
    assert data.sizes == {"train": 9, "validation": 3, "test": 6}
    assert next(data.train(batch_size=4))[0].shape == (4, 3, 64, 64)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train/n01/images/n01_2.JPEG", b"damaged", "n01_2.JPEG: not a sound JPEG"),
        ("train/n99/images/n99_0.JPEG", b"", "n99 is not in wnids.txt"),
        ("wnids.txt", b"n01\nn02\nn03\nn04\n", "train/n04/images: expected images, found none"),
        ("wnids.txt", b"n01\nn01\n", "expected different names"),
        ("val/val_annotations.txt", b"x.JPEG\tn99\t0", r"line 1: .* found 'x.JPEG\\tn99\\t0'"),
        ("val/val_annotations.txt", b"../../x.JPEG\tn01\t0", "line 1: expected an image"),
        ("val/val_annotations.txt", b"x.JPEG\tn01\t0", r"x.JPEG: (cannot be read|damaged)"),
        ("wnids.txt", b"\n" * (5 << 20), "more than 4,194,304 bytes"),
    ],
)
def test_damage_is_named(folder: Path, packed: bool, name: str, content: bytes, message: str):
    """The message names the file inside, in the folder and in the archive."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    root = zipped(folder) if packed else folder
    with pytest.raises(DataError, match=message):
        tiny_imagenet(DataConfig(root=str(root)))


def test_images_of_another_size_are_refused(write: Any, folder: Path):
    """With both shapes."""
    write.image(folder / "val" / "images" / "val_n01_0.JPEG", (64, 32))
    with pytest.raises(DataError, match=r"expected shape \(3, 64, 64\), found \(3, 64, 32\)"):
        tiny_imagenet(DataConfig(root=str(folder)))


def test_a_damaged_archive_is_named(folder: Path):
    """Half a download."""
    path = zipped(folder) / "tiny-imagenet-200.zip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"tiny-imagenet-200.zip: damaged"):
        tiny_imagenet(DataConfig(root=str(path.parent)))
