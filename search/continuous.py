"""Training with what a search learned, without choosing: "SEDONA (Cont.)".

    x --> [layer 1] --> [layer 2] --> ... --> [layer L] --> classifier --> loss L
              |             |
           heads mixed   heads mixed          softmax(beta) weighs the heads,
              |             |                 softmax(alpha) the errors that meet
           loss 1        loss 2

Nothing is cut, so nothing runs in parallel: it tells what the choice itself costs or gains.
SEDONA (Pyeon et al., ICLR 2021), Table 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models import Network
from ..pipeline.block import Block, Criterion, Place
from ..pipeline.optimization import OptimizationConfig
from ..pipeline.replicas import OneReplica
from .mixed_gradient import Choices, fork
from .relaxation import mix

__all__ = ["ContinuousBlock"]


class ContinuousBlock(Block):
    """The whole network as one block, whose layers learn from mixed errors (Eq. 3 to 6).

    The loss that it reports is the classifier's.

    Args:
        network: The network.
        pool: For each layer but the last, its M candidate heads.
        choices: The learned alpha (L - 1, 2) and beta (L - 1, M); they stay as they are.
        place: Where it computes.
        config: The ``train.*`` keys.
        criterion: The loss of each layer's mixed heads, and of the classifier.
        examiner: The loss that evaluations report; by default ``criterion``.
        metrics: Further metrics of an evaluation, by name.
        replicas: The ranks that train this block together; None where there is only this one.
    """

    def __init__(
        self,
        network: Network,
        pool: Sequence[Sequence[nn.Module]],
        *,
        choices: Choices,
        place: Place,
        config: OptimizationConfig,
        criterion: Criterion,
        examiner: Criterion | None = None,
        metrics: Mapping[str, Any] | None = None,
        replicas: OneReplica | None = None,
    ) -> None:
        self._layers = network.layers
        self._heads = nn.ModuleList(nn.ModuleList(candidates) for candidates in pool)
        self._shares: list[list[float]] = choices.alpha.softmax(-1).tolist()
        self._mixture = choices.beta.softmax(-1).to(place.device)
        super().__init__(
            network.body(1, len(network.layers)),
            network.classifier,
            place=place,
            config=config,
            criterion=criterion,
            examiner=examiner,
            metrics=metrics,
            extra={"mixed_heads": self._heads},
            replicas=replicas,
        )

    def compute(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`~blockstep.pipeline.block.Block.compute`."""
        with self._autocast():
            losses = []
            *earlier, last = self._layers
            for index, layer in enumerate(earlier):
                h = layer(x)
                version = 0 if torch.compiler.is_compiling() else h._version
                local, x = fork(h, *self._shares[index])
                heads: Any = self._heads[index]
                logits = mix([head(local) for head in heads], self._mixture[index])
                if not torch.compiler.is_compiling():
                    self._refuse_in_place(h, version)
                losses.append(self._criterion(logits, y))
            h = last(x)
            logits = self.head(h)
            local_losses = torch.stack(losses).sum()
            # The value is the classifier's loss, the gradient that of the sum.
            loss = self._criterion(logits, y) + (local_losses - local_losses.detach())
            return h, logits, loss
