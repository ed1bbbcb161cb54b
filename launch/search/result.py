"""What a search has found: the decoupling, and what its cuts cost in speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...search.decoupling import Decoupling
from ...search.discretization import best_heads, discretize
from ...search.pareto import Choice, adopt, choose, front
from ...search.profile import Profile
from .job import SearchJob

__all__ = ["Result", "decide"]

Table = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Result:
    """What a search has found so far.

    Attributes:
        decoupling: Cuts and heads for every number of blocks, as ``search.prefer`` wants them.
        front: For ``blocks``, the cuts of which no other are likely to be both more accurate and
            faster; empty without a profile.
    """

    decoupling: Decoupling
    front: Sequence[Choice] = ()


def decide(job: SearchJob, alpha: Table, beta: Table, profile: Profile | None) -> Result:
    """Turn what was learned into cuts and heads.

    Without a profile, and for ``search.prefer=accuracy``, they are the paper's: after the first
    layers of the ranking. Else they are chosen from the front of each number of blocks.

    Args:
        job: The search.
        alpha: (L - 1, 2), as learned.
        beta: (L - 1, M), as learned.
        profile: What layers and heads cost; None if they were not timed.

    Raises:
        DecouplingError, ProfileError, ValueError: What was learned or measured cannot be used.
    """
    config = job.config
    pool, prefer = config.search.heads, config.search.prefer
    found = discretize(alpha, beta, network=job.network, heads=pool, blocks=config.blocks)
    if profile is None:
        return Result(found)
    heads = [pool[place] for place in best_heads(beta)]
    own = front(profile, alpha, heads, config.blocks)
    if prefer == "accuracy":
        return Result(found, own)
    fronts = (front(profile, alpha, heads, blocks) for blocks in found.by_blocks or ())
    return Result(adopt(found, (choose(one, prefer) for one in fronts)), own)
