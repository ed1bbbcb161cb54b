"""How a federation learns: the ``federate.*`` keys. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "ASSIGNMENTS",
    "AUGMENTATIONS",
    "METHODS",
    "SERVERS",
    "SKEWS",
    "FederationSettings",
]

METHODS = ("partitioned", "fedavg", "augerino")
ASSIGNMENTS = ("exact", "random")
SKEWS = ("labels", "rotation", "none")
SERVERS = ("adam", "sgd")
AUGMENTATIONS = ("ranges", "generators", "none")


@dataclass
class FederationSettings:
    """The ``federate.*`` keys; each is explained in ``launch/conf/federate.yaml``.

    The defaults are those of Mlodozeniec et al. (ICLR 2023), appendix J, for MNIST; how many
    clients take part in a round is not stated there.
    """

    method: str = "partitioned"
    clients: int = 100
    per_round: int | None = 10
    unreachable: float = 0.0
    skew: str = "labels"
    alpha: float = 0.1
    bins: int = 10
    chunks: list[float] = field(default_factory=lambda: [0.7, 0.2, 0.1])
    assignment: str = "exact"
    epochs: int = 1
    server: str = "adam"
    server_lr: float = 1e-3
    server_eps: float = 1e-8
    augmentation: str = "ranges"
    samples: int = 10
    learn_dropout: bool = True
    psi_lr: float = 3e-3
    psi_batch: int | None = None
    psi_limit: float = 1e3
    strength: float = 0.01
    safe: bool = True

    @property
    def shares(self) -> list[float]:
        """The shares of the chunks; the baselines have one, which is everything."""
        return list(self.chunks) if self.method == "partitioned" else [1.0]
