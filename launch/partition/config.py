"""The configuration of ``blockstep partition``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...pipeline.optimization import OptimizationConfig
from ..config import (
    CheckpointConfig,
    DataConfig,
    EvaluateConfig,
    RanksConfig,
    RunConfig,
)

__all__ = ["LinksConfig", "PartitionConfig", "PartitionsConfig", "PsiConfig"]


@dataclass
class PsiConfig:
    """What is learned as hyperparameters, and how. See ``conf/psi/affine.yaml``."""

    name: str = "affine"
    samples: int = 20
    training_samples: int | None = None
    initial: float | None = None
    rotation: float | None = None
    symmetric: bool = True
    temperature: float | None = None
    layers: list[str] = field(default_factory=list)
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    schedule: str = "constant"
    clip: float | None = None
    batch_size: int | None = None
    every: int = 1
    limit: float = 1e3


@dataclass
class PartitionsConfig:
    """How examples become chunks, and weights partitions."""

    method: str = "partitioned"
    chunks: list[float] = field(default_factory=lambda: [0.8, 0.1, 0.1])
    parameters: list[float] | None = None
    kind: str = "random"
    defaults: str = "initial"
    decay: str = "reciprocal"
    staleness: int = 0
    finetune: int = 0
    finetune_lr: float = 0.01
    reward: float = 0.01
    safe: bool = True


@dataclass
class LinksConfig(RanksConfig):
    """Where ranks run, and the links between them."""

    queue_messages: int = 4
    queue_bytes: int = 268_435_456


@dataclass
class PartitionConfig(RunConfig):
    """Everything that ``blockstep partition`` can be told.

    The defaults are those of the CIFAR experiments (Mlodozeniec et al., ICLR 2023, appendix I.4).
    """

    model: dict[str, Any] = field(default_factory=lambda: {"name": "fixup_resnet8"})
    data: DataConfig = field(default_factory=lambda: DataConfig("cifar10", validation=0.0))
    psi: PsiConfig = field(default_factory=PsiConfig)
    ranks: int | None = None
    partition: PartitionsConfig = field(default_factory=PartitionsConfig)
    train: OptimizationConfig = field(
        default_factory=lambda: OptimizationConfig(steps=40_000, batch_size=250)
    )
    pipeline: LinksConfig = field(default_factory=LinksConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
