"""Which examples each client has: all alike, or most of a few kinds.

Reddi et al., "Adaptive Federated Optimization" (2021), after Hsu et al. (2019): a client of a fixed
size draws q ~ Dirichlet(alpha * p), p the share of each kind among all examples, and then draws
examples by q without replacement; where a kind is used up, q is normalised again over the others.
The kinds are the classes, or bins of the angles by which the examples were turned.

Who has what belongs to the data, not to the run: it is drawn by a fixed seed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...pipeline.seed import derive, generator

__all__ = ["SEED", "angle_bins", "deal", "deal_alike"]

SEED = 0


def deal(kinds: Tensor, clients: int, *, alpha: float, seed: int = SEED) -> list[Tensor]:
    """Give out examples with skew.

    Args:
        kinds: int64 (N,), the kind of each example, from 0.
        clients: Their number; sizes differ by one at most, and all examples are given out.
        alpha: The smaller, the fewer kinds a client has.
        seed: Of the draw.

    Returns:
        For each client int64 (n,), its examples in ascending order.

    Raises:
        ValueError: There are more clients than examples, or alpha is not positive.
    """
    sizes = _sizes(len(kinds), clients)
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha={alpha}: the Dirichlet distribution needs a number above 0")
    chance = np.random.Generator(np.random.PCG64(derive(seed, "skew")))
    counts = kinds.bincount().numpy()
    pools = [
        chance.permutation(np.flatnonzero(kinds.numpy() == kind)) for kind in range(len(counts))
    ]
    prior = counts / counts.sum()
    taken = np.zeros_like(counts)
    dealt = []
    for size in sizes:
        own = _draw_counts(chance, alpha * prior, counts - taken, size)
        parts = [
            pool[begin : begin + number]
            for pool, begin, number in zip(pools, taken, own, strict=True)
        ]
        taken += own
        dealt.append(torch.from_numpy(np.sort(np.concatenate(parts))))
    return dealt


def deal_alike(count: int, clients: int, *, seed: int = SEED) -> list[Tensor]:
    """Give out examples at random, to every client as many; see :func:`deal`."""
    order = torch.randperm(count, generator=generator(seed, "alike"))
    return [part.sort().values for part in order.split(_sizes(count, clients))]


def angle_bins(angles: Tensor, bins: int) -> Tensor:
    """Return int64 (N,), which of so many equal parts of [-pi, pi) each angle lies in."""
    places = ((angles.double() + math.pi) / (2 * math.pi) * bins).floor().long()
    return places.clamp(0, bins - 1)


def _sizes(count: int, clients: int) -> list[int]:
    if not 1 <= clients <= count:
        raise ValueError(
            f"{clients} clients for {count} examples; each needs at least one, so give 1 to "
            f"{count} clients"
        )
    least, more = divmod(count, clients)
    return [least + (number < more) for number in range(clients)]


def _draw_counts(
    chance: np.random.Generator, concentration: np.ndarray, left: np.ndarray, size: int
) -> np.ndarray:
    """Draw one after the other, and say how many of each kind that made."""
    wanted = np.zeros(len(concentration))
    there = concentration > 0
    wanted[there] = chance.dirichlet(concentration[there])
    own = np.zeros_like(left)
    while (missing := size - own.sum()) > 0:
        wanted[own >= left] = 0.0
        if not wanted.sum() > 0:
            # Everything that the client wanted is used up: it takes what there is.
            wanted = np.where(own < left, left - own, 0).astype(float)
        drawn = chance.choice(len(wanted), size=missing, p=wanted / wanted.sum())
        own += _until_empty(drawn, left - own)
    return own


def _until_empty(drawn: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Count the draws up to the first that finds its kind used up, which is not made."""
    end = len(drawn)
    for kind in np.unique(drawn):
        places = np.flatnonzero(drawn == kind)
        if len(places) > left[kind]:
            end = min(end, places[left[kind]])
    return np.bincount(drawn[:end], minlength=len(left))
