"""``dry_run=true``: the partitions, devices, memory and disk of a run that is not started."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from ..folder import existing_parent
from .announcement import partition_lines
from .preparation import PartitionPreparation

__all__ = ["forecast"]

OPTIMIZER_COPIES = {"sgd": 1, "adam": 2, "adamw": 2}
"""Tensors of a parameter's size that the optimizer keeps."""


def forecast(preparation: PartitionPreparation) -> str:
    """Return what a run would use, per rank and on disk.

    The memory of activations is measured on the CPU, with two examples, as the bytes that autograd
    keeps for a step of the last partition; it excludes what kernels use for themselves.
    """
    job, config, model = preparation.job, preparation.job.config, preparation.model
    weights = sum(one.nbytes for k in range(1, len(model) + 1) for one in model.values_of(k))
    kept = sum(one.nbytes for one in model.buffers()) + weights  # the composed weights once more
    copies = OPTIMIZER_COPIES[config.train.optimizer]
    activations = _saved_bytes(preparation, job.task.example(2)) // 2 * config.train.batch_size
    free = shutil.disk_usage(existing_parent(Path(config.runs))).free
    disk = (1 + copies) * weights
    lines = [
        f"dry run of {job.folder.path}: nothing is started",
        *partition_lines(preparation),
        *(f"  rank {rank}: on {job.device(rank, rank)}" for rank in range(job.ranks)),
    ]
    for rank in range(job.ranks):
        own = sum(one.nbytes for k in job.owned(rank) for one in model.values_of(k))
        lines.append(
            f"  rank {rank}: all partitions {_mib(weights)}, defaults, assignment and composed "
            f"weights {_mib(kept)}, gradients and {config.train.optimizer} of its own "
            f"{_mib((1 + copies) * own)}, activations of a batch {_mib(activations)}"
        )
    lines.append(
        f"  disk: {_mib(disk)} for a checkpoint, {config.checkpoint.keep} are kept: "
        f"{_mib(disk * config.checkpoint.keep)} of {_mib(free)} free"
    )
    return "\n".join(lines)


def _saved_bytes(preparation: PartitionPreparation, x: Tensor) -> int:
    """Return the bytes that autograd keeps for a training step on ``x``, without the weights."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    model = preparation.model
    largest = sum(model.sizes) * 4
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(x, learning=len(model))
    del logits
    # One storage holds all composed weights; it is counted with them.
    return sum(storages.values()) - (largest if largest in storages.values() else 0)


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
