"""How many ranks share each stage: the slowest one sets the speed of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["best_replicas", "divide"]


def best_replicas(seconds: Sequence[float], ranks: int) -> tuple[int, ...]:
    """Divide ranks over blocks so that the slowest stage is as fast as possible.

    A stage with r replicas takes ``seconds / r`` for a batch.

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
    return divide(ranks, blocks, lambda block, count: seconds[block] / count, use_all=True)


def divide(
    ranks: int, blocks: int, seconds: Callable[[int, int], float], *, use_all: bool
) -> tuple[int, ...]:
    """Divide ranks over blocks so that the slowest block is as fast as possible.

    Each rank beyond one per block goes to the block that is the slowest so far; of equally slow
    ones the first gets it. Where more replicas never make a block slower, no division is better: a
    better one would have to give the block that is slowest in the end more than it got, so another
    one less; but that one had to be given its last replica when it was the slowest, slower than the
    end is.

    Args:
        ranks: At least one for each block.
        blocks: How many blocks.
        seconds: Of a block (from 0) with so many replicas.
        use_all: Whether the slowest block gets a rank that does not make it faster. If not, ranks
            are left over.
    """
    counts = [1] * blocks
    times = [seconds(block, 1) for block in range(blocks)]
    for _ in range(ranks - blocks):
        slowest = max(range(blocks), key=times.__getitem__)
        faster = seconds(slowest, counts[slowest] + 1)
        if not use_all and faster >= times[slowest]:
            break
        counts[slowest] += 1
        times[slowest] = faster
    return tuple(counts)
