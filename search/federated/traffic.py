"""How many bytes go up and down, beside federated averaging of the same network.

    up      client of chunk k:  partitions k..C, and a gradient of psi where it has one
    down    every client:       all partitions and psi; defaults and assignment follow from the seed

With shares u of clients and of parameters alike, clients upload on average

    sum_k u_k sum_{j>=k} u_j        77 % for 0.7, 0.2, 0.1;  91 % for 0.9, 0.1

of all weights (Mlodozeniec et al., ICLR 2023, Table 4). The true number differs a little: shares of
a tensor are rounded to whole entries, and scales and biases of normalisation layers exist once per
partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ...models.hyperparameters import Hyperparameter
from ...models.partitioned import PartitionedModule

__all__ = ["Traffic", "nominal_share", "plain_bytes"]


def plain_bytes(module: nn.Module) -> int:
    """Return the bytes of the weights of a network that is not partitioned, without psi."""
    hyper = {
        id(own)
        for part in module.modules()
        if isinstance(part, Hyperparameter)
        for own in part.parameters()
    }
    weights = (one for one in module.parameters() if one.requires_grad)
    return sum(one.nbytes for one in weights if id(one) not in hyper)


def nominal_share(shares: Sequence[float]) -> float:
    """Return the mean upload by the shares alone, as a part of all weights."""
    return sum(share * sum(shares[place:]) for place, share in enumerate(shares))


@dataclass(frozen=True)
class Traffic:
    """The bytes of one network.

    Attributes:
        partitions: Of each partition.
        psi: Of the hyperparameters.
        plain: Of the weights of the network that is not partitioned.
        judging: For each chunk whether its clients send a gradient of psi.
    """

    partitions: tuple[int, ...]
    psi: int
    plain: int
    judging: tuple[bool, ...]

    @classmethod
    def of(cls, model: PartitionedModule, *, plain: int, judging: Sequence[bool]) -> Traffic:
        """Count.

        Args:
            model: The network.
            plain: See :func:`plain_bytes`.
            judging: For each chunk whether its clients send a gradient of psi.
        """
        own = [sum(v.nbytes for v in model.values_of(k)) for k in range(1, len(model) + 1)]
        psi = sum(one.nbytes for one in model.hyperparameters().values())
        return cls(tuple(own), psi, plain, tuple(judging))

    @property
    def down(self) -> int:
        """What a client is sent."""
        return sum(self.partitions) + self.psi

    def weights_up(self, chunk: int) -> int:
        """Return the bytes of weights that a client of a chunk, from 1, sends."""
        return sum(self.partitions[chunk - 1 :])

    def up(self, chunk: int) -> int:
        """Return all that a client of a chunk, from 1, sends."""
        return self.weights_up(chunk) + (self.psi if self.judging[chunk - 1] else 0)

    def share(self, counts: Sequence[int]) -> float:
        """Return the weights that clients send on average, as a part of federated averaging's.

        Args:
            counts: How many clients are in each chunk.
        """
        sent = sum(count * self.weights_up(k) for k, count in enumerate(counts, start=1))
        return sent / (sum(counts) * self.plain)
