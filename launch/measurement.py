"""What each layer and head of a network costs, timed as a run would train them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models import HeadSpec, Network
from ..pipeline.block import autocast
from ..pipeline.memory import keeping_freed_memory
from ..pipeline.optimizer import make_optimizer
from ..search import Profile, profile_network
from ..search.measurement import HeadLoss
from .assembly import build_criterion
from .config import OptimizationConfig, RunConfig
from .data import Data

__all__ = ["measure_profile", "profile_batch"]


def measure_profile(
    config: RunConfig,
    network: Network,
    data: Data,
    *,
    heads: list[HeadSpec],
    device: torch.device,
    head_loss: HeadLoss | None = None,
) -> Profile:
    """Time the layers and heads with a real batch, the run's optimizer, precision and layout.

    Args:
        config: The run's configuration.
        network: The network; it stays as it is.
        data: Where the batch comes from.
        heads: The heads to time after each layer but the last.
        device: Where.
        head_loss: How a head's loss comes about; None: the criterion of its logits.
    """
    batch = data.example(config.train.batch_size)
    return profile_batch(
        config.train,
        network,
        batch,
        heads=heads,
        device=device,
        seed=config.seed,
        head_loss=head_loss,
    )


def profile_batch(
    config: OptimizationConfig,
    network: Network,
    batch: tuple[Tensor, Tensor],
    *,
    heads: list[HeadSpec],
    device: torch.device,
    seed: int,
    repeats: int = 5,
    head_loss: HeadLoss | None = None,
) -> Profile:
    """Time the layers and heads with a batch, and with the optimizer, precision and layout given.

    Args:
        config: The ``train.*`` keys.
        network: The network; it stays as it is.
        batch: Inputs and labels.
        heads: The heads to time after each layer but the last.
        device: Where.
        seed: Of the heads' weights and of dropout.
        repeats: Passes of which the median is taken.
        head_loss: How a head's loss comes about; None: the criterion of its logits.
    """
    x, y = (tensor.to(device) for tensor in batch)
    if config.channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    # As in the workers: with the allocator's default, large tensors look slower than they are.
    with keeping_freed_memory():
        return profile_network(
            network,
            x,
            y,
            heads=heads,
            make_optimizer=lambda parameters: make_optimizer(parameters, config),
            loss=build_criterion(config),
            head_loss=head_loss,
            repeats=repeats,
            autocast=lambda: autocast(device, config.precision),
            seed=seed,
        )
