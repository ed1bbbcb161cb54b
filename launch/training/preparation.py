"""Deciding a training: everything is checked and resolved here, before any process trains."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...models import Network
from ...pipeline.optimization import Schedule
from ...search import (
    Decoupling,
    balanced_cuts,
    predicted,
    published,
    random_cuts,
    random_heads,
    random_split,
    uniform,
)
from ...search.decoupling import NO_HEAD, DecouplingError, head_name
from ..assembly import build_data, build_heads, build_network, task_of
from ..compose import apply_overrides
from ..config import TrainConfig
from ..configfile import config_from_yaml, config_to_yaml
from ..data import Data
from ..devices import threads_per_rank
from ..folder import RunFolder, default_name
from ..found import adopt_psi, keep_psi
from ..job import Objects
from ..measurement import measure_profile
from ..membership import Membership
from ..preparation import (
    Preparation,
    check_facts,
    check_own_network,
    check_training_part,
    enlarged,
    newest_checkpoint,
    resumed_folder,
)
from ..refusal import ConfigError
from .blocks import head_loss
from .job import TrainJob
from .method import METHODS
from .placement import place
from .runtime import runtime_of
from .sharing import begin_division, block_seconds, check_metrics, divide, keep_replicas

__all__ = ["TrainPreparation", "prepare"]

PUBLISHED_POOL = ("aux1", "aux2", "aux3", "aux4")


@dataclasses.dataclass(frozen=True)
class TrainPreparation(Preparation[TrainJob]):
    """A decided training.

    Attributes:
        block_seconds: Predicted seconds per step of each block, if the split was measured.
    """

    block_seconds: list[float] | None


def prepare(
    command: str,
    config: TrainConfig,
    objects: Objects,
    *,
    overrides: Sequence[str] = (),
    member: Membership | None = None,
    create: bool = True,
) -> TrainPreparation:
    """Decide a training.

    Args:
        command: The command, e.g. ``"train"``.
        config: The composed and validated configuration.
        objects: What a Python caller brought along.
        overrides: What the user typed; applied on top of the saved configuration on resume.
        member: This rank, when a launcher outside has started all of them.
        create: Whether to make the run's folder (not for a dry run).

    Raises:
        ConfigError: The run cannot be as asked; the message has both values and the fix.
    """
    saved = resumed_folder(config)
    if saved is not None:
        return _resume(command, saved, objects, overrides, member=member)
    config = copy.deepcopy(config)
    config.name = config.name or default_name(command)
    if objects.network is not None:
        config.model = {"python": type(objects.network).__name__}
    local_ranks = member.local_world if member else None
    to_divide = begin_division(config, member)
    placement = place(config, local_ranks=local_ranks)
    config.device, config.pipeline.link = placement.kind, placement.link
    if config.train.threads is None:
        config.train.threads = threads_per_rank(
            local_ranks or sum(placement.replicas) // placement.chunks
        )
    if config.cuts is None:
        config.decoupling = config.decoupling or METHODS[config.method].decoupling
    if config.evaluate.every is None:
        config.evaluate.every = max(1, config.train.steps // 10)
    if config.evaluate.batch_size is None:
        # Tensors of the same sizes as in training find their memory there already.
        config.evaluate.batch_size = config.train.chunk or config.train.batch_size
    torch.set_num_threads(config.train.threads)
    data = build_data(config, objects, torch.device("cpu"))
    data, notes = enlarged(config, objects, data)
    check_training_part(config, data)
    task = task_of(data)
    network = build_network(config, objects, task)
    decoupling, seconds = _decouple(config, network, data)
    _check_heads(config, decoupling)
    if to_divide is not None:
        seconds = seconds or block_seconds(config, network, data, decoupling)
        config.pipeline.replicas = divide(config, seconds, to_divide)
    check_metrics(config, task.classes)
    folder = RunFolder(Path(config.runs) / config.name)
    job = TrainJob(command=command, config=config, task=task, folder=folder, decoupling=decoupling)
    build_heads(network, decoupling, task, config.seed)
    check_own_network(config, network, data)
    _check_blocks(decoupling, network)
    if create:
        folder.create()
        adopt_psi(config, folder)
        folder.config.write_text(config_to_yaml(config))
        decoupling.save(folder.decoupling)
    notes += _notes(config)
    return TrainPreparation(job, network, data, (*data.notes, *notes), seconds)


def _resume(
    command: str,
    folder: RunFolder,
    objects: Objects,
    overrides: Sequence[str],
    *,
    member: Membership | None,
) -> TrainPreparation:
    """Continue a run as it was; only what was typed now may differ, and not everything."""
    before = config_from_yaml(folder.config.read_text(), command)
    now = apply_overrides(before, overrides)
    now.resume = None
    now.name, now.runs = before.name, before.runs
    keep_replicas(before, now, member)
    now = keep_psi(now, folder)
    decoupling = Decoupling.load(folder.decoupling)
    torch.set_num_threads(now.train.threads or 1)
    data = build_data(now, objects, torch.device("cpu"))
    task = task_of(data)
    network = build_network(now, objects, task)
    decoupling.check(network.name, len(network.layers))
    job = TrainJob(command=command, config=now, task=task, folder=folder, decoupling=decoupling)
    checkpoint, notes = newest_checkpoint(folder)
    start = checkpoint.step if checkpoint else 0
    if checkpoint is not None:
        check_facts(checkpoint, job.facts)
    measured = folder.read_json(folder.measured) if folder.measured.exists() else {}
    job = dataclasses.replace(job, start=start, measured=measured)
    notes += _schedule_notes(before, now, start)
    folder.stop_request.unlink(missing_ok=True)
    folder.config.write_text(config_to_yaml(now))
    return TrainPreparation(job, network, data, tuple(notes), None)


def _schedule_notes(before: TrainConfig, now: TrainConfig, start: int) -> list[str]:
    """Say what other steps mean for the learning rate."""
    if now.train.steps < start:
        raise ConfigError(
            f"train.steps={now.train.steps}, but step {start} is already done; "
            f"give at least {start}"
        )
    if before.train.steps == now.train.steps:
        if start == now.train.steps:
            return [f"all {start} steps are done; train.steps=N with N > {start} trains on"]
        return []
    old, new = Schedule(before.train), Schedule(now.train)
    step = min(start + 1, now.train.steps)
    return [
        f"train.steps was {before.train.steps} and is {now.train.steps}: the "
        f"{now.train.schedule} schedule is stretched to the new end, so step {step} has learning "
        f"rate {new.lr(step):.4g} (the old schedule: {old.lr(min(step, before.train.steps)):.4g})"
    ]


def _decouple(
    config: TrainConfig, network: Network, data: Data
) -> tuple[Decoupling, list[float] | None]:
    """Find the cuts and heads that ``decoupling``, ``cuts`` and ``heads`` ask for."""
    layers, blocks = len(network.layers), config.blocks
    if blocks > layers:
        raise ConfigError(
            f"blocks={blocks}, but {network.name} has {layers} layers; "
            f"give blocks between 1 and {layers}"
        )
    kind = config.decoupling or ""
    seconds = None
    try:
        if config.method == "sedona_continuous":
            return _learned(config, network), None
        if config.cuts is not None:
            cuts = tuple(config.cuts)
        elif kind == "uniform":
            cuts = uniform(layers, blocks)
        elif kind == "random":
            cuts = random_split(layers, blocks, seed=config.seed)
        elif kind == "balanced":
            cuts, seconds = _balance(config, network, data)
        else:
            return _found(config, kind, network), None
        heads = _heads(config, len(cuts))
        return Decoupling(network.name, layers, cuts, heads), seconds
    except DecouplingError as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        raise ConfigError(f"decoupling={kind}: {error}") from error


def _found(config: TrainConfig, kind: str, network: Network) -> Decoupling:
    """Take a published decoupling or a file."""
    if kind.startswith("sedona/"):
        found = published(kind.removeprefix("sedona/"), config.blocks)
    elif kind.endswith(".json") or Path(kind).exists():
        found = Decoupling.load(Path(kind)).for_blocks(config.blocks)
    else:
        raise ConfigError(
            f"decoupling={kind}: valid are uniform, balanced, random, sedona/NETWORK and the path "
            "of a decoupling.json"
        )
    found.check(network.name, len(network.layers))
    if config.ablation == "alpha":
        found = random_cuts(found, seed=config.seed)
    elif config.ablation == "beta":
        found = random_heads(found, found.pool or PUBLISHED_POOL, seed=config.seed)
    if METHODS[config.method].heads == NO_HEAD:
        found = found.with_heads(NO_HEAD)
    return found if config.heads is None else found.with_heads(config.heads)


def _learned(config: TrainConfig, network: Network) -> Decoupling:
    """Take what a search learned, with no cut made."""
    found = Decoupling.load(Path(config.decoupling or ""))
    found.check(network.name, len(network.layers))
    for key in ("alpha", "beta"):
        rows = getattr(found, key) or ()
        if found.pool is None or len(rows) != found.layers - 1:
            raise ConfigError(
                f"method=sedona_continuous: {config.decoupling} has {len(rows)} rows of {key} and "
                f"{len(found.pool or ())} heads in its pool; it needs {found.layers - 1} rows and "
                "the pool, so give the decoupling.json of a search"
            )
    return dataclasses.replace(found, cuts=(), heads=(), by_blocks=None)


def _heads(config: TrainConfig, count: int) -> tuple[Any, ...]:
    spec = METHODS[config.method].heads if config.heads is None else config.heads
    if not isinstance(spec, list):
        return (spec,) * count
    if len(spec) != count:
        raise ConfigError(
            f"heads={spec} names {len(spec)} heads for {count} cuts; give one for each block but "
            "the last (its head is the classifier), or one for all"
        )
    return tuple(spec)


def _check_heads(config: TrainConfig, decoupling: Decoupling) -> None:
    """Refuse the heads of a decoupling where the method has its own."""
    method = METHODS[config.method]
    others = [head_name(head) for head in decoupling.heads if head != method.heads]
    if method.fixed_heads and others:
        raise ConfigError(
            f"decoupling={config.decoupling} has the head {others[0]}, but method={config.method} "
            f"needs what {method.heads} has; add heads={method.heads} to take only the cuts"
        )


def _notes(config: TrainConfig) -> list[str]:
    """Say what differs from what the method's authors do, or from the method in one process."""
    if runtime_of(config).schedule:
        parts, size = config.pipeline.microbatches, config.train.batch_size
        return [
            f"torch's pipelining: {parts} micro-batches of {size // parts} examples; batch "
            "normalisation sees each by itself"
        ]
    smoothing = config.train.label_smoothing
    if config.method == "predsim" and smoothing:
        return [
            f"train.label_smoothing={smoothing:g} smooths the cross entropies, not the similarity "
            "loss; PredSim was published without (train.label_smoothing=0)"
        ]
    return []


def _balance(
    config: TrainConfig, network: Network, data: Data
) -> tuple[tuple[int, ...], list[float] | None]:
    """Measure each layer and head here and make the slowest block as fast as possible."""
    if config.blocks == 1:
        return (), None
    heads = _heads(config, config.blocks - 1)
    head = heads[0]
    device = place(config).device(0, 0)
    measured = [] if head == NO_HEAD else [head]
    profile = measure_profile(
        config, network, data, heads=measured, device=device, head_loss=head_loss(config)
    )
    replays = METHODS[config.method].keeps == "inputs"
    cuts = balanced_cuts(profile, config.blocks, head, replays=replays)
    return cuts, predicted(profile, cuts, head, replays=replays)


def _check_blocks(decoupling: Decoupling, network: Network) -> None:
    """Heads have parameters; a block without one, and the last, may have nothing to train."""
    heads: list[nn.Module] = [nn.Identity()] * len(decoupling.cuts) + [network.classifier]
    known = [*(head == NO_HEAD for head in decoupling.heads), True]
    for block, (first, last) in enumerate(decoupling.bounds()):
        modules = (network.body(first, last), heads[block])
        parameters = itertools.chain(*(module.parameters() for module in modules))
        if known[block] and not any(parameter.requires_grad for parameter in parameters):
            which = "the last block" if last == decoupling.layers else f"block {block + 1}"
            where = "earlier" if last == decoupling.layers else "elsewhere"
            raise ConfigError(
                f"{which} (layers {first}-{last}) has no parameters to train; cut {where}"
            )
