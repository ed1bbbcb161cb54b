"""Gradients of generated weights, summed over an epoch in which nothing learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ...models.mode import evaluating
from ...models.superweight import Key, SuperWeightEnsemble
from ..exchange import Exchange

__all__ = ["all_weight_gradients", "coefficient_contributions", "weight_gradients"]

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
Criterion = Callable[[Tensor, Tensor], Tensor]


def weight_gradients(
    ensemble: SuperWeightEnsemble,
    batches: Batches,
    criterion: Criterion,
    *,
    members: Sequence[int] | None = None,
) -> dict[Key, Tensor]:
    """Sum the gradients of each generated weight over an epoch.

    In evaluation mode: norms use their running statistics, as in the paper's public code. No
    parameter's ``grad`` changes.

    Args:
        ensemble: The members.
        batches: Called once for each member: an epoch of inputs and labels.
        criterion: From logits and labels to a loss.
        members: Which of them; by default all.

    Raises:
        ValueError: There is no batch.
    """
    found: dict[Key, Tensor] = {}
    for member in range(len(ensemble.members)) if members is None else members:
        module, count = ensemble.members[member], 0
        held = ensemble.held(member, flow=False)
        with evaluating(module), torch.enable_grad(), held as weights:
            for x, y in batches():
                criterion(module(x), y).backward(inputs=list(weights.values()))
                count += 1
        if not count:
            raise ValueError("similarities need at least one batch of gradients; there was none")
        for name, weight in weights.items():
            gradient = weight.grad
            found[member, name] = torch.zeros_like(weight) if gradient is None else gradient
    return found


def all_weight_gradients(
    ensemble: SuperWeightEnsemble,
    batches: Batches,
    criterion: Criterion,
    *,
    owners: Mapping[int, int],
    exchange: Exchange,
) -> dict[Key, Tensor]:
    """Do so for members that are divided among ranks; every rank gets the gradients of all.

    Args:
        ensemble: The members; all ranks have all.
        batches: An epoch of inputs and labels.
        criterion: From logits and labels to a loss.
        owners: The rank of each member that takes part.
        exchange: The ranks.
    """
    own = [member for member, rank in owners.items() if rank == exchange.rank]
    found = weight_gradients(ensemble, batches, criterion, members=own)
    if exchange.size == 1:
        return found
    everything: dict[Key, Tensor] = {}
    device = next(ensemble.parameters()).device
    for member, rank in sorted(owners.items()):
        uses = ensemble.superweights.recipes[member].uses
        mine = [
            found[use.key].cpu() if use.key in found else torch.empty(use.shape) for use in uses
        ]
        got = exchange.share(mine, source=rank)
        everything |= {use.key: one.to(device) for use, one in zip(uses, got, strict=True)}
    return everything


def coefficient_contributions(
    ensemble: SuperWeightEnsemble, gradients: Mapping[Key, Tensor]
) -> dict[Key, dict[str, Tensor]]:
    """Return what each weight contributes to the gradient of its coefficients, slot by slot.

    Nothing learned in between, so the sum over an epoch follows from the summed gradients.

    Args:
        ensemble: The members.
        gradients: What :func:`weight_gradients` returned, of whole members.
    """
    store = ensemble.superweights
    found: dict[Key, dict[str, Tensor]] = {}
    for member in sorted({member for member, _ in gradients}):
        own = [gradients[use.key] for use in store.recipes[member].uses]
        found |= store.coefficient_gradients(member, own)
    return found
