"""Coefficients that became identical: members that no longer differ."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch

from .recipe import coefficient_rows
from .store import SuperWeights
from .use import Key, by_key

__all__ = ["identical_uses"]


@torch.no_grad()
def identical_uses(store: SuperWeights, *, tolerance: float = 1e-6) -> list[tuple[Key, Key]]:
    """Return pairs of uses with coefficients of their own whose weights differ by a factor only.

    Args:
        store: Templates and coefficients. Slots with one template are passed over: there all
            weights differ by a factor only, which the allocation remarks.
        tolerance: How far from 1 the cosine of two rows may be, up to its sign.
    """
    known, rows = by_key(store.uses), coefficient_rows(store.sharing, store.uses)
    alike = {}
    for name, coefficients in store.coefficients.items():
        if coefficients.shape[1] > 1:
            unit = torch.nn.functional.normalize(coefficients.double(), dim=1)
            alike[name] = ((unit @ unit.T).abs() >= 1 - tolerance).tolist()

    def same(one: Key, other: Key, cluster: int) -> bool:
        tested = [
            alike[name][rows[name][one]][rows[name][other]]
            for name in alike
            if name.startswith(f"{cluster}_") and one in rows[name] and other in rows[name]
        ]
        return bool(tested) and all(tested)

    def pairs() -> Iterator[tuple[Key, Key]]:
        for number, cluster in enumerate(store.sharing.clusters):
            for first, second in combinations(cluster, 2):
                one, other = first[0], second[0]
                if known[one].shape == known[other].shape and same(one, other, number):
                    yield one, other

    return list(pairs())
