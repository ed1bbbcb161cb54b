"""Beginning a run and going on with one: what all commands do alike whose ranks share the work.

    begin       the configuration, with what this machine decides filled in
    go_on       the saved configuration, with what was typed now on top
    position    the step after which the newest whole checkpoint was written
    keep        the configuration in the run's folder; a stop that was asked for is forgotten

``train`` divides its ranks by blocks and replicas and has its own way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from .compose import apply_overrides
from .configfile import config_from_yaml, config_to_yaml
from .devices import check_devices, cores, device_kind, threads_per_rank
from .folder import RunFolder, default_name
from .membership import Membership
from .preparation import check_facts, newest_checkpoint
from .refusal import ConfigError

__all__ = [
    "begin",
    "check_started_ranks",
    "count_ranks",
    "go_on",
    "keep",
    "position",
    "settle_evaluation",
]

C = TypeVar("C", bound=Any)
"""The configuration of a command that has ``ranks`` and ``pipeline.devices``."""

Check = Callable[[C, int], None]
"""Refuses a number of ranks that cannot share the work."""


def check_started_ranks(config: C, member: Membership, check: Check[C]) -> None:
    """Refuse a number of ranks that torchrun started and that the run cannot use.

    Args:
        config: The composed configuration.
        member: This rank.
        check: Refuses what cannot share the work.

    Raises:
        ConfigError: ``ranks`` says otherwise, with both numbers, or ``check`` refuses.
    """
    if config.resume is not None:
        return  # decided when the saved configuration is known
    if config.ranks not in (None, member.world):
        raise ConfigError(
            f"ranks={config.ranks}, but torchrun started {member.world}; leave ranks out, or "
            f"start {config.ranks} (--nproc-per-node)"
        )
    check(config, member.world)


def begin(
    command: str, config: C, member: Membership | None, *, ranks: Callable[[C], int]
) -> tuple[C, RunFolder]:
    """Return the configuration of a new run and its folder, and set this process's threads.

    Args:
        command: The command.
        config: The composed configuration; it stays as it is.
        member: This rank, when a launcher outside has started all of them.
        ranks: Says how many share the work; the device is decided by then.
    """
    config = copy.deepcopy(config)
    name = config.name or default_name(command)
    config.name = name
    config.device = device_kind(config.device, config.pipeline.devices or ())
    config.ranks = ranks(config)
    if config.train.threads is None:
        config.train.threads = threads_per_rank(member.local_world if member else config.ranks)
    torch.set_num_threads(config.train.threads)
    return config, RunFolder(Path(config.runs) / name)


def count_ranks(config: C, member: Membership | None, check: Check[C], *, parts: int | None) -> int:
    """Return how many processes share the work.

    Args:
        config: The configuration; its device is decided.
        member: This rank, when a launcher outside has started all of them.
        check: Refuses what cannot share the work.
        parts: Into how many the work can be divided at most; None: one process does it, unless
            more devices were named.

    Raises:
        ConfigError: The devices are not as many, or ``check`` refuses.
    """
    devices = config.pipeline.devices or ()
    if member is not None:
        ranks = member.world
    elif config.ranks is not None:
        ranks = config.ranks
    elif devices:
        ranks = len(devices)
    elif parts is None:
        ranks = 1
    else:
        places = torch.cuda.device_count() if config.device == "cuda" else cores()
        ranks = min(parts, places)
    check_devices(devices, ranks)
    check(config, ranks)
    return ranks


def settle_evaluation(config: Any) -> None:
    """Fill in how often is evaluated, and in which batches, where nothing was said."""
    if config.evaluate.every is None:
        config.evaluate.every = max(1, config.train.steps // 10)
    if config.evaluate.batch_size is None:
        config.evaluate.batch_size = config.train.batch_size


def go_on(
    command: str,
    folder: RunFolder,
    overrides: Sequence[str],
    member: Membership | None,
    *,
    kind: type[C],
    check: Check[C],
) -> C:
    """Return the configuration of a run that continues, and set this process's threads.

    Args:
        command: The command.
        folder: Of the run.
        overrides: What was typed now; not everything can differ.
        member: This rank, when a launcher outside has started all of them.
        kind: The command's configuration.
        check: Refuses what cannot share the work.

    Raises:
        ConfigError: The saved configuration cannot be read, or something typed is refused.
    """
    try:
        before = config_from_yaml(folder.config.read_text(), command)
    except ConfigError as error:
        raise ConfigError(f"resume={folder.path}: {error}") from error
    assert isinstance(before, kind)
    now: C = apply_overrides(before, overrides)
    now.resume = None
    now.name, now.runs = before.name, before.runs
    if member is not None:
        now.ranks = member.world
    check(now, now.ranks or 1)
    check_devices(now.pipeline.devices or (), now.ranks or 1)
    torch.set_num_threads(now.train.threads or 1)
    return now


def position(folder: RunFolder, facts: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Return the step of the newest whole checkpoint, 0 if there is none, and what to tell.

    Raises:
        ConfigError: It is the checkpoint of something else.
    """
    checkpoint, notes = newest_checkpoint(folder)
    if checkpoint is None:
        return 0, notes
    check_facts(checkpoint, dict(facts))
    return checkpoint.step, notes


def keep(folder: RunFolder, config: Any) -> None:
    """Write the configuration of a run that goes on."""
    folder.stop_request.unlink(missing_ok=True)
    folder.config.write_text(config_to_yaml(config))
