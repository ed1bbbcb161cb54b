"""Deciding a run: everything is checked and resolved here, once, before any process trains.

The leader (the parent of the workers, or rank 0 under torchrun) does this alone; the others are
told. What was measured on the way (the balance of the blocks) is written into the run's folder
and never measured again.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..models import MIN_SIZES, Network, check_whole
from ..pipeline.block import autocast
from ..pipeline.checkpoint import Checkpoint, CheckpointError
from ..pipeline.memory import keeping_freed_memory
from ..pipeline.optimization import Schedule
from ..pipeline.optimizer import make_optimizer
from ..search import (
    Decoupling,
    balanced_cuts,
    predicted,
    profile_network,
    published,
    random_split,
    uniform,
)
from ..search.decoupling import DecouplingError
from .assembly import build_criterion, build_data, build_heads, build_network, task_of
from .compose import apply_overrides
from .config import TrainConfig
from .configfile import config_from_yaml, config_to_yaml
from .data import Data
from .folder import RunFolder, default_name
from .job import Job, Objects
from .placement import place, threads_per_rank
from .refusal import ConfigError

__all__ = ["Preparation", "prepare"]

DEFAULT_HEAD = "aux1"


@dataclasses.dataclass(frozen=True)
class Preparation:
    """A decided run, and what was learned on the way for the start of the run to show.

    Attributes:
        job: The run.
        network: The network with its initial weights.
        data: The data set.
        block_seconds: Predicted seconds per step of each block, if the split was measured.
        notes: Sentences that the user should read before the run starts.
    """

    job: Job
    network: Network
    data: Data
    block_seconds: list[float] | None
    notes: tuple[str, ...]


def prepare(
    command: str,
    config: TrainConfig,
    objects: Objects,
    *,
    overrides: Sequence[str] = (),
    local_ranks: int | None = None,
    create: bool = True,
) -> Preparation:
    """Decide a run.

    Args:
        command: The command, e.g. ``"train"``.
        config: The composed and validated configuration.
        objects: What a Python caller brought along.
        overrides: What the user typed; applied on top of the saved configuration on resume.
        local_ranks: Ranks per machine when a launcher outside decides that.
        create: Whether to make the run's folder (not for a dry run).

    Raises:
        ConfigError: The run cannot be as asked; the message has both values and the fix.
    """
    saved = _resumed_folder(config)
    if saved is not None:
        return _resume(command, saved, objects, overrides)
    config = copy.deepcopy(config)
    config.name = config.name or default_name(command)
    if objects.network is not None:
        config.model = {"python": type(objects.network).__name__}
    placement = place(config, local_ranks=local_ranks)
    config.device, config.pipeline.link = placement.kind, placement.link
    if config.train.threads is None:
        config.train.threads = threads_per_rank(local_ranks or config.blocks)
    if config.evaluate.every is None:
        config.evaluate.every = max(1, config.train.steps // 10)
    torch.set_num_threads(config.train.threads)
    data = build_data(config, objects, torch.device("cpu"))
    data, notes = _enlarge(config, objects, data)
    _check_data(config, data)
    task = task_of(data)
    network = build_network(config, objects, task)
    decoupling, seconds = _decouple(config, network, data)
    folder = RunFolder(Path(config.runs) / config.name)
    job = Job(command, config, decoupling, task, folder)
    build_heads(network, decoupling, task, config.seed)
    _check_own_network(config, network, data)
    _check_last_block(decoupling, network)
    if create:
        folder.create()
        folder.config.write_text(config_to_yaml(config))
        decoupling.save(folder.decoupling)
    return Preparation(job, network, data, seconds, (*data.notes, *notes))


def _resumed_folder(config: TrainConfig) -> RunFolder | None:
    """Return the folder of the run to continue; None to begin a new one."""
    if config.resume is None:
        return None
    if config.resume == "auto":
        if config.name is None:
            raise ConfigError("resume=auto needs the run's name: add name=NAME")
        folder = RunFolder(Path(config.runs) / config.name)
        return folder if folder.config.exists() else None
    folder = RunFolder(Path(config.resume))
    if not folder.config.exists():
        raise ConfigError(f"resume={config.resume} is not the folder of a run: no config.yaml")
    return folder


def _resume(
    command: str, folder: RunFolder, objects: Objects, overrides: Sequence[str]
) -> Preparation:
    """Continue a run as it was; only what was typed now may differ, and not everything."""
    before = config_from_yaml(folder.config.read_text(), command)
    now = apply_overrides(before, overrides)
    now.resume = None
    now.name, now.runs = before.name, before.runs
    decoupling = Decoupling.load(folder.decoupling)
    torch.set_num_threads(now.train.threads or 1)
    data = build_data(now, objects, torch.device("cpu"))
    task = task_of(data)
    network = build_network(now, objects, task)
    decoupling.check(network.name, len(network.layers))
    job = Job(command, now, decoupling, task, folder)
    checkpoint, notes = _newest(folder)
    start = checkpoint.step if checkpoint else 0
    if checkpoint is not None:
        _check_facts(checkpoint, job.facts)
    measured = folder.read_json(folder.measured) if folder.measured.exists() else {}
    job = dataclasses.replace(job, start=start, measured=measured)
    notes += _schedule_notes(before, now, start)
    folder.stop_request.unlink(missing_ok=True)
    folder.config.write_text(config_to_yaml(now))
    return Preparation(job, network, data, None, tuple(notes))


def _newest(folder: RunFolder) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint whose files are whole; name those that are not."""
    checkpoints = folder.checkpoints
    notes = []
    for step in reversed(checkpoints.steps()):
        try:
            checkpoint = checkpoints.read(checkpoints.path(step))
            checkpoint.verify()
        except CheckpointError as error:
            aside = checkpoints.set_aside(step)
            notes.append(f"the checkpoint of step {step} is passed over: {error}; see {aside}")
        else:
            return checkpoint, [*notes, f"continues after step {step}"]
    return None, [*notes, "there is no checkpoint yet: begins at step 1"]


def _check_facts(checkpoint: Checkpoint, facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        if checkpoint.facts.get(key) != value:
            raise ConfigError(
                f"{checkpoint.folder} is a checkpoint of {key}={checkpoint.facts.get(key)}, "
                f"this run has {key}={value}; begin a new run with another name"
            )


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


def _enlarge(config: TrainConfig, objects: Objects, data: Data) -> tuple[Data, list[str]]:
    """Pad images that are too small for the network, and say so."""
    least = MIN_SIZES.get(str(config.model.get("name")), 0)
    if config.data.size is not None or len(data.shape) != 3 or data.shape[-1] >= least:
        return data, []
    note = f"{config.model['name']} needs {least} pixels: images of {data.shape[-1]} are padded"
    config.data.size = least
    data.close()
    return build_data(config, objects, torch.device("cpu")), [note]


def _check_data(config: TrainConfig, data: Data) -> None:
    if config.train.batch_size > data.sizes["train"]:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} is larger than the training part of "
            f"{data.name}, which has {data.sizes['train']} examples; lower train.batch_size"
        )


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
    kind = config.decoupling
    seconds = None
    try:
        if config.cuts is not None:
            cuts = tuple(config.cuts)
        elif kind == "uniform":
            cuts = uniform(layers, blocks)
        elif kind == "random":
            cuts = random_split(layers, blocks, seed=config.seed)
        elif kind == "balanced":
            cuts, seconds = _balance(config, network, data)
        else:
            return _found(config, network), None
        heads = _heads(config, len(cuts))
        return Decoupling(network.name, layers, cuts, heads), seconds
    except DecouplingError as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        raise ConfigError(f"decoupling={kind}: {error}") from error


def _found(config: TrainConfig, network: Network) -> Decoupling:
    """Take a published decoupling or a file."""
    kind = config.decoupling
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
    return found if config.heads is None else found.with_heads(config.heads)


def _heads(config: TrainConfig, count: int) -> tuple[Any, ...]:
    spec = DEFAULT_HEAD if config.heads is None else config.heads
    if not isinstance(spec, list):
        return (spec,) * count
    if len(spec) != count:
        raise ConfigError(
            f"heads={spec} names {len(spec)} heads for {count} cuts; give one for each block but "
            "the last (its head is the classifier), or one for all"
        )
    return tuple(spec)


def _balance(
    config: TrainConfig, network: Network, data: Data
) -> tuple[tuple[int, ...], list[float] | None]:
    """Measure each layer and head here and make the slowest block as fast as possible."""
    if config.blocks == 1:
        return (), None
    heads = _heads(config, config.blocks - 1)
    head = heads[0]
    device = place(config).device(0, 0)
    x, y = (tensor.to(device) for tensor in data.example(config.train.batch_size))
    if config.train.channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    # As in the workers: with the allocator's default, large tensors look slower than they are.
    with keeping_freed_memory():
        profile = profile_network(
            network,
            x,
            y,
            heads=[head],
            make_optimizer=lambda parameters: make_optimizer(parameters, config.train),
            loss=build_criterion(config.train),
            autocast=lambda: autocast(device, config.train.precision),
            seed=config.seed,
        )
    cuts = balanced_cuts(profile, config.blocks, head)
    return cuts, predicted(profile, cuts, head)


def _check_own_network(config: TrainConfig, network: Network, data: Data) -> None:
    """A user's module must be the sum of its layers, or cutting it would change it."""
    if "name" in config.model:
        return
    try:
        check_whole(network, data.example(2)[0])
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def _check_last_block(decoupling: Decoupling, network: Network) -> None:
    """Other blocks have heads with parameters; the last one may have nothing to train."""
    first, last = decoupling.bounds()[-1]
    modules = (network.body(first, last), network.classifier)
    parameters = itertools.chain(*(module.parameters() for module in modules))
    if not any(parameter.requires_grad for parameter in parameters):
        raise ConfigError(
            f"the last block (layers {first}-{last}) has no parameters to train; cut earlier"
        )
