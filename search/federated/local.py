"""What a client does in a round (Mlodozeniec et al., ICLR 2023, appendix J.1).

    client of chunk k, for each j = k..C on its own:
        from the server's weights, an epoch of its examples through subnetwork j  -> delta w_j
    and, k > 1:
        the gradient of its loss at subnetwork k - 1 of the server's weights      -> gradient psi

Subnetwork k - 1 has no partition that the client changes, so the gradient of psi is the same
before and after it learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ...models.partitioned import PartitionedModule
from ...pipeline.optimization import OptimizationConfig
from ...pipeline.seed import derive, generator, set_seed
from ...pipeline.stage import NonFiniteLossError
from ..partitioned.examples import Examples
from ..partitioned.learner import Criterion, HyperLearner, PartitionLearner
from .population import Client
from .update import Update

__all__ = ["LocalTraining"]


class LocalTraining:
    """Computes the updates of clients, any of them, in any order.

    Args:
        model: The network with the server's weights; an update leaves it as it was.
        examples: Of all clients.
        weights: How a client learns: optimizer, rate by round, batch size. Its state, such as
            momenta, is new in every round.
        epochs: Times that a client learns from each of its examples in a round.
        psi_batch: Examples that judge the hyperparameters; None: all of the client's.
        from_first: Whether every client judges them, at subnetwork 1: for Augerino, which learns
            them from the training loss.
        criterion: The loss.
        judge: The loss that the hyperparameters lower; None: the same.
        seed: The run's seed.
    """

    def __init__(
        self,
        model: PartitionedModule,
        examples: Examples,
        *,
        weights: OptimizationConfig,
        criterion: Criterion,
        seed: int,
        epochs: int = 1,
        psi_batch: int | None = None,
        from_first: bool = False,
        judge: Criterion | None = None,
    ) -> None:
        self.model = model
        self._examples = examples
        self._weights = weights
        self._epochs = epochs
        self._psi_batch = psi_batch
        self._from_first = from_first
        self._criterion = criterion
        self._hyper = HyperLearner(
            model, config=OptimizationConfig(schedule="constant"), criterion=judge or criterion
        )
        self._seed = seed
        self._device = next(model.parameters()).device

    def judges(self, chunk: int) -> bool:
        """Whether the clients of a chunk send a gradient of the hyperparameters."""
        return bool(self.model.hyperparameters()) and (chunk > 1 or self._from_first)

    def update(self, client: Client, number: int) -> Update:
        """Return what a client sends in a round.

        Args:
            client: It.
            number: Of the round, from 1.

        Raises:
            NonFiniteLossError: The loss is not finite; the client is named.
        """
        deltas, loss = {}, math.nan
        for partition in range(client.chunk, len(self.model) + 1):
            deltas[partition], loss = self._learn(client, partition, number)
        psi, judged = self._judge(client, number) if self.judges(client.chunk) else ([], math.nan)
        return Update(client.chunk, deltas, psi, loss, judged)

    def _learn(self, client: Client, partition: int, number: int) -> tuple[list[Tensor], float]:
        """Learn one partition from the server's weights, and put these back."""
        model, config = self.model, self._weights
        before = [value.clone() for value in model.values_of(partition)]
        learner = PartitionLearner(
            model,
            partition,
            config=config,
            weight_decay=config.weight_decay,
            criterion=self._criterion,
        )
        purpose = (number, client.number, partition)
        losses = []
        for step, indices in enumerate(self._batches(client.indices, purpose)):
            place = derive(self._seed, "local", *purpose, step)
            x, y = self._examples.batch(indices, place)
            set_seed(place, self._device)
            losses.append(learner.learn(x, y, number))
        loss = torch.stack(losses).double().mean().item()
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"round {number}, client {client.number}: the loss of subnetwork {partition} is "
                f"{loss}; lower train.lr or federate.server_lr"
            )
        after = model.values_of(partition)
        found = [(new - old).cpu() for new, old in zip(after, before, strict=True)]
        model.load_values(partition, before)
        return found, loss

    def _batches(self, indices: Tensor, purpose: tuple[int, ...]) -> Iterator[Tensor]:
        for epoch in range(self._epochs):
            chance = generator(self._seed, "order", *purpose, epoch)
            order = torch.randperm(len(indices), generator=chance)
            yield from indices[order].split(self._weights.batch_size)

    def _judge(self, client: Client, number: int) -> tuple[list[Tensor], float]:
        """Return the mean gradient over the client's examples, a batch's worth at a time."""
        indices = client.indices
        if self._psi_batch is not None:
            chance = generator(self._seed, "judging", number, client.number)
            indices = indices[torch.randperm(len(indices), generator=chance)[: self._psi_batch]]
        # Subnetwork k - 1; one chunk alone has only subnetwork 1.
        chunk = max(client.chunk, 2)
        total: list[Tensor] = []
        losses = []
        for step, part in enumerate(indices.split(self._weights.batch_size)):
            place = derive(self._seed, "judge", number, client.number, step)
            x, y = self._examples.batch(part, place)
            set_seed(place, self._device)
            loss, gradients = self._hyper.gradient(chunk, x, y)
            share = len(part) / len(indices)
            losses.append(loss.double() * share)
            total = (
                [share * one for one in gradients]
                if not total
                else [old.add_(one, alpha=share) for old, one in zip(total, gradients, strict=True)]
            )
        return [one.cpu() for one in total], torch.stack(losses).sum().item()
