"""The gradient of the validation loss after T inner steps, by alpha and beta (Eq. 7), exact.

    there    w0 --step 1--> w1 --step 2--> ... --step T--> wT --> validation loss
             no graphs; the weights before each step are kept (and graphs, of as many as asked for)

    back     step T is rebuilt at w(T-1) with the graph of its gradients; the derivative of the
             loss goes back through it, to w(T-1), alpha and beta; the graph is freed; step T - 1

The memory of one graph suffices for any T. The price is that the forward and backward pass of a
step are done twice. SEDONA (Pyeon et al., ICLR 2021), section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pipeline.seed import set_seed
from .descent import Adjoint, Descent, Point
from .mixed_gradient import Choices, Graph, build_graph, mixed_gradient
from .relaxation import Relaxation

__all__ = ["Batch", "Hypergradient", "hypergradient"]


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        x: Inputs (B, ...).
        y: Labels (B,).
        lr: The learning rate of the step.
        seed: Of what dropout draws.
    """

    x: Tensor
    y: Tensor
    lr: float
    seed: int


@dataclass(frozen=True)
class Hypergradient:
    """What one outer step learns from one snapshot.

    Attributes:
        alpha: The gradient of the validation loss by alpha, (L - 1, 2).
        beta: The gradient by beta, (L - 1, M).
        loss: The validation loss of the classifier after the inner steps, ().
        correct: How many of the validation examples it has right, ().
    """

    alpha: Tensor
    beta: Tensor
    loss: Tensor
    correct: Tensor


def hypergradient(
    relaxation: Relaxation,
    point: Point,
    batches: Sequence[Batch],
    validation: tuple[Tensor, Tensor],
    choices: Choices,
    *,
    descent: Descent,
    keep_graphs: int = 0,
    batch_norm: str = "batch",
) -> Hypergradient:
    """Go T inner steps from ``point``, and differentiate the validation loss.

    The relaxation's buffers (running statistics) are as before afterwards.

    Args:
        relaxation: The network and its heads.
        point: Where the inner steps begin.
        batches: T training batches.
        validation: Examples (B, ...) and labels (B,) of the outer loss.
        choices: Alpha and beta.
        descent: The inner optimizer.
        keep_graphs: How many of the T steps keep their graph instead of being rebuilt: faster,
            and the memory of so many graphs more.
        batch_norm: Statistics of the outer loss. ``batch``: those of the validation batch. In
            Eq. 7 the loss is a function of the weights and of alpha and beta alone, which is so
            with them. ``running``: the running averages, held constant in the derivative, which
            is then that of a network whose statistics do not follow its weights.
    """
    choices = choices.detached()
    buffers = [buffer.clone() for buffer in relaxation.buffers()]
    origins, graphs, end = _descend(
        relaxation, point, batches, choices, descent=descent, keep_graphs=keep_graphs
    )
    adjoint, loss, correct = _outer_loss(relaxation, end, validation, batch_norm)
    del end  # of the points, only the weights before each step are needed on the way back
    alpha, beta = torch.zeros_like(choices.alpha), torch.zeros_like(choices.beta)
    for number in reversed(range(len(batches))):
        batch, weights = batches[number], origins.pop()
        graph = graphs.pop(number, None) or _rebuild(relaxation, weights, batch, choices)
        directions = descent.by_gradients(adjoint, batch.lr)
        # Nobody asks for the derivative by the weights that everything began with.
        by_alpha, by_beta, through = graph.product(directions, with_weights=number > 0)
        del graph
        alpha, beta = alpha + by_alpha, beta + by_beta
        if number > 0:
            adjoint = descent.back(adjoint, directions, through)
    relaxation.load_buffers(buffers)
    return Hypergradient(alpha, beta, loss, correct)


def _descend(
    relaxation: Relaxation,
    point: Point,
    batches: Sequence[Batch],
    choices: Choices,
    *,
    descent: Descent,
    keep_graphs: int,
) -> tuple[list[list[Tensor]], dict[int, Graph], Point]:
    """Go the inner steps; return the weights before each, the graphs to keep, and the end."""
    origins: list[list[Tensor]] = []
    graphs: dict[int, Graph] = {}
    for number, batch in enumerate(batches):
        origins.append(point.weights)
        if number >= len(batches) - keep_graphs:
            graphs[number] = _rebuild(relaxation, point.weights, batch, choices)
            gradients = [gradient.detach() for gradient in graphs[number].gradients]
        else:
            set_seed(batch.seed, batch.x.device)
            gradients, _ = mixed_gradient(relaxation, point.weights, batch.x, batch.y, choices)
        point = descent.step(point, gradients, batch.lr)
    return origins, graphs, point


def _rebuild(
    relaxation: Relaxation, weights: Sequence[Tensor], batch: Batch, choices: Choices
) -> Graph:
    """Return the gradients of a step with their graph; dropout draws what it drew there."""
    set_seed(batch.seed, batch.x.device)
    return build_graph(relaxation, weights, batch.x, batch.y, choices)


def _outer_loss(
    relaxation: Relaxation, point: Point, validation: tuple[Tensor, Tensor], batch_norm: str
) -> tuple[Adjoint, Tensor, Tensor]:
    """Return the derivative of the classifier's loss by the point, the loss, and the hits."""
    x, y = validation
    leaves = [weight.detach().requires_grad_() for weight in point.weights]
    relaxation.place(leaves)
    relaxation.train(batch_norm == "batch")
    logits = relaxation.logits(x)
    loss = relaxation.criterion(logits, y)
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    relaxation.train()
    correct = (logits.detach().argmax(-1) == y).sum()
    zeros = [torch.zeros_like(momentum) for momentum in point.momentum]
    return Adjoint(list(gradients), zeros), loss.detach(), correct
