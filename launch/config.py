"""The configuration of a run: typed, checked once, before any process starts.

These dataclasses are the truth. The YAML files in ``conf/`` are their surface for Hydra; there
each key carries its one-line comment, which ``blockstep train --help`` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..pipeline.optimization import OptimizationConfig

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "DataConfig",
    "EvaluateConfig",
    "LogConfig",
    "MeasureConfig",
    "OptimizationConfig",
    "PipelineConfig",
    "PredSimConfig",
    "ProfileConfig",
    "RanksConfig",
    "ReplayConfig",
    "RunConfig",
    "SetupConfig",
    "TrainConfig",
    "WandbConfig",
]


@dataclass
class AugmentConfig:
    """Random changes of training images; all off by default."""

    crop: int = 0
    resized_crop: bool = False
    flip: bool = False
    rotation: float = 0.0
    cutout: int = 0


@dataclass
class DataConfig:
    """A data set and how its examples become batches."""

    name: str = "digits"
    root: str | None = None
    size: int | None = None
    normalize: bool = True
    validation: float = 0.1
    train_examples: int | None = None
    rotate: bool = False
    classes_per_batch: int | None = None
    classes_until: int | None = None
    workers: int = 2
    download: bool = True
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    target: dict[str, Any] | None = None


@dataclass
class RanksConfig:
    """Where ranks run, and how long they are waited for."""

    devices: list[str] | None = None
    start_timeout: float = 600.0
    timeout: float = 120.0


@dataclass
class PipelineConfig(RanksConfig):
    """The links between stages, and where stages run."""

    link: str = "auto"
    queue_messages: int = 4
    queue_bytes: int = 268_435_456
    verify: bool = False
    microbatches: int = 4
    replicas: Any = None
    ranks: int | None = None
    delay: list[float] | None = None


@dataclass
class CheckpointConfig:
    """When to write checkpoints and which to keep."""

    every: int = 500
    keep: int = 2
    best: bool = True


@dataclass
class EvaluateConfig:
    """When to evaluate during training."""

    every: int | None = None
    batch_size: int | None = None
    final: bool = True


@dataclass
class LogConfig:
    """How often stages report, and what the terminal shows."""

    every: int = 10
    view: str = "auto"


@dataclass
class MeasureConfig:
    """What is timed around the training, to compare it with."""

    backprop: int = 10
    alone: int = 10


@dataclass
class ProfileConfig:
    """A window of torch.profiler on one stage."""

    stage: int | None = None
    start: int = 20
    steps: int = 5


@dataclass
class PredSimConfig:
    """How method=predsim mixes its losses, and how large its predictors are."""

    beta: float = 0.99
    inputs: int | None = None


@dataclass
class ReplayConfig:
    """DGL's replay buffer: what a stage learns from while its link is empty.

    With it results depend on timing: no other runtime, and no resumed run, ends at the same
    weights. What is kept is not saved; after a resume it fills anew.
    """

    batches: int = 0
    reuse: int | None = None


@dataclass
class WandbConfig:
    """Where the run is recorded besides its folder."""

    mode: str = "offline"
    project: str = "blockstep"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class SetupConfig:
    """What every command that makes a network can be told."""

    model: dict[str, Any] = field(default_factory=lambda: {"name": "resnet18"})
    data: DataConfig = field(default_factory=DataConfig)
    device: str = "auto"
    seed: int = 0


@dataclass
class RunConfig(SetupConfig):
    """What every command that starts a run can be told."""

    preset: str | None = None
    name: str | None = None
    runs: str = "runs"
    resume: str | None = None
    restarts: int = 0
    dry_run: bool = False
    train: OptimizationConfig = field(default_factory=OptimizationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)


@dataclass
class TrainConfig(RunConfig):
    """Everything that ``blockstep train`` can be told."""

    method: str = "decoupled"
    blocks: int = 2
    decoupling: str | None = None
    cuts: list[int] | None = None
    ablation: str | None = None
    heads: Any = None
    psi: str | None = None
    psi_samples: int | None = None
    runtime: str = "pipeline"
    predsim: PredSimConfig = field(default_factory=PredSimConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
