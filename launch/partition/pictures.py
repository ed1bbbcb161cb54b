"""The pictures of a partitioned training: a learned mask, and real images as they are changed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...models.hyperparameters import Averaged
from ...pipeline.seed import derive, set_seed
from ..folder import RunFolder

__all__ = ["IMAGES", "PICTURES", "changed_images", "write_pictures"]

PICTURES = ("mask", "augmentation")
"""The files, where there is something to show."""

IMAGES = 12
COPIES = 5
GAP = 2


def write_pictures(folder: RunFolder, psi: Mapping[str, Any]) -> None:
    """Write ``mask.svg`` and ``augmentation.svg``, those there are.

    Args:
        folder: The run's folder.
        psi: What the last evaluation recorded.
    """
    from ..report.hyperparameters import psi_pictures

    for name, picture in psi_pictures(psi, folder.samples).items():
        folder.picture(name).write_text(picture.file())


@torch.no_grad()
def changed_images(module: nn.Module, x: Tensor, *, seed: int) -> bytes | None:
    """Return a PNG of images and, below each, changed copies; None where nothing changes images.

    Args:
        module: The network with its hyperparameters.
        x: (B, C, H, W), normalised or not: each image is drawn from its smallest to its largest
            value.
        seed: Of the run.
    """
    if not isinstance(module, Averaged) or x.dim() != 4:
        return None
    from PIL import Image

    x = x[:IMAGES]
    set_seed(derive(seed, "pictures"), x.device)
    rows = [x, *(module.change(x) for _ in range(COPIES))]
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    span = (high - low).clamp_min(1e-6)
    shown = [((row - low) / span).clamp(0, 1).cpu() for row in rows]
    channels, height, width = x.shape[1:]
    colours = 3 if channels >= 3 else 1
    canvas = torch.full((colours, len(rows) * (height + GAP), len(x) * (width + GAP)), 1.0)
    for down, row in enumerate(shown):
        for across, image in enumerate(row):
            top, left = down * (height + GAP), across * (width + GAP)
            canvas[:, top : top + height, left : left + width] = image[:colours]
    pixels = (canvas * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels if colours == 3 else pixels[:, :, 0]).save(file, format="PNG")
    return file.getvalue()
