"""What is expected of a method on a cluster."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Prediction", "PredictionError"]


class PredictionError(ValueError):
    """A method cannot be had as asked; the message says why."""


@dataclass(frozen=True)
class Prediction:
    """What is expected of a method on a cluster.

    Attributes:
        method: Its name.
        blocks: How many blocks the network is cut into.
        devices: How many devices it uses.
        replicas: Of each block; of a pipeline with a schedule, the copies of the whole pipeline.
        cuts: After which layers the network is cut.
        microbatches: Of a schedule; None without one.
        batch: Examples per step.
        seconds: Per step.
        busy: For each block, or rank of a schedule, the share of the time in which it computes.
        memory: For each of these, bytes on each of its devices; None if that was not measured.
        traffic: Bytes per step over each boundary, in both directions together.
        reduced: Bytes per step that the device with the most gradients sends to agree on them.
        alone: Seconds per step of backpropagation on one such device.
    """

    method: str
    blocks: int
    devices: int
    replicas: tuple[int, ...]
    cuts: tuple[int, ...]
    microbatches: int | None
    batch: int
    seconds: float
    busy: tuple[float, ...]
    memory: tuple[int | None, ...]
    traffic: tuple[int, ...]
    reduced: int
    alone: float

    @property
    def images_per_second(self) -> float:
        """Examples per second."""
        return self.batch / self.seconds

    @property
    def speedup(self) -> float:
        """Over backpropagation on one device."""
        return self.alone / self.seconds

    @property
    def efficiency(self) -> float:
        """Speedup per device."""
        return self.speedup / self.devices

    @property
    def most_memory(self) -> int | None:
        """Bytes on the fullest device; None if unknown."""
        known = [one for one in self.memory if one is not None]
        return max(known) if known else None
