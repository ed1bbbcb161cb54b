"""What stands where a subnetwork has no weights of its own.

    initial   the values at initialisation, kept for partitions 2..C
    zero      0; nothing is kept. Fine with normalisation layers, not for FixUp networks
    seeded    values at initialisation that are drawn again whenever they are needed

Partition 1 is in every subnetwork and needs no default (appendices C and D.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["DEFAULTS", "Defaults", "Initial", "Seeded", "Zero"]


class Defaults(nn.Module):
    """Yields the default values of one partition after the other."""

    def of(self, partition: int) -> Tensor:
        """Return the defaults of partition ``partition``, from 0: (its entries,), or ()."""
        raise NotImplementedError


class Zero(Defaults):
    """Everything is 0."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("zero", like.new_zeros(()), persistent=False)

    def of(self, partition: int) -> Tensor:
        """See :meth:`Defaults.of`."""
        return self.get_buffer("zero")


class Initial(Defaults):
    """The values at initialisation.

    Args:
        values: Of each partition, (its entries,).
    """

    def __init__(self, values: Sequence[Tensor]) -> None:
        super().__init__()
        for partition, initial in enumerate(values):
            if partition:
                self.register_buffer(f"partition{partition + 1}", initial.clone())

    def of(self, partition: int) -> Tensor:
        """See :meth:`Defaults.of`."""
        return self.get_buffer(f"partition{partition + 1}")


class Seeded(Defaults):
    """Normal numbers with each tensor's initial mean and deviation; what was constant stays so.

    They are drawn on the CPU, the same for every device.

    Args:
        tensors: The initial values.
        counts: For each partition how many entries it has of each tensor.
        seed: Of the draws.
    """

    def __init__(
        self, tensors: Sequence[Tensor], counts: Sequence[Sequence[int]], seed: int
    ) -> None:
        super().__init__()
        moments = [
            (tensor.double().mean().item(), tensor.double().std(correction=0).item())
            for tensor in tensors
        ]
        self._moments = [
            (tensor.flatten()[0].item(), 0.0) if (tensor == tensor.flatten()[0]).all() else moment
            for tensor, moment in zip(tensors, moments, strict=True)
        ]
        self._counts = [list(own) for own in counts]
        self._seed = seed
        self.register_buffer("like", tensors[0].new_zeros(()), persistent=False)

    def of(self, partition: int) -> Tensor:
        """See :meth:`Defaults.of`."""
        like = self.get_buffer("like")
        counts = self._counts[partition]
        generator = torch.Generator().manual_seed(self._seed)
        generator.manual_seed(int(torch.randint(2**62, (), generator=generator)) + partition)
        drawn = torch.randn(sum(counts), generator=generator)
        for part, (mean, deviation) in zip(drawn.split(counts), self._moments, strict=True):
            part.mul_(deviation).add_(mean)
        return drawn.to(like)


DEFAULTS = ("initial", "zero", "seeded")
"""The names of the kinds."""
