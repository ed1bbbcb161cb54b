"""A federation, simulated: rounds of drawn clients, and the server between them.

    round n, on every rank alike:
      [1] the clients of the round are drawn, and some of them do not answer
      [2] each rank computes the updates of its share of those that do
      [3] client by client, in the order of their numbers, the update goes to all ranks, which add
          it up and make the same step of the server

What a client learns depends on the seed, the round and its number, and the sum has one order, so
any number of ranks gives the same bits, at equal threads per process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ...models.mode import evaluating
from ...models.partitioned import PartitionedModule
from ...pipeline.optimization import OptimizationConfig
from ...pipeline.seed import derive, set_seed
from ..exchange import ALONE, Exchange
from ..partitioned.examples import Examples
from ..partitioned.learner import Criterion
from ..partitioned.numbers import readable_numbers
from ..partitioned.training import DivergedError
from .local import LocalTraining
from .population import Client, Population
from .server import Server
from .settings import FederationSettings
from .traffic import Traffic
from .update import Means, Update

__all__ = ["FederatedTraining", "Round", "share_work"]

SHORT = 16
"""Hyperparameters of up to so many numbers are told as they are, larger ones by their norm."""

REMEMBERED = 4
"""Rounds whose hyperparameters are told when one runs away."""


@dataclass(frozen=True)
class Round:
    """What a round did.

    Attributes:
        number: From 1.
        drawn: How many clients were sent the model.
        answering: How many sent an update.
        loss: The mean loss of the whole network while clients learned; None if none answered.
        judged: The mean loss that judged the hyperparameters; None if none did.
        bytes_up, bytes_down: Of all its clients.
    """

    number: int
    drawn: int
    answering: int
    loss: float | None
    judged: float | None
    bytes_up: int
    bytes_down: int


class FederatedTraining:
    """Trains a network whose examples lie with clients.

    Args:
        model: The network, on its device; with one partition it is plain federated averaging.
        examples: Of all clients.
        population: The clients.
        settings: How it learns.
        weights: How clients learn; the schedule's steps are rounds.
        plain: Bytes of the weights of the network that is not partitioned.
        seed: The run's seed.
        criterion: The loss; by default cross-entropy.
        judge: The loss that the hyperparameters lower; None: the same.
        exchange: The ranks that share the clients.

    Attributes:
        round: Rounds done so far.

    Raises:
        ValueError: The network has running statistics, or not as many partitions as there are
            chunks.
    """

    def __init__(
        self,
        model: PartitionedModule,
        examples: Examples,
        population: Population,
        *,
        settings: FederationSettings,
        weights: OptimizationConfig,
        plain: int,
        seed: int,
        criterion: Criterion = F.cross_entropy,
        judge: Criterion | None = None,
        exchange: Exchange = ALONE,
    ) -> None:
        _check(model, population)
        self.model = model
        self.round = 0
        self._population = population
        self._settings = settings
        self._seed = seed
        self._exchange = exchange
        self._device = next(model.parameters()).device
        self._local = LocalTraining(
            model,
            examples,
            weights=weights,
            epochs=settings.epochs,
            psi_batch=settings.psi_batch,
            from_first=settings.method == "augerino",
            criterion=criterion,
            judge=judge,
            seed=seed,
        )
        self._server = Server(model, settings)
        judging = [self._local.judges(chunk) for chunk in range(1, len(model) + 1)]
        self.traffic = Traffic.of(model, plain=plain, judging=judging)
        self._past: list[dict[str, list[float]]] = []
        model.train()

    def advance(self) -> Round:
        """Do the next round.

        Raises:
            NonFiniteLossError: A client's loss is not finite; it is named.
            DivergedError: A hyperparameter ran away.
        """
        number = self.round + 1
        attendance = self._population.attendance(number)
        clients = [self._population.clients[one] for one in attendance.answering]
        means = self._collect(clients, number)
        self._server.apply(means.deltas(), means.psi())
        self.round = number
        self._check_psi()
        return Round(
            number,
            len(attendance.drawn),
            len(clients),
            means.loss,
            means.judged,
            bytes_up=sum(self.traffic.up(client.chunk) for client in clients),
            bytes_down=len(attendance.drawn) * self.traffic.down,
        )

    def _collect(self, clients: Sequence[Client], number: int) -> Means:
        """Compute this rank's updates; then add up everybody's, in the order of the clients."""
        size, rank = self._exchange.size, self._exchange.rank
        chunks = len(self.model)
        owners = share_work(clients, chunks=chunks, ranks=size)
        own = {
            client.number: self._local.update(client, number)
            for client, owner in zip(clients, owners, strict=True)
            if owner == rank
        }
        means = Means()
        for client, owner in zip(clients, owners, strict=True):
            update = own.pop(client.number, None)
            if update is None:
                judges = self._local.judges(client.chunk)
                update = Update.empty(self.model, client.chunk, judges=judges)
            shared = self._exchange.share(update.tensors(), source=owner)
            means.add(Update.read(shared, update))
        return means

    def psi(self) -> dict[str, list[float]]:
        """Return each hyperparameter's numbers, or its norm where there are many."""
        return readable_numbers(self.model.hyperparameters(), short=SHORT)

    @torch.no_grad()
    def evaluate(
        self, examples: Examples, *, batch_size: int = 500, purpose: str = "evaluate"
    ) -> tuple[float, float]:
        """Return the mean loss and the accuracy of the whole network; the ranks share the batches.

        Args:
            examples: What to evaluate on.
            batch_size: Of the evaluation; what is random in it depends on it.
            purpose: Of what is random.
        """
        size, rank = self._exchange.size, self._exchange.rank
        parts = torch.arange(len(examples)).split(batch_size)
        found = torch.zeros(len(parts), 2, dtype=torch.float64)
        with evaluating(self.model):
            for place in range(rank, len(parts), size):
                x, y = examples.batch(parts[place], None)
                set_seed(derive(self._seed, purpose, place), self._device)
                logits = self.model(x, learning=()).float()
                found[place, 0] = F.cross_entropy(logits, y, reduction="sum").double().item()
                found[place, 1] = (logits.argmax(1) == y).sum().item()
        for source in range(size):
            (theirs,) = self._exchange.share([found], source=source)
            found[source::size] = theirs[source::size]
        loss, right = (found.sum(0) / len(examples)).tolist()
        return loss, right

    def state_dict(self) -> dict[str, Any]:
        """Return all that a training needs to go on bit for bit; tensors are not copied."""
        return {
            "round": self.round,
            "model": self.model.state_dict(),
            "server": self._server.state_dict(),
            "past": self._past,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called."""
        self.model.load_state_dict(state["model"])
        self._server.load_state_dict(state["server"])
        self.round = state["round"]
        self._past = list(state["past"])

    def _check_psi(self) -> None:
        limit = self._settings.psi_limit
        self._past = [*self._past, self.psi()][-REMEMBERED:]
        for name, value in self.model.hyperparameters().items():
            largest = value.detach().abs().max().item()
            if not largest <= limit:
                values = [past[name] for past in self._past]
                raise DivergedError(
                    f"round {self.round}: the hyperparameter {name} has reached {largest:.4g}, the "
                    f"limit is {limit:g}; last values {values}. Lower federate.psi_lr",
                    [],
                )


def share_work(clients: Sequence[Client], *, chunks: int, ranks: int) -> list[int]:
    """Return the rank of each client: the largest first, each to the rank with least to do.

    Args:
        clients: Those of a round.
        chunks: Their number: a client of chunk k learns ``chunks - k + 1`` partitions.
        ranks: Their number.
    """
    costs = [(chunks - client.chunk + 2) * len(client.indices) for client in clients]
    owners, loads = [0] * len(clients), [0] * ranks
    for place in sorted(range(len(clients)), key=lambda one: -costs[one]):
        rank = loads.index(min(loads))
        owners[place] = rank
        loads[rank] += costs[place]
    return owners


def _check(model: PartitionedModule, population: Population) -> None:
    running = model.statistics.names()
    if running:
        raise ValueError(
            f"the network has running statistics ({running[0]}), which clients do not share; use "
            "GroupNorm instead of batch norm, or a network such as resnet9 or mnist_cnn"
        )
    largest = max(client.chunk for client in population.clients)
    if largest > len(model):
        raise ValueError(
            f"clients are in {largest} chunks, the network has {len(model)} partitions"
        )
