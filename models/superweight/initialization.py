"""Initial templates and coefficients."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn

from .recipe import coefficient_rows
from .store import SuperWeights
from .use import Use, by_key

__all__ = ["INITIALIZATIONS", "initialize_superweights"]

INITIALIZATIONS = ("fan_in", "official")


@torch.no_grad()
def initialize_superweights(store: SuperWeights, initialization: str = "fan_in") -> None:
    """Draw new templates and coefficients from torch's generator.

    ``fan_in``: templates are normal with the deviation that Kaiming's rule gives to the cluster's
    most common layer, coefficients are orthogonal directions, as long as makes every layer begin
    with the deviation of its own fan-in. ``official``: what the paper's public code does, templates
    as if every fan-in were 9, and coefficients orthonormal where there are enough templates; only
    norms make up for it.

    Args:
        store: All its parameters are set.
        initialization: One of ``INITIALIZATIONS``.

    Raises:
        ValueError: There is no such initialization.
    """
    if initialization not in INITIALIZATIONS:
        raise ValueError(
            f"initialization={initialization!r}: valid are {', '.join(INITIALIZATIONS)}"
        )
    known = by_key(store.uses)
    rows = coefficient_rows(store.sharing, store.uses)
    for name, templates in store.templates.items():
        coefficients = store.coefficients[name]
        if templates.is_meta:
            continue
        cluster = store.sharing.clusters[int(name.partition("_")[0])]
        common = _deviation([known[key] for group in cluster for key in group])
        templates.normal_(0.0, math.sqrt(2 / 9) if initialization == "official" else common)
        nn.init.orthogonal_(coefficients)
        if initialization == "official":
            continue
        groups: dict[int, list[Use]] = {}
        for key, row in rows[name].items():
            groups.setdefault(row, []).append(known[key])
        for row, group in groups.items():
            coefficients[row] *= _deviation(group) / common / coefficients[row].norm()


def _deviation(uses: Sequence[Use]) -> float:
    """Return Kaiming's deviation for the fan-in that most of the uses have; of two, the first."""
    ((fan_in, _),) = Counter(use.fan_in for use in uses).most_common(1)
    return math.sqrt(2 / fan_in)
