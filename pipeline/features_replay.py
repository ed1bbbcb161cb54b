"""Features Replay: a block keeps old inputs and passes them through again to learn from them.

    step t      x^t ----> F(x^t; w^t) ----> on           without a graph
                x^(t-d) > F(x^(t-d); w^t) <---- delta    the replay: today's weights, d steps old
                   |                                     input and error; backward, update w

Huo, Gu and Huang, "Training Neural Networks Using Features Replay", NeurIPS 2018, Algorithm 1.
Block k of K keeps at most d + 1 = K - k + 1 inputs of a batch, and the graph of one batch while it
learns. The replay costs a forward pass more than backpropagation in every block but the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from .feedback_block import FeedbackBlock

__all__ = ["FeaturesReplayBlock"]


@dataclass
class PassedInput:
    """The input of a batch that was passed on.

    Attributes:
        step: The step that it was passed on in.
        x: The input.
    """

    step: int
    x: Tensor


class FeaturesReplayBlock(FeedbackBlock[PassedInput]):
    """A block that replays old inputs with its current weights; see :class:`FeedbackBlock`.

    The replay draws the random numbers of the first pass again, so dropout leaves out the same
    units. Running statistics (batch norm) and other buffers change in the first pass only, once
    per batch as in backpropagation: it sees the newest input, which is nearest to what an
    evaluation will see, and the first batch already, whereas replays begin d steps later.
    """

    def _pass(self, step: int, x: Tensor) -> tuple[Tensor, PassedInput]:
        with torch.no_grad(), self._autocast():
            return self.body(x), PassedInput(step, x)

    def _backward(self, passed: PassedInput, error: Tensor) -> Tensor | None:
        self._prepare(passed.step)
        x = self._leaf(passed.x)
        # What the replay would change in the buffers is lost with these copies.
        buffers = {name: buffer.clone() for name, buffer in self.body.named_buffers()}
        with self._autocast():
            h = functional_call(self.body, buffers, (x,))
        h.backward(error)
        return x.grad

    def _saved(self, passed: PassedInput) -> dict[str, Any]:
        return {"step": passed.step, "x": passed.x}

    def _restored(self, state: Mapping[str, Any]) -> PassedInput:
        return PassedInput(int(state["step"]), state["x"])
