"""The ways to train on several devices that a plan compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...models import HeadSpec
from ..decoupling import NO_HEAD

__all__ = ["ERRORS_BACK", "SCHEDULED", "Kind", "Method"]

Kind = Literal[
    "backprop", "ddp", "gpipe", "1f1b", "interleaved_1f1b", "features_replay", "ddg", "decoupled"
]

SCHEDULED = ("gpipe", "1f1b", "interleaved_1f1b")
"""Kinds that split a batch into micro-batches and wait for each other at the end of a step."""

ERRORS_BACK = ("features_replay", "ddg")
"""Kinds whose error signals travel back, one step late per stage."""


@dataclass(frozen=True)
class Method:
    """A way to train.

    Attributes:
        name: What the table calls it.
        kind: How it is simulated.
        head: The head of each block but the last.
        cuts: ``balanced`` (by the measured times) or ``uniform``.
    """

    name: str
    kind: Kind
    head: HeadSpec = NO_HEAD
    cuts: str = "balanced"

    @property
    def whole(self) -> bool:
        """Whether each device has the whole network."""
        return self.kind in ("backprop", "ddp")
