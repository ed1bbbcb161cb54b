"""Anytime inference: what every subset of the members costs and achieves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from .metrics import calibration_error, negative_log_likelihood, top1

__all__ = ["Subset", "best_by_cost", "subsets"]

MOST = 16
"""Members of which all subsets, 65,535, are still enumerated."""


@dataclass(frozen=True)
class Subset:
    """Some members as an ensemble of their own.

    Attributes:
        members: Which, from 0, ascending.
        cost: The sum of theirs, in whatever their costs are given.
        top1: Share of examples that are right.
        nll: Mean negative logarithm of the label's probability.
        ece: Expected calibration error.
    """

    members: tuple[int, ...]
    cost: float
    top1: float
    nll: float
    ece: float


def subsets(logits: Tensor, labels: Tensor, costs: Sequence[float]) -> list[Subset]:
    """Return every subset of the members but the empty one, by cost; of equals, smaller first.

    Args:
        logits: (members, B, classes).
        labels: (B,).
        costs: Of each member, e.g. floating-point operations or seconds.

    Raises:
        ValueError: The costs are not those of the members, or there are more than 16 members.
    """
    count = len(logits)
    if len(costs) != count:
        raise ValueError(f"{len(costs)} costs are given for {count} members; give one for each")
    if count > MOST:
        raise ValueError(f"{count} members have too many subsets to enumerate; at most {MOST}")
    logs = logits.double().log_softmax(-1)
    found = []
    for size in range(1, count + 1):
        for members in combinations(range(count), size):
            mean = logs[list(members)].logsumexp(0) - torch.log(torch.tensor(float(size)))
            found.append(
                Subset(
                    members,
                    sum(costs[member] for member in members),
                    top1(mean, labels),
                    negative_log_likelihood(mean, labels),
                    calibration_error(mean.exp(), labels),
                )
            )
    return sorted(found, key=lambda one: (one.cost, len(one.members), one.members))


def best_by_cost(found: Iterable[Subset]) -> list[Subset]:
    """Return the curve of anytime inference: subsets that no cheaper one equals in accuracy."""
    curve: list[Subset] = []
    for subset in sorted(found, key=lambda one: (one.cost, -one.top1, one.members)):
        if not curve or subset.top1 > curve[-1].top1:
            curve.append(subset)
    return curve
