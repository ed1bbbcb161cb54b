"""Deciding a run: what all commands have in common.

The leader (the parent of the workers, or rank 0 under torchrun) decides, once, before any process
begins its work; the others are told. What was measured on the way is written into the run's folder
and never measured again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from ..models import MIN_SIZES, Network, check_whole
from ..pipeline.checkpoint import Checkpoint, CheckpointError
from .assembly import build_data
from .config import RunConfig
from .data import Data
from .folder import RunFolder
from .job import Job, Objects
from .refusal import ConfigError

__all__ = [
    "Preparation",
    "check_facts",
    "check_own_network",
    "check_training_part",
    "enlarged",
    "newest_checkpoint",
    "resumed_folder",
]

J = TypeVar("J", bound=Job, covariant=True)


@dataclass(frozen=True)
class Preparation(Generic[J]):
    """A decided run, and what was learned on the way for the start of the run to show.

    Attributes:
        job: The run.
        network: The network with its initial weights.
        data: The data set.
        notes: Sentences that the user should read before the run starts.
    """

    job: J
    network: Network
    data: Data
    notes: tuple[str, ...]


def resumed_folder(config: RunConfig) -> RunFolder | None:
    """Return the folder of the run to continue; None to begin a new one.

    Raises:
        ConfigError: ``resume`` does not say which, or names something else.
    """
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


def newest_checkpoint(folder: RunFolder) -> tuple[Checkpoint | None, list[str]]:
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


def check_facts(checkpoint: Checkpoint, facts: dict[str, Any]) -> None:
    """Refuse to continue from a checkpoint of something else.

    Raises:
        ConfigError: A fact differs; it is named with both values.
    """
    for key, value in facts.items():
        if checkpoint.facts.get(key) != value:
            raise ConfigError(
                f"{checkpoint.folder} is a checkpoint of {key}={checkpoint.facts.get(key)}, "
                f"this run has {key}={value}; begin a new run with another name"
            )


def enlarged(config: RunConfig, objects: Objects, data: Data) -> tuple[Data, list[str]]:
    """Pad images that are too small for the network, and say so."""
    least = MIN_SIZES.get(str(config.model.get("name")), 0)
    if config.data.size is not None or len(data.shape) != 3 or data.shape[-1] >= least:
        return data, []
    note = f"{config.model['name']} needs {least} pixels: images of {data.shape[-1]} are padded"
    config.data.size = least
    data.close()
    return build_data(config, objects, torch.device("cpu")), [note]


def check_training_part(config: RunConfig, data: Data) -> None:
    """Refuse a batch that the training part cannot make.

    Raises:
        ConfigError: The batch is larger than the part, with both numbers.
        DataError: The part has not so many classes, or not enough examples of them.
    """
    if config.train.batch_size > data.sizes["train"]:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} is larger than the training part of "
            f"{data.name}, which has {data.sizes['train']} examples; lower train.batch_size"
        )
    data.train(batch_size=config.train.batch_size)  # refuses the rest; begins nothing


def check_own_network(config: RunConfig, network: Network, data: Data) -> None:
    """Refuse a user's module that is not the sum of its layers: cutting it would change it.

    With ``psi`` its inputs may change at random, so the two cannot be compared.

    Raises:
        ConfigError: It is not.
    """
    if "name" in config.model or getattr(config, "psi", None) is not None:
        return
    try:
        check_whole(network, data.example(2)[0])
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error
