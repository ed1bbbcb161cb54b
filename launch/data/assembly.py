"""From the parts of a data set and the configuration to the data of a run."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import DataConfig
from .data import Data
from .dataset import Facts
from .error import DataError
from .few_classes import Subset
from .labels import check_labels
from .memory import MemoryData
from .part import MemoryPart, Parts, Statistics, StreamPart
from .preparation import ImagePreparation, Preparation, Unprepared
from .rotation import draw_angles, rotate
from .split import divide
from .stream import StreamData

__all__ = ["assemble"]


def assemble(parts: Parts, config: DataConfig, *, seed: int, device: torch.device) -> Data:
    """Splits, pads and normalises a data set.

    Args:
        parts: what was read.
        config: the ``data.*`` keys.
        seed: the run's seed.
        device: where batches go.

    Raises:
        DataError: a label or a key does not fit the data set.
    """
    for split in ("train", "validation", "test"):
        part = getattr(parts, split)
        if part is not None:
            check_labels(part.labels, parts.classes, source=f"data set {parts.name}, {split}")
    divided = divide(parts, config)
    held = {split: part for split, part in divided.items() if isinstance(part, MemoryPart)}
    if len(held) == len(divided):
        return _in_memory(parts, held, config, seed=seed, device=device)
    streamed = {split: part for split, part in divided.items() if isinstance(part, StreamPart)}
    if len(streamed) == len(divided):
        return _streamed(parts, streamed, config, seed=seed, device=device)
    raise DataError(
        f"data set {parts.name}: {', '.join(held)} are tensors and {', '.join(streamed)} are "
        "Datasets; give all as tensors or all as Datasets"
    )


def _in_memory(
    parts: Parts,
    held: dict[str, MemoryPart],
    config: DataConfig,
    *,
    seed: int,
    device: torch.device,
) -> MemoryData:
    shape = tuple(held["train"].x.shape[1:])
    for split, part in held.items():
        if part.x.shape[1:] != shape or part.x.dtype != held["train"].x.dtype:
            raise DataError(
                f"data set {parts.name}: its {split} part has examples of shape "
                f"{tuple(part.x.shape[1:])} and type {part.x.dtype}, its train part of {shape} "
                f"and {held['train'].x.dtype}"
            )
    statistics, notes = parts.statistics, ()
    if _are_images(held["train"].x[0]):
        statistics = statistics or Statistics.of(held["train"].x)
        held, notes = _padded(parts, held, config)
        if config.rotate:
            held = {split: _rotated(split, part) for split, part in held.items()}
            notes += ("each image is turned once, by any angle",)
        shape = tuple(held["train"].x.shape[1:])
    elif config.size is not None or config.rotate:
        key = "rotate=true" if config.rotate else f"size={config.size}"
        raise DataError(f"data.{key}: the examples are no images of bytes")
    return MemoryData(
        held,
        _facts(parts, config, shape, notes),
        preparation=_preparation(held["train"].x[0], statistics, config, seed, device),
        seed=seed,
        device=device,
    )


def _streamed(
    parts: Parts,
    streamed: dict[str, StreamPart],
    config: DataConfig,
    *,
    seed: int,
    device: torch.device,
) -> StreamData:
    if config.rotate:
        raise DataError(
            f"data.rotate=true: {parts.name} is read while training; only data sets in memory are "
            "turned"
        )
    train = streamed["train"]
    example, _ = train.fetch(train.keys[0], None)
    return StreamData(
        streamed,
        _facts(parts, config, tuple(example.shape)),
        preparation=_preparation(example, parts.statistics, config, seed, device),
        seed=seed,
        device=device,
        workers=config.workers,
    )


def _rotated(split: str, part: MemoryPart) -> MemoryPart:
    """Images that are each turned by an angle of their own, whatever the seed of the run."""
    return MemoryPart(rotate(part.x, draw_angles(len(part), split)), part.labels)


def _facts(
    parts: Parts, config: DataConfig, shape: tuple[int, ...], notes: tuple[str, ...] = ()
) -> Facts:
    subset = None
    if config.classes_per_batch is not None:
        subset = Subset(config.classes_per_batch, config.classes_until)
        notes += (str(subset),)
    return Facts(
        parts.name,
        parts.classes,
        shape,
        notes,
        own_validation=parts.validation is not None and bool(config.validation),
        subset=subset,
    )


def _preparation(
    example: Tensor,
    statistics: Statistics | None,
    config: DataConfig,
    seed: int,
    device: torch.device,
) -> Preparation:
    if not _are_images(example):
        return Unprepared(config.augment)
    return ImagePreparation(
        config.augment,
        statistics=statistics,
        normalize=config.normalize,
        channels=len(example),
        seed=seed,
        device=device,
    )


def _are_images(example: Tensor) -> bool:
    return example.dtype == torch.uint8 and example.dim() == 3


def _padded(
    parts: Parts, held: dict[str, MemoryPart], config: DataConfig
) -> tuple[dict[str, MemoryPart], tuple[str, ...]]:
    """Images with a black border up to the size, and a note that says so."""
    height, width = held["train"].x.shape[2:]
    size = config.size or parts.size
    if size is None or (height, width) == (size, size):
        return held, ()
    if size < max(height, width):
        raise DataError(
            f"data.size={size}: the images of {parts.name} have {height} x {width} pixels and are "
            f"only padded; give at least {max(height, width)}, or null"
        )
    padded = {split: _pad(part, size) for split, part in held.items()}
    return padded, (f"images of {height} x {width} pixels are padded to {size} x {size}",)


def _pad(part: MemoryPart, size: int) -> MemoryPart:
    height, width = part.x.shape[2:]
    top, left = (size - height) // 2, (size - width) // 2
    border = (left, size - width - left, top, size - height - top)
    return MemoryPart(F.pad(part.x, border), part.labels)
