"""The bounded queue between two stages: its contract, and the one inside a process.

             put() blocks while the link is full       get() blocks while it is empty
    stage k ------------------------------> [ m m m ] ------------------------------> stage k+1
                                            <= max_messages
                                            <= max_bytes (one message always fits)

A full link is what keeps a fast stage from running away from a slow one: memory stays bounded,
and so does the age of the activations that the slow stage learns from. Nothing flows backwards.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from .message import Message

__all__ = ["Breakable", "Inlet", "LinkClosedError", "LocalLink", "Outlet", "Sink"]


class LinkClosedError(RuntimeError):
    """The other end of a link is gone; the text says which link and why."""


class Inlet(Protocol):
    """The end of a link that a stage takes messages from."""

    def get(self) -> Message:
        """Take the oldest message; block while there is none.

        Raises:
            LinkClosedError: The other end is gone and every message was taken.
        """
        ...

    def waits(self) -> bool:
        """Return whether ``get`` would have to wait now: nothing is there, but may still come."""
        ...

    def depth(self) -> tuple[int, int]:
        """Return the messages and the bytes that wait in the link."""
        ...

    def close(self) -> None:
        """Take no more messages; a producer that waits for room is released."""
        ...


class Outlet(Protocol):
    """The end of a link that a stage puts messages on."""

    def put(self, message: Message) -> None:
        """Hand over a message; block while the link is full.

        Raises:
            LinkClosedError: The other end is gone.
        """
        ...

    def close(self) -> None:
        """Put no more messages; return once those that were put are on their way."""
        ...


class Breakable(Protocol):
    """A link, or an end of one, whose users can be told that another thread failed."""

    def abandon(self, reason: str) -> None:
        """Let nobody wait here any more: puts and gets raise :class:`LinkClosedError`."""
        ...


class Sink:
    """The outlet behind the last stage: there is nobody to hand anything to."""

    def put(self, message: Message) -> None:
        """Drop the message."""

    def close(self) -> None:
        """Do nothing."""


class LocalLink:
    """A link between two threads of one process.

    Args:
        name: What messages about it call it, e.g. ``"link 1->2"``.
        max_messages: Messages it holds at most.
        max_bytes: Bytes of tensors it holds at most. A larger message travels alone.

    Raises:
        ValueError: ``max_messages`` or ``max_bytes`` is below 1.
    """

    def __init__(self, name: str, *, max_messages: int, max_bytes: int) -> None:
        if max_messages < 1 or max_bytes < 1:
            raise ValueError(
                f"{name}: a link holds at least 1 message and 1 byte, "
                f"not {max_messages} messages and {max_bytes} bytes"
            )
        self.name = name
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._closed_by_consumer = False
        self._ended: str | None = None
        self._changed = threading.Condition()

    def put(self, message: Message) -> None:
        """See :meth:`Outlet.put`."""
        with self._changed:
            self._wait_for_room(message.nbytes)
            self._messages.append(message)
            self._bytes += message.nbytes
            self._changed.notify_all()

    def reserve(self, nbytes: int) -> None:
        """Block until a message of ``nbytes`` has room. Meant for a single producer."""
        with self._changed:
            self._wait_for_room(nbytes)

    def get(self) -> Message:
        """See :meth:`Inlet.get`."""
        with self._changed:
            while not self._messages:
                if self._ended is not None:
                    raise LinkClosedError(f"{self.name}: {self._ended}")
                if self._closed_by_consumer:
                    raise LinkClosedError(f"{self.name}: it was closed at this end")
                self._changed.wait()
            message = self._messages.popleft()
            self._bytes -= message.nbytes
            self._changed.notify_all()
            return message

    def waits(self) -> bool:
        """See :meth:`Inlet.waits`."""
        with self._changed:
            over = self._ended is not None or self._closed_by_consumer
            return not self._messages and not over

    def depth(self) -> tuple[int, int]:
        """See :meth:`Inlet.depth`."""
        with self._changed:
            return len(self._messages), self._bytes

    def end(self, reason: str) -> None:
        """Say that nothing more will be put; what was put can still be taken."""
        with self._changed:
            self._ended = self._ended or reason
            self._changed.notify_all()

    def close(self) -> None:
        """See :meth:`Inlet.close`; in a process, the producer's ``close`` is :meth:`end`."""
        with self._changed:
            self._closed_by_consumer = True
            self._messages.clear()
            self._bytes = 0
            self._changed.notify_all()

    def abandon(self, reason: str) -> None:
        """See :meth:`Breakable.abandon`."""
        self.end(reason)
        self.close()

    def _wait_for_room(self, nbytes: int) -> None:
        while self._full(nbytes) and not self._closed_by_consumer:
            self._changed.wait()
        if self._closed_by_consumer:
            raise LinkClosedError(f"{self.name}: the stage behind it takes no more messages")

    def _full(self, nbytes: int) -> bool:
        if not self._messages:
            return False
        return len(self._messages) >= self._max_messages or self._bytes + nbytes > self._max_bytes
