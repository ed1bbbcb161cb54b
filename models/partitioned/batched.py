"""Several subnetworks in one batch, for networks that are partitioned by nodes (appendix C).

    example of subnetwork k, unit of partition j:   j <= k  its value, with all weights
                                                    j >  k  its default, 0

With defaults of 0 the units of later partitions are 0, so a layer runs with all its weights and its
outputs are masked. Backwards, what an example of subnetwork k sends through a layer's inputs comes
from the units j <= k, and what it sends to the weights only from the units j = k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fixup import Bias, Scale

__all__ = ["Call", "Router", "patched"]

Call = Callable[[Tensor], Tensor]

CHANNELS_SECOND = (nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
CHANNELS_LAST = (nn.LayerNorm, nn.RMSNorm)


@contextmanager
def patched(calls: dict[nn.Module, Call]) -> Iterator[None]:
    """Let modules compute something else for a moment.

    Args:
        calls: What each computes instead of its ``forward``.
    """
    try:
        for module, call in calls.items():
            module.__dict__["forward"] = call
        yield
    finally:
        for module in calls:
            module.__dict__.pop("forward", None)


class Router:
    """Makes what the layers compute in a batch of several subnetworks.

    Args:
        subnetworks: int64 (B,), from 1, on the device of the network.
    """

    def __init__(self, subnetworks: Tensor) -> None:
        self._own = subnetworks - 1

    def nodes(self, layer: nn.Module, tensors: dict[str, tuple[Tensor, Tensor]]) -> Call:
        """Return the call of a layer whose outputs are divided.

        Args:
            layer: Linear, convolution or embedding.
            tensors: For each attribute its value with all partitions, and the uint8 assignment.
        """
        weight, assigned = tensors["weight"]
        bias = tensors["bias"][0] if "bias" in tensors else None
        axis = 1 if isinstance(layer, nn.Embedding) else 0
        units = assigned.movedim(axis, 0).flatten(1)[:, 0]
        read = units[None, :] <= self._own[:, None]
        mine = units[None, :] == self._own[:, None]

        def call(x: Tensor) -> Tensor:
            self._check(layer, x)
            if isinstance(layer, nn.Embedding):
                h = F.embedding(
                    x, weight, layer.padding_idx, scale_grad_by_freq=layer.scale_grad_by_freq
                )
                reading, own = _wide(read, h, -1), _wide(mine, h, -1)
                return torch.where(reading, torch.where(own, h, h.detach()), 0)
            if isinstance(layer, nn.Conv1d | nn.Conv2d):
                return _ROUTED_CONVOLUTION(_padded(layer, x), weight, bias, read, mine, layer)
            return _ROUTED_LINEAR(x, weight, bias, read, mine)

        return call

    def groups(self, layer: nn.Module, tensors: dict[str, tuple[Tensor, Tensor]]) -> Call:
        """Return the call of a layer whose weights are given out at random.

        The examples of each subnetwork are computed together.

        Args:
            layer: Any.
            tensors: For each attribute its value and uint8 assignment, of the same shape.
        """
        own = self._own

        def call(x: Tensor) -> Tensor:
            self._check(layer, x)
            order = own.argsort(stable=True)
            present, counts = own.unique(return_counts=True)
            results = []
            for number, rows in zip(present.tolist(), order.split(counts.tolist()), strict=True):
                for name, (value, assigned) in tensors.items():
                    fixed = torch.where(assigned < number, value.detach(), 0)
                    composed = torch.where(assigned == number, value, fixed)
                    layer._parameters[name] = composed  # pyright: ignore[reportArgumentType]
                results.append(type(layer).forward(layer, x[rows]))
            for name in tensors:
                layer._parameters[name] = None
            return torch.cat(results)[order.argsort()]

        return call

    def affine(self, layer: nn.Module, scale: Tensor | None, bias: Tensor | None) -> Call:
        """Return the call of a normalisation layer or a FixUp scalar.

        Args:
            layer: It.
            scale: (B, *shape), of each example's subnetwork; None: there is none.
            bias: Likewise.

        Raises:
            ValueError: Its examples depend on each other, or the kind of layer is unknown.
        """
        known = (*CHANNELS_SECOND, *CHANNELS_LAST, Scale, Bias)
        if not isinstance(layer, known):
            raise ValueError(
                f"a {type(layer).__name__} cannot take several subnetworks in one batch; use "
                "GroupNorm or LayerNorm, or evaluate the subnetworks one after the other"
            )

        plain: Any = type(layer).forward

        def call(x: Tensor) -> Tensor:
            self._check(layer, x)
            h = x if isinstance(layer, Scale | Bias) else plain(layer, x)
            last = isinstance(layer, CHANNELS_LAST)
            if scale is not None:
                h = h * _aligned(scale, h, last=last)
            return h if bias is None else h + _aligned(bias, h, last=last)

        return call

    def _check(self, layer: nn.Module, x: Tensor) -> None:
        if len(x) != len(self._own):
            raise ValueError(
                f"a {type(layer).__name__} got {len(x)} rows for {len(self._own)} examples; in a "
                "batch of several subnetworks the first dimension has to be the examples"
            )


def _aligned(tensor: Tensor, h: Tensor, *, last: bool) -> Tensor:
    """Give (B, *shape) the dimensions of ``h``; ``shape`` stands last in it, or second."""
    B, *shape = tensor.shape
    ones = [1] * (h.dim() - len(tensor.shape))
    return tensor.reshape(B, *ones, *shape) if last else tensor.reshape(B, *shape, *ones)


def _wide(mask: Tensor, h: Tensor, axis: int) -> Tensor:
    """Give (B, outputs) the dimensions of ``h``, where the outputs are dimension ``axis``."""
    ones = [1] * (h.dim() - 2)
    shape = (len(mask), *ones, mask.shape[1]) if axis == -1 else (*mask.shape, *ones)
    return mask.view(shape)


def _padded(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a padding that the bare convolution does not know."""
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return x
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)


def _geometry(layer: nn.Conv1d | nn.Conv2d) -> tuple[Any, ...]:
    plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    zeros = [0] * len(layer.stride)
    padding = list(layer.padding) if plain else zeros
    return list(layer.stride), padding, list(layer.dilation), False, zeros, layer.groups


class _RoutedLinear(torch.autograd.Function):
    """A linear layer whose weights learn from fewer outputs than its inputs do."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, read: Tensor, mine: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, read, mine)
        h = F.linear(x, weight, bias)
        return h * _wide(read, h, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight, read, mine = ctx.saved_tensors
        needs = ctx.needs_input_grad
        by_x = by_weight = by_bias = None
        if needs[0]:
            by_x = (grad * _wide(read, grad, -1)) @ weight
        if needs[1] or needs[2]:
            own = (grad * _wide(mine, grad, -1)).flatten(0, -2)
            by_weight = own.T @ x.flatten(0, -2) if needs[1] else None
            by_bias = own.sum(0) if needs[2] else None
        return by_x, by_weight, by_bias, None, None


class _RoutedConvolution(torch.autograd.Function):
    """Likewise, a convolution."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        read: Tensor,
        mine: Tensor,
        layer: nn.Conv1d | nn.Conv2d,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, read, mine)
        ctx.geometry = _geometry(layer)
        h = torch.ops.aten.convolution(x, weight, bias, *ctx.geometry)
        return h * _wide(read, h, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight, read, mine = ctx.saved_tensors
        needs = ctx.needs_input_grad
        sizes, back = [weight.shape[0]], torch.ops.aten.convolution_backward
        by_x = by_weight = by_bias = None
        if needs[0]:
            through = grad * _wide(read, grad, 1)
            by_x = back(through, x, weight, sizes, *ctx.geometry, [True, False, False])[0]
        if needs[1] or needs[2]:
            own = grad * _wide(mine, grad, 1)
            wanted = [False, needs[1], needs[2]]
            _, by_weight, by_bias = back(own, x, weight, sizes, *ctx.geometry, wanted)
        return by_x, by_weight, by_bias, None, None, None


_ROUTED_LINEAR: Callable[..., Tensor] = _RoutedLinear.apply
_ROUTED_CONVOLUTION: Callable[..., Tensor] = _RoutedConvolution.apply
