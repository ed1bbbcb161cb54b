"""What one rank owns and trains: a function from message to message that updates itself."""

from __future__ import annotations

from typing import Any, Protocol

from .message import Message

__all__ = ["NonFiniteLossError", "Stage"]


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite."""


class Stage(Protocol):
    """A part of the job that learns from its messages alone.

    A block of a network is a stage; so may be a weight partition or the members of an ensemble.
    A worker drives it; it knows neither links nor other stages.

    Attributes:
        index: Its number, from 1.
    """

    index: int

    def step(self, message: Message) -> Message:
        """Learn from a ``BATCH`` and return what the next stage learns from."""
        ...

    def evaluate(self, message: Message) -> Message:
        """Take an ``EVALUATE``, ``SAMPLE`` or ``EVALUATED`` and return it for the next stage."""
        ...

    def evaluation(self) -> dict[str, Any]:
        """Return the results of the evaluation that ended last."""
        ...

    def progress(self) -> dict[str, Any]:
        """Return the means since the last call, e.g. ``{"loss": ..., "accuracy": ...}``."""
        ...

    def check(self) -> None:
        """Raise :class:`NonFiniteLossError` if a loss of the past steps was not finite."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs: tensors, numbers, strings, lists and dicts."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        ...
