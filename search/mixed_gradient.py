"""The gradient that trains the weights of a relaxation, and products with its derivative.

Below, a_l is the output of layer l, loss_l the loss of its mixed heads, s = softmax(alpha_l):

    delta_L = d loss_L / d a_L                                                  (Eq. 4)
    delta_l = s_1 d loss_l / d a_l  +  s_2 delta_(l+1) d a_(l+1) / d a_l        (Eq. 4)
    gradient of layer l's weights    delta_l d a_l / d theta_l                  (Eq. 5)
    gradient of its heads' weights   d loss_l / d phi_l, not scaled             (Eq. 6)

SEDONA (Pyeon et al., ICLR 2021), sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .relaxation import Relaxation

__all__ = ["Choices", "Graph", "build_graph", "fork", "mixed_gradient"]


@dataclass(frozen=True)
class Choices:
    """The relaxed choices of a search.

    Attributes:
        alpha: (L - 1, 2); softmax over the last dimension weighs the local error and the
            backpropagated one.
        beta: (L - 1, M); softmax over the last dimension weighs the heads' logits.
    """

    alpha: Tensor
    beta: Tensor

    def detached(self) -> Choices:
        """Return the same values without a graph."""
        return Choices(self.alpha.detach(), self.beta.detach())


def mixed_gradient(
    relaxation: Relaxation, weights: Sequence[Tensor], x: Tensor, y: Tensor, choices: Choices
) -> tuple[list[Tensor], Tensor]:
    """Return the gradient of every weight, without a graph, and the losses.

    One backward pass over the sum of all losses, in which the errors are scaled where they meet.

    Args:
        relaxation: The network and its heads.
        weights: Its weights, in its order.
        x: A batch.
        y: Its labels.
        choices: Alpha and beta.

    Returns:
        The gradients, and the loss of each layer (L,).
    """
    leaves = [weight.detach().requires_grad_() for weight in weights]
    relaxation.place(leaves)
    shares = choices.alpha.detach().softmax(-1).tolist()
    mixture = choices.beta.detach().softmax(-1)
    losses = []
    a = x
    for index, layer in enumerate(relaxation.layers):
        a = layer(a)
        local = a
        if index < relaxation.depth - 1:
            local, a = fork(a, *shares[index])
        logits = relaxation.mixed(index, local, mixture)
        losses.append(relaxation.criterion(logits, y))
    total = torch.stack(losses)
    gradients = torch.autograd.grad(total.sum(), leaves, allow_unused=True, materialize_grads=True)
    return list(gradients), total.detach()


@dataclass(frozen=True)
class Graph:
    """The gradients of one inner step, with the graph that made them.

    Attributes:
        weights: The leaves that the graph begins with.
        gradients: One per weight.
        choices: Alpha and beta, leaves too.
    """

    weights: list[Tensor]
    gradients: list[Tensor]
    choices: Choices

    def product(
        self, directions: Sequence[Tensor], *, with_weights: bool
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the derivative of ``<gradients, directions>``.

        Args:
            directions: One per weight.
            with_weights: Whether the derivative by the weights is wanted too.

        Returns:
            The derivatives by alpha, by beta, and by each weight (an empty list if not wanted).
        """
        inputs = [self.choices.alpha, self.choices.beta]
        inputs += self.weights if with_weights else []
        pairs = [
            (gradient, direction)
            for gradient, direction in zip(self.gradients, directions, strict=True)
            if gradient.requires_grad
        ]
        alpha, beta, *weights = torch.autograd.grad(
            [gradient for gradient, _ in pairs],
            inputs,
            [direction for _, direction in pairs],
            allow_unused=True,
            materialize_grads=True,
        )
        return alpha, beta, weights


def build_graph(
    relaxation: Relaxation, weights: Sequence[Tensor], x: Tensor, y: Tensor, choices: Choices
) -> Graph:
    """Return the same gradients as :func:`mixed_gradient`, with a graph of how they came about.

    The recursion goes layer by layer. Scaling errors inside one backward pass would not do here:
    the gradients would be right and their derivative wrong, because the scaling is no part of the
    forward pass that the second derivative goes through.

    Args:
        relaxation: The network and its heads.
        weights: Its weights, in its order.
        x: A batch.
        y: Its labels.
        choices: Alpha and beta.
    """
    leaves = [weight.detach().requires_grad_() for weight in weights]
    choices = Choices(*(t.detach().requires_grad_() for t in (choices.alpha, choices.beta)))
    relaxation.place(leaves)
    shares, mixture = choices.alpha.softmax(-1), choices.beta.softmax(-1)
    outputs, losses = [x], []
    for index, layer in enumerate(relaxation.layers):
        outputs.append(layer(outputs[-1]))
        logits = relaxation.mixed(index, outputs[-1], mixture)
        losses.append(relaxation.criterion(logits, y))
    gradients: dict[int, Tensor] = {}
    above: Tensor | None = None
    for index in reversed(range(relaxation.depth)):
        into, a = outputs[index], outputs[index + 1]
        own = relaxation.head_weights[index]
        local, *heads = _grad(losses[index], [a, *(leaves[i] for i in own)])
        gradients |= dict(zip(own, heads, strict=True))
        delta = local if above is None else shares[index, 0] * local + shares[index, 1] * above
        own = relaxation.layer_weights[index]
        *layers, above = _grad(a, [*(leaves[i] for i in own), into], delta)
        gradients |= dict(zip(own, layers, strict=True))
    return Graph(leaves, [gradients[i] for i in range(len(leaves))], choices)


def _grad(output: Tensor, inputs: Sequence[Tensor], seed: Tensor | None = None) -> list[Tensor]:
    """Differentiate with a graph, by those of ``inputs`` that anything is known to depend on."""
    wanted = [one for one in inputs if one.requires_grad]
    found: list[Tensor] = []
    if wanted and output.requires_grad:
        found = list(
            torch.autograd.grad(
                output, wanted, seed, create_graph=True, allow_unused=True, materialize_grads=True
            )
        )
    by_input = {id(one): gradient for one, gradient in zip(wanted, found, strict=bool(found))}
    return [by_input.get(id(one), torch.zeros_like(one)) for one in inputs]


def fork(a: Tensor, local: float, above: float) -> tuple[Tensor, Tensor]:
    """Return a layer's output twice, for its heads and for the next layer.

    Args:
        a: The output.
        local: Weight of the error that comes back from the heads.
        above: Weight of the error that comes back from the next layer.
    """
    return _Fork.apply(a, local, above)  # pyright: ignore[reportReturnType]


class _Fork(torch.autograd.Function):
    """One output for the heads and one for the next layer; their errors are weighed and added."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, local: float, above: float) -> tuple[Tensor, Tensor]:
        ctx.shares = local, above
        return a.view_as(a), a.view_as(a)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor, None, None]:
        local, above = ctx.shares
        return errors[0] * local + errors[1] * above, None, None
