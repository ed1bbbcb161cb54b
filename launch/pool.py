"""The candidate heads of a search, or of what a search found, after each layer of a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from torch import nn

from ..models import HeadSpec, Network, layer_shapes, make_head
from .assembly import seeded
from .job import Task
from .refusal import ConfigError

__all__ = ["candidates"]


def candidates(
    network: Network, heads: Sequence[HeadSpec], task: Task, seed: int, *, key: str = "search.heads"
) -> Iterator[list[nn.Module]]:
    """Make the heads of the pool after each layer but the last, on the CPU.

    A head has the same initial weights whatever the others of the pool are.

    Args:
        network: The network.
        heads: The pool.
        task: What the data look like.
        seed: The run's seed.
        key: Where the pool was given, for errors.

    Raises:
        ConfigError: A head does not fit the output of a layer; both are named.
    """
    try:
        shapes = layer_shapes(network, task.example())
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    for layer, shape in enumerate(shapes[:-1], start=1):
        try:
            yield [_head(head, layer, tuple(shape), network, task, seed) for head in heads]
        except ValueError as error:
            raise ConfigError(
                f"{key}: {error}; leave it out of the pool, or search another network"
            ) from error


def _head(
    head: HeadSpec, layer: int, shape: tuple[int, ...], network: Network, task: Task, seed: int
) -> nn.Module:
    name = head if isinstance(head, str) else json.dumps(dict(head), sort_keys=True)
    with seeded(seed, "head", layer, name):
        try:
            return make_head(
                head,
                shape=shape,
                classes=task.classes,
                features=network.features,
                reduction=network.reduction,
            )
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{name} does not fit after layer {layer}, whose output is {shape}: {error}"
            ) from error
