"""A federation, fully decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..job import SharedJob
from .config import FederateConfig

__all__ = ["FederateJob"]

FREE = ("psi_limit",)
"""Keys of ``federate`` that a resumed run may change: they do not change what is learned."""


@dataclass(frozen=True, kw_only=True)
class FederateJob(SharedJob):
    """A federation, fully decided. Its steps are its rounds.

    Attributes:
        network: Name of the network.
    """

    config: FederateConfig
    network: str

    @property
    def steps(self) -> int:
        """See :attr:`Job.steps`."""
        return self.config.train.steps

    @property
    def parts(self) -> int:
        """Rank 0 alone writes: the others have the same."""
        return 1

    @property
    def facts(self) -> dict[str, Any]:
        """See :attr:`Job.facts`: what the state and the updates of clients depend on."""
        config = self.config
        settings = {
            f"federate.{key}": value
            for key, value in asdict(config.federate).items()
            if key not in FREE
        }
        return {
            "command": self.command,
            "network": self.network,
            "data": self.task.data,
            "train_examples": self.task.sizes["train"],
            "seed": config.seed,
            "train.batch_size": config.train.batch_size,
            "train.optimizer": config.train.optimizer,
            **settings,
        }

    def _more(self) -> dict[str, Any]:
        return {"network": self.network}

    @classmethod
    def _read_more(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"network": values["network"]}
