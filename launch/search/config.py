"""The configuration of ``blockstep search``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...pipeline.optimization import OptimizationConfig
from ...search.settings import SearchSettings
from ..config import CheckpointConfig, DataConfig, LogConfig, RanksConfig, RunConfig

__all__ = ["SearchConfig"]


@dataclass
class SearchConfig(RunConfig):
    """Everything that ``blockstep search`` can be told; the defaults are SEDONA's (appendix E.1).

    ``train`` says how the weights learn, in the pretraining (``train.steps`` long) and in the
    inner steps.
    """

    model: dict[str, Any] = field(default_factory=lambda: {"name": "resnet50"})
    data: DataConfig = field(default_factory=lambda: DataConfig("cifar10", validation=0.4))
    blocks: int = 4
    ranks: int | None = None
    train: OptimizationConfig = field(
        default_factory=lambda: OptimizationConfig(
            steps=40_000, weight_decay=1e-3, label_smoothing=0.1
        )
    )
    search: SearchSettings = field(default_factory=SearchSettings)
    pipeline: RanksConfig = field(default_factory=lambda: RanksConfig(timeout=600.0))
    checkpoint: CheckpointConfig = field(
        default_factory=lambda: CheckpointConfig(every=100, best=False)
    )
    log: LogConfig = field(default_factory=lambda: LogConfig(every=5))
