"""``pipeline.verify``: noticing a tensor that arrives other than it was sent.

    sender     tensor ==> bytes ==================> tensor     receiver
               checksum --> 8 bytes over gloo --> compare with the checksum of what arrived

TCP's own checksum has 16 bits, and memory or a driver can fail on either side. A damaged activation
does not stop a training, it only makes it worse, so the receiver compares. The checksum of a tensor
on a CPU is its CRC-32; on a GPU it is computed there, from sums, because bringing the tensor to the
host would cost more than the transfer.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor

from .edge import Connection
from .message import MessageError, TensorSpec
from .transfer import Transfer

__all__ = ["VerifiedTransfer", "checksum", "sums"]

TRAILER = struct.Struct("<Q")
WORD = 8
ROW = 256
"""Words of a row: words are told apart by their row, and rows by their place."""

MASK = (1 << 64) - 1


class VerifiedTransfer:
    """A transfer with a checksum behind each tensor.

    Args:
        transfer: Moves the tensors.
        connection: The edge; checksums go with its headers.
        device: Where the tensors are.
    """

    def __init__(self, transfer: Transfer, connection: Connection, device: torch.device) -> None:
        self._transfer = transfer
        self._edge = connection.edge
        self._group = connection.headers
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def ready(self) -> torch.cuda.Event | None:
        """See :meth:`~blockstep.pipeline.transfer.Transfer.ready`."""
        return self._transfer.ready()

    def send(self, tensor: Tensor, spec: TensorSpec, after: torch.cuda.Event | None) -> None:
        """See :meth:`~blockstep.pipeline.transfer.Transfer.send`."""
        self._transfer.send(tensor, spec, after)
        trailer = bytearray(TRAILER.pack(self._checksum(tensor, spec)))
        buffer = torch.frombuffer(trailer, dtype=torch.uint8)
        dist.send(buffer, self._edge.target, group=self._group)

    def receive(self, spec: TensorSpec) -> Tensor:
        """See :meth:`~blockstep.pipeline.transfer.Transfer.receive`.

        Raises:
            MessageError: The tensor is not the one that was sent.
        """
        tensor = self._transfer.receive(spec)
        buffer = torch.empty(TRAILER.size, dtype=torch.uint8)
        dist.recv(buffer, self._edge.source, group=self._group)
        (sent,) = TRAILER.unpack(buffer.numpy().tobytes())
        found = self._checksum(tensor, spec)
        if found != sent:
            raise MessageError(
                f"a tensor of shape {spec.shape} was damaged on its way over {self._edge.label} "
                f"(its checksum is {found:016x}, sent was {sent:016x}); look at the network and "
                "the memory of both machines, and resume from the newest checkpoint"
            )
        return tensor

    def _checksum(self, tensor: Tensor, spec: TensorSpec) -> int:
        """The tensor is complete: the transfer has waited for it."""
        on: AbstractContextManager[object] = nullcontext()
        if self._stream is not None:
            on = torch.cuda.stream(self._stream)
            tensor.record_stream(self._stream)
        with on:
            return checksum(spec.flat(tensor))


def checksum(flat: Tensor) -> int:
    """Return a checksum of bytes, where they are.

    Args:
        flat: uint8 (n,).
    """
    if flat.device.type == "cpu":
        return zlib.crc32(flat.numpy().data)
    return sums(flat)


def sums(flat: Tensor) -> int:
    """Return a checksum that a GPU computes fast: words added up, each row times an odd number.

    Any damage within one word changes it, and so do rows in another order; words that are
    exchanged within a row of 2 KiB do not.

    Args:
        flat: uint8 (n,).
    """
    rest = (-flat.numel()) % (WORD * ROW)
    # A row that is not full, and bytes that begin anywhere, are copied.
    words = torch.cat([flat, flat.new_zeros(rest)]).view(torch.int64)
    rows = words.view(-1, ROW).sum(1)
    factors = torch.arange(len(rows), device=flat.device, dtype=torch.int64) * 2 + 1
    # Sums of int64 wrap around, everywhere alike.
    return (int((rows * factors).sum()) * 31 + flat.numel()) & MASK
