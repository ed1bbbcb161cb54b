"""How many ranks share each stage: the slowest one sets the speed of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["best_replicas"]


def best_replicas(seconds: Sequence[float], ranks: int) -> tuple[int, ...]:
    """Divide ranks over blocks so that the slowest stage is as fast as possible.

    A stage with r replicas takes ``seconds / r`` for a batch. Each rank in turn goes to the stage
    that is the slowest so far. That is exact: whoever gives it to another stage leaves this one as
    slow as it is. Among equally slow stages the first one gets it.

    Args:
        seconds: Of each block per batch, with one rank.
        ranks: How many there are; all are used.

    Returns:
        At least 1 for each block.

    Raises:
        ValueError: There are fewer ranks than blocks.
    """
    blocks = len(seconds)
    if ranks < blocks:
        raise ValueError(f"{ranks} ranks for {blocks} blocks; each block needs at least one")
    replicas = [1] * blocks
    for _ in range(ranks - blocks):
        slowest = max(range(blocks), key=lambda block: seconds[block] / replicas[block])
        replicas[slowest] += 1
    return tuple(replicas)
