"""Which rank runs which stages, on which device, with how many threads, over which links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..config import TrainConfig
from ..devices import check_devices, device_kind, device_of
from ..refusal import ConfigError

__all__ = ["Placement", "place"]


@dataclass(frozen=True)
class Placement:
    """How the stages of a run are laid out.

    Attributes:
        blocks: Number of stages.
        ranks: Number of processes.
        link: ``gloo``, ``nccl``, or ``local`` where all stages share a process.
        kind: ``cpu`` or ``cuda``.
        devices: The device of each rank if the user chose them, else empty.
        in_turns: Whether the stages of a process take turns (``runtime=sequential``).
        reason: Why this layout, in words, for the start of the run.
    """

    blocks: int
    ranks: int
    link: str
    kind: str
    devices: tuple[str, ...]
    in_turns: bool
    reason: str

    def stages(self, rank: int) -> list[int]:
        """Return the stages, from 1, that ``rank`` runs."""
        return [rank + 1] if self.ranks == self.blocks else list(range(1, self.blocks + 1))

    def rank_of(self, stage: int) -> int:
        """Return the rank that runs ``stage``."""
        return stage - 1 if self.ranks == self.blocks else 0

    def label(self, rank: int) -> str:
        """Return what messages call a rank."""
        stages = self.stages(rank)
        if len(stages) == 1:
            return f"stage {stages[0]} (rank {rank})"
        return f"stages 1-{self.blocks} (rank {rank})"

    def device(self, rank: int, local_rank: int) -> torch.device:
        """Return where ``rank`` computes; several ranks share a GPU when GPUs are short."""
        return device_of(rank, local_rank, kind=self.kind, devices=self.devices)


def place(config: TrainConfig, *, local_ranks: int | None = None) -> Placement:
    """Lay out the stages of a run.

    Args:
        config: The run's configuration.
        local_ranks: Ranks on this machine, when a launcher outside decided that.

    Raises:
        ConfigError: A GPU was asked for and there is none, or the devices do not fit the ranks.
    """
    together = config.runtime == "sequential" or config.pipeline.link == "local"
    ranks = 1 if together else config.blocks
    devices = tuple(config.pipeline.devices or ())
    check_devices(devices, ranks)
    kind = device_kind(config.device, devices)
    link, reason = _link(config, kind, devices, local_ranks or ranks)
    if together:
        link = "local"
        reason = "all stages in one process"
    return Placement(
        config.blocks, ranks, link, kind, devices, config.runtime == "sequential", reason
    )


def _link(
    config: TrainConfig, kind: str, devices: Sequence[str], local_ranks: int
) -> tuple[str, str]:
    if kind == "cpu":
        if config.pipeline.link == "nccl":
            raise ConfigError("pipeline.link=nccl links GPUs; on CPUs use gloo or auto")
        return "gloo", "CPU tensors over gloo"
    count = torch.cuda.device_count()
    shared = len(set(devices)) < len(devices) if devices else count < local_ranks
    if shared:
        if config.pipeline.link == "nccl":
            raise ConfigError(
                f"pipeline.link=nccl needs a GPU for each rank; there are {count} for "
                f"{local_ranks} ranks: use pipeline.link=gloo or auto"
            )
        return "gloo", f"{local_ranks} ranks share {count} GPU(s): over pinned host memory"
    if config.pipeline.link == "gloo":
        return "gloo", "GPU tensors over pinned host memory and gloo, as pipeline.link asks"
    return "nccl", "GPU tensors over NCCL, one GPU per stage"
