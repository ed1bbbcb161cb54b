"""Running statistics of batch norm: every subnetwork has its own.

A subnetwork's activations have their own means. They are counted in the calls that train it; a
hyperparameter step sees a chunk that its subnetwork must not know, and leaves them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .placement import Place

__all__ = ["Statistics"]

NAMES = ("running_mean", "running_var", "num_batches_tracked")


class Statistics(nn.Module):
    """Keeps the running statistics of C subnetworks; takes those of ``network`` out of it.

    Args:
        network: What has normalisation layers.
        subnetworks: C.
    """

    def __init__(self, network: nn.Module, subnetworks: int) -> None:
        super().__init__()
        self._places: list[tuple[str, str, Place]] = []
        for prefix, part in network.named_modules():
            for name in NAMES:
                buffer = part._buffers.get(name)
                if buffer is None:
                    continue
                full = f"{prefix}.{name}" if prefix else name
                key = full.replace(".", "/")
                self.register_buffer(key, torch.stack([buffer] * subnetworks))
                part._buffers[name] = None
                self._places.append((full, key, (part, name)))

    def of(self, subnetwork: int, *, count: bool) -> Iterator[tuple[Place, Tensor]]:
        """Yield the places and the tensors of a subnetwork, from 1.

        Args:
            subnetwork: Which.
            count: Whether a call in training mode changes them; else it changes copies.
        """
        for _, key, place in self._places:
            tensor = self.get_buffer(key)[subnetwork - 1]
            yield place, tensor if count else tensor.clone()

    def named(self, subnetwork: int) -> dict[str, Tensor]:
        """Return copies of a subnetwork's statistics by their names in the network."""
        return {full: self.get_buffer(key)[subnetwork - 1].clone() for full, key, _ in self._places}

    def names(self) -> list[str]:
        """Return the names in the network."""
        return [full for full, _, _ in self._places]
