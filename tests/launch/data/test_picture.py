"""Tests of `blockstep.launch.data.picture`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blockstep.launch.data import DataError
from blockstep.launch.data.picture import Decoder, decode, decode_bytes
from PIL import Image


def gradient(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards, blue is constant (H, W, 3)."""
    red = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.stack([red, green, np.full_like(red, 77)], axis=2).round().astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (50, 60)])
def test_evaluation_is_the_middle_of_the_resized_image(
    write: Any, tmp_path: Path, height: int, width: int
):
    """The shorter side becomes 256/224 of the size; a gradient shows which part is left."""
    path = write.image(tmp_path / "a.png", gradient(height, width))
    x, label = Decoder(56, resized_crop=True)((str(path), 3), None)
    assert (x.shape, x.dtype, label) == ((3, 56, 56), torch.uint8, 3)
    # 64 pixels are the shorter side of the resized image, 56 of them remain.
    for channel, side, axis in ((0, width, 1), (1, height, 0)):
        resized = round(side * 64 / min(height, width))
        first = 255 * ((resized - 56) // 2 + 0.5) / resized
        found = x[channel].float().mean(1 - axis)
        assert found[0] == pytest.approx(first, abs=3)
        assert found[-1] == pytest.approx(255 - first, abs=3)
    assert (x[2] == 77).all()


def test_training_boxes_depend_on_the_number_alone(write: Any, tmp_path: Path):
    """The same number, the same box, in any process; other numbers, other boxes."""
    path = write.image(tmp_path / "a.png", gradient(200, 300))
    decoder = Decoder(32, resized_crop=True)
    copy = pickle.loads(pickle.dumps(decoder))
    seen = [decoder((str(path), 0), number)[0] for number in (1, 2, 1)]
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(copy((str(path), 0), 1)[0], seen[0])


def test_training_without_boxes_is_as_evaluation(write: Any, tmp_path: Path):
    """data.augment.resized_crop=false."""
    path = write.image(tmp_path / "a.png", gradient(60, 80))
    decoder = Decoder(32, resized_crop=False)
    assert torch.equal(decoder((str(path), 0), 1)[0], decoder((str(path), 0), None)[0])


def test_a_box_shows_its_part_of_the_image(write: Any, tmp_path: Path):
    """A gradient tells which box was cut out: edges of the result belong to its edges."""
    from random import Random

    from blockstep.launch.data.box import random_box

    path = write.image(tmp_path / "a.png", gradient(200, 300))
    for number in range(5):
        left, top, width, height = random_box(300, 200, Random(number).random)
        x, _ = Decoder(40, resized_crop=True)((str(path), 0), number)
        assert x[0].float().mean() == pytest.approx((left + width / 2) / 300 * 255, abs=2)
        assert x[1].float().mean() == pytest.approx((top + height / 2) / 200 * 255, abs=2)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_all_kinds_of_images_become_rgb(tmp_path: Path, mode: str):
    """Grey ones and those with palettes, transparency or printing colours, as in ImageNet."""
    path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
    Image.fromarray(gradient(9, 9)).convert(mode).save(path)
    assert decode(path).mode == "RGB"


def test_damaged_images_are_named(write: Any, tmp_path: Path):
    """Truncated files, other files and missing ones, always with the path."""
    whole = write.image(tmp_path / "whole.JPEG", gradient(99, 99)).read_bytes()
    for name, content in {
        "short.JPEG": whole[: len(whole) // 2],
        "text.JPEG": b"<html>not found</html>",
        "empty.JPEG": b"",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: not a sound JPEG or PNG image"):
            Decoder(32, resized_crop=True)((str(path), 0), 1)
    with pytest.raises(DataError, match=r"missing.JPEG: cannot be read"):
        decode(tmp_path / "missing.JPEG")


def test_formats_that_could_start_programs_are_refused(write: Any, tmp_path: Path):
    """PostScript in a file called .jpg is not handed to an interpreter."""
    Image.fromarray(gradient(9, 9)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a.jpg: not a sound JPEG or PNG"):
        decode(tmp_path / "a.jpg")


def test_huge_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A small file that says it has very many pixels is not decoded."""
    monkeypatch.setattr("blockstep.launch.data.picture.MOST_PIXELS", 1000)
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="100 x 100 pixels, more than 1,000"):
        decode(tmp_path / "a.png")


def test_bytes_are_decoded_channels_first(write: Any, tmp_path: Path):
    """The pixels of a lossless image come back."""
    pixels = gradient(5, 7)
    path = write.image(tmp_path / "a.png", pixels)
    found = decode_bytes(path.read_bytes(), source="a")
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), pixels)
