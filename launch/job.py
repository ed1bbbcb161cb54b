"""What every rank of a run is told: decided once, before any process begins its work."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from .config import RanksConfig, RunConfig
from .configfile import config_from_yaml, config_to_yaml
from .devices import device_of
from .folder import RunFolder

__all__ = ["Job", "Objects", "SharedJob", "Task"]


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


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """A run, fully decided: what the launchers know of it, whatever its command.

    Attributes:
        command: The command that made it.
        config: The configuration with everything resolved.
        task: What the data look like.
        folder: The run's folder.
        start: Steps that are already done.
        measured: What was timed earlier in this run; empty for a new one.
    """

    command: str
    config: RunConfig
    task: Task
    folder: RunFolder
    start: int = 0
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    @abstractmethod
    def ranks(self) -> int:
        """How many processes take part."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """The last step of the whole run."""

    @property
    @abstractmethod
    def waits(self) -> RanksConfig:
        """How long is waited for ranks."""

    @property
    @abstractmethod
    def parts(self) -> int:
        """How many ranks or stages each contribute files to a checkpoint."""

    @property
    def rating(self) -> str:
        """What checkpoints are rated by, as their manifest calls it; the highest is the best."""
        return "validation_accuracy"

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a checkpoint of this run belongs to; compared on resume."""

    @abstractmethod
    def label(self, rank: int) -> str:
        """Return what messages call a rank."""

    @abstractmethod
    def device(self, rank: int, local_rank: int) -> torch.device:
        """Return where ``rank`` computes."""

    def reads_data(self, rank: int) -> bool:
        """Return whether ``rank`` reads the data; the others are sent what they learn from."""
        return rank == 0

    def to_json(self) -> str:
        """Write it down for other ranks."""
        return json.dumps(
            {
                "command": self.command,
                "config": config_to_yaml(self.config),
                "task": asdict(self.task),
                "folder": str(self.folder.path),
                "start": self.start,
                "measured": self.measured,
                **self._more(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote."""
        values = json.loads(text)
        task = values["task"]
        return cls(
            command=values["command"],
            config=config_from_yaml(values["config"], values["command"]),
            task=Task(**{**task, "shape": tuple(task["shape"])}),
            folder=RunFolder(Path(values["folder"])),
            start=values["start"],
            measured=values["measured"],
            **cls._read_more(values),
        )

    def _more(self) -> dict[str, Any]:
        """Return what else is written down, as JSON values."""
        return {}

    @classmethod
    def _read_more(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the further fields that :meth:`_more` wrote."""
        return {}


@dataclass(frozen=True, kw_only=True)
class SharedJob(Job):
    """A run whose ranks share one piece of work, as many as ``ranks`` says.

    Attributes:
        config: One that has ``ranks`` and ``pipeline``.
    """

    config: Any

    @property
    def ranks(self) -> int:
        """See :attr:`Job.ranks`."""
        return self.config.ranks or 1

    @property
    def waits(self) -> RanksConfig:
        """See :attr:`Job.waits`."""
        return self.config.pipeline

    def label(self, rank: int) -> str:
        """See :meth:`Job.label`."""
        return f"rank {rank}"

    def device(self, rank: int, local_rank: int) -> torch.device:
        """See :meth:`Job.device`."""
        devices = self.config.pipeline.devices or ()
        return device_of(rank, local_rank, kind=self.config.device, devices=devices)
