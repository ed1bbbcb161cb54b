"""How SEDONA searches: the ``search.*`` keys. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["BATCH_NORM_MODES", "PREFERENCES", "SearchSettings"]

BATCH_NORM_MODES = ("batch", "running")
PREFERENCES = ("accuracy", "balanced", "speed")


@dataclass
class SearchSettings:
    """The ``search.*`` keys; each is explained in ``launch/conf/search.yaml``.

    The defaults are the paper's (SEDONA, section 3.3 and appendix E.1). How the weights are trained
    meanwhile, in the pretraining and in the inner steps, is said by ``train.*``.
    """

    heads: list[Any] = field(default_factory=lambda: ["aux1", "aux2", "aux3", "aux4"])
    steps: int = 2000
    inner_steps: int = 5
    samples: int = 1
    memory: int = 50
    pretrain_every: int = 80
    lr: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: float = 1e-6
    validation_batch: int = 1024
    batch_norm: str = "batch"
    keep_graphs: int = 0
    prefer: str = "accuracy"
    profile: bool = True
