"""Gradients of generated weights, summed over an epoch in which nothing learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ...models.mode import evaluating
from ...models.superweight import Key, SuperWeightEnsemble

__all__ = ["coefficient_contributions", "weight_gradients"]

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
