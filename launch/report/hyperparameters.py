"""What a partitioned training found, as pictures: a mask, and changed images."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..nested import leaves
from .markup import element, join
from .picture import WIDTH, Picture
from .series import number

__all__ = ["mask_picture", "psi_pictures", "samples_picture"]

MOST_ACROSS = 32
LARGEST = 46.0
TOP, LEFT = 8.0, 12.0
FULL = 0.9
LABEL = 14.0
MAX_IMAGE = 4 << 20

MASK_NOTE = (
    "The probability that the network sees an input: the darker, the more likely. Of images with "
    "several channels it is their mean."
)
SAMPLES_NOTE = (
    "Test images in the first row; below, each as it is changed at random by what was learned. The "
    "network answers with the mean over such copies."
)


def psi_pictures(psi: Mapping[str, Any], samples: Path) -> dict[str, Picture]:
    """Return the pictures there are, by the names of their files.

    Args:
        psi: What an evaluation recorded.
        samples: The image of changed images, if there is one.
    """
    found = {
        "mask": mask_picture(psi.get("mask")),
        "augmentation": samples_picture(samples),
    }
    return {name: picture for name, picture in found.items() if picture is not None}


def mask_picture(logits: Any) -> Picture | None:
    """Return a heat map of the probabilities of a mask; None if it is none.

    Args:
        logits: As nested as an example: a list for vectors, (C, H, W) for images.
    """
    rows = _rows(logits)
    if not rows:
        return None
    across = max(map(len, rows))
    side = min(LARGEST, (WIDTH - 2 * LEFT) / across)
    room = side >= LARGEST / 2
    cells = []
    place = 0
    for row, values in enumerate(rows):
        for column, probability in enumerate(values):
            place += 1
            x, y = LEFT + side * column, TOP + side * row
            told = f"input {place}: {probability:.3f}"
            cells.append(
                element(
                    "rect", element("title", told), class_="cell", x=f"{x:.2f}", y=f"{y:.2f}",
                    width=f"{side:.2f}", height=f"{side:.2f}",
                    fill_opacity=f"{FULL * probability:.3f}",
                )
            )  # fmt: skip
            if room:
                cells.append(
                    element(
                        "text", place, class_="middle", x=f"{x + side / 2:.1f}",
                        y=f"{y + side / 2 + 4:.1f}",
                    )
                )  # fmt: skip
    height = TOP + side * len(rows)
    frame = element(
        "rect", class_="cell-frame", x=LEFT, y=TOP, width=f"{side * across:.2f}",
        height=f"{side * len(rows):.2f}",
    )  # fmt: skip
    words = f"probabilities of {place} inputs"
    return Picture("Learned mask", MASK_NOTE, WIDTH, height + LABEL, join([*cells, frame]), words)


def samples_picture(path: Path) -> Picture | None:
    """Return the changed images that a run wrote; None if it wrote none that can be shown."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_IMAGE:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return None
    wide, high = struct.unpack(">II", data[16:24])
    if not wide or not high:
        return None
    width = min(WIDTH, 2.0 * wide)
    height = width * high / wide
    text = base64.b64encode(data).decode()
    image = element(
        "image", href=f"data:image/png;base64,{text}", x=0, y=0, width=f"{width:g}",
        height=f"{height:g}", style="image-rendering: pixelated",
    )  # fmt: skip
    return Picture("Learned augmentation", SAMPLES_NOTE, width, height, join([image]))


def _rows(logits: Any) -> list[list[float]]:
    """Return probabilities in rows: of an image its own, else of up to 32 inputs."""
    if not isinstance(logits, list) or not logits:
        return []
    flat = list(leaves(logits))
    if not flat or any(number(one) is None for one in flat):
        return []
    if _is_image(logits):
        planes = [[[_sigmoid(one) for one in row] for row in plane] for plane in logits]
        return [
            [sum(values) / len(values) for values in zip(*rows, strict=True)]
            for rows in zip(*planes, strict=True)
        ]
    values = [_sigmoid(one) for one in flat]
    across = min(len(values), MOST_ACROSS)
    across = next((n for n in (15, 16, 20, 25) if len(values) == 2 * n), across)
    return [values[begin : begin + across] for begin in range(0, len(values), across)]


def _is_image(logits: Sequence[Any]) -> bool:
    """Whether it is (C, H, W), with rows of one length."""
    if not all(isinstance(plane, list) and plane for plane in logits):
        return False
    rows = [row for plane in logits for row in plane]
    even = len({len(plane) for plane in logits}) == 1
    return even and all(isinstance(row, list) and row for row in rows) and (
        len({len(row) for row in rows}) == 1
    )  # fmt: skip


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
