"""Deciding a federation: everything is checked and resolved here, before any process begins."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from ...search.federated import Population, Traffic
from ..assembly import build_data, build_network, task_of
from ..compose import apply_overrides
from ..configfile import config_from_yaml, config_to_yaml
from ..devices import check_devices, cores, device_kind, threads_per_rank
from ..folder import RunFolder, default_name
from ..job import Objects
from ..membership import Membership
from ..preparation import (
    Preparation,
    check_facts,
    enlarged,
    newest_checkpoint,
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
    if config.resume is not None:
        return  # decided when the saved configuration is known
    if config.ranks not in (None, member.world):
        raise ConfigError(
            f"ranks={config.ranks}, but torchrun started {member.world}; leave ranks out, or "
            f"start {config.ranks} (--nproc-per-node)"
        )
    _check_work(config, member.world)


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
    config = copy.deepcopy(config)
    config.name = config.name or default_name(command)
    config.device = device_kind(config.device, config.pipeline.devices or ())
    config.ranks = _ranks(config, member)
    if config.train.threads is None:
        config.train.threads = threads_per_rank(member.local_world if member else config.ranks)
    if config.evaluate.every is None:
        config.evaluate.every = max(1, config.train.steps // 10)
    if config.evaluate.batch_size is None:
        config.evaluate.batch_size = config.train.batch_size
    torch.set_num_threads(config.train.threads)
    folder = RunFolder(Path(config.runs) / config.name)
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
    try:
        before = config_from_yaml(folder.config.read_text(), command)
    except ConfigError as error:
        raise ConfigError(f"resume={folder.path}: {error}") from error
    assert isinstance(before, FederateConfig)
    now = apply_overrides(before, overrides)
    now.resume = None
    now.name, now.runs = before.name, before.runs
    if member is not None:
        now.ranks = member.world
    _check_work(now, now.ranks or 1)
    check_devices(now.pipeline.devices or (), now.ranks or 1)
    torch.set_num_threads(now.train.threads or 1)
    prepared = _decide(command, now, objects, folder, enlarge=False)
    checkpoint, notes = newest_checkpoint(folder)
    start = checkpoint.step if checkpoint else 0
    if checkpoint is not None:
        check_facts(checkpoint, prepared.job.facts)
        notes[-1] = f"continues after round {start}"
    if start > now.train.steps:
        raise ConfigError(
            f"train.steps={now.train.steps}, but round {start} is already done; give at least "
            f"{start}"
        )
    folder.stop_request.unlink(missing_ok=True)
    folder.config.write_text(config_to_yaml(now))
    job = dataclasses.replace(prepared.job, start=start)
    return dataclasses.replace(prepared, job=job, notes=tuple(notes))


def _ranks(config: FederateConfig, member: Membership | None) -> int:
    """Return how many processes share the clients."""
    devices, settings = config.pipeline.devices or (), config.federate
    if member is not None:
        ranks = member.world
    elif config.ranks is not None:
        ranks = config.ranks
    elif devices:
        ranks = len(devices)
    else:
        places = torch.cuda.device_count() if config.device == "cuda" else cores()
        drawn = settings.clients if settings.per_round is None else settings.per_round
        ranks = min(drawn, places)
    check_devices(devices, ranks)
    _check_work(config, ranks)
    return ranks


def _check_work(config: FederateConfig, ranks: int) -> None:
    problem = too_many_ranks(config, ranks)
    if problem:
        raise ConfigError(problem)
