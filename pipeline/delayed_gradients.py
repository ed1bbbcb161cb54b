"""Decoupled parallel backpropagation with delayed gradients (DDG).

    step t      x^t ----> F(x^t; w^t) ----> on           with its graph, kept for d steps
                x^(t-d), w^(t-d)      <---- delta        backward through the graph of then
                   |                                     its gradient updates w^t

Huo, Gu, Yang and Huang, "Decoupled Parallel Backpropagation with Convergence Guarantee", ICML
2018, Algorithm 1. Block k of K keeps at most d + 1 = K - k + 1 graphs, each with a copy of the
block's weights: updates happen in place, and a graph needs the weights that it was made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.func import functional_call

from .feedback_block import FeedbackBlock

__all__ = ["DelayedGradientsBlock"]


@dataclass
class PassedGraph:
    """The graph of a batch that was passed on, from its input and weights to its output.

    Attributes:
        step: The step that it was passed on in.
        x: The input.
        weights: Copies of the trainable parameters, by name: the graph's other leaves.
        buffers: Copies of the buffers as they were before; empty where there are none.
        h: The output.
    """

    step: int
    x: Tensor
    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    h: Tensor


class DelayedGradientsBlock(FeedbackBlock[PassedGraph]):
    """A block that learns through the graphs of old batches; see :class:`FeedbackBlock`.

    There is one forward pass per batch, so running statistics and dropout are those of
    backpropagation. A checkpoint cannot hold graphs: it has the input, the weights and the buffers
    of each, and the same pass makes the same graph of them again.
    """

    def _pass(self, step: int, x: Tensor) -> tuple[Tensor, PassedGraph]:
        buffers = {name: buffer.clone() for name, buffer in self.body.named_buffers()}
        weights = {
            name: parameter.detach().clone().requires_grad_()
            for name, parameter in self.body.named_parameters()
            if parameter.requires_grad
        }
        passed = self._graph(step, self._leaf(x), weights, buffers, replaced=weights)
        return passed.h, passed

    def _backward(self, passed: PassedGraph, error: Tensor) -> Tensor | None:
        passed.h.backward(error)
        for name, parameter in self.body.named_parameters():
            if name in passed.weights:
                parameter.grad = passed.weights[name].grad
        return passed.x.grad

    def _saved(self, passed: PassedGraph) -> dict[str, Any]:
        weights = {name: weight.detach() for name, weight in passed.weights.items()}
        return {
            "step": passed.step,
            "x": passed.x.detach(),
            "weights": weights,
            "buffers": passed.buffers,
        }

    def _restored(self, state: Mapping[str, Any]) -> PassedGraph:
        step = int(state["step"])
        self._prepare(step)
        weights = {name: weight.requires_grad_() for name, weight in state["weights"].items()}
        buffers = dict(state["buffers"])
        # The pass changes its buffers; those of the block were changed when it was first made.
        scratch = {name: buffer.clone() for name, buffer in buffers.items()}
        x = self._leaf(state["x"])
        return self._graph(step, x, weights, buffers, replaced={**weights, **scratch})

    def _graph(
        self,
        step: int,
        x: Tensor,
        weights: dict[str, Tensor],
        buffers: dict[str, Tensor],
        *,
        replaced: dict[str, Tensor],
    ) -> PassedGraph:
        """Make a batch's graph.

        Args:
            step: The step that it is passed on in; random numbers are seeded for it.
            x: Its input, a leaf.
            weights: The graph's weights, leaves.
            buffers: The buffers before the pass.
            replaced: What the pass uses in place of the body's own parameters and buffers.
        """
        with self._autocast():
            h = functional_call(self.body, replaced, (x,))
        return PassedGraph(step, x, weights, buffers, h)
