"""Slimmable networks (Yu et al., 2019) and universally slimmable ones (Yu and Huang, 2019).

One set of weights of which narrower networks use the first channels. As an ensemble, the members
are several widths.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .batch_ensemble import _replaced

__all__ = ["Slimmable", "Universal", "slim_norms_of"]

Criterion = Callable[[Tensor, Tensor], Tensor]


class Slimmable(nn.Module):
    """A network that runs at several widths, each with batch norms of its own.

    Args:
        module: The widest network; its parts are taken over.
        widths: Shares of its channels, each in (0, 1]; the members, in this order.
        multiple: Channels become multiples of it, but at most as many as there are.

    Raises:
        ValueError: A width is out of its range, or there is none.
    """

    def __init__(self, module: nn.Module, widths: Sequence[float], *, multiple: int = 1) -> None:
        super().__init__()
        if not widths or not all(0 < width <= 1 for width in widths):
            raise ValueError(f"widths={list(widths)}: give shares of the channels in (0, 1]")
        self.widths = tuple(widths)
        self._state = _State(1.0, 0, multiple)
        head = [part for part in module.modules() if isinstance(part, nn.Linear)][-1:]

        def slim(part: nn.Module) -> nn.Module | None:
            if isinstance(part, nn.Conv2d):
                return _SlimConvolution(part, self._state)
            if isinstance(part, nn.Linear):
                return _SlimLinear(part, self._state, last=part in head)
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                return _SlimNorm(part, self._state, self.widths)
            return None

        self.network = _replaced(module, slim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the logits of all widths, (widths, B, classes)."""
        return torch.stack([self.run(member, x) for member in range(len(self.widths))])

    def run(self, member: int, x: Tensor) -> Tensor:
        """Return the logits (B, classes) at one of the widths."""
        self._state.width, self._state.member = self.widths[member], member
        return self.network(x)

    def backward(self, x: Tensor, y: Tensor, criterion: Criterion) -> list[Tensor]:
        """Run every width in turn, the widest first; add gradients; return losses by member."""
        losses: dict[int, Tensor] = {}
        for member in sorted(range(len(self.widths)), key=lambda one: -self.widths[one]):
            loss = criterion(self.run(member, x), y)
            loss.backward()
            losses[member] = loss.detach()
        return [losses[member] for member in range(len(self.widths))]


class Universal(Slimmable):
    """A network that is trained at any width between its narrowest and its widest.

    Each step trains both of these, and some random widths between (the sandwich rule); all but the
    widest learn from its predictions (in-place distillation). Training normalizes by batches; the
    statistics of the members' widths are taken afterwards, by ``calibrate``.

    Args:
        module: The widest network; its parts are taken over.
        widths: The members, among them 1.
        drawn: Widths of a training step, at least 2.
        multiple: Channels become multiples of it.
    """

    def __init__(
        self,
        module: nn.Module,
        widths: Sequence[float],
        *,
        drawn: int = 4,
        multiple: int = 8,
    ) -> None:
        super().__init__(module, widths, multiple=multiple)
        if max(widths) != 1 or drawn < 2:
            raise ValueError(
                f"widths={list(widths)} must contain 1, and drawn={drawn} be at least 2"
            )
        self.drawn = drawn
        for part in self.network.modules():
            if isinstance(part, _SlimNorm):
                part.share()

    def backward(self, x: Tensor, y: Tensor, criterion: Criterion) -> list[Tensor]:
        """Train at the widest, the narrowest and random widths; return the losses in that order.

        Random widths come from torch's generator.
        """
        least = min(self.widths)
        between = random.Random(int(torch.randint(2**62, (1,))))
        widths = [least, *(between.uniform(least, 1) for _ in range(self.drawn - 2))]
        self._state.width, self._state.member = 1.0, 0
        logits = self.network(x)
        loss = criterion(logits, y)
        loss.backward()
        target, losses = logits.detach().softmax(-1), [loss.detach()]
        for width in widths:
            self._state.width = width
            loss = functional.cross_entropy(self.network(x), target)
            loss.backward()
            losses.append(loss.detach())
        return losses

    @torch.no_grad()
    def calibrate(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        """Set every member's running statistics to the mean over an epoch of inputs."""
        was = self.training
        norms = [part for part in self.network.modules() if isinstance(part, _SlimNorm)]
        self.train()
        for norm in norms:
            norm.begin()
        for member in range(len(self.widths)):
            for x in batches():
                self.run(member, x)
        for norm in norms:
            norm.end()
        self.train(was)


def slim_norms_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the norms of a slimmable network."""
    norms = (part for part in module.modules() if isinstance(part, _SlimNorm))
    return [one for norm in norms for one in norm.parameters()]


class _State:
    """The width at which the network runs now; all its layers look at one."""

    def __init__(self, width: float, member: int, multiple: int) -> None:
        self.width, self.member, self.multiple = width, member, multiple

    def channels(self, full: int, width: float | None = None) -> int:
        """Return how many of so many channels are used, now or at another width."""
        share = self.width if width is None else width
        count = round(full * share / self.multiple) * self.multiple
        return min(full, max(self.multiple, count))


class _SlimConvolution(nn.Module):
    """A convolution from the channels that come to the first ones of its own."""

    def __init__(self, layer: nn.Conv2d, state: _State) -> None:
        super().__init__()
        if layer.groups not in (1, layer.in_channels) or layer.padding_mode != "zeros":
            raise ValueError(
                f"a convolution of {layer.groups} groups and padding {layer.padding_mode} cannot "
                "be made narrower; slimmable networks have plain and depthwise ones"
            )
        self.layer, self._state = layer, state

    def forward(self, x: Tensor) -> Tensor:
        """Use as many inputs as there are."""
        layer, inputs = self.layer, x.shape[1]
        depthwise = layer.groups > 1
        outputs = inputs if depthwise else self._state.channels(layer.out_channels)
        weight = layer.weight[:outputs, : 1 if depthwise else inputs]
        bias = None if layer.bias is None else layer.bias[:outputs]
        padding = cast("tuple[int, int]", layer.padding)
        groups = inputs if depthwise else 1
        return functional.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, groups)


class _SlimLinear(nn.Module):
    """A linear layer from the numbers that come; the last one has all its outputs."""

    def __init__(self, layer: nn.Linear, state: _State, *, last: bool) -> None:
        super().__init__()
        self.layer, self._state, self.last = layer, state, last

    def forward(self, x: Tensor) -> Tensor:
        """Use as many inputs as there are."""
        full = self.layer.out_features
        outputs = full if self.last else self._state.channels(full)
        bias = None if self.layer.bias is None else self.layer.bias[:outputs]
        return functional.linear(x, self.layer.weight[:outputs, : x.shape[-1]], bias)


class _SlimNorm(nn.Module):
    """Batch norms: one for each member, or one weight and bias with statistics for each."""

    def __init__(
        self,
        norm: nn.BatchNorm1d | nn.BatchNorm2d,
        state: _State,
        widths: Sequence[float],
    ) -> None:
        super().__init__()
        self._state, self.eps, self.momentum = state, norm.eps, norm.momentum
        counts = [state.channels(norm.num_features, width) for width in widths]
        weight, bias = norm.weight.detach(), norm.bias.detach()
        self.weights = nn.ParameterList(weight[:count].clone() for count in counts)
        self.biases = nn.ParameterList(bias[:count].clone() for count in counts)
        shape = (len(widths), norm.num_features)
        self.register_buffer("means", weight.new_zeros(shape))
        self.register_buffer("variances", weight.new_ones(shape))
        self.means: Tensor
        self.variances: Tensor
        self.shared, self.calibrating = False, False
        self.seen = [0] * len(widths)

    def share(self) -> None:
        """Have one weight and bias for all widths; training keeps no statistics."""
        self.shared = True
        self.weights = nn.ParameterList([max(self.weights, key=len)])
        self.biases = nn.ParameterList([max(self.biases, key=len)])

    def begin(self) -> None:
        """Count batches anew."""
        self.calibrating, self.seen = True, [0] * len(self.means)

    def end(self) -> None:
        """Keep the statistics."""
        self.calibrating = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the channels that come."""
        member, count = self._state.member, x.shape[1]
        own = 0 if self.shared else member
        keep = not self.training or not self.shared or self.calibrating
        momentum = self.momentum
        if self.training and self.calibrating:
            self.seen[member] += 1
            momentum = 1 / self.seen[member]
        return functional.batch_norm(
            x,
            self.means[member, :count] if keep else None,
            self.variances[member, :count] if keep else None,
            self.weights[own][:count],
            self.biases[own][:count],
            self.training,
            0.1 if momentum is None else momentum,
            self.eps,
        )
