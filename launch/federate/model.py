"""From a configuration to the partitioned network that clients train, with what it learns."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from ...models import Network
from ...models.hyperparameters import (
    Affine,
    AffineGenerators,
    AffineRanges,
    Augerino,
    Averaged,
    Hyperparameter,
    learn_dropout,
)
from ...models.partitioned import PartitionedModule, partition
from ...pipeline.seed import derive
from ...search.federated import plain_bytes
from ...search.federated.settings import FederationSettings
from ...search.partitioned.learner import Criterion
from ..assembly import build_criterion
from ..job import Task
from ..refusal import ConfigError
from .config import FederateConfig

__all__ = ["Federated", "build_model", "plain_state", "psi_record", "readable"]

SHORT = 16
"""A hyperparameter of up to so many numbers is recorded as it is, a larger one by its mean."""


@dataclass(frozen=True, eq=False)
class Federated:
    """A network, ready for a federation.

    Attributes:
        model: With as many partitions as there are chunks; the baselines have one.
        plain: Bytes of its weights before it was partitioned.
        criterion: What clients lower.
        judge: What the hyperparameters lower; None: the same.
    """

    model: PartitionedModule
    plain: int
    criterion: Criterion
    judge: Criterion | None


def build_model(config: FederateConfig, network: Network, task: Task) -> Federated:
    """Make the network on the CPU.

    Raises:
        ConfigError: It cannot be partitioned, or there is nothing in it to learn as asked.
    """
    settings = config.federate
    module = copy.deepcopy(network.module)
    if settings.method == "partitioned" and settings.learn_dropout:
        _learn_dropout(module, settings)
    change = _change(settings, task)
    if change is not None:
        module = Averaged(change, module, samples=settings.samples)
    try:
        model = partition(module, settings.shares, seed=derive(config.seed, "partition"))
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
    if running := model.statistics.names():
        raise ConfigError(
            f"model: {network.name} has running statistics ({running[0]}), which clients do not "
            "share; choose a network without batch norm, such as mnist_cnn, resnet9, fixup_resnet8"
        )
    criterion = build_criterion(config.train)
    judge = _penalised(model, criterion, settings) if settings.method == "augerino" else None
    return Federated(model, plain_bytes(module), criterion, judge)


def _learn_dropout(module: nn.Module, settings: FederationSettings) -> None:
    rates = [part.p for part in module.modules() if type(part) is nn.Dropout]
    if any(rates):
        try:
            learn_dropout(module)
        except ValueError as error:
            raise ConfigError(f"federate.learn_dropout=true: {error}") from error
    elif settings.augmentation == "none":
        raise ConfigError(
            "federate.learn_dropout=true: the network has no dropout to learn, and "
            "federate.augmentation=none; give model.dropout=0.1, or learn augmentation"
        )


def _change(settings: FederationSettings, task: Task) -> Affine | None:
    if settings.method == "fedavg" or settings.augmentation == "none":
        return None
    if len(task.shape) != 3:
        raise ConfigError(
            f"federate.augmentation={settings.augmentation}: {task.data} has examples of shape "
            f"{task.shape}, affine maps are for images; give federate.augmentation=none"
        )
    if settings.method == "augerino":
        return Augerino()
    return AffineRanges() if settings.augmentation == "ranges" else AffineGenerators()


def _penalised(
    model: PartitionedModule, criterion: Criterion, settings: FederationSettings
) -> Criterion:
    change = model.network.get_submodule("change")
    assert isinstance(change, Augerino)

    def judge(logits: Tensor, labels: Tensor) -> Tensor:
        return criterion(logits, labels) + change.penalty(settings.strength, safe=settings.safe)

    return judge


def readable(model: PartitionedModule) -> dict[str, dict[str, list[float]]]:
    """Return what was learned in the units that a reader knows, by the name of its module."""
    return {
        name or "network": part.readable()
        for name, part in model.network.named_modules()
        if isinstance(part, Hyperparameter)
    }


def psi_record(model: PartitionedModule) -> dict[str, list[float]]:
    """Return the same under ``MODULE/NAME``, short enough for a record of every round."""
    found = {}
    for module, parts in readable(model).items():
        for name, values in parts.items():
            short = len(values) <= SHORT
            found[f"{module}/{name}"] = values if short else [sum(values) / len(values)]
    return found


def plain_state(model: PartitionedModule) -> dict[str, Tensor]:
    """Return a ``state_dict`` for the network as the user knows it, of the whole network.

    Learned dropouts keep everything in evaluation, so their rates are left out like the ranges of
    the augmentation.
    """
    inner = model.network
    prefix = "network." if isinstance(inner, Averaged) else ""
    learned = tuple(
        f"{name}." for name, part in inner.named_modules() if isinstance(part, Hyperparameter)
    )
    state = model.subnetwork_state()
    return {
        name.removeprefix(prefix): value.cpu()
        for name, value in state.items()
        if not name.startswith(learned)
    }
