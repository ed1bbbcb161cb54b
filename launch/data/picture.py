"""Image files, decoded with Pillow."""

from __future__ import annotations

import random
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .box import random_box
from .error import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Decoder", "decode", "decode_bytes"]

# Other formats of Pillow are not needed, and some of them start other programs.
FORMATS = ("JPEG", "PNG")
MOST_PIXELS = 100_000_000
SHORT_SIDE = 256 / 224
"""Evaluation resizes the shorter side to this multiple of the crop."""


@dataclass(frozen=True)
class Decoder:
    """Makes an example from an image file: a square of bytes (3, size, size).

    Evaluation resizes the shorter side to 256/224 of ``size`` and cuts out the middle. Training
    cuts out a random box and resizes it, or does as evaluation does.

    Attributes:
        size: height and width, in pixels.
        resized_crop: whether training cuts out random boxes.
    """

    size: int
    resized_crop: bool

    def __call__(self, key: tuple[str, int], number: int | None) -> tuple[Tensor, int]:
        """The image and its label; see :class:`~.part.Fetch`.

        Args:
            key: path and label.
            number: seed of the random box; None: evaluation.

        Raises:
            DataError: the file is missing, damaged, or no image.
        """
        path, label = key
        image = decode(path)
        if number is None or not self.resized_crop:
            return _bytes(self._centre(image)), label
        draws = random.Random(number)
        left, top, width, height = random_box(*image.size, draws.random)
        image = image.crop((left, top, left + width, top + height))
        return _bytes(_resize(image, self.size, self.size)), label

    def _centre(self, image: Image) -> Image:
        short = round(self.size * SHORT_SIDE)
        scale = short / min(image.size)
        width, height = (max(short, round(side * scale)) for side in image.size)
        image = _resize(image, width, height)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))


def decode(path: str | Path) -> Image:
    """The RGB image in a file.

    Raises:
        DataError: the file is missing, damaged, or no image.
    """
    try:
        with open(path, "rb") as file:
            return _decoded(file, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def decode_bytes(content: bytes, *, source: str) -> Tensor:
    """The pixels of the image in these bytes, uint8 (3, H, W).

    Raises:
        DataError: they are damaged, or no image; ``source`` names them.
    """
    return _bytes(_decoded(BytesIO(content), source))


def _decoded(file: IO[bytes], source: str) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(file, formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
        return image.convert("RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"{source}: not a sound JPEG or PNG image") from error
    except Exception as error:
        # Pillow's decoders raise nearly anything on damaged files.
        raise DataError(f"{source}: not a sound JPEG or PNG image: {error}") from error


def _resize(image: Image, width: int, height: int) -> Image:
    from PIL import Image

    return image.resize((width, height), Image.Resampling.BILINEAR)


def _bytes(image: Image) -> Tensor:
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()
