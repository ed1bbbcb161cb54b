"""How far the gradients of local losses point where backpropagation points.

    x --> body 1 --> h1 --> body 2 --> h2 --> ... --> classifier --> loss
            |                 |
          head 1            head 2            local: the gradient of a block's own loss
          loss 1            loss 2            backpropagation: that of the last loss, through all

The cosine between the two, per block and for all blocks together, on the batches that training
would have taken next. SEDONA (Pyeon et al., ICLR 2021), appendix C.4 and Figure 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..pipeline.block import Block
from ..pipeline.seed import derive, set_seed
from ..search.decoupling import NO_HEAD, Decoupling
from .assembly import build_criterion, build_data, build_heads, build_network, task_of
from .config import TrainConfig
from .configfile import config_from_yaml
from .folder import RunFolder
from .found import keep_psi
from .job import Objects
from .refusal import ConfigError
from .training.blocks import build_block
from .training.job import TrainJob

__all__ = ["Similarity", "similarities"]


@dataclass(frozen=True)
class Similarity:
    """Means over batches, at one checkpoint.

    Attributes:
        step: Of the checkpoint.
        blocks: The cosine of each block's body; 1 for the last, whose loss is the classifier's.
        overall: The cosine of all bodies' gradients put together.
    """

    step: int
    blocks: tuple[float, ...]
    overall: float


def similarities(folder: RunFolder, *, batches: int, device: torch.device) -> list[Similarity]:
    """Compare the gradients at every checkpoint that a run has kept; write ``gradients.json``.

    Batch norm and dropout are in training mode: these are gradients that training takes.

    Args:
        folder: The run.
        batches: How many training batches the means are over.
        device: Where.

    Raises:
        ConfigError: The run has no checkpoint, or no gradients of its own.
    """
    config = keep_psi(config_from_yaml(folder.config.read_text(), "train"), folder)
    decoupling = Decoupling.load(folder.decoupling)
    _check(config, decoupling, folder)
    checkpoints = folder.checkpoints
    steps = checkpoints.steps()
    if not steps:
        raise ConfigError(f"{folder.path} has no finished checkpoint")
    data = build_data(config, Objects(), device)
    job = TrainJob(
        command="train", config=config, task=task_of(data), folder=folder, decoupling=decoupling
    )
    blocks = _blocks(job, device)
    found = []
    for step in steps:
        checkpoint = checkpoints.read(checkpoints.path(step))
        for block in blocks:
            block.load_state_dict(checkpoint.load(f"stage-{block.index}.pt", device=device))
        following = data.train(batch_size=config.train.batch_size, start=step)
        found.append(_compare(blocks, config, step, islice(following, batches)))
    folder.write_json(folder.gradients, [asdict(one) for one in found])
    return found


def _check(config: TrainConfig, decoupling: Decoupling, folder: RunFolder) -> None:
    if NO_HEAD in decoupling.heads:
        raise ConfigError(
            f"gradients: the blocks of {folder.path} (method={config.method}) have no losses of "
            "their own to compare; take a run of a method with heads"
        )
    if decoupling.blocks == 1 and config.method != "sedona_continuous":
        raise ConfigError(
            f"gradients: {folder.path} is one block, whose gradient is backpropagation's; take a "
            "run with blocks=2 or more"
        )


def _blocks(job: TrainJob, device: torch.device) -> list[Block]:
    network = build_network(job.config, Objects(), job.task)
    heads = build_heads(network, job.decoupling, job.task, job.config.seed)
    return [
        build_block(job, stage, network=network, heads=heads, device=device)
        for stage in range(1, job.decoupling.blocks + 1)
    ]


def _compare(
    blocks: Sequence[Block],
    config: TrainConfig,
    step: int,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> Similarity:
    """Return the mean cosines over the batches."""
    criterion = build_criterion(config.train)
    rows = []
    for number, (x, y) in enumerate(batches, start=1):
        seed = derive(config.seed, "similarity", step, number)
        local = _local(blocks, x, y, seed)
        whole = _backpropagated(blocks, x, y, seed, criterion)
        cosines = [_cosine(one, other) for one, other in zip(local, whole, strict=True)]
        rows.append([*cosines, _cosine(torch.cat(local), torch.cat(whole))])
    *means, overall = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
    return Similarity(step, tuple(means), overall)


def _local(blocks: Sequence[Block], x: Tensor, y: Tensor, seed: int) -> list[Tensor]:
    """Return the gradient of each block's own loss by its body, flat."""
    gradients = []
    for block in blocks:
        _prepare(block, seed)
        x, _, loss = block.compute(x.detach(), y)
        gradients.append(_flat(torch.autograd.grad(loss, _weights(block), **_ANY)))
    return gradients


def _backpropagated(
    blocks: Sequence[Block], x: Tensor, y: Tensor, seed: int, criterion: Any
) -> list[Tensor]:
    """Return the gradient of the classifier's loss by each body, flat."""
    for block in blocks:
        _prepare(block, seed)
        x = block.body(x)
    loss = criterion(blocks[-1].head(x), y)
    weights = [_weights(block) for block in blocks]
    found = iter(torch.autograd.grad(loss, [one for group in weights for one in group], **_ANY))
    return [_flat(tuple(islice(found, len(group)))) for group in weights]


_ANY: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}


def _prepare(block: Block, seed: int) -> None:
    """Bring a block into training mode, with the same dropout in both passes."""
    for module in block.modules.values():
        module.train()
    set_seed(derive(seed, block.index), block.place.device)


def _weights(block: Block) -> list[nn.Parameter]:
    return [one for one in block.body.parameters() if one.requires_grad]


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.double().flatten() for gradient in gradients])


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one, other, dim=0))
