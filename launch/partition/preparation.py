"""Deciding a partitioned training: everything is checked here, before any process begins."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from functools import partial

import torch

from ...models.partitioned import PartitionedModule
from ...search.partitioned import Chunks
from ..assembly import build_data, build_network, task_of
from ..beginning import (
    begin,
    check_started_ranks,
    count_ranks,
    go_on,
    keep,
    position,
    settle_evaluation,
)
from ..configfile import config_to_yaml
from ..data import Data
from ..folder import RunFolder
from ..job import Objects
from ..membership import Membership
from ..preparation import (
    Preparation,
    enlarged,
    resumed_folder,
)
from ..refusal import ConfigError
from .assembly import Model, build_partitioned, build_training, make_chunks
from .config import PartitionConfig
from .job import PartitionJob
from .limits import impossible_ranks

__all__ = ["PartitionPreparation", "check_ranks", "prepare"]


@dataclasses.dataclass(frozen=True)
class PartitionPreparation(Preparation[PartitionJob]):
    """A decided partitioned training.

    Attributes:
        model: The network in partitions.
        chunks: Of the examples.
    """

    model: Model
    chunks: Chunks


def check_ranks(config: PartitionConfig, member: Membership) -> None:
    """Refuse a number of ranks that torchrun started and that cannot share the partitions.

    Raises:
        ConfigError: It is neither 1 nor the number of partitions, or ``ranks`` says otherwise.
    """
    check_started_ranks(config, member, _check_ranks)


def prepare(
    command: str,
    config: PartitionConfig,
    objects: Objects,
    *,
    overrides: Sequence[str] = (),
    member: Membership | None = None,
    create: bool = True,
) -> PartitionPreparation:
    """Decide a partitioned training.

    Args:
        command: The command: ``"partition"``.
        config: The composed and validated configuration.
        objects: What a Python caller brought along.
        overrides: What the user typed; applied on top of the saved configuration on resume.
        member: This rank, when a launcher outside has started all of them.
        create: Whether to make the run's folder (not for a dry run).

    Raises:
        ConfigError: It cannot be as asked; the message has both values and the fix.
    """
    saved = resumed_folder(config)
    if saved is not None:
        return _resume(command, saved, objects, overrides, member)
    config, folder = begin(command, config, member, ranks=partial(_ranks, member=member))
    settle_evaluation(config)
    data, notes = enlarged(config, objects, build_data(config, objects, torch.device("cpu")))
    preparation = _decide(command, config, objects, data, folder)
    if create:
        folder.create()
        folder.config.write_text(config_to_yaml(config))
    return dataclasses.replace(preparation, notes=(*data.notes, *notes, *preparation.notes))


def _decide(
    command: str,
    config: PartitionConfig,
    objects: Objects,
    data: Data,
    folder: RunFolder,
) -> PartitionPreparation:
    """Build everything once, and try a step of the hyperparameters."""
    task = task_of(data)
    chunks = make_chunks(config, data)
    _check_classes(chunks, data)
    network = build_network(config, objects, task, whole=True)
    make = partial(build_network, config, objects, task, whole=True)
    model = build_partitioned(config, make, task)
    _try(config, model, data)
    job = PartitionJob(
        command=command, config=config, task=task, folder=folder, network=network.name
    )
    notes = _notes(config, model)
    return PartitionPreparation(job, network, data, tuple(notes), model, chunks)


def _resume(
    command: str,
    folder: RunFolder,
    objects: Objects,
    overrides: Sequence[str],
    member: Membership | None,
) -> PartitionPreparation:
    """Continue a run as it was; only what was typed now may differ, and not everything."""
    now = go_on(command, folder, overrides, member, kind=PartitionConfig, check=_check_ranks)
    data = build_data(now, objects, torch.device("cpu"))
    preparation = _decide(command, now, objects, data, folder)
    start, notes = position(folder, preparation.job.facts)
    if now.train.steps < start:
        raise ConfigError(
            f"train.steps={now.train.steps}, but step {start} is already done; "
            f"give at least {start}"
        )
    job = dataclasses.replace(preparation.job, start=start)
    keep(folder, now)
    return dataclasses.replace(preparation, job=job, notes=tuple(notes))


def _ranks(config: PartitionConfig, member: Membership | None) -> int:
    """Return how many processes take part: one, or one for each partition."""
    if member is None and config.ranks is None and config.partition.staleness:
        config = dataclasses.replace(config, ranks=len(config.partition.chunks))
    return count_ranks(config, member, _check_ranks, parts=None)


def _check_ranks(config: PartitionConfig, ranks: int) -> None:
    problem = impossible_ranks(config, ranks)
    if problem:
        raise ConfigError(problem)
    if config.partition.staleness and ranks == 1:
        raise ConfigError(
            f"partition.staleness={config.partition.staleness}, but one process has no copies that "
            f"could be old; start {len(config.partition.chunks)} ranks, or leave it out"
        )


def _check_classes(chunks: Chunks, data: Data) -> None:
    """Refuse classes that cannot be learned."""
    sizes = data.class_sizes("train")
    missing = [number for number, size in enumerate(sizes or ()) if not size]
    if missing:
        raise ConfigError(
            f"data: class {missing[0]} ({len(missing)} of {data.classes} in all) has no example "
            f"among the {data.sizes['train']} of {data.name}; take more examples"
        )


def _try(config: PartitionConfig, model: Model, data: Data) -> None:
    """Compute the gradient of the hyperparameters once, with two examples.

    Raises:
        ConfigError: The forward pass fails, or does not use a hyperparameter, which is named.
    """
    small = copy.deepcopy(config)
    small.train.batch_size, small.psi.batch_size = 2, 2
    training = build_training(small, model, data)
    state = torch.random.get_rng_state()
    try:
        if len(config.partition.chunks) > 1:
            training.judge(1)
        else:
            training.model(data.example(2)[0], learning=())
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        raise ConfigError(f"psi={config.psi.name}: {error}") from error
    finally:
        torch.random.set_rng_state(state)


def _notes(config: PartitionConfig, model: Model) -> list[str]:
    """Say what a user may not expect."""
    notes = []
    if isinstance(model, PartitionedModule) and len(model) > 1 and model.statistics.names():
        notes.append(
            "batch norm: each subnetwork keeps its own running statistics; the paper has networks "
            "with group norm, or without normalisation"
        )
    if config.partition.staleness:
        notes.append(
            f"copies may be {config.partition.staleness} steps old: results depend on timing, and "
            "another run of the same words ends at other weights"
        )
    return notes
