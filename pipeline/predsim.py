"""PredSim's local loss: predict the labels, and be as similar as the labels are.

    x --> body --> h --> head ------------> logits --> CE(logits, y) ----- 1 - beta --+
                    \\                                                                 (+)--> loss
                     --> head.similarity --> z --> MSE(sim(z), sim(onehot(y))) -- beta -+

Nøkland and Eidnes, "Training Neural Networks with Local Error Signals" (ICML 2019). They train
every layer so; SEDONA (Pyeon et al., ICLR 2021), section 4.1, every block.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .block import Block, Criterion

__all__ = ["PredSimBlock", "PredSimHead", "adjusted_cosine", "predsim_loss"]

EPSILON = 1e-8


class PredSimHead(Protocol):
    """A head with a second output."""

    def __call__(self, h: Tensor) -> Tensor:
        """From the block's output to logits (B, classes)."""
        ...

    def similarity(self, h: Tensor) -> Tensor:
        """From the block's output to what the similarity loss compares, (B, ...)."""
        ...


def adjusted_cosine(z: Tensor) -> Tensor:
    """Return how similar the examples of a batch are to each other, in [-1, 1].

    Maps of more than three channels and more than one row count by the standard deviation
    (unbiased) of each channel over the positions. What is left is centred within each example,
    and compared by the cosine; an example is 1 to itself, unless all of its features are equal.

    Args:
        z: (B, C, H, W) or (B, C).

    Returns:
        (B, B), in float32 at least: half precision would round the norms to nothing.
    """
    if z.dtype != torch.float64:
        z = z.float()
    with torch.autocast(z.device.type, enabled=False):
        if z.dim() == 4 and z.shape[1] > 3 and z.shape[2] > 1:
            z = z.std((2, 3))
        z = z.flatten(1)
        z = z - z.mean(1, keepdim=True)
        z = z / (EPSILON + z.norm(dim=1, keepdim=True))
        return (z @ z.T).clamp(-1.0, 1.0)


def predsim_loss(
    head: PredSimHead, h: Tensor, y: Tensor, *, criterion: Criterion, beta: float
) -> tuple[Tensor, Tensor]:
    """Return the head's logits and ``(1 - beta) * prediction + beta * similarity``.

    The similarity loss is the mean over all B x B pairs, those of an example with itself included.
    Its target compares one-hot labels: 1 for the same class, -1 / (classes - 1) for others. What
    the criterion does to labels, such as smoothing, does not concern it.

    Args:
        head: The head.
        h: The block's output.
        y: Labels (B,).
        criterion: The prediction loss.
        beta: Weight of the similarity loss, in [0, 1].
    """
    logits = head(h)
    found = adjusted_cosine(head.similarity(h))
    wanted = adjusted_cosine(F.one_hot(y, logits.shape[-1]).to(found.dtype))
    similarity = F.mse_loss(found, wanted)
    return logits, (1.0 - beta) * criterion(logits, y) + beta * similarity


class PredSimBlock(Block):
    """A block but the last, learning from PredSim's loss; a batch is compared as a whole.

    The last block is a plain :class:`Block` with the whole cross entropy. The authors' code
    weighs that by ``1 - beta`` as well. With SGD its loss then moves the weights 100 times less
    (for beta 0.99) and the weight decay as much as before. Adam's steps hardly change without
    weight decay, as the authors train; an L2 penalty counts 100 times as much beside the gradient.

    Args:
        body: The layers of the block.
        head: A head with a similarity, such as ``predsim``.
        beta: Weight of the similarity loss, in [0, 1].
        options: See :class:`Block`; ``criterion`` is the prediction loss.
    """

    def __init__(
        self, body: nn.Module, head: nn.Module, *, beta: float = 0.99, **options: Any
    ) -> None:
        self._beta = beta
        super().__init__(body, head, **options)

    def compute(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`Block.compute`."""
        with self._autocast():
            h = self.body(x)
            version = 0 if torch.compiler.is_compiling() else h._version
            head = cast(PredSimHead, self.head)
            logits, loss = predsim_loss(head, h, y, criterion=self._criterion, beta=self._beta)
            if not torch.compiler.is_compiling():
                self._refuse_in_place(h, version)
            return h, logits, loss
