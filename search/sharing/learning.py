"""The staged algorithm in one process: search clusters, begin again, separate coefficients.

1. ensemble = first_ensemble(make(), budget)       depth bins, one set of coefficients each
   train it for some epochs
2. division = learn_clusters(ensemble, batches, criterion, budget)
3. ensemble = superweights(make(), budget, sharing=division.sharing)   everything is new, and
   the budget is filled again; train it for some epochs
4. separate_coefficients(ensemble, optimizer, batches, criterion), and train on
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ...models import Network
from ...models.superweight import (
    Sharing,
    SuperWeightEnsemble,
    carry_over,
    parse_budget,
    superweights,
)
from .division import Division, divide_coefficients, divide_within, representatives
from .gradients import Batches, Criterion, coefficient_contributions, weight_gradients

__all__ = ["first_ensemble", "learn_clusters", "learners", "separate_coefficients"]


def first_ensemble(
    members: Sequence[nn.Module] | Sequence[Network],
    budget: int | float | str,
    *,
    clusters: int = 4,
    nesting: str = "chain",
    linear: bool = False,
    initialization: str = "fan_in",
) -> SuperWeightEnsemble:
    """Make the ensemble that the search of clusters trains.

    Args:
        members: All members; only :func:`learners` of the result need training.
        budget: Weights of the templates.
        clusters: How many bins of depth there are at first.
        nesting: ``chain`` or ``union``.
        linear: Whether linear layers share too.
        initialization: ``fan_in`` or ``official``.

    Raises:
        BudgetError: The budget is too small for these clusters.
    """
    return superweights(
        members,
        budget,
        clusters=clusters,
        own_coefficients=False,
        nesting=nesting,
        linear=linear,
        initialization=initialization,
    )


def learners(ensemble: SuperWeightEnsemble) -> list[int]:
    """Return the members that the search of clusters trains: one of each depth or kind."""
    return sorted(set(representatives(ensemble.superweights.uses).values()))


def learn_clusters(
    ensemble: SuperWeightEnsemble,
    batches: Batches,
    criterion: Criterion,
    budget: int | float | str,
    *,
    tau: float = 0.1,
    groups: int | None = None,
    join: str = "all",
) -> Division:
    """Divide the clusters of a trained first ensemble by the gradients of an epoch.

    Args:
        ensemble: Trained for some epochs.
        batches: An epoch of inputs and labels.
        criterion: From logits and labels to a loss.
        budget: Weights of the templates; tau is lowered while the clusters need more.
        tau: Weights with a cluster similarity above it stay together.
        groups: The most clusters that one becomes.
        join: ``all`` or ``first``; see :func:`divide_clusters`.

    Raises:
        BudgetError: Even the clusters of before need more than the budget.
    """
    store = ensemble.superweights
    gradients = weight_gradients(ensemble, batches, criterion, members=learners(ensemble))
    weights = parse_budget(budget, sum(use.numel for use in store.uses))
    return divide_within(
        store.sharing, store.uses, gradients, weights, tau=tau, groups=groups, join=join
    )


def separate_coefficients(
    ensemble: SuperWeightEnsemble,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    criterion: Criterion,
    *,
    beta: float = 0.9,
    groups: int | None = None,
) -> Sharing:
    """Give weights coefficients of their own where their gradients by these disagree.

    The new ones begin as copies, so no output changes, and the optimizer goes on with them.

    Args:
        ensemble: In training, with shared coefficients.
        optimizer: Of its parameters.
        batches: An epoch of inputs and labels.
        criterion: From logits and labels to a loss.
        beta: Weights with a coefficient similarity above it go on sharing.
        groups: The most groups that one becomes.

    Returns:
        The sharing that the ensemble has now.
    """
    store = ensemble.superweights
    gradients = weight_gradients(ensemble, batches, criterion)
    contributions = coefficient_contributions(ensemble, gradients)
    sharing = divide_coefficients(
        store.sharing, store.uses, contributions, beta=beta, groups=groups
    )
    carry_over(optimizer, store.regroup(sharing))
    return store.sharing
