"""Deciding a search: everything is checked and resolved here, before any process begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import torch

from ...models import Network
from ..assembly import build_data, build_network, task_of
from ..beginning import begin, check_started_ranks, count_ranks, go_on, keep, position
from ..configfile import config_to_yaml
from ..data import Data
from ..folder import RunFolder
from ..job import Objects
from ..membership import Membership
from ..pool import candidates
from ..preparation import (
    Preparation,
    check_own_network,
    check_training_part,
    enlarged,
    resumed_folder,
)
from ..refusal import ConfigError
from .config import SearchConfig
from .job import SearchJob
from .limits import too_many_ranks

__all__ = ["SearchPreparation", "check_ranks", "prepare"]


@dataclasses.dataclass(frozen=True)
class SearchPreparation(Preparation[SearchJob]):
    """A decided search.

    Attributes:
        candidate_parameters: Of all heads of the pool together.
    """

    candidate_parameters: int


def check_ranks(config: SearchConfig, member: Membership) -> None:
    """Refuse a number of ranks that torchrun started and that the search cannot use.

    Raises:
        ConfigError: There are more than samples, or ``ranks`` says otherwise; with both numbers.
    """
    check_started_ranks(config, member, _check_samples)


def prepare(
    command: str,
    config: SearchConfig,
    objects: Objects,
    *,
    overrides: Sequence[str] = (),
    member: Membership | None = None,
    create: bool = True,
) -> SearchPreparation:
    """Decide a search.

    Args:
        command: The command: ``"search"``.
        config: The composed and validated configuration.
        objects: Empty: a search is started from the command line.
        overrides: What the user typed; applied on top of the saved configuration on resume.
        member: This rank, when a launcher outside has started all of them.
        create: Whether to make the run's folder (not for a dry run).

    Raises:
        ConfigError: The search cannot be as asked; the message has both values and the fix.
    """
    saved = resumed_folder(config)
    if saved is not None:
        return _resume(command, saved, objects, overrides, member)
    config, folder = begin(command, config, member, ranks=partial(_ranks, member=member))
    data, notes = enlarged(config, objects, build_data(config, objects, torch.device("cpu")))
    check_training_part(config, data)
    notes += _check_validation_part(config, data)
    task = task_of(data)
    network = build_network(config, objects, task)
    _check_network(config, network)
    check_own_network(config, network, data)
    job = SearchJob(
        command=command,
        config=config,
        task=task,
        folder=folder,
        network=network.name,
        layers=len(network.layers),
    )
    size = _pool_parameters(job, network)
    if create:
        job.folder.create()
        job.folder.config.write_text(config_to_yaml(config))
    return SearchPreparation(job, network, data, (*data.notes, *notes), size)


def _resume(
    command: str,
    folder: RunFolder,
    objects: Objects,
    overrides: Sequence[str],
    member: Membership | None,
) -> SearchPreparation:
    """Continue a search as it was; only what was typed now may differ, and not everything."""
    now = go_on(command, folder, overrides, member, kind=SearchConfig, check=_check_samples)
    data = build_data(now, objects, torch.device("cpu"))
    task = task_of(data)
    network = build_network(now, objects, task)
    _check_network(now, network)
    job = SearchJob(
        command=command, config=now, task=task, folder=folder,
        network=network.name, layers=len(network.layers),
    )  # fmt: skip
    start, notes = position(folder, job.facts)
    if start:
        notes[-1] = f"continues after {describe(job, start)}"
    _check_steps(job, start)
    job = dataclasses.replace(job, start=start)
    keep(folder, now)
    return SearchPreparation(job, network, data, tuple(notes), _pool_parameters(job, network))


def describe(job: SearchJob, step: int) -> str:
    """Return a step of both phases in words."""
    outer = step - job.config.train.steps
    return f"outer step {outer}" if outer >= 0 else f"pretraining step {step}"


def _ranks(config: SearchConfig, member: Membership | None) -> int:
    """Return how many processes share the samples."""
    return count_ranks(config, member, _check_samples, parts=config.search.samples)


def _check_samples(config: SearchConfig, ranks: int) -> None:
    problem = too_many_ranks(config, ranks)
    if problem:
        raise ConfigError(problem)


def _check_steps(job: SearchJob, start: int) -> None:
    done = start - job.config.train.steps
    if done > job.config.search.steps:
        raise ConfigError(
            f"search.steps={job.config.search.steps}, but outer step {done} is already done; "
            f"give at least {done}"
        )


def _check_validation_part(config: SearchConfig, data: Data) -> list[str]:
    """Refuse parts that alpha and beta cannot be learned from; say where the part comes from."""
    share = f"data.validation={config.data.validation:g}"
    size = data.sizes["validation"]
    if not size:
        raise ConfigError(
            f"{share}: {data.name} has no validation part, which a search learns from; give a "
            "share above 0, such as 0.4"
        )
    wanted = config.search.validation_batch
    if wanted > size:
        raise ConfigError(
            f"search.validation_batch={wanted} is larger than the validation part of "
            f"{data.name}, which has {size} examples; give at most {size}"
        )
    for split in ("train", "validation"):
        missing = [n for n, count in enumerate(data.class_sizes(split) or ()) if not count]
        if missing:
            raise ConfigError(
                f"{share} leaves {_classes(missing)} without an example in the {split} part of "
                f"{data.name} ({data.sizes[split]} examples); choose another share, or more data"
            )
    if data.own_validation:
        return [f"{data.name} brings its own validation part of {size}: {share} is not used"]
    return []


def _classes(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"class{'es' * (len(numbers) > 1)} {shown}"


def _check_network(config: SearchConfig, network: Network) -> None:
    layers = len(network.layers)
    if layers < 3:
        raise ConfigError(
            f"{network.name} has {layers} layers; a search needs at least 3, so that there is "
            "more than one place to cut"
        )
    if config.blocks > layers:
        raise ConfigError(
            f"blocks={config.blocks}, but {network.name} has {layers} layers; "
            f"give blocks between 2 and {layers}"
        )


def _pool_parameters(job: SearchJob, network: Network) -> int:
    """Make every head once, to see that it fits, and count their parameters."""
    pool = candidates(network, job.config.search.heads, job.task, job.config.seed)
    return sum(p.numel() for heads in pool for head in heads for p in head.parameters())
