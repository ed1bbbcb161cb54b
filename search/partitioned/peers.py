"""What partitioned networks are compared with, in the same loop.

plain        all weights learn from all examples; the hyperparameters stay as they begin
random       likewise, with hyperparameters drawn at random: one trial of a random search
augerino     likewise, and the hyperparameters learn from the same loss, less what rewards width
             (Benton et al., 2020)
validation   all weights learn from the first chunk, the hyperparameters from the second;
             finetune steps at the end learn from both (Table 2)
independent  C networks instead of C partitions: network k learns from chunks 1..k, and chunk k
             judges at network k - 1 (the upper bound of section 5)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...models.hyperparameters import Augerino, Hyperparameter
from ...pipeline.seed import derive, set_seed
from .training import PartitionedTraining

__all__ = ["PEERS", "IndependentNetworks", "PeerTraining"]

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

PEERS = ("plain", "random", "augerino", "validation", "independent")


class PeerTraining(PartitionedTraining):
    """Trains one partition, which is the whole network, by another method.

    Args:
        model: The network as one partition.
        examples: The training examples.
        chunks: One, or two of which the second judges.
        method: One of ``PEERS`` but ``independent``, which is a
            :class:`~.training.PartitionedTraining` of :class:`IndependentNetworks`.
        finetune: Steps at the end that learn from all chunks, with the hyperparameters fixed.
        finetune_lr: Their learning rate.
        strength: Of Augerino's reward for width.
        safe: Whether it ends where a width has reached 10.
        options: See :class:`~.training.PartitionedTraining`.
    """

    def __init__(
        self,
        *parts: Any,
        method: str,
        finetune: int = 0,
        finetune_lr: float = 0.01,
        strength: float = 0.01,
        safe: bool = True,
        **options: Any,
    ) -> None:
        self._method = method
        super().__init__(*parts, **options)
        steps = self._settings.weights.steps
        self._last = steps - finetune
        self._finetune_lr = finetune_lr
        self._strength, self._safe = strength, safe
        if finetune and len(self._chunks) == 1:
            raise ValueError("fine-tuning learns from a second chunk, and there is one alone")

    def _check_counts(self, chunks: int, partitions: int) -> None:
        most = 1 if self._method in ("plain", "augerino") else 2
        if partitions != 1 or not (2 if self._method == "validation" else 1) <= chunks <= most:
            raise ValueError(
                f"{chunks} chunks for {partitions} partitions; {self._method} has one partition "
                f"and {most} chunk(s)"
            )

    @property
    def judging(self) -> Sequence[int]:
        """See :attr:`PartitionedTraining.judging`: none once all chunks are learned from."""
        return super().judging if self.step <= self._last else ()

    def learner(self, step: int) -> int:
        """See :meth:`PartitionedTraining.learner`."""
        return 1

    def judges(self, step: int) -> bool:
        """See :meth:`PartitionedTraining.judges`."""
        return self._method == "validation" and step <= self._last and super().judges(step)

    def learn(self, step: int) -> tuple[int, Tensor]:
        """See :meth:`PartitionedTraining.learn`."""
        size = self._settings.weights.batch_size
        tuning = step > self._last
        draw = self._chunks.draw_any(step, size) if tuning else self._chunks.draw_first(step, size)
        x, y = self._examples.batch(draw.indices, step)
        set_seed(derive(self._seed, "learn", step), self.device)
        learner = self._learners[0]
        if self._method == "augerino":
            psi = list(self.model.hyperparameters().values())
            loss = learner.learn(x, y, step, also=psi, penalty=self._penalty)
            self._hyper.apply([one.grad for one in psi if one.grad is not None], step)
            return 1, loss
        rate = self._finetune_lr if tuning else None
        return 1, learner.learn(x, y, step, rate=rate)

    def _penalty(self) -> Tensor:
        parts = [part for part in self.model.network.modules() if isinstance(part, Augerino)]
        return torch.stack([one.penalty(self._strength, safe=self._safe) for one in parts]).sum()


class IndependentNetworks(nn.Module):
    """C networks that share their hyperparameters, where a partitioned one has C subnetworks.

    What :class:`~blockstep.models.partitioned.PartitionedModule` offers to a training.

    Args:
        networks: C modules of one kind; the hyperparameters of the last are those of all.
        hyperparameters: Names of further parameters that are hyperparameters.
    """

    def __init__(self, networks: Sequence[nn.Module], *, hyperparameters: Sequence[str]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self._learned = _names(networks[-1], hyperparameters)
        shared = dict(networks[-1].named_parameters())
        for network in networks[:-1]:
            for name in self._learned:
                owner, _, key = name.rpartition(".")
                network.get_submodule(owner)._parameters[key] = shared[name]

    @property
    def network(self) -> nn.Module:
        """The last, which is the final model."""
        return self.networks[-1]

    def __len__(self) -> int:
        """C."""
        return len(self.networks)

    @property
    def sizes(self) -> list[int]:
        """How many numbers each network has."""
        return [sum(one.numel() for one in self.values_of(k)) for k in range(1, len(self) + 1)]

    def parameters_of(self, partition: int) -> dict[str, nn.Parameter]:
        """Return the weights of a network, from 1."""
        named = self.networks[partition - 1].named_parameters()
        return {name: one for name, one in named if name not in self._learned and one.requires_grad}

    def values_of(self, partition: int) -> list[Tensor]:
        """Return them detached."""
        return [one.detach() for one in self.parameters_of(partition).values()]

    @torch.no_grad()
    def load_values(self, partition: int, values: Sequence[Tensor]) -> None:
        """Copy tensors into a network."""
        for own, value in zip(self.values_of(partition), values, strict=True):
            own.copy_(value)

    def statistics_of(self, subnetwork: int) -> list[Tensor]:
        """Return the running statistics of a network."""
        places = self._places(subnetwork)
        return [part.get_buffer(key) for part, key in places if part._buffers[key] is not None]

    @torch.no_grad()
    def load_statistics(self, subnetwork: int, values: Sequence[Tensor]) -> None:
        """Copy tensors into its running statistics."""
        for own, value in zip(self.statistics_of(subnetwork), values, strict=True):
            own.copy_(value)

    def hyperparameters(self) -> dict[str, nn.Parameter]:
        """Return the hyperparameters by their names in a network."""
        known = dict(self.network.named_parameters())
        return {name: known[name] for name in self._learned}

    def subnetwork_state(self) -> dict[str, Tensor]:
        """Return the ``state_dict`` of the final model."""
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def forward(
        self,
        x: Tensor,
        *,
        subnetwork: int | None = None,
        learning: int | Collection[int] | None = None,
    ) -> Tensor:
        """Evaluate a network; the gradients are those that a caller asks for.

        A network that does not learn keeps its running statistics.
        """
        number = len(self) if subnetwork is None else subnetwork
        network = self.networks[number - 1]
        if learning != ():
            return network(x)
        places = self._places(number)
        kept = [part._buffers[key] for part, key in places]
        try:
            for (part, key), tensor in zip(places, kept, strict=True):
                part._buffers[key] = None if tensor is None else tensor.clone()
            return network(x)
        finally:
            for (part, key), tensor in zip(places, kept, strict=True):
                part._buffers[key] = tensor

    def _places(self, number: int) -> list[tuple[nn.Module, str]]:
        """Return where a network has running statistics."""
        return [
            (part, key)
            for part in self.networks[number - 1].modules()
            for key in part._buffers
            if key in STATISTICS
        ]


def _names(module: nn.Module, chosen: Sequence[str]) -> list[str]:
    """Return the names of the hyperparameters of a network."""
    names = [
        f"{prefix}.{key}" if prefix else key
        for prefix, part in module.named_modules()
        if isinstance(part, Hyperparameter)
        for key, _ in part.named_parameters()
    ]
    for name, _ in module.named_parameters():
        if any(name == one or name.startswith(f"{one}.") for one in chosen):
            names.append(name)
    return names
