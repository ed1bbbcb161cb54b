"""The configuration of ``blockstep dashboard``."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DashboardConfig", "ProjectConfig"]


@dataclass
class ProjectConfig:
    """The project in wandb whose workspace it is."""

    mode: str = "online"
    project: str = "blockstep"
    entity: str | None = None


@dataclass
class DashboardConfig:
    """Everything that ``blockstep dashboard`` can be told."""

    name: str = "blockstep"
    view: str | None = None
    dry_run: bool = False
    output: str | None = None
    wandb: ProjectConfig = field(default_factory=ProjectConfig)
