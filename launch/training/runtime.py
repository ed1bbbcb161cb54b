"""The ways to execute a learning rule: what must be known of each, without loading torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from ..config import TrainConfig
from .method import METHODS, Method

__all__ = ["RUNTIMES", "Runtime", "method_of", "runtime_of"]


@dataclass(frozen=True)
class Runtime:
    """A way to execute a learning rule.

    Attributes:
        schedule: Whether torch's pipelining trains: batches pass in micro-batches, errors come
            back within the step. It cuts methods that otherwise train the network as a whole.
        chunks: Blocks that each rank has.
    """

    schedule: bool = False
    chunks: int = 1


RUNTIMES: Mapping[str, Runtime] = {
    "pipeline": Runtime(),
    "sequential": Runtime(),
    "gpipe": Runtime(schedule=True),
    "1f1b": Runtime(schedule=True),
    "interleaved_1f1b": Runtime(schedule=True, chunks=2),
}


def runtime_of(config: TrainConfig) -> Runtime:
    """Return the runtime; an unknown one is refused by name, and is nothing special."""
    return RUNTIMES.get(config.runtime, Runtime())


def method_of(config: TrainConfig) -> Method:
    """Return the learning rule as the runtime executes it.

    An unknown one is refused by name, and is nothing special.
    """
    method = METHODS.get(config.method, Method())
    if runtime_of(config).schedule:
        return dataclasses.replace(method, whole=False, replicas=False)
    return method
