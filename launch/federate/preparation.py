"""Deciding a federation: everything is checked and resolved here, before any process begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import torch

from ...search.federated import Population, Traffic
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
from ..folder import RunFolder
from ..job import Objects
from ..membership import Membership
from ..preparation import (
    Preparation,
    enlarged,
    resumed_folder,
)
from ..refusal import ConfigError
from .config import FederateConfig
from .holdings import in_memory, populate
from .job import FederateJob
from .limits import too_many_ranks
from .model import Federated, build_model

__all__ = ["FederatePreparation", "check_ranks", "prepare"]


@dataclasses.dataclass(frozen=True)
class FederatePreparation(Preparation[FederateJob]):
    """A decided federation.

    Attributes:
        federated: The network with what is learned.
        population: The clients.
        traffic: The bytes that they send and are sent.
    """

    federated: Federated
    population: Population
    traffic: Traffic


def check_ranks(config: FederateConfig, member: Membership) -> None:
    """Refuse a number of ranks that torchrun started and that the federation cannot use.

    Raises:
        ConfigError: There are more than clients in a round, or ``ranks`` says otherwise.
    """
    check_started_ranks(config, member, _check_work)


def prepare(
    command: str,
    config: FederateConfig,
    objects: Objects,
    *,
    overrides: Sequence[str] = (),
    member: Membership | None = None,
    create: bool = True,
) -> FederatePreparation:
    """Decide a federation.

    Args:
        command: The command: ``"federate"``.
        config: The composed and validated configuration.
        objects: Empty: a federation is started from the command line.
        overrides: What the user typed; applied on top of the saved configuration on resume.
        member: This rank, when a launcher outside has started all of them.
        create: Whether to make the run's folder (not for a dry run).

    Raises:
        ConfigError: The federation cannot be as asked; the message has both values and the fix.
    """
    saved = resumed_folder(config)
    if saved is not None:
        return _resume(command, saved, objects, overrides, member)
    config, folder = begin(command, config, member, ranks=partial(_ranks, member=member))
    settle_evaluation(config)
    prepared = _decide(command, config, objects, folder, enlarge=True)
    if create:
        folder.create()
        folder.config.write_text(config_to_yaml(config))
    return prepared


def _decide(
    command: str, config: FederateConfig, objects: Objects, folder: RunFolder, *, enlarge: bool
) -> FederatePreparation:
    """Make everything once, to see that it fits together."""
    made = build_data(config, objects, torch.device("cpu"))
    notes: list[str] = []
    if enlarge:
        made, notes = enlarged(config, objects, made)
    data = in_memory(made)
    if config.federate.skew == "rotation" and not data.has_images:
        raise ConfigError(
            f"federate.skew=rotation: the examples of {data.name} have the shape {data.shape}; "
            "only images of bytes can be turned; choose labels or none"
        )
    task = task_of(data)
    network = build_network(config, objects, task)
    federated = build_model(config, network, task)
    population = populate(config, data)
    job = FederateJob(
        command=command, config=config, task=task, folder=folder, network=network.name
    )
    if config.federate.method == "partitioned" and not federated.model.hyperparameters():
        raise ConfigError("federate.method=partitioned: there is no hyperparameter to learn")
    traffic = Traffic.of(
        federated.model, plain=federated.plain, judging=_judging(config, len(federated.model))
    )
    return FederatePreparation(
        job, network, data, (*data.notes, *notes), federated, population, traffic
    )


def _judging(config: FederateConfig, chunks: int) -> list[bool]:
    """Return for each chunk whether its clients send a gradient of the hyperparameters."""
    first = config.federate.method == "augerino"
    return [first or number > 1 for number in range(1, chunks + 1)]


def _resume(
    command: str,
    folder: RunFolder,
    objects: Objects,
    overrides: Sequence[str],
    member: Membership | None,
) -> FederatePreparation:
    """Continue a federation as it was; only what was typed now may differ, and not everything."""
    now = go_on(command, folder, overrides, member, kind=FederateConfig, check=_check_work)
    prepared = _decide(command, now, objects, folder, enlarge=False)
    start, notes = position(folder, prepared.job.facts)
    if start:
        notes[-1] = f"continues after round {start}"
    if start > now.train.steps:
        raise ConfigError(
            f"train.steps={now.train.steps}, but round {start} is already done; give at least "
            f"{start}"
        )
    keep(folder, now)
    job = dataclasses.replace(prepared.job, start=start)
    return dataclasses.replace(prepared, job=job, notes=tuple(notes))


def _ranks(config: FederateConfig, member: Membership | None) -> int:
    """Return how many processes share the clients."""
    settings = config.federate
    drawn = settings.clients if settings.per_round is None else settings.per_round
    return count_ranks(config, member, _check_work, parts=drawn)


def _check_work(config: FederateConfig, ranks: int) -> None:
    problem = too_many_ranks(config, ranks)
    if problem:
        raise ConfigError(problem)
