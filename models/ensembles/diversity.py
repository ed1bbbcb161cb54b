"""How different the members' predictions are."""

from __future__ import annotations

import torch
from torch import Tensor

from .metrics import log_probabilities, top1

__all__ = ["disagreement", "diversity"]


def disagreement(logits: Tensor) -> Tensor:
    """Return the share of examples on which each two members predict different classes.

    Args:
        logits: (members, B, classes).

    Returns:
        (members, members) in float64, symmetric, with zeros on its diagonal.
    """
    predicted = logits.argmax(-1)
    return (predicted[:, None] != predicted[None]).double().mean(-1)


def diversity(logits: Tensor, labels: Tensor) -> dict[str, float | None]:
    """Return the disagreement of two members over an error rate, by two denominators.

    Args:
        logits: (members, B, classes).
        labels: (B,).

    Returns:
        ``disagreement``: the mean over pairs. ``by_member``: the mean over ordered pairs of their
        disagreement over the error rate of the second (Fort et al., 2019; the supplement's
        Table 2). ``by_ensemble``: the mean disagreement over the error rate of the whole ensemble
        (the paper's public code). None where there is no pair, or no error to divide by.
    """
    count = len(logits)
    if count < 2:
        return {"disagreement": None, "by_member": None, "by_ensemble": None}
    errors = (logits.argmax(-1) != labels).double().mean(-1)
    apart = disagreement(logits)
    mean = float(apart.sum() / (count * (count - 1)))
    others = ~torch.eye(count, dtype=torch.bool, device=logits.device)
    by_member = float((apart / errors)[others].mean()) if bool((errors > 0).all()) else None
    error = 1 - top1(log_probabilities(logits), labels)
    return {
        "disagreement": mean,
        "by_member": by_member,
        "by_ensemble": mean / error if error > 0 else None,
    }
