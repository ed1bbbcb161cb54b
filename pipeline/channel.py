"""The link between two processes: the two ends of one edge, each with a thread of its own.

     producer process                                 consumer process
     stage k                                          stage k+1
       | put()  blocks while the                        ^ get()
       v        slot is taken                           |
    [ slot ] --- sender thread === header, tensors ===> receiver thread --> [ LocalLink ]
                                                        reserves room before it takes the
                                                        tensors, so a full queue leaves the
                                                        next message with its producer

A gloo send completes only when the other side has posted its receive. That is the back pressure:
no acknowledgement and no reverse traffic is needed. At most ``max_messages`` messages wait at the
consumer and one at the producer.
"""

from __future__ import annotations

import threading

import torch
import torch.distributed as dist

from .edge import Connection
from .link import LinkClosedError, LocalLink
from .message import HEADER_BYTES, Header, Kind, Message, MessageError
from .transfer import Transfer

__all__ = ["Receiver", "Sender"]

CLOSE_SECONDS = 5.0

TRAINED = (Kind.BATCH, Kind.ERROR_SIGNAL, Kind.VALUES, Kind.GRADIENT)
"""Messages of training, whose bytes are counted."""


class Sender:
    """The producer's end of an edge.

    Args:
        connection: The edge.
        transfer: Moves the tensors.

    Attributes:
        trained_bytes: Bytes of tensors that have left for training, those of evaluations excluded.
    """

    def __init__(self, connection: Connection, transfer: Transfer) -> None:
        self.name = connection.edge.label
        self.trained_bytes = 0
        self._connection = connection
        self._transfer = transfer
        self._slot: tuple[Message, Header, torch.cuda.Event | None] | None = None
        self._error: BaseException | None = None
        self._closing = False
        self._abandoned: str | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """See :meth:`~blockstep.pipeline.link.Outlet.put`.

        Raises:
            MessageError: The message cannot travel.
        """
        header = Header.of(message)
        ready = self._transfer.ready()
        with self._changed:
            while self._slot is not None and self._error is None and self._abandoned is None:
                self._changed.wait()
            if self._abandoned is not None:
                raise LinkClosedError(f"{self.name}: {self._abandoned}")
            self._check()
            self._slot = (message, header, ready)
            self._changed.notify_all()

    def put_within(self, message: Message, seconds: float) -> bool:
        """Put a message without tensors if there is room in time; wait until it has left.

        This works on an abandoned link, too.

        Returns:
            Whether it left.
        """
        header = Header.of(message)
        with self._changed:
            if not self._changed.wait_for(self._idle, seconds):
                return False
            self._slot = (message, header, None)
            self._changed.notify_all()
            return self._changed.wait_for(self._idle, seconds)

    def close(self) -> None:
        """See :meth:`~blockstep.pipeline.link.Outlet.close`. Gives up after a few seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)

    def abandon(self, reason: str) -> None:
        """See :meth:`~blockstep.pipeline.link.Breakable.abandon`; an error can still be put."""
        with self._changed:
            self._abandoned = reason
            self._changed.notify_all()

    def _idle(self) -> bool:
        return self._slot is None and self._error is None

    def _check(self) -> None:
        if self._error is not None:
            raise LinkClosedError(f"{self.name}: the receiving side is gone: {self._error}")

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while self._slot is None and not self._closing:
                        self._changed.wait()
                    if self._slot is None:
                        return
                    message, header, ready = self._slot
                self._send(message, header, ready)
                with self._changed:
                    self._slot = None
                    self._changed.notify_all()
                del message, header, ready
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _send(self, message: Message, header: Header, ready: torch.cuda.Event | None) -> None:
        buffer = torch.frombuffer(bytearray(header.encode()), dtype=torch.uint8)
        dist.send(buffer, self._connection.edge.target, group=self._connection.headers)
        for tensor, spec in zip(message.tensors, header.specs, strict=True):
            self._transfer.send(tensor, spec, ready)
        if message.kind in TRAINED:
            self.trained_bytes += header.nbytes


class Receiver:
    """The consumer's end of an edge.

    Args:
        connection: The edge.
        transfer: Moves the tensors.
        max_messages: Messages that wait here at most.
        max_bytes: Bytes of tensors that wait here at most; a larger message waits alone.
    """

    def __init__(
        self,
        connection: Connection,
        transfer: Transfer,
        *,
        max_messages: int,
        max_bytes: int,
    ) -> None:
        self.name = connection.edge.label
        self._connection = connection
        self._transfer = transfer
        self._queue = LocalLink(self.name, max_messages=max_messages, max_bytes=max_bytes)
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def get(self) -> Message:
        """See :meth:`~blockstep.pipeline.link.Inlet.get`."""
        return self._queue.get()

    def waits(self) -> bool:
        """See :meth:`~blockstep.pipeline.link.Inlet.waits`."""
        return self._queue.waits()

    def depth(self) -> tuple[int, int]:
        """See :meth:`~blockstep.pipeline.link.Inlet.depth`."""
        return self._queue.depth()

    def close(self) -> None:
        """See :meth:`~blockstep.pipeline.link.Inlet.close`."""
        self._queue.close()

    def abandon(self, reason: str) -> None:
        """See :meth:`~blockstep.pipeline.link.Breakable.abandon`."""
        self._queue.abandon(reason)

    def _run(self) -> None:
        try:
            while True:
                message = self._receive()
                self._queue.put(message)
                if message.kind in (Kind.STOP, Kind.ERROR):
                    self._queue.end("the stage before it stopped")
                    return
                del message
        except MessageError as error:
            self._queue.end(f"{error}")
        except LinkClosedError:
            pass
        except BaseException as error:
            # torch.cuda.OutOfMemoryError and the CPU's are RuntimeErrors too, but not the peer's.
            memory = "allocate" in str(error) or isinstance(error, MemoryError)
            cause = "no memory for the message" if memory else "the sending side is gone"
            self._queue.end(f"{cause}: {error}")

    def _receive(self) -> Message:
        buffer = torch.empty(HEADER_BYTES, dtype=torch.uint8)
        dist.recv(buffer, self._connection.edge.source, group=self._connection.headers)
        header = Header.decode(buffer.numpy().tobytes())
        self._queue.reserve(header.nbytes)
        tensors = tuple(self._transfer.receive(spec) for spec in header.specs)
        return Message(header.kind, header.step, tensors, header.text, header.total)
