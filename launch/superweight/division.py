"""Which rank trains which member: divided by measured time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from ...models import Network
from ...search.replication import best_replicas
from ...search.sharing.company import Post, posts_of
from ..assembly import build_criterion
from ..data import Data
from .config import SuperWeightConfig
from .members import member_specs

__all__ = ["divide_members", "member_seconds"]

EXAMPLES = 32
"""Examples of a timed pass at most: only the ratios matter."""
REPEATS = 3


def divide_members(seconds: Sequence[float], ranks: int) -> list[list[Post]]:
    """Give every rank its members, such that the slowest rank has little to do.

    Fewer ranks than members: the longest member first, each to the rank that has least (within 4/3
    of the best division). More ranks: the slowest member gets one more until none is left.

    Args:
        seconds: Of a step of each member.
        ranks: How many there are.
    """
    if ranks > len(seconds):
        return posts_of(best_replicas(seconds, ranks))
    found: list[list[Post]] = [[] for _ in range(ranks)]
    loads = [0.0] * ranks
    for member in sorted(range(len(seconds)), key=lambda one: (-seconds[one], one)):
        rank = min(range(ranks), key=lambda one: (loads[one], one))
        found[rank].append(Post(member))
        loads[rank] += seconds[member]
    return [sorted(own) for own in found]


def member_seconds(
    config: SuperWeightConfig, networks: Sequence[Network], data: Data, device: torch.device
) -> list[float]:
    """Time a forward and a backward pass of each kind of member; the best of three counts.

    Args:
        config: The configuration.
        networks: The members; their gradients are removed, their running statistics do not matter.
        data: Where the examples come from.
        device: Where.
    """
    known: list[tuple[dict[str, Any], float]] = []
    found = []
    x, y = (one.to(device) for one in data.example(min(EXAMPLES, config.train.batch_size)))
    criterion = build_criterion(config.train)
    for spec, network in zip(member_specs(config), networks, strict=True):
        before = next((seconds for other, seconds in known if other == spec), None)
        if before is None:
            module = network.module.to(device).train()
            times = []
            for _ in range(REPEATS):
                begin = time.perf_counter()
                criterion(module(x), y).backward()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                times.append(time.perf_counter() - begin)
                module.zero_grad()
            before = min(times)
            known.append((spec, before))
        found.append(before)
    return found
