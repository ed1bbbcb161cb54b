"""How many templates each slot of each cluster gets from a budget.

The budget counts weights of templates; a slot needs at least one. ``allocate`` refuses budgets
that do not suffice and says what is less good than a user might think; it is never exceeded.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .knapsack import best_levels
from .sharing import Sharing
from .use import Key, Use, by_key

__all__ = [
    "ALLOCATORS",
    "CAP",
    "Allocation",
    "BudgetError",
    "Demand",
    "allocate",
    "best",
    "demands",
    "greedy",
    "minimum",
]

CAP = 8
"""The most templates of a slot in the public code of SuperWeights and ShapeShifter networks."""

MOST = 16
"""How many times the members' own size a budget may be at most."""

FULL = 0.97
"""A budget of which a smaller share is used is reported."""


class BudgetError(ValueError):
    """A budget that no set of templates fits: too small, and it says the minimum, or absurd."""


@dataclass(frozen=True)
class Demand:
    """A slot that needs templates.

    Attributes:
        cluster: Its cluster, from 0.
        slot: Its number in the cluster, from 0.
        size: Weights of one template.
        uses: The weights that contain it.
    """

    cluster: int
    slot: int
    size: int
    uses: tuple[Key, ...]

    def __str__(self) -> str:
        return f"slot {self.slot} of cluster {self.cluster}"


@dataclass(frozen=True)
class Allocation:
    """The number of templates of every slot.

    Attributes:
        counts: By cluster and slot.
        budget: Weights that templates may have.
        templates: Weights that they have; never more than the budget.
        remarks: What a user should know: slots where members differ by a factor only, and a budget
            that cannot be used up.
    """

    counts: tuple[tuple[int, ...], ...]
    budget: int
    templates: int
    remarks: tuple[str, ...] = ()


def demands(sharing: Sharing, uses: Sequence[Use]) -> list[Demand]:
    """Return every slot of a sharing, cluster by cluster."""
    known, found = by_key(uses), []
    for number, (cluster, layout) in enumerate(
        zip(sharing.clusters, sharing.layouts(uses), strict=True)
    ):
        keys = [key for group in cluster for key in group]
        slots = {key: layout.slots(known[key].shape) for key in keys}
        for slot, size in enumerate(layout.sizes):
            users = tuple(key for key in keys if slot in slots[key])
            found.append(Demand(number, slot, size, users))
    return found


def minimum(slots: Sequence[Demand]) -> int:
    """Return the smallest budget: one template in each slot."""
    return sum(slot.size for slot in slots)


def greedy(slots: Sequence[Demand], budget: int, cap: int | None = None) -> list[int]:
    """Give templates round by round, as the public code of the paper does.

    First one to each slot. Round c = 1, 2, ... gives one more to the slots with more than c uses,
    in order, where it fits. A second series of rounds does the same whatever the number of uses.

    Args:
        slots: All slots, in order.
        budget: At least their minimum.
        cap: The most templates of a slot; by default 8.

    Returns:
        The number of templates of each slot.
    """
    cap = CAP if cap is None else cap
    counts, left = [1] * len(slots), budget - minimum(slots)
    for regard_uses in (True, False):
        for round_number in range(1, cap):
            for place, slot in enumerate(slots):
                wanted = len(slot.uses) > round_number or not regard_uses
                # Strictly: the public code leaves at least one weight of the budget.
                if wanted and counts[place] < cap and slot.size < left:
                    counts[place] += 1
                    left -= slot.size
    return counts


def best(slots: Sequence[Demand], budget: int, cap: int | None = None) -> list[int]:
    """Use the budget where it lets the members' weights differ most.

    Maximized is the sum over slots of their generated weights, uses x size, times

    - the share H_n / H_u of what n templates can express of u uses, H being harmonic numbers: the
      share of the energy in the first n of u principal directions if the k-th has 1/k of the first
      one's. The first template serves all uses, the u-th only tells one from the others, and more
      than u add nothing that coefficients could not;
    - plus 1 where the slot serves several members and has two templates or more: with one, they
      would differ by a factor only.

    What is left over, in a budget above the members' own size, is given out nevertheless: templates
    beyond the number of uses count for a thousandth.

    It is a knapsack, solved by dynamic programming over the budget in steps of at most a 20,000th,
    and the remainder is filled one template after the other.

    Args:
        slots: All slots, in order.
        budget: At least their minimum.
        cap: The most templates of a slot; by default as many as it has uses, and for a budget
            above the members' own size in proportion more.

    Returns:
        The number of templates of each slot.
    """
    own = sum(slot.size * len(slot.uses) for slot in slots)
    surplus = max(1, math.ceil(budget / own))
    limits = [len(slot.uses) * surplus for slot in slots]
    if cap is not None:
        limits = [min(cap, len(slot.uses) * MOST) for slot in slots]
    sizes = [slot.size for slot in slots]
    values = [_values(slot, limit) for slot, limit in zip(slots, limits, strict=True)]
    return best_levels(sizes, values, budget)


def _values(slot: Demand, limit: int) -> list[float]:
    """Return the value of 1, 2, ... templates of a slot."""
    uses, found, share = len(slot.uses), [], 0.0
    whole = sum(1 / k for k in range(1, uses + 1))
    shared = len({member for member, _ in slot.uses}) > 1
    for k in range(1, limit + 1):
        share += (1 if k <= uses else 1e-3) / k / whole
        found.append(slot.size * uses * (share + (shared and k > 1)))
    return found


ALLOCATORS: dict[str, Callable[[Sequence[Demand], int, int | None], list[int]]] = {
    "best": best,
    "greedy": greedy,
}


def allocate(
    sharing: Sharing,
    uses: Sequence[Use],
    budget: int,
    *,
    allocator: str = "best",
    cap: int | None = None,
) -> Allocation:
    """Divide a budget among the slots of a sharing.

    Args:
        sharing: The clusters.
        uses: Of all members.
        budget: Weights that the templates may have together.
        allocator: One of ``ALLOCATORS``.
        cap: The most templates of a slot; the default is the allocator's.

    Raises:
        BudgetError: The budget is less than one template in each slot, or more than 16 times what
            the members would have of their own.
        ValueError: The allocator is unknown, or the cap is not positive.
    """
    if allocator not in ALLOCATORS:
        raise ValueError(f"allocator={allocator!r}: valid are {', '.join(ALLOCATORS)}")
    if cap is not None and cap < 1:
        raise ValueError(f"cap={cap}: a slot needs at least one template; give 1 or more, or none")
    slots = demands(sharing, uses)
    least = minimum(slots)
    if budget < least:
        raise BudgetError(
            f"a budget of {budget:,} is too small: {len(sharing.clusters)} clusters need at least "
            f"{least:,}, one template in each slot; give that much, or fewer clusters"
            f"{_smaller(sharing, uses, least)}"
        )
    own = sum(use.numel for use in uses)
    if budget > MOST * own:
        raise BudgetError(
            f"a budget of {budget:,} is more than {MOST} times the {own:,} weights that the "
            "members would have of their own; give less"
        )
    counts = ALLOCATORS[allocator](slots, budget, cap)
    templates = sum(slot.size * count for slot, count in zip(slots, counts, strict=True))
    by_cluster: dict[int, list[int]] = defaultdict(list)
    for slot, count in zip(slots, counts, strict=True):
        by_cluster[slot.cluster].append(count)
    return Allocation(
        tuple(map(tuple, by_cluster.values())),
        budget,
        templates,
        (*_single(slots, counts, uses), *_unused(budget, templates, cap, allocator)),
    )


def _smaller(sharing: Sharing, uses: Sequence[Use], least: int) -> str:
    """Name the other nesting if it needs less."""
    other = minimum(demands(replace(sharing, nesting="union"), uses))
    return f", or nesting=union, which needs {other:,}" if other < least else ""


def _single(slots: Sequence[Demand], counts: Sequence[int], uses: Sequence[Use]) -> list[str]:
    """Name the slots whose one template several members use."""
    poor = [
        slot
        for slot, count in zip(slots, counts, strict=True)
        if count == 1 and len({member for member, _ in slot.uses}) > 1
    ]
    if not poor:
        return []
    alike = sum(slot.size * len(slot.uses) for slot in poor) / sum(use.numel for use in uses)
    return [
        f"{', '.join(map(str, poor[:3]))}{f' and {len(poor) - 3} more' if len(poor) > 3 else ''} "
        f"got one template: {100 * alike:.0f} % of the weights differ between members by a factor "
        "only, which a norm takes away; give a larger budget or fewer clusters"
    ]


def _unused(budget: int, templates: int, cap: int | None, allocator: str) -> list[str]:
    if templates >= FULL * budget:
        return []
    most = cap if cap is not None else CAP if allocator == "greedy" else None
    why = "the next template is too large" if most is None else f"no slot takes more than {most}"
    fix = "more clusters" if most is None else "a larger cap or more clusters"
    return [
        f"the templates have {templates:,} of {budget:,} weights, as {why}; give {fix}, or a "
        "smaller budget"
    ]
