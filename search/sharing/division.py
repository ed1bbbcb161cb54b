"""From similarities to a sharing: dividing clusters by tau, and coefficients by beta."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ...models.superweight import BudgetError, Key, Sharing, Use, demands, minimum
from .assignment import assign_groups
from .similarity import cluster_similarities, coefficient_similarities

__all__ = [
    "JOINS",
    "Division",
    "divide_clusters",
    "divide_coefficients",
    "divide_within",
    "representatives",
]

JOINS = ("all", "first")

STEP = 0.05
"""By how much tau is lowered while the clusters exceed the budget (the paper's public code)."""


@dataclass(frozen=True)
class Division:
    """What dividing clusters led to.

    Attributes:
        sharing: The clusters, each with one set of coefficients.
        tau: The threshold that was used in the end; None if nothing could be divided.
    """

    sharing: Sharing
    tau: float | None


def representatives(uses: Sequence[Use]) -> dict[int, int]:
    """Return for each member the first one with the same layers, be they wider or not.

    Only these are trained to learn clusters; the others copy theirs by position.
    """
    layers: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for use in uses:
        layers[use.member].append((use.name, use.family))
    first: dict[tuple[tuple[str, str], ...], int] = {}
    return {member: first.setdefault(tuple(own), member) for member, own in layers.items()}


def divide_clusters(
    sharing: Sharing,
    uses: Sequence[Use],
    gradients: Mapping[Key, Tensor],
    *,
    tau: float | None = 0.1,
    groups: int | None = None,
    join: str = "all",
) -> Sharing:
    """Divide each cluster into groups of weights whose gradients agree.

    Args:
        sharing: The clusters before, e.g. depth bins.
        uses: Of all members.
        gradients: Of the generated weights of the representatives, over an epoch.
        tau: Weights with a cluster similarity above it stay together.
        groups: The most clusters that one becomes.
        join: ``all``: Algorithm 1 sees the weights of all representatives. ``first``: only those
            of the largest; each weight of another joins the cluster of the one it is most similar
            to, as in the paper's public code.

    Returns:
        The new clusters, all with shared coefficients: training starts with these.

    Raises:
        ValueError: ``join`` is unknown, or a gradient is missing.
    """
    if join not in JOINS:
        raise ValueError(f"join={join!r}: valid are {', '.join(JOINS)}")
    leaders = representatives(uses)
    missing = [use for use in uses if leaders[use.member] == use.member]
    missing = [use for use in missing if use.key not in gradients]
    if missing:
        raise ValueError(f"{missing[0]} has no gradient ({len(missing)} lack one)")
    clusters = []
    for cluster in sharing.clusters:
        keys = [key for group in cluster for key in group]
        for found in _divided(keys, uses, leaders, gradients, tau, groups, join):
            members = {(leader, name) for leader, name in found}
            whole = [key for key in keys if (leaders[key[0]], key[1]) in members]
            clusters.append((tuple(whole),))
    return replace(sharing, clusters=tuple(clusters)).ordered(uses)


def divide_within(
    sharing: Sharing,
    uses: Sequence[Use],
    gradients: Mapping[Key, Tensor],
    budget: int,
    *,
    tau: float = 0.1,
    groups: int | None = None,
    join: str = "all",
) -> Division:
    """Divide clusters as :func:`divide_clusters` does, but lower tau until they fit a budget.

    A lower tau means fewer clusters, and so fewer templates that there must be at least.

    Raises:
        BudgetError: Even the clusters of before need more; it says how much.
    """
    threshold = tau
    while threshold >= -1:
        found = divide_clusters(sharing, uses, gradients, tau=threshold, groups=groups, join=join)
        if minimum(demands(found, uses)) <= budget:
            return Division(found, threshold)
        threshold = round(threshold - STEP, 10)
    least = minimum(demands(sharing, uses))
    if least > budget:
        raise BudgetError(
            f"a budget of {budget:,} is too small: the {len(sharing.clusters)} clusters that the "
            f"search begins with need at least {least:,}; give that much, or begin with fewer"
        )
    return Division(sharing.with_shared_coefficients().ordered(uses), None)


def divide_coefficients(
    sharing: Sharing,
    uses: Sequence[Use],
    contributions: Mapping[Key, Mapping[str, Tensor]],
    *,
    beta: float | None = 0.9,
    groups: int | None = None,
) -> Sharing:
    """Let weights share coefficients only where their gradients by these agree.

    Args:
        sharing: The clusters, whose groups share coefficients.
        uses: Of all members.
        contributions: Of each weight to the gradient of its coefficients, over an epoch.
        beta: Weights with a coefficient similarity above it go on sharing.
        groups: The most groups that one becomes.
    """
    clusters = tuple(
        tuple(
            part
            for group in cluster
            for part in assign_groups(
                group,
                coefficient_similarities(contributions, group),
                threshold=beta,
                groups=groups,
            )
        )
        for cluster in sharing.clusters
    )
    return replace(sharing, clusters=clusters).ordered(uses)


def _divided(
    keys: Sequence[Key],
    uses: Sequence[Use],
    leaders: Mapping[int, int],
    gradients: Mapping[Key, Tensor],
    tau: float | None,
    groups: int | None,
    join: str,
) -> Iterator[tuple[Key, ...]]:
    """Divide the representatives' weights of one cluster."""
    leading = [key for key in keys if leaders[key[0]] == key[0]]
    similarities = cluster_similarities(gradients, leading)
    present = {member for member, _ in leading}
    first = max(present, key=lambda member: (_size(uses, member), -member))
    asked = leading if join == "all" else [key for key in leading if key[0] == first]
    inner = {pair: psi for pair, psi in similarities.items() if set(pair) <= set(asked)}
    found = [list(group) for group in assign_groups(asked, inner, threshold=tau, groups=groups)]
    home = {key: group for group in found for key in group}
    for key in leading:
        if key not in home:
            nearest = max(
                asked,
                key=lambda one: similarities.get((one, key), similarities.get((key, one), 0.0)),
            )
            home[nearest].append(key)
    yield from map(tuple, found)


def _size(uses: Sequence[Use], member: int) -> int:
    return sum(use.numel for use in uses if use.member == member)
