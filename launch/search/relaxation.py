"""From a configuration to the relaxation that is searched: the network with its candidate heads."""

from __future__ import annotations

from typing import Any

import torch

from ...models import Network
from ...search.relaxation import Relaxation
from ..assembly import build_criterion
from ..job import Task
from ..pool import candidates
from ..refusal import ConfigError
from .config import SearchConfig

__all__ = ["build_relaxation"]


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
