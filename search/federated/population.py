"""The clients of a federation: which chunk each is in, and who takes part in a round.

Whatever is drawn is a function of the seed and the round alone, so every process knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.partitioned import check_proportions, exact_sizes
from ...pipeline.seed import generator

__all__ = ["Attendance", "Client", "Population", "assign_chunks"]


@dataclass(frozen=True, eq=False)
class Client:
    """One client.

    Attributes:
        number: From 0.
        chunk: k, from 1; it learns partitions k and later.
        indices: int64 (n,), its examples.
    """

    number: int
    chunk: int
    indices: Tensor


@dataclass(frozen=True)
class Attendance:
    """Who takes part in a round.

    Attributes:
        drawn: The numbers of the clients that were sent the model, ascending.
        answering: Those of them whose update arrived.
    """

    drawn: tuple[int, ...]
    answering: tuple[int, ...]


def assign_chunks(clients: int, shares: Sequence[float], *, exactly: bool, seed: int) -> list[int]:
    """Give each client a chunk, from 1.

    Args:
        clients: Their number.
        shares: Of each chunk; they sum to one.
        exactly: Whether as many clients are in each chunk as its share says, rounded; else each
            draws its chunk, as in the paper.
        seed: The run's seed.

    Raises:
        ValueError: The shares are impossible, or a chunk has no client.
    """
    shares = check_proportions(shares, of="chunks")
    chance = generator(seed, "clients")
    if exactly:
        ordered = [k for k, n in enumerate(exact_sizes(clients, shares), start=1) for _ in range(n)]
        chunks = [ordered[place] for place in torch.randperm(clients, generator=chance).tolist()]
    else:
        weights = torch.tensor(shares, dtype=torch.float64)
        drawn = torch.multinomial(weights, clients, replacement=True, generator=chance)
        chunks = (drawn + 1).tolist()
    for number, share in enumerate(shares, start=1):
        if number not in chunks:
            raise ValueError(
                f"chunk {number} of {len(shares)} has none of {clients} clients: its share is "
                f"{share:g}; take more clients, fewer chunks or a larger share"
                + ("" if exactly else ", or let the chunks follow the shares exactly")
            )
    return chunks


class Population:
    """All clients.

    Args:
        dealt: The examples of each, as :mod:`.skew` gives them out.
        chunks: The chunk of each.
        per_round: How many are drawn for a round; None: all.
        unreachable: The chance that a client that was drawn does not answer.
        seed: The run's seed.

    Raises:
        ValueError: More are to be drawn than there are.
    """

    def __init__(
        self,
        dealt: Sequence[Tensor],
        chunks: Sequence[int],
        *,
        per_round: int | None = None,
        unreachable: float = 0.0,
        seed: int,
    ) -> None:
        self.clients = [
            Client(number, chunk, indices)
            for number, (indices, chunk) in enumerate(zip(dealt, chunks, strict=True))
        ]
        self.per_round = len(self.clients) if per_round is None else per_round
        if not 1 <= self.per_round <= len(self.clients):
            raise ValueError(
                f"{self.per_round} clients per round, but there are {len(self.clients)}; give 1 to "
                f"{len(self.clients)}"
            )
        self._unreachable = unreachable
        self._seed = seed

    def __len__(self) -> int:
        """How many there are."""
        return len(self.clients)

    def counts(self, chunks: int) -> list[int]:
        """Return how many clients are in each of so many chunks."""
        own = [client.chunk for client in self.clients]
        return [own.count(number) for number in range(1, chunks + 1)]

    def attendance(self, number: int) -> Attendance:
        """Draw the clients of a round, from 1, without replacement."""
        chance = generator(self._seed, "round", number)
        drawn = torch.randperm(len(self), generator=chance)[: self.per_round].sort().values
        luck = torch.rand(len(drawn), generator=chance, dtype=torch.float64)
        answering = drawn[luck >= self._unreachable]
        return Attendance(tuple(drawn.tolist()), tuple(answering.tolist()))
