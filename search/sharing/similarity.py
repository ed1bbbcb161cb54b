"""The two similarities that decide what is shared; both are cosines of gradients.

Cluster similarity (threshold tau) compares the gradients of two generated weights, cropped to the
channels that both have. Coefficient similarity (threshold beta) compares what two weights
contribute to the gradient of the coefficients they share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from ...models.superweight import Key

__all__ = ["cluster_similarities", "coefficient_similarities", "cosine"]


def cosine(one: Tensor, other: Tensor) -> float:
    """Return the cosine of two tensors of one shape, in float64; 0 if one of them is zero."""
    one, other = one.flatten().double(), other.flatten().double()
    norms = one.norm() * other.norm()
    # Rounding must not lead beyond 1: a threshold of 1 separates everything.
    return 0.0 if norms == 0 else max(-1.0, min(1.0, float(one @ other / norms)))


def cluster_similarities(
    gradients: Mapping[Key, Tensor], keys: Sequence[Key]
) -> dict[tuple[Key, Key], float]:
    """Compare the gradients of generated weights, pair by pair.

    Args:
        gradients: By member and name, (out, in, *kernel); of one kernel size.
        keys: The weights to compare.
    """
    return {
        (one, other): cosine(*_common(gradients[one], gradients[other]))
        for one, other in combinations(keys, 2)
    }


def coefficient_similarities(
    contributions: Mapping[Key, Mapping[str, Tensor]], keys: Sequence[Key]
) -> dict[tuple[Key, Key], float]:
    """Compare what weights contribute to the gradient of coefficients that they share.

    Args:
        contributions: By member and name, then by slot, (templates,).
        keys: Weights that share coefficients; only slots that both use are compared.
    """
    found = {}
    for one, other in combinations(keys, 2):
        slots = [slot for slot in contributions[one] if slot in contributions[other]]
        vectors = (torch.cat([contributions[key][slot] for slot in slots]) for key in (one, other))
        found[one, other] = cosine(*vectors) if slots else 0.0
    return found


def _common(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    out, inputs = (min(one.shape[axis], other.shape[axis]) for axis in (0, 1))
    return one[:out, :inputs], other[:out, :inputs]
