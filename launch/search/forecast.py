"""``dry_run=true``: the ranks, devices, memory and disk of a search that is not started."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from ...search.mixed_gradient import Choices, build_graph
from ...search.relaxation import Relaxation
from ..folder import existing_parent
from .preparation import SearchPreparation
from .relaxation import build_relaxation

__all__ = ["forecast"]


def forecast(preparation: SearchPreparation) -> str:
    """Return what a search would use, per rank and on disk.

    The memory of a graph is measured on the CPU, with two examples, as the bytes that autograd
    keeps for one inner step; it excludes what kernels use for themselves.
    """
    job, config = preparation.job, preparation.job.config
    settings = config.search
    relaxation = build_relaxation(config, preparation.network, job.task, device=torch.device("cpu"))
    weights = sum(tensor.nbytes for tensor in relaxation.initial())
    snapshot = 2 * weights + sum(buffer.nbytes for buffer in relaxation.buffers())
    graph = _graph_bytes(relaxation, job.task.example(2)) // 2 * config.train.batch_size
    graphs = min(settings.inner_steps, 1 + settings.keep_graphs)
    points = (settings.inner_steps + 2) * 2 * weights
    kept = settings.memory * snapshot
    ranks = "\n".join(f"  rank {rank}: on {job.device(rank, rank)}" for rank in range(job.ranks))
    free = shutil.disk_usage(existing_parent(Path(config.runs))).free
    return "\n".join(
        [
            f"dry run of {job.folder.path}: nothing is started",
            ranks,
            f"  each rank: weights and momentum of {settings.inner_steps + 2} points "
            f"{_mib(points)}, {graphs} graph(s) of an inner step {_mib(graphs * graph)}",
            f"  each rank, in the memory of its machine: {settings.memory} snapshots of "
            f"{_mib(snapshot)}: {_mib(kept)}",
            f"  disk: {_mib(kept)} for the snapshots of a checkpoint, at most twice that: "
            f"{_mib(2 * kept)} of {_mib(free)} free",
        ]
    )


def _graph_bytes(relaxation: Relaxation, x: Tensor) -> int:
    """Return the bytes that autograd keeps for the gradients of one step and their graph."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = relaxation.initial()
    own = {tensor.untyped_storage().data_ptr() for tensor in weights}
    labels = torch.zeros(len(x), dtype=torch.int64)
    choices = Choices(*relaxation.equal_choices())
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = build_graph(relaxation, weights, x, labels, choices)
    kept = sum(size for pointer, size in storages.items() if pointer not in own)
    del graph
    return kept


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
