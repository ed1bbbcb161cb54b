"""How well the hyperparameters do: the loss of each chunk at a network that has not seen it.

    L_ML = sum_{k=2..C} log p(D_k | subnetwork k - 1, psi)          (Eq. 2, in nats)

It is a sum over examples: values compare only for the same data and the same chunks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...models.mode import evaluating
from ...models.partitioned import PartitionedModule
from ...pipeline.seed import derive, set_seed
from .chunks import Chunks
from .examples import Examples

__all__ = ["chunk_likelihood", "chunk_likelihoods", "log_likelihood"]


@torch.no_grad()
def log_likelihood(
    model: PartitionedModule,
    examples: Examples,
    indices: torch.Tensor,
    *,
    subnetwork: int | None = None,
    batch_size: int = 1000,
) -> tuple[float, float]:
    """Return the sum of log p(y | x) over examples, in nats, and the share that is right.

    Evaluation mode; what is random draws from torch's generator.

    Args:
        model: The network.
        examples: The data.
        indices: int64 (n,), at least one.
        subnetwork: Which one answers; None: the last.
        batch_size: Of the evaluation.
    """
    likelihood = right = None
    with evaluating(model):
        for part in indices.split(batch_size):
            x, y = examples.batch(part, None)
            logits = model(x, subnetwork=subnetwork, learning=()).float()
            summed = -F.cross_entropy(logits, y, reduction="sum").double()
            hits = (logits.argmax(1) == y).sum()
            likelihood = summed if likelihood is None else likelihood + summed
            right = hits if right is None else right + hits
    assert likelihood is not None
    assert right is not None
    return likelihood.item(), right.item() / len(indices)


def chunk_likelihoods(
    model: PartitionedModule,
    examples: Examples,
    chunks: Chunks,
    *,
    seed: int,
    device: torch.device,
    batch_size: int = 1000,
) -> list[float]:
    """Return log p(D_k | subnetwork k - 1, psi) for k = 2..C; their sum is L_ML.

    Args:
        model: The network.
        examples: The data.
        chunks: Its chunks.
        seed: Of what is random, such as augmentation; the same for every chunk and step.
        device: Where the network is.
        batch_size: Of the evaluation.
    """
    return [
        chunk_likelihood(
            model, examples, chunks, number, seed=seed, device=device, batch_size=batch_size
        )
        for number in range(2, len(chunks) + 1)
    ]


def chunk_likelihood(
    model: PartitionedModule,
    examples: Examples,
    chunks: Chunks,
    number: int,
    *,
    seed: int,
    device: torch.device,
    batch_size: int = 1000,
) -> float:
    """Return log p(D_k | subnetwork k - 1, psi) of one chunk k, from 2; see above for the rest."""
    set_seed(derive(seed, "objective", number), device)
    likelihood, _ = log_likelihood(
        model, examples, chunks.of(number), subnetwork=number - 1, batch_size=batch_size
    )
    return likelihood
