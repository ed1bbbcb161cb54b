"""What each layer and head of a network costs, timed as a run would train them."""

from __future__ import annotations

import torch

from ..models import HeadSpec, Network
from ..pipeline.block import autocast
from ..pipeline.memory import keeping_freed_memory
from ..pipeline.optimizer import make_optimizer
from ..search import Profile, profile_network
from ..search.measurement import HeadLoss
from .assembly import build_criterion
from .config import RunConfig
from .data import Data

__all__ = ["measure_profile"]


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
    x, y = (tensor.to(device) for tensor in data.example(config.train.batch_size))
    if config.train.channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    # As in the workers: with the allocator's default, large tensors look slower than they are.
    with keeping_freed_memory():
        return profile_network(
            network,
            x,
            y,
            heads=heads,
            make_optimizer=lambda parameters: make_optimizer(parameters, config.train),
            loss=build_criterion(config.train),
            head_loss=head_loss,
            autocast=lambda: autocast(device, config.train.precision),
            seed=config.seed,
        )
