"""How a block learns: the ``train.*`` keys, and the learning rate as a function of the step.

This module does not import torch, so that configurations are read and refused at once.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["OptimizationConfig", "Schedule"]

SCHEDULES = ("constant", "cosine", "multistep")


@dataclass
class OptimizationConfig:
    """The ``train.*`` keys; each is explained in ``launch/conf/train.yaml``."""

    steps: int = 1000
    batch_size: int = 128
    lr: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    lr_min: float = 0.001
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    reset_momentum: bool = False
    warmup: int = 0
    clip: float | None = None
    label_smoothing: float = 0.0
    loss: dict[str, Any] | None = None
    metrics: list[Any] = field(default_factory=list)
    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False
    chunk: int | None = None
    threads: int | None = None


class Schedule:
    """The learning rate as a function of the step.

    ``warmup`` steps rise linearly to ``lr``. Then ``constant`` stays there, ``cosine`` falls
    towards ``lr_min``, which the step after the last would have (Loshchilov and Hutter, 2017,
    without restarts), and ``multistep`` multiplies by ``gamma`` after each of ``milestones``.

    Args:
        config: The ``train.*`` keys.

    Raises:
        ValueError: The schedule is unknown.
    """

    def __init__(self, config: OptimizationConfig) -> None:
        if config.schedule not in SCHEDULES:
            raise ValueError(f"train.schedule={config.schedule}: valid are {', '.join(SCHEDULES)}")
        self._config = config

    def lr(self, step: int) -> float:
        """Return the learning rate of training step ``step``, from 1."""
        config = self._config
        done = step - 1
        if done < config.warmup:
            return config.lr * (done + 1) / config.warmup
        if config.schedule == "constant":
            return config.lr
        if config.schedule == "multistep":
            return config.lr * config.gamma ** bisect_right(config.milestones, done)
        share = (done - config.warmup) / max(1, config.steps - config.warmup)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
        return config.lr_min + (config.lr - config.lr_min) * cosine

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the learning rate of ``step`` and return it.

        With ``reset_momentum`` the optimizer forgets what it kept where the rate is lowered, as if
        it were made anew: DGL's code does so on ImageNet.
        """
        config = self._config
        if config.reset_momentum and step - 1 in config.milestones:
            optimizer.state.clear()
        rate = self.lr(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate
