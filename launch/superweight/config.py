"""The configuration of ``blockstep superweight``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...pipeline.optimization import OptimizationConfig
from ..config import (
    CheckpointConfig,
    DataConfig,
    EvaluateConfig,
    LogConfig,
    RanksConfig,
    RunConfig,
)

__all__ = ["PeerSettings", "SuperWeightConfig", "SuperWeightSettings", "infer_superweight"]

MILESTONES = (0.3, 0.6, 0.8)
"""Shares of the training after which the supplement lowers its rate: 60, 120, 160 of 200 epochs."""


@dataclass
class SuperWeightSettings:
    """How templates are shared, and how that is learned."""

    sharing: str = "auto"
    clusters: int = 4
    allocator: str = "best"
    cap: int | None = None
    nesting: str = "chain"
    initialization: str = "fan_in"
    linear: bool = False
    decay_norms: bool = True
    search_steps: int | None = None
    unshare_step: int | None = None
    similarity_batches: int | None = None
    tau: float = 0.1
    beta: float = 0.9
    cluster_groups: int | None = None
    coefficient_groups: int | None = None
    join: str = "all"


@dataclass
class PeerSettings:
    """What the other methods can be told."""

    own_norms: bool = False
    deviation: float = 0.5
    repetition: int = 4
    equal: float = 0.0
    widths: list[float] = field(default_factory=lambda: [1.0, 0.75, 0.5, 0.25])
    drawn: int = 4


@dataclass
class SuperWeightConfig(RunConfig):
    """Everything that ``blockstep superweight`` can be told.

    The defaults are the CIFAR recipe of the supplement's section 1; ``model`` is the only member
    where ``members`` names none.
    """

    model: dict[str, Any] = field(default_factory=lambda: {"name": "wrn28-10"})
    data: DataConfig = field(default_factory=lambda: DataConfig("cifar100", validation=0.0))
    members: list[Any] = field(default_factory=list)
    budget: str | None = None
    method: str = "superweight"
    ranks: int | None = None
    superweight: SuperWeightSettings = field(default_factory=SuperWeightSettings)
    peers: PeerSettings = field(default_factory=PeerSettings)
    train: OptimizationConfig = field(
        default_factory=lambda: OptimizationConfig(
            steps=78_000,
            nesterov=True,
            weight_decay=5e-4,
            schedule="multistep",
            gamma=0.2,
        )
    )
    pipeline: RanksConfig = field(default_factory=lambda: RanksConfig(timeout=600.0))
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    log: LogConfig = field(default_factory=LogConfig)


def infer_superweight(config: SuperWeightConfig, given: set[str]) -> None:
    """Settle the lengths of the stages that were left open, from ``train.steps``.

    The search has 20 of the supplement's 200 epochs, coefficients are separated after 10, and the
    rate falls after 60, 120 and 160.
    """
    steps, settings = config.train.steps, config.superweight
    if settings.search_steps is None:
        settings.search_steps = steps // 10
    if settings.unshare_step is None:
        settings.unshare_step = steps // 20
    if config.train.schedule == "multistep" and not config.train.milestones:
        found = {round(share * steps) for share in MILESTONES}
        config.train.milestones = sorted(step for step in found if step > 0)
