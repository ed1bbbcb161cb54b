"""Training examples in chunks D_1 .. D_C, drawn once, and the batches of every step.

    order   [ chunk 1 | chunk 2 | ... | chunk C ]       a permutation of the examples
              <---- D_1..2 ---->

Whatever is drawn is a function of the seed and the step alone, so any process can say what another
one draws.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from ...models.partitioned import check_proportions, exact_sizes
from ...pipeline.seed import derive, generator

__all__ = ["Chunks", "Draw"]


@dataclass(frozen=True, eq=False)
class Draw:
    """What one update learns from.

    Attributes:
        number: k: of the partition that learns, or of the chunk that judges subnetwork k - 1.
        indices: int64 (B,), the examples.
    """

    number: int
    indices: Tensor


class Chunks:
    """The chunks of a training.

    Args:
        count: Number of examples.
        proportions: The share of each chunk; they sum to one.
        seed: The run's seed.

    Raises:
        ValueError: The proportions are impossible, or a chunk is empty.
    """

    def __init__(self, count: int, proportions: Sequence[float], *, seed: int) -> None:
        self.proportions = check_proportions(proportions, of="chunks")
        self.sizes = exact_sizes(count, self.proportions)
        for number, size in enumerate(self.sizes, start=1):
            if not size:
                raise ValueError(
                    f"chunk {number} of {len(self.sizes)} has no examples: a share of "
                    f"{self.proportions[number - 1]:g} of {count}; take fewer chunks or a larger "
                    "share"
                )
        self._seed = seed
        self._ends = list(accumulate(self.sizes))
        self._order = torch.randperm(count, generator=generator(seed, "chunks"))
        self._rising = list(accumulate(self.proportions))

    def __len__(self) -> int:
        """The number of chunks, C."""
        return len(self.sizes)

    def of(self, number: int) -> Tensor:
        """Return the examples of a chunk, from 1: int64 (n,)."""
        end = self._ends[number - 1]
        return self._order[end - self.sizes[number - 1] : end]

    def up_to(self, number: int) -> Tensor:
        """Return the examples of chunks 1 to ``number``: int64 (n,)."""
        return self._order[: self._ends[number - 1]]

    def draw(self, step: int, batch_size: int) -> Draw:
        """Draw a partition by its chunk's share, and a batch of chunks 1..k, with replacement.

        Args:
            step: Of the training, from 1.
            batch_size: Of the batch.
        """
        chance = generator(self._seed, "partition", step)
        number = self._pick(self._rising, chance)
        return Draw(number, _sample(self.up_to(number), batch_size, chance))

    def draw_first(self, step: int, batch_size: int) -> Draw:
        """Draw a batch of chunk 1, for a network that is not partitioned."""
        return Draw(1, _sample(self.of(1), batch_size, generator(self._seed, "partition", step)))

    def draw_any(self, step: int, batch_size: int) -> Draw:
        """Draw a batch of all chunks, for a network that is not partitioned."""
        pool = self.up_to(len(self))
        return Draw(1, _sample(pool, batch_size, generator(self._seed, "partition", step)))

    def draw_judge(self, step: int, batch_size: int | None) -> Draw:
        """Draw a chunk k, at least 2, by its share, and a batch of it, with replacement.

        Args:
            step: Of the training, from 1.
            batch_size: Of the batch; None: the whole chunk.

        Raises:
            ValueError: There is one chunk alone.
        """
        if len(self) < 2:
            raise ValueError("one chunk alone judges nothing; give at least two chunks")
        chance = generator(self._seed, "judge", step)
        number = self._pick_judge(chance)
        chunk = self.of(number)
        return Draw(number, chunk if batch_size is None else _sample(chunk, batch_size, chance))

    def number(self, step: int) -> int:
        """Return which partition learns in a step, without drawing its batch."""
        return self._pick(self._rising, generator(self._seed, "partition", step))

    def judge_number(self, step: int) -> int:
        """Return which chunk judges in a step, without drawing its batch; there are at least 2."""
        return self._pick_judge(generator(self._seed, "judge", step))

    def check_classes(self, labels: Tensor, classes: int) -> None:
        """Refuse classes that cannot be learned.

        Args:
            labels: int64 (N,), of all examples.
            classes: Their number.

        Raises:
            ValueError: A class has no example.
        """
        counts = labels.cpu().bincount(minlength=classes)
        if missing := (counts == 0).nonzero().flatten().tolist():
            raise ValueError(
                f"class {missing[0]} ({len(missing)} of {classes} in all) has no example among "
                f"{len(labels)}; take more examples, or fewer classes"
            )

    def fingerprint(self) -> int:
        """Return a number that differs where the chunks differ."""
        return derive(self._seed, len(self._order), *self.sizes)

    def _pick_judge(self, chance: torch.Generator) -> int:
        first = self.proportions[0]
        return self._pick([end - first for end in self._rising[1:]], chance) + 1

    @staticmethod
    def _pick(rising: Sequence[float], chance: torch.Generator) -> int:
        """Return a number from 1 by shares that are summed up."""
        share = torch.rand((), generator=chance, dtype=torch.float64).item() * rising[-1]
        return min(bisect_right(rising, share), len(rising) - 1) + 1

    def passes(self, number: int, batch_size: int) -> Iterator[Tensor]:
        """Yield the examples of a chunk once, in order, in batches."""
        yield from self.of(number).split(batch_size)


def _sample(pool: Tensor, count: int, chance: torch.Generator) -> Tensor:
    return pool[torch.randint(len(pool), (count,), generator=chance)]
