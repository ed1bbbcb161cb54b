"""The devices that a plan is for, and what connects them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .link import Room, Wire

__all__ = ["Cluster"]


@dataclass(frozen=True)
class Cluster:
    """Equal devices with equal connections.

    Attributes:
        devices: How many.
        wire: Between each two of them, each direction on its own.
        scale: How many times as fast as the measured device each of them is.
        contention: How many times as long each takes when the others compute too.
        overlap: How much of an all-reduce hides behind backward, from 0 to 1.
        room: Of each link between stages.

    Raises:
        ValueError: There is no device, or another number is impossible.
    """

    devices: int
    wire: Wire
    scale: float = 1.0
    contention: float = 1.0
    overlap: float = 1.0
    room: Room = field(default_factory=Room)

    def __post_init__(self) -> None:
        """Check the numbers."""
        possible = self.scale > 0 and self.contention >= 1 and 0 <= self.overlap <= 1
        if self.devices < 1 or not possible:
            raise ValueError(
                f"a cluster of {self.devices} devices, {self.scale} times as fast, contention "
                f"{self.contention}, overlap {self.overlap}; give at least 1 device, more than 0, "
                "at least 1, and 0 to 1"
            )
