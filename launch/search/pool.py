"""From a configuration to the relaxation that is searched: the network with its candidate heads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ...models import HeadSpec, Network, layer_shapes, make_head
from ...search.relaxation import Relaxation
from ..assembly import build_criterion, seeded
from ..job import Task
from ..refusal import ConfigError
from .config import SearchConfig

__all__ = ["build_relaxation", "candidates"]


def candidates(
    network: Network, heads: Sequence[HeadSpec], task: Task, seed: int
) -> Iterator[list[nn.Module]]:
    """Make the heads of the pool after each layer but the last, on the CPU.

    A head has the same initial weights whatever the others of the pool are.

    Args:
        network: The network.
        heads: The pool.
        task: What the data look like.
        seed: The run's seed.

    Raises:
        ConfigError: A head does not fit the output of a layer; both are named.
    """
    try:
        shapes = layer_shapes(network, task.example())
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    for layer, shape in enumerate(shapes[:-1], start=1):
        yield [_head(head, layer, tuple(shape), network, task, seed) for head in heads]


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
            raise ConfigError(
                f"search.heads: {name} does not fit after layer {layer}, whose output is "
                f"{shape}: {error}; leave it out, or search another network"
            ) from error


def build_relaxation(
    config: SearchConfig, network: Network, task: Task, *, device: torch.device
) -> Relaxation:
    """Make the network with all its candidates, on ``device``.

    Raises:
        ConfigError: The network cannot be searched.
    """
    pool: list[Any] = list(candidates(network, config.search.heads, task, config.seed))
    try:
        relaxation = Relaxation(network, pool, criterion=build_criterion(config.train))
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    return relaxation.to(device)
