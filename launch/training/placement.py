"""Which rank runs which stages, on which device, with how many threads, over which links.

pipeline.replicas=[3,1]     rank 0   stage 1 replica 1
                            rank 1   stage 1 replica 2
                            rank 2   stage 1 replica 3
                            rank 3   stage 2

runtime=interleaved_1f1b    rank 0   stage 1, stage 3
                            rank 1   stage 2, stage 4
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...pipeline.edge import Edge
from ...pipeline.replicas import replica_label
from ..config import TrainConfig
from ..devices import check_devices, device_kind, device_of
from ..refusal import ConfigError
from .runtime import runtime_of

__all__ = ["Placement", "place", "replicas_of"]


@dataclass(frozen=True)
class Placement:
    """How the stages of a run are laid out.

    Attributes:
        blocks: Number of stages.
        ranks: Number of processes.
        replicas: How many ranks share each stage; 1 each where all stages share a process.
        link: ``gloo``, ``nccl``, or ``local`` where all stages share a process.
        kind: ``cpu`` or ``cuda``.
        devices: The device of each rank if the user chose them, else empty.
        in_turns: Whether the stages of a process take turns (``runtime=sequential``).
        reason: Why this layout, in words, for the start of the run.
        chunks: How many stages each rank has: its own and those that lie as many ranks further.
    """

    blocks: int
    ranks: int
    replicas: tuple[int, ...]
    link: str
    kind: str
    devices: tuple[str, ...]
    in_turns: bool
    reason: str
    chunks: int = 1

    @property
    def together(self) -> bool:
        """Whether all stages share a process."""
        return self.ranks * self.chunks < sum(self.replicas)

    def stages(self, rank: int) -> list[int]:
        """Return the stages, from 1, that ``rank`` runs."""
        if self.together:
            return list(range(1, self.blocks + 1))
        if self.chunks > 1:
            return list(range(rank + 1, self.blocks + 1, self.ranks))
        return [bisect.bisect_right(self._ends, rank) + 1]

    def replica_of(self, rank: int) -> int:
        """Return which replica of its stage ``rank`` is, from 1."""
        if self.together or self.chunks > 1:
            return 1
        return rank - self.rank_of(self.stages(rank)[0]) + 1

    def ranks_of(self, stage: int) -> list[int]:
        """Return the ranks that share ``stage``, in the order of its replicas."""
        if self.together:
            return [0]
        if self.chunks > 1:
            return [(stage - 1) % self.ranks]
        end = self._ends[stage - 1]
        return list(range(end - self.replicas[stage - 1], end))

    def rank_of(self, stage: int) -> int:
        """Return the rank of the first replica of ``stage``."""
        return self.ranks_of(stage)[0]

    def edges(self) -> list[Edge]:
        """Return the links between ranks, in the order in which all connect them.

        Equally many replicas are linked one to one, else every one with every one.
        """
        if self.together:
            return []
        return [edge for stage in range(1, self.blocks) for edge in self._boundary(stage)]

    def label(self, rank: int) -> str:
        """Return what messages call a rank."""
        stages = self.stages(rank)
        if len(stages) == 1:
            return f"{self.name(stages[0], self.replica_of(rank))} (rank {rank})"
        if self.together:
            return f"stages 1-{self.blocks} (rank {rank})"
        return f"stages {' and '.join(map(str, stages))} (rank {rank})"

    def name(self, stage: int, replica: int) -> str:
        """Return what messages call a replica of a stage."""
        return replica_label(stage, replica, self.replicas[stage - 1])

    @property
    def _ends(self) -> list[int]:
        """The rank after those of each stage."""
        return list(itertools.accumulate(self.replicas))

    def _boundary(self, stage: int) -> list[Edge]:
        sources, targets = self.ranks_of(stage), self.ranks_of(stage + 1)
        label = f"link {stage}->{stage + 1}"
        if len(sources) == len(targets) == 1:
            return [Edge(sources[0], targets[0], label)]
        one_to_one = len(sources) == len(targets)
        return [
            Edge(source, target, f"{label} (replica {i} to {j})")
            for i, source in enumerate(sources, start=1)
            for j, target in enumerate(targets, start=1)
            if i == j or not one_to_one
        ]

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
    replicas = replicas_of(config)
    chunks = runtime_of(config).chunks
    ranks = 1 if together else sum(replicas) // chunks
    devices = tuple(config.pipeline.devices or ())
    check_devices(devices, ranks)
    kind = device_kind(config.device, devices)
    link, reason = _link(config, kind, devices, local_ranks or ranks)
    if together:
        link = "local"
        reason = "all stages in one process"
    if runtime_of(config).schedule and kind == "cuda" and link != "nccl":
        raise ConfigError(
            f"runtime={config.runtime} needs NCCL between GPUs, with a GPU for each of its {ranks} "
            f"ranks, but has {reason}; choose device=cpu, or runtime=pipeline with another method"
        )
    if chunks > 1:
        reason += f"; {chunks} of the {config.blocks} blocks on each of {ranks} ranks"
    in_turns = config.runtime == "sequential"
    return Placement(config.blocks, ranks, replicas, link, kind, devices, in_turns, reason, chunks)


def replicas_of(config: TrainConfig) -> tuple[int, ...]:
    """Return how many ranks share each stage; ``auto`` has been resolved before."""
    wanted = config.pipeline.replicas
    if wanted is None:
        return (1,) * config.blocks
    return (wanted,) * config.blocks if isinstance(wanted, int) else tuple(wanted)


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
    return "nccl", "GPU tensors over NCCL, one GPU per rank"
