"""The optimizer of a block: torch's own, by name. Every block has one of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .optimization import OptimizationConfig

__all__ = ["make_optimizer"]


def make_optimizer(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], config: OptimizationConfig
) -> torch.optim.Optimizer:
    """Make the stock torch optimizer that ``train.optimizer`` names.

    Args:
        parameters: What it updates, or groups of it with hyperparameters of their own.
        config: Its hyperparameters. The learning rate is set by :class:`Schedule` at each step.

    Raises:
        ValueError: The optimizer is unknown.
    """
    learned: list[Any] = [*parameters]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            learned,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if config.optimizer not in kinds:
        raise ValueError(f"train.optimizer={config.optimizer}: valid are sgd, adam, adamw")
    first, second = config.betas
    return kinds[config.optimizer](
        learned, lr=config.lr, betas=(first, second), weight_decay=config.weight_decay
    )
