"""Inputs for timing: random ones in the shape of a data set, whose files are then not needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models import MIN_SIZES
from ...pipeline.seed import generator
from ..assembly import build_data, task_of
from ..job import Objects, Task
from .config import PlanConfig

__all__ = ["SHAPES", "Source", "make_source"]

SHAPES: Mapping[str, tuple[tuple[int, ...], int]] = {
    "digits": ((1, 8, 8), 10),
    "mnist": ((1, 32, 32), 10),
    "fashion_mnist": ((1, 32, 32), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "tiny_imagenet": ((3, 64, 64), 200),
    "imagenet": ((3, 224, 224), 1000),
}
"""Shape of an example and number of classes of the data sets that have a name."""


@dataclass(frozen=True)
class Source:
    """What a network is timed with.

    Attributes:
        task: What the data look like.
        batch: From a number of examples to inputs and labels, on the CPU.
        notes: What the user should know.
    """

    task: Task
    batch: Callable[[int], tuple[Tensor, Tensor]]
    notes: tuple[str, ...] = ()


def make_source(config: PlanConfig) -> Source:
    """Return random inputs of the shape of a named data set, or those of the user's own.

    Raises:
        DataError: The user's own data set cannot be loaded.
    """
    if config.data.target is not None:
        data = build_data(config, Objects(), torch.device("cpu"))
        return Source(task_of(data), data.example, tuple(data.notes))
    shape, classes = SHAPES[config.data.name]
    least = MIN_SIZES.get(str(config.model.get("name")), 0)
    size = config.data.size or max(least, shape[-1])
    notes = []
    if config.data.size is None and size > shape[-1]:
        notes.append(f"{config.model['name']} needs {least} pixels: images would be padded to it")
    task = Task(config.data.name, classes, (shape[0], size, size), "float32", {})

    def batch(count: int) -> tuple[Tensor, Tensor]:
        draw = generator(config.seed, "plan", count)
        x = torch.randn(count, *task.shape, generator=draw)
        return x, torch.randint(classes, (count,), generator=draw)

    return Source(task, batch, tuple(notes))
