"""The configuration of ``blockstep doctor``."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DoctorConfig", "PlacesConfig", "RecordingConfig"]


@dataclass
class PlacesConfig:
    """Which data sets are looked for, and where."""

    names: list[str] | None = None
    root: str | None = None


@dataclass
class RecordingConfig:
    """How runs are going to be recorded."""

    mode: str = "offline"


@dataclass
class DoctorConfig:
    """Everything that ``blockstep doctor`` can be told."""

    ranks: int | None = None
    device: str = "auto"
    runs: str = "runs"
    json: bool = False
    data: PlacesConfig = field(default_factory=PlacesConfig)
    wandb: RecordingConfig = field(default_factory=RecordingConfig)
