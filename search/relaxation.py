"""The network in which every choice of a decoupling is mixed instead of made.

    x --> [layer 1] -- a1 --> [layer 2] -- a2 --> ... --> [layer L] -- aL
                       |                   |                           |
                 heads 1..M          heads 1..M                   classifier
                 mixed by            mixed by                          |
                 softmax(beta_1)     softmax(beta_2)                   |
                       |                   |                           |
                    loss 1              loss 2                      loss L

On the way back, the error that arrives at a_l from its own loss and the error that arrives from
layer l + 1 are mixed by softmax(alpha_l). SEDONA (Pyeon et al., ICLR 2021), section 3.2.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models import Network
from ..pipeline.block import Criterion
from .second_order import speed_up

__all__ = ["Relaxation", "mix"]


class Relaxation:
    """A network with M candidate heads after each of its layers but the last.

    Its weights are a list of tensors, in the order of ``names``, which :meth:`place` puts in: so
    that several sets of weights exist side by side, each with the graph of what made it.

    Args:
        network: The network. A copy of it is used.
        pool: For each layer but the last, its M candidates.
        criterion: The loss of each head.
        fast: Whether convolutions and batch norms get the second derivatives of
            :mod:`.second_order`; torch's own are the same and slower.

    Attributes:
        depth: L, the number of layers.
        candidates: M.
        names: Of the trainable weights.
        layer_weights: Per layer, the indices of its weights.
        head_weights: Per layer, the indices of the weights of its heads; of the last layer, those
            of the classifier.

    Raises:
        ValueError: There are fewer than three layers, the pool does not fit them, or there is
            nothing to train.
    """

    def __init__(
        self,
        network: Network,
        pool: Sequence[Sequence[nn.Module]],
        *,
        criterion: Criterion,
        fast: bool = True,
    ) -> None:
        self.depth, self.candidates = len(network.layers), _candidates(network, pool)
        copied = copy.deepcopy(network)
        self.layers = copied.layers
        self.heads = [list(candidates) for candidates in pool]
        self.classifier = copied.classifier
        self.criterion = criterion
        self.names: list[str] = []
        self._slots: list[tuple[nn.Module, str]] = []
        self._initial: list[Tensor] = []
        self.layer_weights: list[range] = []
        self.head_weights: list[range] = []
        for index, layer in enumerate(self.layers):
            self.layer_weights.append(self._take(f"layers.{index}", layer))
            start = len(self.names)
            for number, head in enumerate(self._heads_of(index)):
                self._take(f"heads.{index}.{number}", head)
            self.head_weights.append(range(start, len(self.names)))
        if not self.names:
            raise ValueError(f"{network.name} has no weights to train")
        if fast:
            speed_up(self.modules())
        self.train()

    def initial(self) -> list[Tensor]:
        """Return the weights that the modules came with."""
        return [weight.clone() for weight in self._initial]

    def place(self, weights: Sequence[Tensor]) -> None:
        """Compute with ``weights`` from now on; nothing is copied."""
        for (module, name), weight in zip(self._slots, weights, strict=True):
            module._parameters[name] = weight  # pyright: ignore[reportArgumentType]

    def buffers(self) -> list[Tensor]:
        """Return the modules' buffers: the running statistics of batch norm."""
        return [buffer for module in self.modules() for buffer in module.buffers()]

    def load_buffers(self, values: Sequence[Tensor]) -> None:
        """Overwrite the buffers."""
        with torch.no_grad():
            for buffer, value in zip(self.buffers(), values, strict=True):
                buffer.copy_(value)

    def equal_choices(self) -> tuple[Tensor, Tensor]:
        """Return alpha (L - 1, 2) and beta (L - 1, M) of zeros, float32, where the weights are."""
        device = self._initial[0].device
        joints = self.depth - 1
        return (
            torch.zeros(joints, 2, device=device),
            torch.zeros(joints, self.candidates, device=device),
        )

    def modules(self) -> Iterator[nn.Module]:
        """Yield the layers, the heads and the classifier."""
        yield from self.layers
        for heads in self.heads:
            yield from heads
        yield self.classifier

    def train(self, mode: bool = True) -> None:
        """Set the modules to training, or to evaluation."""
        for module in self.modules():
            module.train(mode)

    def to(self, device: torch.device) -> Relaxation:
        """Move the weights and buffers to ``device``."""
        for module in self.modules():
            module.to(device)
        self._initial = [weight.to(device) for weight in self._initial]
        return self

    def mixed(self, index: int, a: Tensor, mixture: Tensor) -> Tensor:
        """Return the logits (B, classes) after layer ``index``, from 0 (Eq. 3).

        Args:
            index: The layer.
            a: Its output.
            mixture: softmax(beta), (L - 1, M); the last layer has its classifier alone.
        """
        if index == self.depth - 1:
            return self.classifier(a)
        return mix([head(a) for head in self.heads[index]], mixture[index])

    def logits(self, x: Tensor) -> Tensor:
        """Return the classifier's logits (B, classes)."""
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x)

    def _heads_of(self, index: int) -> list[nn.Module]:
        return [self.classifier] if index == self.depth - 1 else self.heads[index]

    def _take(self, prefix: str, part: nn.Module) -> range:
        """Note where the trainable weights of ``part`` are kept."""
        start = len(self.names)
        for path, module in part.named_modules():
            for name, weight in module._parameters.items():
                if weight is not None and weight.requires_grad:
                    self.names.append(".".join(filter(None, (prefix, path, name))))
                    self._slots.append((module, name))
                    self._initial.append(weight.detach())
        return range(start, len(self.names))


def mix(logits: Sequence[Tensor], mixture: Tensor) -> Tensor:
    """Return the weighted sum of the logits (B, classes) of M heads (Eq. 3).

    Args:
        logits: Of each head.
        mixture: Their weights, (M,).
    """
    return torch.stack(list(logits), -1) @ mixture.to(logits[0].dtype)


def _candidates(network: Network, pool: Sequence[Sequence[Any]]) -> int:
    """Check the pool against the network and return M."""
    depth = len(network.layers)
    if depth < 3:
        raise ValueError(
            f"{network.name} has {depth} layers; a search needs at least 3, so that there is more "
            "than one place to cut"
        )
    counts = sorted({len(candidates) for candidates in pool})
    if len(pool) != depth - 1 or len(counts) != 1 or not counts[0]:
        raise ValueError(
            f"{network.name} has {depth} layers and the pool has heads for {len(pool)}, "
            f"{counts} each; give the same number of heads, at least one, for the first "
            f"{depth - 1} layers"
        )
    return counts[0]
