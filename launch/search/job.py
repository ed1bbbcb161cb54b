"""A search, fully decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..job import SharedJob
from .config import SearchConfig

__all__ = ["SearchJob"]


@dataclass(frozen=True, kw_only=True)
class SearchJob(SharedJob):
    """A search, fully decided. Its steps are those of the pretraining, then the outer steps.

    Attributes:
        network: Name of the network.
        layers: Number of its layers.
    """

    config: SearchConfig
    network: str
    layers: int

    @property
    def steps(self) -> int:
        """See :attr:`Job.steps`."""
        return self.config.train.steps + self.config.search.steps

    @property
    def parts(self) -> int:
        """Rank 0 alone writes: the others have the same."""
        return 1

    @property
    def facts(self) -> dict[str, Any]:
        """See :attr:`Job.facts`: what the state and the order of the data depend on."""
        config, settings = self.config, self.config.search
        return {
            "command": self.command,
            "network": self.network,
            "layers": self.layers,
            "heads": [head if isinstance(head, str) else dict(head) for head in settings.heads],
            "data": self.task.data,
            "sizes": {split: self.task.sizes[split] for split in ("train", "validation")},
            "seed": config.seed,
            "train.batch_size": config.train.batch_size,
            "train.steps": config.train.steps,
            "search.inner_steps": settings.inner_steps,
            "search.samples": settings.samples,
            "search.memory": settings.memory,
            "search.pretrain_every": settings.pretrain_every,
            "search.validation_batch": settings.validation_batch,
        }

    def _more(self) -> dict[str, Any]:
        return {"network": self.network, "layers": self.layers}

    @classmethod
    def _read_more(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"network": values["network"], "layers": values["layers"]}
