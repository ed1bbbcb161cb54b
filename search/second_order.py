"""Convolution and batch norm with second derivatives that cost what they should.

Torch differentiates the backward pass of a convolution by convolving with kernels as large as the
images, and group by group, and that of a batch norm by a pass over the activations for each of its
many terms. A hypergradient consists of little else. Both derivatives are short, written down:

    convolution   y = x * w is bilinear, and so is each of its gradients:
                  <g_x, u> = <g, u * w>      <g_w, u> = <g, x * u>

    batch norm    with x^ = (x - mean) / s and P c = c - mean(c) - x^ mean(c x^), which is
                  symmetric, g_x = (weight / s) P g; the rest follows from d x^ = P d x / s
                  and d s = <x^, d x> / n, channel by channel

First derivatives are torch's own kernels.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["speed_up"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

aten = torch.ops.aten


def speed_up(modules: Iterable[nn.Module]) -> None:
    """Let the convolutions and batch norms in ``modules`` compute with these derivatives.

    Subclasses, other paddings than zeros and batch norm without statistics of its own stay as they
    are: right, only slower. Evaluation mode is not touched.
    """
    for module in modules:
        for part in module.modules():
            if type(part) in CONVOLUTIONS and _is_plain(part):
                part.forward = partial(_convolve, part)
            elif type(part) in NORMS and part.affine and part.track_running_stats:
                part.forward = partial(_normalize, part, part.forward)


def _is_plain(convolution: Any) -> bool:
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)


def _convolve(module: Any, x: Tensor) -> Tensor:
    # A single example without a batch dimension is not what a search computes with.
    shape = module.stride, module.padding, module.dilation, module.groups
    y = _Convolution.apply(x, module.weight, shape)
    if module.bias is not None:
        y = y + module.bias.view(-1, *[1] * (x.dim() - 2))  # pyright: ignore[reportOptionalMemberAccess]
    return y  # pyright: ignore[reportReturnType]


def _normalize(module: Any, stock: Any, x: Tensor) -> Tensor:
    if not module.training or not torch.is_grad_enabled():
        return stock(x)
    module._check_input_dim(x)
    module.num_batches_tracked.add_(1)
    momentum = module.momentum
    if momentum is None:
        momentum = 1.0 / float(module.num_batches_tracked)
    return _BatchNorm.apply(  # pyright: ignore[reportReturnType]
        x, module.weight, module.bias, module.running_mean, module.running_var, momentum, module.eps
    )


class _Convolution(torch.autograd.Function):
    """y = x * w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, shape: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.shape = shape
        return _conv(x, w, shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        mask = ctx.needs_input_grad[:2]
        by_x, by_w = _ConvolutionBackward.apply(gradients[0], x, w, mask, ctx.shape)  # pyright: ignore[reportGeneralTypeIssues]
        return by_x, by_w, None


class _ConvolutionBackward(torch.autograd.Function):
    """From g, the gradient by y, to those by x and w."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w: Tensor, mask: tuple[bool, bool], shape: tuple[Any, ...]
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.save_for_backward(g, x, w)
        ctx.shape = shape
        ctx.set_materialize_grads(False)
        return _conv_backward(g, x, w, shape, mask)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *directions: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        g, x, w = ctx.saved_tensors
        along_x, along_w = directions
        wants_g, wants_x, wants_w = ctx.needs_input_grad[:3]
        by_g = by_x = by_w = None
        if along_x is not None:
            if wants_g:
                by_g = _conv(along_x, w, ctx.shape)
            if wants_w:
                _, by_w = _conv_backward(g, along_x, w, ctx.shape, (False, True))
        if along_w is not None:
            if wants_g:
                other = _conv(x, along_w, ctx.shape)
                by_g = other if by_g is None else by_g.add_(other)
            if wants_x:
                by_x, _ = _conv_backward(g, x, along_w, ctx.shape, (True, False))
        return by_g, by_x, by_w, None, None


def _conv(x: Tensor, w: Tensor, shape: tuple[Any, ...]) -> Tensor:
    stride, padding, dilation, groups = shape
    return aten.convolution(x, w, None, stride, padding, dilation, False, [0], groups)


def _conv_backward(
    g: Tensor, x: Tensor, w: Tensor, shape: tuple[Any, ...], mask: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    stride, padding, dilation, groups = shape
    by_x, by_w, _ = aten.convolution_backward(
        g, x, w, None, stride, padding, dilation, False, [0], groups, [*mask, False]
    )
    return by_x, by_w


class _BatchNorm(torch.autograd.Function):
    """y = weight x^ + bias, with the statistics of the batch; the running ones are updated."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        y, mean, scale = aten.native_batch_norm(
            x, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        by_x, by_weight, by_bias = _BatchNormBackward.apply(  # pyright: ignore[reportGeneralTypeIssues]
            gradients[0], x, weight, mean, scale, ctx.eps
        )
        return by_x, by_weight, by_bias, None, None, None, None


class _BatchNormBackward(torch.autograd.Function):
    """From g, the gradient by y, to those by x, weight and bias; ``scale`` is 1 / s."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        projected, by_weight, by_bias = _project(g, x, mean, scale, eps)
        ctx.save_for_backward(x, weight, mean, scale, projected, by_weight)
        ctx.eps = eps
        return projected * _wide(weight, x), by_weight, by_bias

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *directions: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, projected, by_weight = ctx.saved_tensors
        along_x, along_weight, along_bias = directions
        count = x.numel() // len(weight)
        projected_along, dot, _ = _project(along_x, x, mean, scale, ctx.eps)
        product = (projected * along_x).transpose(0, 1).flatten(1).sum(1)
        # Each derivative is, per channel, a combination of tensors and of x^ = (x - mean) scale.
        by_g = _combine(
            x, mean, scale, along_weight, [(weight, projected_along)], constant=along_bias
        )
        of_projected = along_weight - weight * scale * dot / count
        of_along = -weight * scale * by_weight / count
        by_x = _combine(
            x,
            mean,
            scale,
            -weight * scale * product / count,
            [(of_projected, projected), (of_along, projected_along)],
        )
        return by_g, by_x, product, None, None, None


def _project(
    c: Tensor, x: Tensor, mean: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return P c / s, the sum of c x^ and the sum of c, of each channel."""
    return aten.native_batch_norm_backward(
        c.contiguous(), x, None, None, None, mean, scale, True, eps, [True, True, True]
    )


def _combine(
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    of_normalized: Tensor,
    terms: Iterable[tuple[Tensor, Tensor]],
    *,
    constant: Tensor | float = 0.0,
) -> Tensor:
    """Return ``of_normalized x^ + constant + sum of factor * tensor``; factors are per channel."""
    slope = of_normalized * scale
    total = torch.addcmul(_wide(constant - slope * mean, x), x, _wide(slope, x))
    for factor, tensor in terms:
        total.addcmul_(tensor, _wide(factor, x))
    return total


def _wide(per_channel: Tensor, x: Tensor) -> Tensor:
    """Return (C,) as (C, 1, ...), to be broadcast over x (B, C, ...)."""
    return per_channel.view(-1, *[1] * (x.dim() - 2))
