"""The stages of an ensemble's training, and what it learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ...models.ensembles.trainable import Trainable
from ...models.superweight import Sharing

__all__ = ["FIRST", "MAIN", "Make", "Plan", "Source"]

FIRST, MAIN = "first", "main"

Make = Callable[[str, Sharing | None], Trainable]
"""Makes the ensemble of a phase, ``first`` or ``main``, with initial weights, on the CPU."""


class Source(Protocol):
    """Where the examples come from; batches are on the device."""

    def train(self, *, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield training batches without end, from that of step ``start + 1`` on."""
        ...

    def epoch(self, *, start: int) -> Iterable[Tensor]:
        """Return an epoch of shuffled inputs without augmentation, for statistics."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long the stages are, and what decides between them.

    Attributes:
        steps: T, of the main training.
        search_steps: S, of the first ensemble; 0: nothing is learned.
        unshare_step: U, after which coefficients are separated; 0: never.
        similarity_batches: Whose gradients are summed.
        budget: Weights of all templates.
        tau, beta: Thresholds of the two similarities.
        cluster_groups, coefficient_groups: The most groups that one becomes; None: any number.
        join: ``all`` or ``first``; see :mod:`.division`.
        decay_norms: Whether norms decay.
    """

    steps: int
    search_steps: int = 0
    unshare_step: int = 0
    similarity_batches: int = 1
    budget: int = 0
    tau: float = 0.1
    beta: float = 0.9
    cluster_groups: int | None = None
    coefficient_groups: int | None = None
    join: str = "all"
    decay_norms: bool = True
