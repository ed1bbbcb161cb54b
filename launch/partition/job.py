"""A partitioned training, fully decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..job import SharedJob
from .config import PartitionConfig
from .limits import WHOLE

__all__ = ["PartitionJob"]


@dataclass(frozen=True, kw_only=True)
class PartitionJob(SharedJob):
    """A partitioned training, fully decided.

    Attributes:
        network: Name of the network.
    """

    config: PartitionConfig
    network: str

    @property
    def partitions(self) -> int:
        """The number of partitions: that of chunks, or one by methods that do not divide."""
        own = self.config.partition
        return 1 if own.method in WHOLE else len(own.chunks)

    @property
    def steps(self) -> int:
        """See :attr:`Job.steps`."""
        return self.config.train.steps

    @property
    def parts(self) -> int:
        """Every partition is a part, whoever owns it; that of the last has psi too."""
        return self.partitions

    @property
    def rating(self) -> str:
        """See :attr:`Job.rating`: L_ML."""
        return "objective"

    @property
    def facts(self) -> dict[str, Any]:
        """See :attr:`Job.facts`: not the number of ranks, which may change on a resume."""
        config, own = self.config, self.config.partition
        return {
            "command": self.command,
            "network": self.network,
            "data": self.task.data,
            "train": self.task.sizes["train"],
            "seed": config.seed,
            "train.batch_size": config.train.batch_size,
            "partition.method": own.method,
            "partition.chunks": list(own.chunks),
            "partition.parameters": None if own.parameters is None else list(own.parameters),
            "partition.kind": own.kind,
            "partition.defaults": own.defaults,
            "psi": config.psi.name,
            "psi.layers": list(config.psi.layers),
        }

    def owned(self, rank: int) -> list[int]:
        """Return the partitions, from 1, that ``rank`` learns."""
        every = list(range(1, self.partitions + 1))
        return every if self.ranks == 1 else [rank + 1]

    def reads_data(self, rank: int) -> bool:
        """See :meth:`Job.reads_data`: every rank draws its own batches."""
        return True

    def label(self, rank: int) -> str:
        """See :meth:`Job.label`."""
        if self.ranks == 1:
            return f"rank {rank}"
        return f"partition {rank + 1} (rank {rank})"

    def _more(self) -> dict[str, Any]:
        return {"network": self.network}

    @classmethod
    def _read_more(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"network": values["network"]}
