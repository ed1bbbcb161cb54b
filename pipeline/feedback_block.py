"""What the methods with errors that travel back have in common: a block without a loss of its own.

    x^t      +------------------ block k ------------------+  h^t
    -------->| first phase:   forward of batch t           |-------->  to block k + 1
             |    history: batches t-d .. t                |
    <--------| second phase:  learn from batch t-d         |<--------  from block k + 1
     dL/dx of batch t-d                                        dL/dh of batch t-d

The last block has d = 0, the classifier and the loss: it learns as every block does, and sends the
gradient of its input. One block alone is plain backpropagation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .block import Place
from .headless import HeadlessBlock
from .message import Kind, Message, dense

__all__ = ["FeedbackBlock", "InPlaceInputError", "Passed"]


class InPlaceInputError(RuntimeError):
    """A block changed its input, which it needs again to learn."""


class Passed(Protocol):
    """What a block keeps of a batch that it has passed on and not yet learned from.

    Attributes:
        step: The step that it was passed on in.
    """

    step: int


P = TypeVar("P", bound=Passed)


class FeedbackBlock(HeadlessBlock, ABC, Generic[P]):
    """A block that learns from the error signal of the block behind it.

    ``train.chunk``, ``train.compile`` and float16 do not work with it: one error signal stands for
    a batch, both phases would need code of their own, and the scales of losses differ between
    blocks.

    Args:
        body: The layers of the block.
        head: The classifier, or the identity.
        place: Which block it is, and where it computes.
        options: See :class:`HeadlessBlock`.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        *,
        place: Place,
        **options: Any,
    ) -> None:
        super().__init__(body, head, place=place, **options)
        self.delay = place.blocks - place.index
        self._history: deque[P] = deque()
        self._signal: Message | None = None
        self._batch: Message | None = None
        self._input: Tensor | None = None
        self._tried = False

    def forward(self, message: Message) -> Message:
        """See :meth:`~blockstep.pipeline.feedback.FeedbackStage.forward`.

        Behind the last block there is nobody, so its forward pass waits for the second phase.
        """
        x, y = message.tensors
        self._try_input(x)
        if self.place.last:
            self._batch = message
            return message
        self._prepare(message.step)
        h, passed = self._pass(message.step, self._enter(x))
        self._history.append(passed)
        return Message(Kind.BATCH, message.step, (dense(h), dense(y)))

    def awaits(self, step: int) -> bool:
        """See :meth:`~blockstep.pipeline.feedback.FeedbackStage.awaits`.

        The block behind learns for the first time in its step ``delay``.
        """
        return 0 < self.delay <= step and self._signal is None

    def receive(self, signal: Message) -> None:
        """See :meth:`~blockstep.pipeline.feedback.FeedbackStage.receive`."""
        if signal.kind != Kind.ERROR_SIGNAL:
            raise RuntimeError(
                f"stage {self.index}: expected an error signal, got {signal.kind.name} of step "
                f"{signal.step}"
            )
        self._signal = signal

    def learn(self, step: int) -> Message | None:
        """See :meth:`~blockstep.pipeline.feedback.FeedbackStage.learn`."""
        if self.place.last:
            return self._learn_from_loss(step)
        self._rate = self._schedule.apply(self.optimizer, step)
        if step <= self.delay:
            return None
        signal, self._signal = self._signal, None
        if signal is None or signal.step != step - 1:
            came = "none" if signal is None else f"that of step {signal.step}"
            raise RuntimeError(
                f"stage {self.index}: step {step} learns from the error signal of step "
                f"{step - 1}, but {came} came"
            )
        return self._learn_from_signal(step, self._history.popleft(), signal.tensors[0])

    def step(self, message: Message) -> Message:
        """Do both phases with one batch and an error signal of zeros, to time the stage alone."""
        result = self.forward(message)
        if self.place.last:
            self._learn_from_loss(message.step)
            return result
        zeros = torch.zeros_like(result.tensors[0])
        self._learn_from_signal(message.step, self._history.pop(), zeros)
        return result

    def progress(self) -> dict[str, Any]:
        """See :meth:`~blockstep.pipeline.stage.Stage.progress`.

        ``error_delay`` is how many steps old the error signal is: the last block computed its
        loss so many steps ago.
        """
        return {**super().progress(), "error_delay": self.delay}

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Block.state_dict`; the history and the signal at hand belong to it."""
        signal = self._signal
        return {
            **super().state_dict(),
            "history": [self._saved(passed) for passed in self._history],
            "signal": signal and {"step": signal.step, "error": signal.tensors[0]},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Block.load_state_dict`."""
        super().load_state_dict(state)
        self._history = deque(self._restored(passed) for passed in state["history"])
        signal = state["signal"]
        self._signal = signal and Message(
            Kind.ERROR_SIGNAL, int(signal["step"]), (signal["error"],)
        )

    @abstractmethod
    def _pass(self, step: int, x: Tensor) -> tuple[Tensor, P]:
        """Compute the output of a batch.

        Args:
            step: The step; random numbers are seeded for it.
            x: The batch's input.

        Returns:
            The output, and what learning from this batch will need.
        """

    @abstractmethod
    def _backward(self, passed: P, error: Tensor) -> Tensor | None:
        """Give every parameter its gradient.

        Args:
            passed: What :meth:`_pass` kept of the batch.
            error: Gradient of the loss with respect to the batch's output.

        Returns:
            That with respect to its input; None in the first block.
        """

    @abstractmethod
    def _saved(self, passed: P) -> dict[str, Any]:
        """Return what a checkpoint holds of a batch that was passed on."""

    @abstractmethod
    def _restored(self, state: Mapping[str, Any]) -> P:
        """Make of it what was kept."""

    def _enter(self, x: Tensor) -> Tensor:
        x = super()._enter(x)
        if self.place.last and self.index > 1:
            self._input = x.requires_grad_()
        return x

    def _prepare(self, step: int) -> None:
        """Get ready for a forward pass of training: every pass of a batch draws the same."""
        self._seed(step)
        for module in self.modules.values():
            module.train()

    def _leaf(self, x: Tensor) -> Tensor:
        """Return an input as a leaf of a graph, whose gradient is kept if somebody wants it."""
        return x.detach().requires_grad_(self.index > 1)

    def _learn_from_loss(self, step: int) -> Message | None:
        batch, self._batch = self._batch, None
        if batch is None or batch.step != step:
            raise RuntimeError(
                f"stage {self.index}: there is no batch to learn from in step {step}"
            )
        super().step(batch)
        entered, self._input = self._input, None
        return self._error_signal(step, None if entered is None else entered.grad)

    def _learn_from_signal(self, step: int, passed: P, error: Tensor) -> Message | None:
        self.optimizer.zero_grad(set_to_none=True)
        gradient = self._backward(passed, error)
        self._update()
        return self._error_signal(step, gradient)

    def _error_signal(self, step: int, gradient: Tensor | None) -> Message | None:
        if self.index == 1:
            return None
        if gradient is None:
            raise RuntimeError(
                f"stage {self.index}: its output does not depend on its input, so there is no "
                "error to send back; cut elsewhere"
            )
        return Message(Kind.ERROR_SIGNAL, step, (dense(gradient),))

    def _try_input(self, x: Tensor) -> None:
        """Before the first step, look for work in place on the input, which is needed again."""
        if self._tried or self.place.blocks == 1:
            return
        self._tried = True
        self.body.train()
        buffers = {name: buffer.clone() for name, buffer in self.body.named_buffers()}
        part = self._arrange(x[:2]).clone()
        version = part._version
        with torch.no_grad(), self._autocast():
            functional_call(self.body, buffers, (part,))
        if part._version != version:
            raise InPlaceInputError(
                f"stage {self.index}: the block changes its input in place, but learns from it "
                "later; make its first operation out of place (e.g. ReLU(inplace=False)), or cut "
                "elsewhere"
            )
