"""What every rank of a run is told: decided once, before any process trains."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..search.decoupling import Decoupling
from .config import TrainConfig
from .configfile import config_from_yaml, config_to_yaml
from .folder import RunFolder
from .placement import Placement, place

__all__ = ["Job", "Objects", "Task"]


@dataclass(frozen=True)
class Task:
    """What a rank must know of the data without loading it.

    Attributes:
        data: Name of the data set.
        classes: Number of classes.
        shape: Shape of one example.
        dtype: Name of its torch dtype, e.g. ``"float32"``.
        sizes: Examples per split: train, validation, test.
    """

    data: str
    classes: int
    shape: tuple[int, ...]
    dtype: str
    sizes: dict[str, int]

    def example(self, count: int = 2) -> Tensor:
        """Return a batch of zeros of the right shape and type."""
        return torch.zeros(count, *self.shape, dtype=getattr(torch, self.dtype))

    @property
    def splits(self) -> tuple[str, ...]:
        """What is evaluated on the way: the validation split if there is one."""
        return ("validation",) if self.sizes.get("validation") else ("test",)

    @property
    def final_splits(self) -> tuple[str, ...]:
        """What is evaluated after the last step."""
        return ("validation", "test") if self.sizes.get("validation") else ("test",)


@dataclass(frozen=True)
class Objects:
    """What a Python caller brings along instead of naming it in the configuration.

    Attributes:
        network: The network, or None to make the one that ``model`` names.
        data: Train and test parts, or None to load the data set that ``data`` names.
    """

    network: nn.Module | None = None
    data: Any = None


@dataclass(frozen=True)
class Job:
    """A run, fully decided.

    Attributes:
        command: The command that made it.
        config: The configuration with everything resolved.
        decoupling: The cuts and heads.
        task: What the data look like.
        folder: The run's folder.
        start: Training steps that are already done.
        measured: What was timed earlier in this run; empty for a new one.
    """

    command: str
    config: TrainConfig
    decoupling: Decoupling
    task: Task
    folder: RunFolder
    start: int = 0
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def placement(self) -> Placement:
        """Which rank runs what."""
        return place(self.config)

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint of this run belongs to; compared on resume."""
        return {
            "network": self.decoupling.network,
            "layers": self.decoupling.layers,
            "cuts": list(self.decoupling.cuts),
            "heads": [head if isinstance(head, str) else dict(head) for head in self.heads],
            "method": self.config.method,
            "data": self.task.data,
            "seed": self.config.seed,
            "batch_size": self.config.train.batch_size,
        }

    @property
    def heads(self) -> tuple[Any, ...]:
        """The head of each block but the last."""
        return self.decoupling.heads

    def to_json(self) -> str:
        """Write it down for other ranks."""
        return json.dumps(
            {
                "command": self.command,
                "config": config_to_yaml(self.config),
                "decoupling": self.decoupling.to_json(),
                "task": asdict(self.task),
                "folder": str(self.folder.path),
                "start": self.start,
                "measured": self.measured,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what :meth:`to_json` wrote."""
        values = json.loads(text)
        return cls(
            command=values["command"],
            config=config_from_yaml(values["config"], values["command"]),
            decoupling=Decoupling.from_json(values["decoupling"]),
            task=Task(**{**values["task"], "shape": tuple(values["task"]["shape"])}),
            folder=RunFolder(Path(values["folder"])),
            start=values["start"],
            measured=values["measured"],
        )
