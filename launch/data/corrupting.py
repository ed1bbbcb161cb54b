"""Corruptions that need no external data, of any images of bytes: named ``own``, not CIFAR-C.

They have the names and the severities of the common corruptions (Hendrycks and Dietterich, ICLR
2019) as those are set for images of 32 pixels, and are computed here on the test images of a data
set. Left out are kinds that need pictures (frost) or a drawing program (motion blur, snow), and
those whose randomness moves single pixels far (glass blur, elastic transform, fog, spatter). The
numbers are not those of CIFAR-10-C.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...pipeline.seed import derive
from .error import DataError

__all__ = ["OWN_CORRUPTIONS", "SEVERITIES", "corrupt"]

SEVERITIES = 5

Corruption = Callable[[Tensor, int, torch.Generator], Tensor]
"""From images in [0, 1] (N, C, H, W) and a severity from 1 to corrupted ones, not yet clipped."""


def corrupt(images: Tensor, kind: str, *, severity: int, seed: int) -> Tensor:
    """Corrupt images; the same ones for the same seed.

    Args:
        images: Bytes (N, C, H, W).
        kind: One of ``OWN_CORRUPTIONS``.
        severity: 1 to 5.
        seed: Of all randomness.

    Returns:
        Bytes of the same shape, on the CPU.

    Raises:
        DataError: There is no such kind or severity, or the examples are no images of bytes.
    """
    if kind not in OWN_CORRUPTIONS:
        raise DataError(f"corruption {kind!r}: expected one of {', '.join(OWN_CORRUPTIONS)}")
    if not 1 <= severity <= SEVERITIES:
        raise DataError(f"severity {severity}: expected 1 to {SEVERITIES}")
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise DataError(
            f"examples of shape {tuple(images.shape[1:])} and type {images.dtype}: only images of "
            "bytes (channels, height, width) can be corrupted"
        )
    generator = torch.Generator().manual_seed(derive(seed, "corruption", kind, severity))
    found = OWN_CORRUPTIONS[kind](images.cpu().float() / 255, severity, generator)
    return (found.clamp(0, 1) * 255).round().to(torch.uint8)


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator)


def _gaussian_noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    return x + (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1] * _noise(x, generator)


def _shot_noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return torch.poisson(x * photons, generator=generator) / photons


def _impulse_noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    hit = torch.rand(x.shape, generator=generator) < share
    salt = (torch.rand(x.shape, generator=generator) < 0.5).float()
    return torch.where(hit, salt, x)


def _speckle_noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    return x + x * (0.06, 0.10, 0.12, 0.16, 0.20)[severity - 1] * _noise(x, generator)


def _gaussian_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    return _filtered(x, _gaussian(sigma, 2 * max(1, round(4 * sigma)) + 1))


def _defocus_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    line = torch.arange(-8.0, 9.0)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).float()
    smooth = F.conv2d(disk[None, None], _gaussian(alias, 3)[None, None], padding=1)[0, 0]
    return _filtered(x, smooth / smooth.sum())


def _zoom_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    most = (0.06, 0.11, 0.16, 0.21, 0.26)[severity - 1]
    height, width = x.shape[-2:]
    total, factors = x.clone(), np.arange(1.0, 1.0 + most, 0.01)
    for factor in factors:
        rows, columns = (max(1, round(side / factor)) for side in (height, width))
        top, left = (height - rows) // 2, (width - columns) // 2
        middle = x[..., top : top + rows, left : left + columns]
        total += F.interpolate(middle, (height, width), mode="bilinear", align_corners=False)
    return total / (len(factors) + 1)


def _brightness(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Raise the value of HSV: the largest channel."""
    more = (0.05, 0.10, 0.15, 0.20, 0.30)[severity - 1]
    value = x.amax(1, keepdim=True)
    raised = (value + more).clamp(max=1)
    return torch.where(value > 0, x * raised / value.clamp(min=1e-6), raised)


def _contrast(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    share = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = x.mean((-2, -1), keepdim=True)
    return (x - mean) * share + mean


def _pixelate(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = x.shape[-2:]
    small = F.interpolate(x, (max(1, int(height * share)), max(1, int(width * share))), mode="area")
    return F.interpolate(small, (height, width), mode="nearest")


def _jpeg_compression(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Write each image as JPEG and read it back; channels that are no RGB one by one."""
    from PIL import Image

    quality = (80, 65, 58, 50, 40)[severity - 1]
    pixels = (x * 255).round().to(torch.uint8).numpy()
    found = np.empty_like(pixels)

    def through(image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        with Image.open(io.BytesIO(buffer.getvalue())) as read:
            return np.asarray(read)

    for number, image in enumerate(pixels):
        if len(image) == 3:
            found[number] = through(np.ascontiguousarray(image.transpose(1, 2, 0))).transpose(
                2, 0, 1
            )
        else:
            found[number] = np.stack([through(channel) for channel in image])
    return torch.from_numpy(found).float() / 255


def _gaussian(sigma: float, size: int) -> Tensor:
    line = torch.exp(-((torch.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    kernel = line[:, None] * line
    return kernel / kernel.sum()


def _filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter every channel; the border repeats."""
    reach = len(kernel) // 2
    flat = x.flatten(0, 1)[:, None]
    padded = F.pad(flat, (reach,) * 4, mode="replicate")
    return F.conv2d(padded, kernel[None, None]).view(x.shape)


OWN_CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "defocus_blur": _defocus_blur,
    "zoom_blur": _zoom_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
"""The kinds, in the order of the benchmark."""
