"""A small federation for tests: a network with everything that is learned, and skewed clients."""

from __future__ import annotations

from typing import Any

import torch
from blockstep.models.hyperparameters import ConcreteDropout, ConcreteMask
from blockstep.models.partitioned import partition
from blockstep.pipeline.optimization import OptimizationConfig
from blockstep.search.federated import (
    FederatedTraining,
    FederationSettings,
    Population,
    assign_chunks,
    deal,
    plain_bytes,
)
from blockstep.search.partitioned import TensorExamples
from torch import Tensor, nn

SHARES = [0.5, 0.3, 0.2]
WEIGHTS = OptimizationConfig(
    batch_size=4, lr=0.05, momentum=0.9, weight_decay=0.0, schedule="constant"
)


def tensors(count: int = 90) -> tuple[Tensor, Tensor]:
    """Make examples of three classes."""
    chance = torch.Generator().manual_seed(5)
    y = torch.randint(0, 3, (count,), generator=chance)
    return torch.randn(count, 6, generator=chance) + y[:, None], y


def network(*, hyper: bool = True) -> nn.Module:
    """Make a network, with or without hyperparameters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10), nn.ReLU(), nn.Linear(10, 3))
    if not hyper:
        return weights
    return nn.Sequential(ConcreteMask(6), *list(weights)[:3], ConcreteDropout(0.2), weights[3])


def training(
    *, hyper: bool = True, shares: list[float] = SHARES, unreachable: float = 0.0,
    weights: OptimizationConfig = WEIGHTS, clients: int = 12, per_round: int | None = 5,
    exchange: Any = None, **settings: Any,
) -> FederatedTraining:  # fmt: skip
    """Make a training, the same every time."""
    x, y = tensors()
    module = network(hyper=hyper)
    extra = {} if exchange is None else {"exchange": exchange}
    return FederatedTraining(
        partition(module, shares, seed=0),
        TensorExamples(x, y),
        Population(
            deal(y, clients, alpha=0.3),
            assign_chunks(clients, shares, exactly=True, seed=1),
            per_round=per_round,
            unreachable=unreachable,
            seed=1,
        ),
        settings=FederationSettings(clients=clients, **settings),
        weights=weights,
        plain=plain_bytes(module),
        seed=1,
        **extra,
    )
