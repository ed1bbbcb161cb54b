"""An ensemble's training, fully decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...search.sharing.company import Post
from ...search.sharing.file import SharingFile
from ...search.sharing.plan import Plan
from ..job import SharedJob
from .config import SuperWeightConfig
from .method import METHODS

__all__ = ["SHARED", "SuperWeightJob", "member_shard"]

SHARED = "shared.pt"
"""The file of a checkpoint that holds what all members share."""


def member_shard(member: int) -> str:
    """Return the file of a checkpoint that holds what only one member has."""
    return f"member-{member + 1}.pt"


@dataclass(frozen=True, kw_only=True)
class SuperWeightJob(SharedJob):
    """An ensemble's training. Its steps are those of the search, then those of the main training.

    Attributes:
        networks: The members' names.
        budget: Weights of all templates; 0 where there are none.
        learned: Whether the clusters are learned.
        sharing: What the main training begins with, as the text of a file; None: bins of depth,
            or what is learned.
        posts: Of every rank, what it has to do.
    """

    config: SuperWeightConfig
    networks: tuple[str, ...]
    budget: int
    learned: bool
    sharing: str | None
    posts: tuple[tuple[Post, ...], ...]

    @property
    def ranks(self) -> int:
        """See :attr:`Job.ranks`."""
        return len(self.posts)

    @property
    def plan(self) -> Plan:
        """The stages."""
        settings = self.config.superweight
        return Plan(
            steps=self.config.train.steps,
            search_steps=(settings.search_steps or 0) if self.learned else 0,
            unshare_step=(settings.unshare_step or 0) if self.learned else 0,
            similarity_batches=settings.similarity_batches or 1,
            budget=self.budget,
            tau=settings.tau,
            beta=settings.beta,
            cluster_groups=settings.cluster_groups,
            coefficient_groups=settings.coefficient_groups,
            join=settings.join,
            decay_norms=settings.decay_norms,
        )

    @property
    def steps(self) -> int:
        """See :attr:`Job.steps`."""
        return self.plan.search_steps + self.plan.steps

    @property
    def members(self) -> int:
        """How many members the ensemble has."""
        alone = METHODS[self.config.method].alone and METHODS[self.config.method].joint
        return len(self.config.peers.widths) if alone else len(self.networks)

    @property
    def names(self) -> list[str]:
        """The members in words."""
        if len(self.networks) == self.members:
            return list(self.networks)
        return [f"{self.networks[0]} x {width:g}" for width in self.config.peers.widths]

    @property
    def parts(self) -> int:
        """See :attr:`Job.parts`: every rank writes its members, rank 0 what they share too."""
        return self.ranks

    @property
    def facts(self) -> dict[str, Any]:
        """See :attr:`Job.facts`: what the state and the order of the data depend on."""
        config, settings = self.config, self.config.superweight
        return {
            "command": self.command,
            "method": config.method,
            "members": list(self.networks),
            "data": self.task.data,
            "sizes": {"train": self.task.sizes["train"]},
            "seed": config.seed,
            "train.batch_size": config.train.batch_size,
            "budget": self.budget,
            "search_steps": self.plan.search_steps,
            "superweight.nesting": settings.nesting,
            "superweight.allocator": settings.allocator,
            "superweight.linear": settings.linear,
        }

    def label(self, rank: int) -> str:
        """See :meth:`Job.label`."""
        own = self.posts[rank]
        if not own or len(own) == self.members:
            return f"rank {rank}"
        numbers = ", ".join(str(post.member + 1) for post in own)
        replica = f" replica {own[0].replica}" if own[0].replicas > 1 else ""
        return f"rank {rank} (member{'s' * (len(own) > 1)} {numbers}{replica})"

    def reads_data(self, rank: int) -> bool:
        """See :meth:`Job.reads_data`: all members learn from the same batches."""
        return True

    def file(self) -> SharingFile | None:
        """Return what the main training begins with."""
        return None if self.sharing is None else SharingFile.from_json(self.sharing)

    def _more(self) -> dict[str, Any]:
        return {
            "networks": self.networks,
            "budget": self.budget,
            "learned": self.learned,
            "sharing": self.sharing,
            "posts": [[asdict(post) for post in own] for own in self.posts],
        }

    @classmethod
    def _read_more(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "networks": tuple(values["networks"]),
            "budget": values["budget"],
            "learned": values["learned"],
            "sharing": values["sharing"],
            "posts": tuple(tuple(Post(**post) for post in own) for own in values["posts"]),
        }
