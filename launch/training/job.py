"""A training, fully decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...search.decoupling import Decoupling
from ..config import PipelineConfig, TrainConfig
from ..job import Job
from .placement import Placement, place
from .runtime import runtime_of

__all__ = ["TrainJob"]


@dataclass(frozen=True, kw_only=True)
class TrainJob(Job):
    """A training, fully decided.

    Attributes:
        decoupling: The cuts and heads.
    """

    config: TrainConfig
    decoupling: Decoupling

    @property
    def placement(self) -> Placement:
        """Which rank runs what."""
        return place(self.config)

    @property
    def ranks(self) -> int:
        """See :attr:`Job.ranks`."""
        return self.placement.ranks

    @property
    def steps(self) -> int:
        """See :attr:`Job.steps`."""
        return self.config.train.steps

    @property
    def waits(self) -> PipelineConfig:
        """See :attr:`Job.waits`."""
        return self.config.pipeline

    @property
    def parts(self) -> int:
        """Every stage writes a shard."""
        return self.decoupling.blocks

    @property
    def facts(self) -> dict[str, Any]:
        """See :attr:`Job.facts`."""
        parts = {"pipeline.microbatches": self.config.pipeline.microbatches}
        return {
            "network": self.decoupling.network,
            "layers": self.decoupling.layers,
            "cuts": list(self.decoupling.cuts),
            "heads": [head if isinstance(head, str) else dict(head) for head in self.heads],
            "method": self.config.method,
            "predsim.inputs": self.config.predsim.inputs,
            "data": self.task.data,
            "seed": self.config.seed,
            "batch_size": self.config.train.batch_size,
            **(parts if runtime_of(self.config).schedule else {}),
        }

    @property
    def heads(self) -> tuple[Any, ...]:
        """The head of each block but the last."""
        return self.decoupling.heads

    def reads_data(self, rank: int) -> bool:
        """See :meth:`Job.reads_data`: every replica of the first stage makes its batches."""
        return 1 in self.placement.stages(rank)

    def label(self, rank: int) -> str:
        """See :meth:`Job.label`."""
        return self.placement.label(rank)

    def device(self, rank: int, local_rank: int) -> torch.device:
        """See :meth:`Job.device`."""
        return self.placement.device(rank, local_rank)

    def _more(self) -> dict[str, Any]:
        return {"decoupling": self.decoupling.to_json()}

    @classmethod
    def _read_more(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"decoupling": Decoupling.from_json(values["decoupling"])}
