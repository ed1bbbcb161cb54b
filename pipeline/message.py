"""The item on a link, and the header that announces it to another process.

A message is a kind, a step number, a short text and a few tensors. Between processes it travels
as one header of fixed size followed by the bytes of each tensor:

    | magic | version | kind | step | total | text | tensor specs (dtype, shape, strides) | crc32 |
    |<---------------------------------- HEADER_BYTES ------------------------------------------>|

Transports check nothing by themselves: gloo fills a buffer that is too large silently and aborts
the process on one that is too small. The header is therefore decoded and checked before any
buffer is allocated. It carries the strides, so that a channels-last activation arrives
channels-last and the arithmetic behind the link is the same as without one.
"""

from __future__ import annotations

import enum
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "HEADER_BYTES",
    "Header",
    "Kind",
    "Message",
    "MessageError",
    "TensorSpec",
    "dense",
]

HEADER_BYTES = 1024
MAX_TENSORS = 4
MAX_DIMS = 8
MAX_TEXT = 400
MAX_TENSOR_BYTES = 1 << 40

MAGIC = b"BSTP"
VERSION = 2
PREFIX = struct.Struct("<4sHHqqHH")
SPEC = struct.Struct(f"<BB{2 * MAX_DIMS}q")
CRC = struct.Struct("<I")

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
)


class MessageError(RuntimeError):
    """A message that cannot be sent, or bytes that are not a message."""


class Kind(enum.IntEnum):
    """What a message asks of the stage that takes it."""

    HELLO = 0
    """First message on a connection; nothing to do."""
    BATCH = 1
    """Learn from (x, y)."""
    EVALUATE = 2
    """An evaluation begins; the text names the split."""
    SAMPLE = 3
    """Evaluate (x, y)."""
    EVALUATED = 4
    """The evaluation ends: report it."""
    CHECKPOINT = 5
    """Write the stage's state as it is after this step."""
    STOP = 6
    """Nothing follows."""
    ERROR = 7
    """A stage before failed; the text says how."""
    ERROR_SIGNAL = 8
    """The gradient of the loss with respect to what the taking stage handed on; it travels
    against the direction of all others, over links of its own."""
    VALUES = 9
    """A partition's weights as they are after this step, for a rank that has a copy of them."""
    GRADIENT = 10
    """The gradient of the hyperparameters of this step, for a rank that has a copy of them."""
    HORIZON = 11
    """The taking rank may go on up to this step."""


@dataclass(frozen=True)
class Message:
    """One item on a link.

    Attributes:
        kind: What to do with it.
        step: The training step it belongs to, from 1.
        tensors: Activations first, then labels, then what else travels with them.
        text: At most ``MAX_TEXT`` bytes.
        total: Examples of the whole batch where this message carries a part of it; 0: all of it.
    """

    kind: Kind
    step: int
    tensors: tuple[Tensor, ...] = ()
    text: str = ""
    total: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)


def dense(tensor: Tensor) -> Tensor:
    """Return ``tensor`` detached, with its elements filling one piece of memory.

    Dense tensors keep their strides (channels-last stays channels-last); others become
    contiguous. Every stage passes its output through here, with or without a link behind it, so
    that the runtimes hand on the same layout.
    """
    # Conjugates and negatives may be mere marks on somebody else's elements.
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if _is_dense(tensor.shape, tensor.stride()):
        return tensor
    return tensor.contiguous()


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the strides walk every element of one piece of memory exactly once.

    A size of 0 counts as 1, which is how torch chooses the strides of empty tensors.
    """
    expected = 1
    for stride, size in sorted(zip(strides, shape, strict=True), key=lambda pair: pair):
        if size <= 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


@dataclass(frozen=True)
class TensorSpec:
    """What a receiver must know to allocate a tensor.

    Attributes:
        dtype: Element type.
        shape: Sizes, at most ``MAX_DIMS``.
        strides: Strides in elements; together with ``shape`` they are dense.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.numel * self.dtype.itemsize

    @classmethod
    def of(cls, tensor: Tensor) -> TensorSpec:
        """Describe ``tensor``, which must be dense."""
        if not _is_dense(tensor.shape, tensor.stride()):
            raise MessageError(
                f"a tensor of shape {tuple(tensor.shape)} has strides {tensor.stride()}, which do "
                "not fill one piece of memory; pass it through dense() first"
            )
        if tensor.dtype not in DTYPES:
            raise MessageError(f"tensors of {tensor.dtype} cannot travel; known: {DTYPES}")
        if tensor.dim() > MAX_DIMS:
            raise MessageError(
                f"a tensor has {tensor.dim()} dimensions; a message carries at most {MAX_DIMS}"
            )
        return cls(tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))

    def flat(self, tensor: Tensor) -> Tensor:
        """View the bytes of a dense ``tensor`` as one uint8 vector."""
        vector = tensor.as_strided((self.numel,), (1,))
        return vector.view(torch.uint8)

    def restore(self, flat: Tensor) -> Tensor:
        """View a uint8 vector of ``nbytes`` as the tensor that was sent."""
        return flat.view(self.dtype).as_strided(self.shape, self.strides)

    def _check(self) -> None:
        if any(size < 0 for size in self.shape) or any(stride < 0 for stride in self.strides):
            raise MessageError(f"negative size or stride: {self.shape}, {self.strides}")
        # Sizes of 0 must not hide others that no tensor can have.
        nbytes = math.prod(max(1, size) for size in self.shape) * self.dtype.itemsize
        if nbytes > MAX_TENSOR_BYTES:
            raise MessageError(f"a tensor of {nbytes} bytes; at most {MAX_TENSOR_BYTES}")
        if not _is_dense(self.shape, self.strides):
            raise MessageError(f"shape {self.shape} with strides {self.strides} is not dense")


@dataclass(frozen=True)
class Header:
    """All of a message but the elements of its tensors."""

    kind: Kind
    step: int
    specs: tuple[TensorSpec, ...] = ()
    text: str = ""
    total: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors that follow."""
        return sum(spec.nbytes for spec in self.specs)

    @classmethod
    def of(cls, message: Message) -> Header:
        """Describe ``message``."""
        if len(message.tensors) > MAX_TENSORS:
            raise MessageError(
                f"a message has {len(message.tensors)} tensors; it carries at most {MAX_TENSORS}"
            )
        specs = tuple(TensorSpec.of(tensor) for tensor in message.tensors)
        return cls(message.kind, message.step, specs, message.text, message.total)

    def encode(self) -> bytes:
        """Return ``HEADER_BYTES`` bytes. Text beyond ``MAX_TEXT`` bytes is cut."""
        text = self.text.encode(errors="replace")[:MAX_TEXT]
        numbers = (self.kind, self.step, self.total, len(self.specs), len(text))
        parts = [PREFIX.pack(MAGIC, VERSION, *numbers), text]
        for spec in self.specs:
            pad = [0] * (MAX_DIMS - len(spec.shape))
            parts.append(
                SPEC.pack(
                    DTYPES.index(spec.dtype),
                    len(spec.shape),
                    *spec.shape,
                    *pad,
                    *spec.strides,
                    *pad,
                )
            )
        body = b"".join(parts).ljust(HEADER_BYTES - CRC.size, b"\0")
        return body + CRC.pack(zlib.crc32(body))

    @classmethod
    def decode(cls, buffer: bytes) -> Header:
        """Read a header.

        Raises:
            MessageError: The bytes are not a header of this version, or describe impossible
                tensors. Nothing is allocated before everything is checked.
        """
        if len(buffer) != HEADER_BYTES:
            raise MessageError(f"a header has {HEADER_BYTES} bytes, not {len(buffer)}")
        body, (crc,) = buffer[: -CRC.size], CRC.unpack(buffer[-CRC.size :])
        magic, version, kind, step, total, count, length = PREFIX.unpack_from(body)
        if magic != MAGIC:
            raise MessageError(f"not a message: it begins with {magic!r} instead of {MAGIC!r}")
        if version != VERSION:
            raise MessageError(
                f"a message of format {version}; this process speaks format {VERSION}: run the "
                "same version of blockstep on every rank"
            )
        if zlib.crc32(body) != crc:
            raise MessageError("a message header was damaged on its way (its checksum differs)")
        if count > MAX_TENSORS or length > MAX_TEXT:
            raise MessageError(
                f"a message announces {count} tensors and {length} bytes of text; at most "
                f"{MAX_TENSORS} and {MAX_TEXT}"
            )
        if total < 0:
            raise MessageError(f"a message announces a part of {total} examples")
        text = body[PREFIX.size : PREFIX.size + length].decode(errors="replace")
        start = PREFIX.size + length
        specs = tuple(cls._spec(body, start + index * SPEC.size) for index in range(count))
        try:
            return cls(Kind(kind), step, specs, text, total)
        except ValueError:
            raise MessageError(f"a message of unknown kind {kind}") from None

    @staticmethod
    def _spec(body: bytes, offset: int) -> TensorSpec:
        dtype, dims, *numbers = SPEC.unpack_from(body, offset)
        if dtype >= len(DTYPES) or dims > MAX_DIMS:
            raise MessageError(f"a tensor of unknown dtype {dtype} or with {dims} dimensions")
        shape, strides = numbers[:dims], numbers[MAX_DIMS : MAX_DIMS + dims]
        spec = TensorSpec(DTYPES[dtype], tuple(shape), tuple(strides))
        spec._check()
        return spec
