"""From the configuration to the training: network, hyperparameters, partitions, chunks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...models import Network
from ...models.hyperparameters import Psi, attach, found, put
from ...models.partitioned import PartitionedModule, partition
from ...pipeline.optimization import OptimizationConfig
from ...pipeline.seed import derive, generator
from ...search.partitioned import Chunks, PartitionedTraining, Settings
from ...search.partitioned.peers import IndependentNetworks, PeerTraining
from ..assembly import build_criterion
from ..data import Data
from ..job import Task
from ..refusal import ConfigError
from .config import PartitionConfig, PsiConfig
from .limits import WHOLE

Model = PartitionedModule | IndependentNetworks

__all__ = [
    "DataExamples",
    "Model",
    "attached",
    "build_partitioned",
    "build_training",
    "divide",
    "make_chunks",
    "psi_of",
]


class DataExamples:
    """A part of a data set by number; see `blockstep.search.partitioned.Examples`.

    Args:
        data: The data set.
        split: The part.
        tell: Called before each batch: a sign of life.
    """

    def __init__(
        self, data: Data, split: str = "train", *, tell: Callable[[], None] = lambda: None
    ) -> None:
        self._data = data
        self._split = split
        self._tell = tell

    def __len__(self) -> int:
        """How many there are."""
        return self._data.sizes[self._split]

    def batch(self, indices: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        """Return (x, y) on the device of the data set."""
        self._tell()
        return self._data.pick(self._split, indices, step=step)


def psi_of(config: PsiConfig) -> Psi:
    """Return what is learned."""
    training = config.training_samples
    return Psi(
        config.name,
        samples=config.samples,
        training_samples=training,
        initial=config.initial,
        rotation=config.rotation,
        symmetric=config.symmetric,
        temperature=config.temperature,
        layers=tuple(config.layers),
    )


def build_partitioned(config: PartitionConfig, make: Callable[[], Network], task: Task) -> Model:
    """Put the hyperparameters into a network and divide its weights, on the CPU.

    Args:
        config: How.
        make: Makes the network; the same one every time, unless its seed differs.
        task: What the data look like.

    Raises:
        ConfigError: The network or the examples do not fit.
    """
    return divide(config, attached(config, make(), task), others=make, task=task)


def attached(config: PartitionConfig, network: Network, task: Task) -> Network:
    """Put the hyperparameters into a network.

    Raises:
        ConfigError: There is no place for them.
    """
    psi = psi_of(config.psi)
    try:
        whole = attach(network, psi, shape=task.shape)
        if config.partition.method == "random":
            put(whole.module, psi, _drawn(config, whole))
    except ValueError as error:
        raise ConfigError(f"psi={config.psi.name}: {error}") from error
    return whole


def divide(
    config: PartitionConfig,
    network: Network,
    *,
    others: Callable[[], Network],
    task: Task,
) -> Model:
    """Divide the weights of a network that has its hyperparameters, as the method wants it.

    Raises:
        ConfigError: It cannot be partitioned.
    """
    own = config.partition
    if own.method == "independent":
        modules = [attached(config, others(), task).module for _ in own.chunks[1:]]
        return IndependentNetworks([*modules, network.module], hyperparameters=config.psi.layers)
    whole = own.method in WHOLE
    try:
        return partition(
            network.module,
            [1.0] if whole else own.parameters or own.chunks,
            seed=derive(config.seed, "partitions"),
            defaults=own.defaults,
            kind=own.kind,
            hyperparameters=config.psi.layers,
        )
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def _drawn(config: PartitionConfig, network: Network) -> dict[str, Any]:
    """Draw ranges: rotations up to pi, all else up to one half (appendix G)."""
    chance = generator(config.seed, "random search")
    values = found(network.module, psi_of(config.psi))
    ((kind, inner),) = values.items()
    for name, value in inner.items():
        most = math.pi if name == "rotation" else 0.5
        size = torch.rand((), generator=chance).item() * most
        centre = sum(value) / 2 if isinstance(value, list) else 0.0
        inner[name] = [centre - size, centre + size] if isinstance(value, list) else size
    return {kind: inner}


def make_chunks(config: PartitionConfig, data: Data) -> Chunks:
    """Divide the training examples.

    Raises:
        ConfigError: A chunk is empty.
    """
    try:
        return Chunks(data.sizes["train"], config.partition.chunks, seed=config.seed)
    except ValueError as error:
        raise ConfigError(f"partition.chunks: {error}") from error


def build_training(
    config: PartitionConfig,
    model: Model,
    data: Data,
    *,
    tell: Callable[[], None] = lambda: None,
) -> PartitionedTraining:
    """Make the training of a network that is on its device, with the data there too."""
    own = config.partition
    whole = own.method in WHOLE
    settings = Settings(
        weights=config.train,
        hyper=_hyper(config),
        every=config.psi.every,
        # A network that is not divided has the decay that was asked for.
        decay_scaling="none" if whole else own.decay,
        limit=config.psi.limit,
        keep_best=False,
    )
    parts: list[Any] = [model, DataExamples(data, tell=tell), make_chunks(config, data)]
    options: dict[str, Any] = {
        "settings": settings,
        "seed": config.seed,
        "criterion": build_criterion(config.train),
    }
    if not whole:
        return PartitionedTraining(*parts, **options)
    return PeerTraining(
        *parts,
        method=own.method,
        finetune=own.finetune,
        finetune_lr=own.finetune_lr,
        strength=own.reward,
        safe=own.safe,
        **options,
    )


def _hyper(config: PartitionConfig) -> OptimizationConfig:
    psi = config.psi
    return replace(
        OptimizationConfig(),
        steps=config.train.steps,
        batch_size=psi.batch_size or config.train.batch_size,
        optimizer=psi.optimizer,
        lr=psi.lr,
        lr_min=0.0,
        momentum=psi.momentum,
        schedule=psi.schedule,
        weight_decay=0.0,
        clip=psi.clip,
    )
