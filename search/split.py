"""Cuts that need no measurement and no search."""

from __future__ import annotations

import random

from ..pipeline.seed import derive
from .decoupling import DecouplingError

__all__ = ["check_blocks", "random_split", "uniform"]


def uniform(layers: int, blocks: int) -> tuple[int, ...]:
    """Cut into blocks of nearly the same number of layers: DGL's split as SEDONA uses it.

    Cut k of K - 1 is after layer ``floor(k * layers / K)``.

    Args:
        layers: How many layers there are.
        blocks: K, how many blocks to make.

    Raises:
        DecouplingError: There are fewer layers than blocks, or ``blocks`` is below 1.
    """
    check_blocks(layers, blocks)
    return tuple(k * layers // blocks for k in range(1, blocks))


def random_split(layers: int, blocks: int, *, seed: int) -> tuple[int, ...]:
    """Draw the cuts: every possible set of them is equally likely.

    Args:
        layers: How many layers there are.
        blocks: How many blocks to make.
        seed: The run's seed; the same seed gives the same cuts.

    Raises:
        DecouplingError: There are fewer layers than blocks, or ``blocks`` is below 1.
    """
    check_blocks(layers, blocks)
    numbers = random.Random(derive(seed, "split", layers, blocks))
    return tuple(sorted(numbers.sample(range(1, layers), blocks - 1)))


def check_blocks(layers: int, blocks: int) -> None:
    """Refuse a number of blocks that leaves a block without a layer.

    Raises:
        DecouplingError: The message has both numbers.
    """
    if not 1 <= blocks <= layers:
        raise DecouplingError(
            f"blocks={blocks}, but the network has {layers} layers and each block needs at least "
            f"one; give blocks between 1 and {layers}"
        )
