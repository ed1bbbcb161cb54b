"""Links in simulated time: how long a message travels, and who waits for whom meanwhile.

    producer                                              consumer
    put(): waits while                                    get(): waits while
           the slot is taken                                     the queue is empty
    [ slot ] ---- carrier: latency, room, bytes / bandwidth ----> [ m m m ]
                                                                  <= max_messages
                                                                  <= max_bytes, or one alone

The same rules as in ``pipeline/channel.py``: a sender thread carries one message while its stage
computes; it leaves the slot once the consumer has reserved room and all of it has arrived.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .clock import Process

__all__ = ["Channel", "Link", "Room", "Wire"]


@dataclass(frozen=True)
class Wire:
    """What connects two devices.

    Attributes:
        latency: Seconds until the first byte of a message arrives.
        bandwidth: Bytes per second, in each direction; infinite if copies take no time.

    Raises:
        ValueError: The latency is below 0, or the bandwidth not above 0.
    """

    latency: float = 0.0
    bandwidth: float = math.inf

    def __post_init__(self) -> None:
        """Check both."""
        if not 0 <= self.latency < math.inf or not self.bandwidth > 0:
            raise ValueError(
                f"a wire with a latency of {self.latency} seconds and {self.bandwidth} bytes per "
                "second; give at least 0 seconds and more than 0 bytes per second"
            )

    def seconds(self, nbytes: float) -> float:
        """Return how long a message takes from end to end."""
        return self.latency + nbytes / self.bandwidth


@dataclass(frozen=True)
class Room:
    """How much waits at the consumer at most.

    Attributes:
        messages: So many messages.
        nbytes: So many bytes; a larger message waits alone.
    """

    messages: int = 4
    nbytes: float = math.inf

    def full(self, waiting: int, size: float) -> bool:
        """Whether one more message of ``size`` bytes has no room beside those that wait."""
        if not waiting:
            return False
        return waiting >= self.messages or (waiting + 1) * size > self.nbytes


class Link:
    """A link inside a process, as in ``pipeline/link.py``: what is put is there at once.

    Args:
        name: Of the link.
        size: Bytes of each message.
        room: How much waits at the consumer at most.

    Attributes:
        deepest: The most messages that ever waited at the consumer.
    """

    def __init__(self, name: str, *, size: float, room: Room) -> None:
        self.name = name
        self.size = size
        self.deepest = 0
        self._room = room
        self._waiting = 0

    def put(self) -> Process:
        """Hand over a message; wait while there is no room."""
        yield self._has_room
        self._arrive()

    def get(self) -> Process:
        """Take a message; wait for it."""
        yield lambda: self._waiting > 0
        self._waiting -= 1

    def carry(self, messages: int) -> Process:
        """Be the threads between the two for so many messages: here there are none."""
        yield from ()

    def _has_room(self) -> bool:
        return not self._room.full(self._waiting, self.size)

    def _arrive(self) -> None:
        self._waiting += 1
        self.deepest = max(self.deepest, self._waiting)


class Channel(Link):
    """A link between two processes, as in ``pipeline/channel.py``.

    Args:
        name, size, room: See :class:`Link`.
        wire: What the messages travel over.
    """

    def __init__(self, name: str, *, size: float, room: Room, wire: Wire) -> None:
        super().__init__(name, size=size, room=room)
        self._wire = wire
        self._taken = False

    def put(self) -> Process:
        """Hand over a message; wait while the one before has not left."""
        yield lambda: not self._taken
        self._taken = True

    def carry(self, messages: int) -> Process:
        """Be the sender's and the receiver's thread for so many messages."""
        for _ in range(messages):
            yield lambda: self._taken
            # The header has arrived before room is reserved for what it announces.
            yield self._wire.latency
            yield self._has_room
            yield self.size / self._wire.bandwidth
            self._taken = False
            self._arrive()
