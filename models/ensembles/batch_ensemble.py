"""BatchEnsemble (Wen et al., 2020): one weight, and two vectors for each member and layer.

    y = ((x * r_m) W^T) * s_m + b_m

All members run in one batch, as contiguous blocks along it: first all examples of member 0, then
all of member 1, ... in training as in evaluation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["BatchEnsemble", "vectors_of"]

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


class BatchEnsemble(nn.Module):
    """A network whose convolutions and linear layers have rank-one members.

    Args:
        module: The network; its parts are taken over.
        members: How many.
        own_norms: Whether each member has batch norms of its own (EnsBN).
        deviation: Of the vectors r and s around 1 in the beginning; 0.5 in the published recipe.

    Raises:
        ValueError: There is no layer to perturb, or fewer than one member.
    """

    def __init__(
        self,
        module: nn.Module,
        members: int = 4,
        *,
        own_norms: bool = False,
        deviation: float = 0.5,
    ) -> None:
        super().__init__()
        if members < 1:
            raise ValueError(f"members={members}: an ensemble has at least one")
        kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)

        def perturbed(part: nn.Module) -> nn.Module | None:
            if isinstance(part, kinds):
                return _Perturbed(part, members, deviation)
            if own_norms and isinstance(part, nn.modules.batchnorm._BatchNorm):
                return _OwnNorms(part, members)
            return None

        self.count = members
        self.network = _replaced(module, perturbed)
        if not any(isinstance(part, _Perturbed) for part in self.network.modules()):
            raise ValueError(f"{type(module).__name__} has no convolution or linear layer")

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the logits of all members, (members, B, classes)."""
        tiled = x.repeat(self.count, *(1,) * (x.dim() - 1))
        return self.network(tiled).unflatten(0, (self.count, len(x)))

    def backward(
        self, x: Tensor, y: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]
    ) -> list[Tensor]:
        """Run all members at once; add the gradients of their mean loss; return their losses.

        The published recipe takes the mean over the tiled batch.
        """
        losses = [criterion(logits, y) for logits in self(x)]
        torch.stack(losses).mean().backward()
        return [loss.detach() for loss in losses]

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return groups as in the published recipe.

        Kernels and norms have the whole learning rate and decay; the vectors and biases have half
        the rate, and of these only biases decay.
        """
        vectors, biases, norms = [], [], []
        for part in self.network.modules():
            if isinstance(part, _Perturbed):
                vectors += [part.r, part.s]
                biases += [] if part.b is None else [part.b]
            elif isinstance(part, nn.modules.batchnorm._BatchNorm):
                norms += part.parameters(recurse=False)
        slow = {id(one) for one in (*vectors, *biases)}
        kernels = [one for one in self.parameters() if id(one) not in slow]
        return [
            {"params": kernels, "lr": lr, "weight_decay": weight_decay},
            {"params": biases, "lr": lr / 2, "weight_decay": weight_decay},
            {"params": vectors, "lr": lr / 2, "weight_decay": 0.0},
        ]


class _Perturbed(nn.Module):
    """A layer with one weight for all members, and r, s and the bias of each."""

    def __init__(self, layer: Layer, members: int, deviation: float) -> None:
        super().__init__()
        bias = layer.bias
        inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        outputs = len(layer.weight)
        made = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        self.r = nn.Parameter(torch.empty(members, inputs, **made).normal_(1, deviation))
        self.s = nn.Parameter(torch.empty(members, outputs, **made).normal_(1, deviation))
        self.b = None if bias is None else nn.Parameter(bias.detach().repeat(members, 1))
        layer.register_parameter("bias", None)
        self.layer = layer
        self.axis = -1 if isinstance(layer, nn.Linear) else 1

    def forward(self, x: Tensor) -> Tensor:
        """Perturb each member's block of the batch."""
        h = self.layer(x * self._spread(self.r, x)) * self._spread(self.s, x)
        return h if self.b is None else h + self._spread(self.b, x)

    def _spread(self, vectors: Tensor, x: Tensor) -> Tensor:
        """Bring (members, channels) to the shape of the batch."""
        each = vectors.repeat_interleave(len(x) // len(vectors), 0)
        if self.axis == 1:
            return each.view(*each.shape, *(1,) * (x.dim() - 2))
        return each.view(len(each), *(1,) * (x.dim() - 2), each.shape[1])


def vectors_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the vectors r and s of all layers."""
    layers = (part for part in module.modules() if isinstance(part, _Perturbed))
    return [vector for layer in layers for vector in (layer.r, layer.s)]


class _OwnNorms(nn.Module):
    """One batch norm for each member's block of the batch."""

    def __init__(self, norm: nn.Module, members: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([norm, *(copy.deepcopy(norm) for _ in range(members - 1))])

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each block by itself."""
        blocks = x.chunk(len(self.norms))
        return torch.cat([norm(block) for norm, block in zip(self.norms, blocks, strict=True)])


def _replaced(module: nn.Module, change: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Replace parts of a module, each once wherever it stands; return the module or its substitute.

    The names are listed first: what is put in has parts of its own.
    """
    made: dict[int, nn.Module] = {}
    for name, part in list(module.named_modules(remove_duplicate=False)):
        substitute = made[id(part)] if id(part) in made else change(part)
        if substitute is None:
            continue
        made[id(part)] = substitute
        if not name:
            return substitute
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, substitute)
    return module
