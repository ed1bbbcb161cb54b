"""Cuts that make the slowest block as fast as possible: it sets the speed of the pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..models import HeadSpec
from .decoupling import NO_HEAD, Decoupling, DecouplingError
from .jsonfile import shown
from .profile import Profile
from .split import check_blocks

__all__ = ["balanced_cuts", "best_cuts", "predicted"]

Cost = Callable[[int, int], float]
Costs = Mapping[tuple[int, int], float]


def balanced_cuts(
    profile: Profile, blocks: int, head: HeadSpec, *, replays: bool = False
) -> tuple[int, ...]:
    """Choose the cuts with the smallest predicted time of the slowest block.

    No cut is made where the head does not fit. A block without a head, and the last block, get
    something to train.

    Args:
        profile: What the layers and the head cost.
        blocks: How many blocks to make.
        head: The head of each block but the last: one of those in the profile, or ``NO_HEAD``.
        replays: Whether blocks without a head pass each batch twice, as in Features Replay.

    Raises:
        DecouplingError: There are fewer layers than blocks, or no possible cuts.
        ProfileError: The head was not measured.
    """
    check_blocks(profile.layers, blocks)
    feedback = head == NO_HEAD
    index = None if blocks == 1 or feedback else profile.head_index(head)

    def cost(first: int, last: int) -> float:
        if last < profile.layers:
            if index is not None and not profile.fits(last, index):
                return math.inf
            if feedback and not sum(profile.parameters[first - 1 : last]):
                return math.inf
            return profile.block_seconds(first, last, index, feedback=feedback, replays=replays)
        trains = sum(profile.parameters[first - 1 :]) + profile.classifier_parameters > 0
        return profile.block_seconds(first, last, feedback=feedback) if trains else math.inf

    try:
        return best_cuts(profile.layers, blocks, cost)
    except DecouplingError as error:
        if feedback:
            missing, fix = "that leave every block parameters to train", "give fewer blocks"
        else:
            missing = f"after which the head {shown(head)} fits and the last block has parameters"
            missing, fix = f"{missing} to train", "give fewer blocks or another head"
        raise DecouplingError(
            f"blocks={blocks}: {profile.network} has no cuts {missing}; {fix}"
        ) from error


def predicted(
    profile: Profile, cuts: Sequence[int], head: HeadSpec, *, replays: bool = False
) -> list[float]:
    """Return the predicted busy seconds per step of each block.

    Args:
        profile: What the layers and the head cost.
        cuts: Where the network is cut.
        head: The head of each block but the last, or ``NO_HEAD``.
        replays: Whether blocks without a head pass each batch twice, as in Features Replay.

    Raises:
        DecouplingError: The cuts do not fit the layers.
        ProfileError: The head was not measured, or does not fit after a cut.
    """
    cuts = tuple(cuts)
    decoupling = Decoupling(profile.network, profile.layers, cuts, (head,) * len(cuts))
    *others, (first, last) = decoupling.bounds()
    feedback = head == NO_HEAD
    index = None if not others or feedback else profile.head_index(head)
    seconds = [
        profile.block_seconds(*bounds, index, feedback=feedback, replays=replays)
        for bounds in others
    ]
    return [*seconds, profile.block_seconds(first, last, feedback=feedback)]


def best_cuts(layers: int, blocks: int, cost: Cost) -> tuple[int, ...]:
    """Choose the cuts with the smallest largest cost of a block, exactly.

    Among those, the smallest sum of squared costs wins: blocks that could be faster are. Among
    those again, the first in lexicographic order.

    Args:
        layers: How many layers there are.
        blocks: How many blocks to make.
        cost: Of the block from its first to its last layer, from 1; infinite where a block is
            impossible. Called once for each block that may occur.

    Raises:
        DecouplingError: There are fewer layers than blocks, or each choice has an impossible
            block.
        ValueError: A cost is not a number.
    """
    check_blocks(layers, blocks)
    costs = _all_costs(layers, blocks, cost)
    limit = _smallest_maximum(layers, blocks, costs)
    if limit == math.inf:
        raise DecouplingError(f"no cuts of {layers} layers make {blocks} possible blocks")
    return _most_even(layers, blocks, costs, limit)


def _all_costs(layers: int, blocks: int, cost: Cost) -> dict[tuple[int, int], float]:
    costs = {}
    for first in range(1, layers + 1):
        for last in range(first, layers + 1):
            # As many blocks as are asked for must have room in front of it and behind it.
            others = min(first - 1, 1) + min(layers - last, 1)
            room = first - 1 + layers - last
            if others <= blocks - 1 <= room:
                costs[first, last] = cost(first, last)
                if math.isnan(costs[first, last]):
                    raise ValueError(f"the cost of layers {first}-{last} is nan, not a number")
    return costs


def _smallest_maximum(layers: int, blocks: int, costs: Costs) -> float:
    """Return the smallest possible cost of the most expensive block.

    With ``least[l]`` of the best division of layers 1..l into k - 1 blocks, that into k blocks is
    the minimum over the k-th block's first layer f of max(least[f - 1], cost(f, l)).
    """
    least = [-math.inf] + [math.inf] * layers
    for _ in range(blocks):
        least = [math.inf] + [
            min(
                max(least[first - 1], costs.get((first, last), math.inf))
                for first in range(1, last + 1)
            )
            for last in range(1, layers + 1)
        ]
    return least[layers]


def _most_even(layers: int, blocks: int, costs: Costs, limit: float) -> tuple[int, ...]:
    """Return the cuts with the smallest sum of squares among those that stay within ``limit``.

    ``rest[f]`` is that of layers f..L, with the layers that its blocks end with. It is found from
    the end, so that the smallest tuple is the first in lexicographic order.
    """
    rest: dict[int, tuple[float, tuple[int, ...]]] = {layers + 1: (0.0, ())}
    for _ in range(blocks):
        longer = {}
        for first in range(1, layers + 1):
            choices = [
                (
                    costs[first, last] * costs[first, last] + rest[last + 1][0],
                    (last, *rest[last + 1][1]),
                )
                for last in range(first, layers + 1)
                if last + 1 in rest and costs.get((first, last), math.inf) <= limit
            ]
            if choices:
                longer[first] = min(choices)
        rest = longer
    return rest[1][1][:-1]
