"""How the bytes of a tensor cross an edge; chosen by device and back end.

    HostTransfer     CPU tensor  -> gloo -> CPU tensor
    StagedTransfer   GPU tensor  -> pinned host memory -> gloo -> pinned host memory -> GPU tensor
    DeviceTransfer   GPU tensor  -> NCCL -> GPU tensor

A transfer runs in its link's own thread and returns when the bytes have arrived or left, so the
thread that trains never waits for a copy. GPU copies run on a stream of their own, which waits
for the event that ``ready`` recorded on the training stream.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from .edge import Connection
from .message import TensorSpec

__all__ = ["DeviceTransfer", "HostTransfer", "StagedTransfer", "Transfer", "make_transfer"]


class Transfer(Protocol):
    """Moves tensors over one connection."""

    def ready(self) -> torch.cuda.Event | None:
        """Mark this point of the training stream; called by the thread that trains."""
        ...

    def send(self, tensor: Tensor, spec: TensorSpec, after: torch.cuda.Event | None) -> None:
        """Send a dense tensor; return when its memory may be reused."""
        ...

    def receive(self, spec: TensorSpec) -> Tensor:
        """Receive a tensor; return when it is complete."""
        ...


class HostTransfer:
    """CPU tensors over gloo, without a copy on either side."""

    def __init__(self, connection: Connection) -> None:
        self._edge = connection.edge
        self._group = connection.payloads

    def ready(self) -> torch.cuda.Event | None:
        """CPU tensors are ready when they exist."""
        return None

    def send(self, tensor: Tensor, spec: TensorSpec, after: torch.cuda.Event | None) -> None:
        """See :meth:`Transfer.send`."""
        if spec.nbytes:
            dist.send(spec.flat(tensor), self._edge.target, group=self._group)

    def receive(self, spec: TensorSpec) -> Tensor:
        """See :meth:`Transfer.receive`."""
        flat = torch.empty(spec.nbytes, dtype=torch.uint8)
        if spec.nbytes:
            dist.recv(flat, self._edge.source, group=self._group)
        return spec.restore(flat)


class StagedTransfer:
    """GPU tensors over gloo through pinned host memory.

    For stages that share a GPU, where NCCL refuses two ranks, and for hosts without NCCL.
    """

    def __init__(self, connection: Connection, device: torch.device) -> None:
        self._host = HostTransfer(connection)
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def ready(self) -> torch.cuda.Event | None:
        """See :meth:`Transfer.ready`."""
        return _mark(torch.cuda.current_stream(self._device))

    def send(self, tensor: Tensor, spec: TensorSpec, after: torch.cuda.Event | None) -> None:
        """See :meth:`Transfer.send`."""
        pinned = torch.empty(spec.nbytes, dtype=torch.uint8, pin_memory=True)
        with torch.cuda.stream(self._stream):
            if after is not None:
                self._stream.wait_event(after)
            pinned.copy_(spec.flat(tensor), non_blocking=True)
            tensor.record_stream(self._stream)
            done = _mark(self._stream)
        done.synchronize()
        self._host.send(spec.restore(pinned), spec, None)

    def receive(self, spec: TensorSpec) -> Tensor:
        """See :meth:`Transfer.receive`."""
        pinned = torch.empty(spec.nbytes, dtype=torch.uint8, pin_memory=True)
        if spec.nbytes:
            dist.recv(pinned, self._host._edge.source, group=self._host._group)
        with torch.cuda.stream(self._stream):
            flat = pinned.to(self._device, non_blocking=True)
            done = _mark(self._stream)
        done.synchronize()
        _hand_over(flat, self._device)
        return spec.restore(flat)


class DeviceTransfer:
    """GPU tensors over NCCL, from device to device."""

    def __init__(self, connection: Connection, device: torch.device) -> None:
        self._edge = connection.edge
        self._group = connection.payloads
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def ready(self) -> torch.cuda.Event | None:
        """See :meth:`Transfer.ready`."""
        return _mark(torch.cuda.current_stream(self._device))

    def send(self, tensor: Tensor, spec: TensorSpec, after: torch.cuda.Event | None) -> None:
        """See :meth:`Transfer.send`."""
        if not spec.nbytes:
            return
        with torch.cuda.stream(self._stream):
            if after is not None:
                self._stream.wait_event(after)
            dist.send(spec.flat(tensor), self._edge.target, group=self._group)
            tensor.record_stream(self._stream)
            done = _mark(self._stream)
        done.synchronize()

    def receive(self, spec: TensorSpec) -> Tensor:
        """See :meth:`Transfer.receive`."""
        with torch.cuda.stream(self._stream):
            flat = torch.empty(spec.nbytes, dtype=torch.uint8, device=self._device)
            if spec.nbytes:
                dist.recv(flat, self._edge.source, group=self._group)
            done = _mark(self._stream)
        done.synchronize()
        _hand_over(flat, self._device)
        return spec.restore(flat)


def _mark(stream: torch.cuda.Stream) -> torch.cuda.Event:
    event = torch.cuda.Event()
    event.record(stream)
    return event


def _hand_over(tensor: Tensor, device: torch.device) -> None:
    """Tell the allocator that the training stream uses what the link's stream allocated.

    Without this, a tensor that training has let go of but not yet read could be overwritten by
    the next message.
    """
    tensor.record_stream(torch.cuda.default_stream(device))


def make_transfer(connection: Connection, device: torch.device) -> Transfer:
    """Choose the transfer for tensors on ``device`` over ``connection``."""
    if device.type == "cpu":
        return HostTransfer(connection)
    if connection.payloads is connection.headers:
        return StagedTransfer(connection, device)
    return DeviceTransfer(connection, device)
