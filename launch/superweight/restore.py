"""A run's ensemble with its trained weights, put together again from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...pipeline.checkpoint import Checkpoint
from ...search.sharing.company import Post
from ...search.sharing.file import SharingError
from ...search.sharing.training import EnsembleTraining
from ..assembly import build_data, task_of
from ..configfile import config_from_yaml
from ..data import Data
from ..folder import RunFolder
from ..job import Objects
from ..refusal import ConfigError
from ..restore import choose_checkpoint
from .config import SuperWeightConfig
from .job import SHARED, SuperWeightJob, member_shard
from .members import budget_of, build_members, learns_sharing, uses_of_members
from .method import METHODS
from .rank import make_training
from .source import EnsembleSource

__all__ = ["RestoredEnsemble", "restore_ensemble"]


@dataclass(frozen=True)
class RestoredEnsemble:
    """A run's ensemble, trained.

    Attributes:
        job: What the run was.
        data: Its data set.
        training: Its training, at the step of the checkpoint; all members are here.
        checkpoint: Where the weights came from.
    """

    job: SuperWeightJob
    data: Data
    training: EnsembleTraining
    checkpoint: Checkpoint


def restore_ensemble(
    folder: RunFolder,
    which: str,
    *,
    device: torch.device,
    data_root: str | None = None,
) -> RestoredEnsemble:
    """Build a run's members and data again, and load what was trained.

    Args:
        folder: The run.
        which: ``last`` or ``best``.
        device: Where.
        data_root: Where the data are, if not where they were.

    Raises:
        ConfigError: There is no checkpoint, or its sharing does not fit its members.
    """
    config: SuperWeightConfig = config_from_yaml(folder.config.read_text(), "superweight")
    if data_root is not None:
        config.data.root = data_root
    checkpoint = choose_checkpoint(folder, which)
    data = build_data(config, Objects(), device)
    task = task_of(data)
    networks = build_members(config, task)
    uses = uses_of_members(config, networks)
    job = SuperWeightJob(
        command="superweight",
        config=config,
        task=task,
        folder=folder,
        networks=tuple(network.name for network in networks),
        budget=budget_of(config, uses) if METHODS[config.method].templates else 0,
        learned=learns_sharing(config, networks),
        sharing=None,
        posts=(tuple(Post(member) for member in range(len(networks))),),
    )
    source = EnsembleSource(data, batch_size=config.train.batch_size)
    training = make_training(job, source, device)
    try:
        training.load(checkpoint.load(SHARED), lambda member: checkpoint.load(member_shard(member)))
    except (SharingError, RuntimeError) as error:
        raise ConfigError(
            f"{checkpoint.folder} does not fit the members of {folder.config}: {error}"
        ) from error
    return RestoredEnsemble(job, data, training, checkpoint)
