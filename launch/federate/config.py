"""The configuration of ``blockstep federate``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...pipeline.optimization import OptimizationConfig
from ...search.federated.settings import FederationSettings
from ..config import CheckpointConfig, DataConfig, EvaluateConfig, LogConfig, RanksConfig, RunConfig

__all__ = ["FederateConfig"]


@dataclass
class FederateConfig(RunConfig):
    """Everything that ``blockstep federate`` can be told; the defaults are the paper's for MNIST.

    ``train`` says how a client learns; its steps are the rounds of the federation.
    """

    model: dict[str, Any] = field(default_factory=lambda: {"name": "mnist_cnn"})
    data: DataConfig = field(default_factory=DataConfig)
    ranks: int | None = None
    federate: FederationSettings = field(default_factory=FederationSettings)
    train: OptimizationConfig = field(
        default_factory=lambda: OptimizationConfig(
            steps=200,
            batch_size=64,
            lr=0.05,
            momentum=0.0,
            weight_decay=0.0,
            schedule="constant",
        )
    )
    pipeline: RanksConfig = field(default_factory=lambda: RanksConfig(timeout=600.0))
    evaluate: EvaluateConfig = field(
        default_factory=lambda: EvaluateConfig(every=10, batch_size=500)
    )
    checkpoint: CheckpointConfig = field(
        default_factory=lambda: CheckpointConfig(every=50, best=False)
    )
    log: LogConfig = field(default_factory=lambda: LogConfig(every=1))
