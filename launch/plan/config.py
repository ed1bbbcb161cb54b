"""The configuration of ``blockstep plan``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...pipeline.optimization import OptimizationConfig
from ..config import DataConfig, SetupConfig
from .words import DEFAULT_METHODS

__all__ = ["NetworkConfig", "PlanConfig", "QueueConfig", "TimingConfig"]


@dataclass
class NetworkConfig:
    """What connects the devices."""

    gbit: float | None = 100.0
    latency_us: float = 20.0
    overlap: float = 1.0


@dataclass
class QueueConfig:
    """How much waits in a link."""

    queue_messages: int = 4
    queue_bytes: int = 268_435_456


@dataclass
class TimingConfig:
    """How the layers are timed."""

    repeats: int = 3
    beside: int | None = None
    seconds: float = 120.0


@dataclass
class PlanConfig(SetupConfig):
    """Everything that ``blockstep plan`` can be told."""

    model: dict[str, Any] = field(default_factory=lambda: {"name": "resnet50"})
    data: DataConfig = field(default_factory=lambda: DataConfig("cifar10"))
    methods: list[str] = field(default_factory=lambda: list(DEFAULT_METHODS))
    blocks: list[int] = field(default_factory=lambda: [2, 4])
    devices: int = 4
    scale: float = 1.0
    contention: float | None = None
    memory_gib: float | None = None
    heads: Any = None
    decoupling: str | None = None
    microbatches: int | None = None
    profile: str | None = None
    save: str | None = None
    output: str | None = "plan.json"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    train: OptimizationConfig = field(default_factory=OptimizationConfig)
    pipeline: QueueConfig = field(default_factory=QueueConfig)
    measure: TimingConfig = field(default_factory=TimingConfig)
