"""What one update changes: one partition, or the hyperparameters.

Both are pieces that a process can own alone: a partition's learner needs the newest copies of the
partitions before it, the hyperparameters' gradient those of subnetwork k - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...models.partitioned import PartitionedModule
from ...pipeline.optimization import OptimizationConfig, Schedule
from ...pipeline.optimizer import make_optimizer

__all__ = ["Criterion", "HyperLearner", "PartitionLearner"]

Criterion = Callable[[Tensor, Tensor], Tensor]
"""From logits (B, classes) and labels (B,) to the mean loss."""


class PartitionLearner:
    """Learns one partition through the subnetwork that ends with it.

    The partitions before it are constants. Its optimizer, with the momenta and the number of steps,
    advances only when it learns; the learning rate is that of the training's step.

    Args:
        model: The network.
        partition: Which, from 1.
        config: The optimizer and the schedule.
        weight_decay: Of this partition.
        criterion: The loss.
    """

    def __init__(
        self,
        model: PartitionedModule,
        partition: int,
        *,
        config: OptimizationConfig,
        weight_decay: float,
        criterion: Criterion,
    ) -> None:
        self.partition = partition
        self._model = model
        self._parameters = list(model.parameters_of(partition).values())
        self._config = config
        self._schedule = Schedule(config)
        self._criterion = criterion
        self.optimizer = make_optimizer(
            self._parameters, replace(config, weight_decay=weight_decay)
        )

    def learn(
        self,
        x: Tensor,
        y: Tensor,
        step: int,
        *,
        also: Sequence[Tensor] = (),
        penalty: Callable[[], Tensor] | None = None,
        rate: float | None = None,
    ) -> Tensor:
        """Make one update and return the loss before it, detached.

        Args:
            x: A batch of chunks 1..k.
            y: Its labels.
            step: Of the training, from 1, for the learning rate.
            also: Tensors that get a gradient of this loss too, such as those that Augerino learns.
            penalty: Is added to the loss that is learned from.
            rate: The learning rate; None: that of the schedule.
        """
        k = self.partition
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._criterion(self._model(x, subnetwork=k, learning=k), y)
        total = loss if penalty is None else loss + penalty()
        # The hyperparameters learn from other examples: the error stops before them.
        total.backward(inputs=[*self._parameters, *also])
        if self._config.clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._config.clip)
        self._schedule.apply(self.optimizer, step)
        if rate is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        self.optimizer.step()
        return loss.detach()


class HyperLearner:
    """Learns the hyperparameters from chunk k at subnetwork k - 1, which never saw it.

    Args:
        model: The network.
        config: The optimizer and the schedule.
        criterion: The loss.
    """

    def __init__(
        self, model: PartitionedModule, *, config: OptimizationConfig, criterion: Criterion
    ) -> None:
        self._model = model
        self._named = model.hyperparameters()
        self._config = config
        self._schedule = Schedule(config)
        self._criterion = criterion
        self.optimizer = make_optimizer(self._named.values(), config) if self._named else None

    def gradient(self, chunk: int, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the loss, detached, and its derivative by each hyperparameter.

        Args:
            chunk: k, from 2.
            x: A batch of chunk k.
            y: Its labels.

        Raises:
            ValueError: The forward pass does not use a hyperparameter; it is named.
        """
        loss = self._criterion(self._model(x, subnetwork=chunk - 1, learning=()), y)
        tensors = list(self._named.values())
        found: Sequence[Tensor | None] = [None] * len(tensors)
        if loss.requires_grad:
            found = torch.autograd.grad(loss, tensors, allow_unused=True)
        unused = [name for name, one in zip(self._named, found, strict=True) if one is None]
        if unused:
            raise ValueError(
                f"the forward pass does not use the hyperparameter {', '.join(unused)}, so it "
                "cannot be learned; use it, or take it out of the hyperparameters"
            )
        return loss.detach(), [one for one in found if one is not None]

    def apply(self, gradients: Sequence[Tensor], step: int) -> None:
        """Update the hyperparameters.

        Args:
            gradients: Of each, as :meth:`gradient` returns them.
            step: Of the training, from 1, for the learning rate.
        """
        if self.optimizer is None:
            return
        tensors = list(self._named.values())
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = gradient
        if self._config.clip is not None:
            nn.utils.clip_grad_norm_(tensors, self._config.clip)
        self._schedule.apply(self.optimizer, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state; empty where nothing is learned."""
        return {} if self.optimizer is None else self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state)
