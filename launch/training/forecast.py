"""``dry_run=true``: the stages, devices, memory and disk of a run that is not started."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...pipeline.predsim import adjusted_cosine
from ...search.prediction.schedule import most_alive, program
from ..assembly import build_heads
from .disk import OPTIMIZER_COPIES, disk_line, state_bytes
from .method import METHODS
from .preparation import TrainPreparation
from .runtime import runtime_of

__all__ = ["forecast", "history_bytes", "saved_bytes"]


def forecast(preparation: TrainPreparation) -> str:
    """Return what a run would use: per stage, of which each replica has all, and in total.

    Activation memory is measured on the CPU, on one example of training, as the bytes that
    autograd keeps; it excludes what kernels use for themselves.
    """
    job, network = preparation.job, preparation.network
    config, task = job.config, job.task
    placement = job.placement
    heads = build_heads(network, job.decoupling, task, config.seed)
    if config.method == "predsim":
        heads = [_WithSimilarity(head) for head in heads]
    heads = [*heads, network.classifier]
    copies = 2 + (OPTIMIZER_COPIES[config.train.optimizer] if config.train.optimizer else 0)
    h = task.example(2)
    lines = [f"dry run of {job.folder.path}: nothing is started"]
    total = 0
    for stage, (first, last) in enumerate(job.decoupling.bounds(), start=1):
        body, head = network.body(first, last), heads[stage - 1]
        count = sum(p.numel() for module in (body, head) for p in module.parameters())
        saved, output = saved_bytes(body, head, h)
        replicas = placement.replicas[stage - 1]
        # The first replica has the largest share.
        share = -(-config.train.batch_size // replicas)
        batch = min(config.train.chunk or share, share)
        activations = saved // 2 * batch
        if runtime_of(config).schedule:
            activations = int(saved // 2 * batch * _alive(preparation, stage))
        link = output.numel() * output.element_size() // 2 * config.train.batch_size
        queue = 0
        if stage < job.decoupling.blocks:
            fitting = max(1, config.pipeline.queue_bytes // max(1, link))
            # Torch's pipelining has buffers for the whole batch, and our links only labels.
            waiting = 1 if runtime_of(config).schedule else config.pipeline.queue_messages
            queue = link * min(waiting, fitting)
        weights = count * 4 * copies
        message = h.numel() * h.element_size() // 2 * config.train.batch_size
        history, stored = history_bytes(
            METHODS[config.method].keeps,
            job.decoupling.blocks - stage,
            inputs=message,
            graph=activations,
            weights=count * 4,
            error=link,
        )
        total += state_bytes(config, body, head) + stored
        ring = message * config.replay.batches if stage > 1 else 0
        past = f" history {_mib(history)}," if history else ""
        past += f" replay at most {_mib(ring)}," if ring else ""
        lines.append(
            f"  stage {stage}: layers {first}-{last}, {_places(preparation, stage)}: weights,"
            f" gradients and optimizer {_mib(weights)}, activations {_mib(activations)}"
            f"{' for each replica' if replicas > 1 else ''},{past} queue behind it at most"
            f" {_mib(queue)} ({_mib(link)} per message)"
        )
        h = output
    lines.append(disk_line(config, total))
    return "\n".join(lines)


class _WithSimilarity(nn.Module):
    """What a head computes where the similarity loss is trained as well."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(h), adjusted_cosine(self.head.similarity(h))


def _alive(preparation: TrainPreparation, stage: int) -> float:
    """Return the largest share of a batch whose graphs a stage of torch's pipeline keeps."""
    job = preparation.job
    ranks, parts = job.placement.ranks, job.config.pipeline.microbatches
    rank = job.placement.rank_of(stage)
    steps = program(job.config.runtime, rank, ranks=ranks, parts=parts)
    sizes = {one - 1: float(one == stage) for one in job.placement.stages(rank)}
    return most_alive(steps, sizes) / parts


def history_bytes(
    keeps: str, delay: int, *, inputs: int, graph: int, weights: int, error: int
) -> tuple[int, int]:
    """Return what a stage keeps of the batches that it has passed on and not yet learned from.

    Args:
        keeps: ``inputs``, ``graphs`` or nothing; see :class:`~.method.Method`.
        delay: Steps until it learns from a batch.
        inputs: Bytes of a batch's input.
        graph: Bytes of a batch's graph, of which the stage has one anyway while it learns.
        weights: Bytes of its weights.
        error: Bytes of an error signal, of which two may wait.

    Returns:
        Bytes of memory at most, and bytes in a checkpoint.
    """
    if not keeps or delay == 0:
        return 0, 0
    if keeps == "inputs":
        return (delay + 1) * inputs + 2 * error, delay * inputs + error
    memory = delay * graph + (delay + 1) * weights + 2 * error
    return memory, delay * (inputs + weights) + error


def saved_bytes(body: nn.Module, head: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """Return the bytes that autograd keeps for one step of a block, and the block's output."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    parameters = {p.untyped_storage().data_ptr() for m in (body, head) for p in m.parameters()}
    modes = [(module, module.training) for part in (body, head) for module in part.modules()]
    body.eval()
    head.eval()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        h = body(x)
        head(h)
    for module, training in modes:
        module.training = training
    kept = sum(size for pointer, size in storages.items() if pointer not in parameters)
    return kept, h.detach()


def _places(preparation: TrainPreparation, stage: int) -> str:
    """Say which ranks run a stage, and where."""
    placement = preparation.job.placement
    ranks = placement.ranks_of(stage)
    if len(ranks) == 1:
        return f"rank {ranks[0]} on {placement.device(ranks[0], ranks[0])}"
    places = (f"{rank} on {placement.device(rank, rank)}" for rank in ranks)
    return f"{len(ranks)} replicas: ranks {', '.join(places)}"


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
