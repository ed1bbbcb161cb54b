"""What members cost, and what every subset of them achieves for it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ...models.ensembles import best_by_cost, scores, subsets
from ...models.ensembles.trainable import Trainable
from ...models.mode import evaluating

__all__ = ["anytime_curve", "member_flops", "member_latencies"]


def member_flops(ensemble: Trainable, x: Tensor) -> list[int]:
    """Count the floating-point operations of each member for one example.

    Generating weights is not counted: it is done once for all examples. Members of a BatchEnsemble
    are counted as a share of the pass that all take together.

    Args:
        ensemble: The members.
        x: Inputs (B, ...); the count is divided by B.
    """
    found = []
    for member in range(ensemble.count):
        with evaluating(ensemble.module), torch.no_grad(), ensemble.ready(member) as classify:
            with FlopCounterMode(display=False) as counter:
                classify(x)
            found.append(counter.get_total_flops() / len(x))
    shared = ensemble.joint and hasattr(ensemble.module, "count")
    return [round(one / (ensemble.count if shared else 1)) for one in found]


def member_latencies(ensemble: Trainable, x: Tensor, repeats: int) -> list[float]:
    """Time each member in turn; the median of the passes, in seconds per example.

    Args:
        ensemble: The members.
        x: Inputs (B, ...), on the device.
        repeats: Timed passes of each, after as many that are not timed.
    """
    found = []
    for member in range(ensemble.count):
        with evaluating(ensemble.module), torch.no_grad(), ensemble.ready(member) as classify:
            times = [_seconds(classify, x) for _ in range(2 * repeats)][repeats:]
        found.append(statistics.median(times) / len(x))
    shared = ensemble.joint and hasattr(ensemble.module, "count")
    return [one / (ensemble.count if shared else 1) for one in found]


def anytime_curve(
    ensemble: Trainable, logits: Tensor, labels: Tensor, costs: Sequence[float]
) -> dict[str, Any]:
    """Return every subset of the members by its cost, and those that no cheaper one equals.

    Args:
        ensemble: The members. Where none can do without the others, there is one subset.
        logits: (members, N, classes).
        labels: (N,).
        costs: Of each member.
    """
    if not ensemble.divisible:
        whole = {"members": list(range(len(logits))), "cost": sum(costs)}
        point = {**whole, **scores(logits, labels)}
        return {"subsets": [point], "best": [point]}
    found = subsets(logits, labels, costs)
    return {
        "subsets": [asdict(one) for one in found],
        "best": [asdict(one) for one in best_by_cost(found)],
    }


def _seconds(classify: Any, x: Tensor) -> float:
    begin = time.perf_counter()
    classify(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - begin
