"""Half of what a search found, and chance for the other half (SEDONA, section 4.4 and Table 4).

                     cuts       heads
    random_cuts      random     those learned for these layers
    random_heads     learned    random

The paper draws alpha or beta at random. That makes every set of K - 1 cuts equally likely, and
every head of the pool after each cut; so they are drawn directly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..models import HeadSpec
from ..pipeline.seed import derive
from .decoupling import Decoupling, DecouplingError
from .discretization import best_heads
from .split import random_split

__all__ = ["random_cuts", "random_heads"]


def random_cuts(decoupling: Decoupling, *, seed: int) -> Decoupling:
    """Cut elsewhere, into as many blocks, with the head that was learned for each layer.

    Args:
        decoupling: What a search found.
        seed: The run's seed; the same seed gives the same cuts.

    Returns:
        Only cuts and heads: what was learned for other numbers of blocks is not random.

    Raises:
        DecouplingError: It does not say which head is best after each layer.
    """
    beta, pool = decoupling.beta, decoupling.pool
    if not beta or not pool or len(beta) != decoupling.layers - 1:
        raise DecouplingError(
            f"this decoupling of {decoupling.network!r} has {_count(beta)} rows of beta and "
            f"{_count(pool)} heads in its pool; random cuts need the learned head of each of "
            f"{decoupling.layers - 1} layers, so take the decoupling.json of a search"
        )
    cuts = random_split(decoupling.layers, decoupling.blocks, seed=derive(seed, "random cuts"))
    best = best_heads(beta)
    heads = tuple(pool[best[cut - 1]] for cut in cuts)
    return Decoupling(decoupling.network, decoupling.layers, cuts, heads)


def random_heads(
    decoupling: Decoupling, pool: Sequence[HeadSpec] | None = None, *, seed: int
) -> Decoupling:
    """Keep the cuts, and draw the head of each from the pool.

    Args:
        decoupling: What a search found, or what was published.
        pool: The heads to draw from; those that the search chose from if None.
        seed: The run's seed; the same seed gives the same heads.

    Returns:
        Only cuts and heads: what was learned for other numbers of blocks is not random.

    Raises:
        DecouplingError: There is no pool.
    """
    pool = pool if pool is not None else decoupling.pool
    if not pool:
        raise DecouplingError(
            f"there is no pool of heads to draw from: this decoupling of {decoupling.network!r} "
            "names none; give one, such as aux1, aux2, aux3, aux4"
        )
    numbers = random.Random(derive(seed, "random heads", decoupling.layers, decoupling.blocks))
    heads = tuple(pool[numbers.randrange(len(pool))] for _ in decoupling.cuts)
    return Decoupling(decoupling.network, decoupling.layers, decoupling.cuts, heads)


def _count(values: Sequence[object] | None) -> int:
    return len(values or ())
