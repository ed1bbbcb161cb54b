"""A run's trained network, put together again from the shards of its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models import Network, network_of
from ..models.hyperparameters import Psi
from ..pipeline.checkpoint import Checkpoint
from ..search.decoupling import Decoupling
from .assembly import build_data, build_heads, build_network, task_of
from .config import TrainConfig
from .configfile import command_of, config_from_yaml
from .data import Data
from .folder import RunFolder
from .found import keep_psi, psi_in
from .job import Objects
from .partition.assembly import attached, divide, psi_of
from .partition.config import PartitionConfig
from .refusal import ConfigError

__all__ = ["Restored", "choose_checkpoint", "load_blocks", "restore", "trained_state"]


@dataclass(frozen=True)
class Restored:
    """A run's network with its trained weights.

    Attributes:
        config: The run's configuration.
        data: Its data set.
        network: The network, trained.
        decoupling: Where it was cut.
        heads: The trained heads of all blocks, the last one the classifier.
        checkpoint: Where the weights came from.
        psi: Hyperparameters that the network has in it; None: none.
    """

    config: TrainConfig | PartitionConfig
    data: Data
    network: Network
    decoupling: Decoupling
    heads: Sequence[nn.Module]
    checkpoint: Checkpoint
    psi: Psi | None = None


def choose_checkpoint(folder: RunFolder, which: str) -> Checkpoint:
    """Return the ``last`` or the ``best`` checkpoint (by accuracy, or by L_ML) of a run.

    Raises:
        ConfigError: The run has none, or evaluated nothing on a validation split.
    """
    checkpoints = folder.checkpoints
    found = [checkpoints.read(checkpoints.path(step)) for step in checkpoints.steps()]
    if not found:
        raise ConfigError(f"{folder.path} has no finished checkpoint")
    if which == "last":
        return found[-1]
    rated = [(rating, one) for one in found if (rating := _rating(one)) is not None]
    if not rated:
        raise ConfigError(
            f"checkpoint=best: {folder.path} has no checkpoint with a validation accuracy; "
            "use checkpoint=last"
        )
    return max(rated, key=lambda pair: pair[0])[1]


def _rating(checkpoint: Checkpoint) -> float | None:
    """Return the validation accuracy of a training, or L_ML of a partitioned one."""
    return checkpoint.facts.get("validation_accuracy", checkpoint.facts.get("objective"))


def load_blocks(
    network: Network, heads: Sequence[nn.Module], decoupling: Decoupling, checkpoint: Checkpoint
) -> None:
    """Load every block's weights, and its head's, from a checkpoint."""
    for stage, (first, last) in enumerate(decoupling.bounds(), start=1):
        state = checkpoint.load(f"stage-{stage}.pt")
        network.body(first, last).load_state_dict(state["body"])
        heads[stage - 1].load_state_dict(state["head"])


def restore(folder: RunFolder, which: str, *, data_root: str | None = None) -> Restored:
    """Build a run's network, heads and data again and load what was trained.

    Args:
        folder: The run.
        which: ``last`` or ``best``.
        data_root: Where the data are, if not where they were.
    """
    text = folder.config.read_text()
    if command_of(text) == "partition":
        return _restore_partitioned(folder, text, which, data_root)
    config = keep_psi(config_from_yaml(text, "train"), folder)
    if data_root is not None:
        config.data.root = data_root
    checkpoint = choose_checkpoint(folder, which)
    data = build_data(config, Objects(), torch.device("cpu"))
    task = task_of(data)
    network = build_network(config, Objects(), task)
    decoupling = Decoupling.load(folder.decoupling)
    decoupling.check(network.name, len(network.layers))
    heads = [*build_heads(network, decoupling, task, config.seed), network.classifier]
    load_blocks(network, heads, decoupling, checkpoint)
    return Restored(config, data, network, decoupling, heads, checkpoint, psi_in(config))


def _restore_partitioned(
    folder: RunFolder, text: str, which: str, data_root: str | None
) -> Restored:
    """Return the final model, which has all partitions, as one block."""
    config = config_from_yaml(text, "partition")
    if data_root is not None:
        config.data.root = data_root
    checkpoint = choose_checkpoint(folder, which)
    data = build_data(config, Objects(), torch.device("cpu"))
    task = task_of(data)
    make = partial(build_network, config, Objects(), task, whole=True)
    network = attached(config, make(), task)
    model = divide(config, network, others=make, task=task)
    for number in range(1, len(model) + 1):
        state = checkpoint.load(f"partition-{number}.pt")
        model.load_values(number, state["values"])
        model.load_statistics(number, state["statistics"])
    learned = checkpoint.load("psi.pt")["values"]
    network.module.load_state_dict({**model.subnetwork_state(), **learned})
    decoupling = Decoupling(network.name, len(network.layers), (), ())
    psi = psi_of(config.psi)
    return Restored(config, data, network, decoupling, [network.classifier], checkpoint, psi)


def trained_state(folder: RunFolder, module: nn.Module, which: str) -> dict[str, Tensor]:
    """Return the trained weights of a run under the names they have in ``module``.

    Args:
        folder: The run.
        module: A module like the one that was trained; its weights are overwritten.
        which: ``last`` or ``best``.
    """
    network = network_of(module)
    decoupling = Decoupling.load(folder.decoupling)
    decoupling.check(network.name, len(network.layers))
    checkpoint = choose_checkpoint(folder, which)
    for stage, (first, last) in enumerate(decoupling.bounds(), start=1):
        state = checkpoint.load(f"stage-{stage}.pt")
        network.body(first, last).load_state_dict(state["body"])
        if stage == decoupling.blocks:
            network.classifier.load_state_dict(state["head"])
    return dict(module.state_dict())


def export_path(folder: RunFolder) -> Path:
    """Return where ``blockstep export`` writes."""
    return folder.path / "model.pt"
