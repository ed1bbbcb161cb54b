"""Messages and their headers."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from typing import Any

import pytest
import torch
from blockstep.pipeline.message import (
    DTYPES,
    HEADER_BYTES,
    MAX_TENSOR_BYTES,
    MAX_TENSORS,
    MAX_TEXT,
    Header,
    Kind,
    Message,
    MessageError,
    TensorSpec,
    dense,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.pipeline.parts import differences

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def travel(message: Message) -> Message:
    """Do what a link between processes does, by way of bytes."""
    header = Header.decode(Header.of(message).encode())
    buffers = [
        bytes(spec.flat(tensor).numpy().tobytes())
        for tensor, spec in zip(message.tensors, header.specs, strict=True)
    ]
    assert header.nbytes == sum(len(buffer) for buffer in buffers) == message.nbytes
    tensors = tuple(
        spec.restore(torch.tensor(list(buffer), dtype=torch.uint8))
        for spec, buffer in zip(header.specs, buffers, strict=True)
    )
    return Message(header.kind, header.step, tensors, header.text, header.total)


def forge(
    *,
    magic: bytes = b"BSTP",
    version: int = 2,
    kind: int = 1,
    step: int = 3,
    total: int = 0,
    count: int | None = None,
    length: int | None = None,
    text: bytes = b"",
    specs: list[tuple[int, int, list[int], list[int]]] | None = None,
) -> bytes:
    """Write a header with a valid checksum, from the drawing in message.py alone."""
    specs = specs or []
    count = len(specs) if count is None else count
    length = len(text) if length is None else length
    body = struct.pack("<4sHHqqHH", magic, version, kind, step, total, count, length) + text
    for dtype, dims, shape, strides in specs:
        numbers = [*shape, *[0] * (8 - len(shape)), *strides, *[0] * (8 - len(strides))]
        body += struct.pack("<BB16q", dtype, dims, *numbers)
    body = body.ljust(HEADER_BYTES - 4, b"\0")[: HEADER_BYTES - 4]
    return body + struct.pack("<I", zlib.crc32(body))


def spec(dtype: int, shape: list[int], strides: list[int]) -> tuple[int, int, list[int], list[int]]:
    """Describe a tensor for :func:`forge`."""
    return dtype, len(shape), shape, strides


LAYOUTS = {
    "contiguous": torch.arange(24.0).view(2, 3, 4),
    "channels last": torch.arange(192.0).view(2, 3, 4, 8).to(memory_format=torch.channels_last),
    "channels last, one channel": torch.arange(32.0)
    .view(2, 1, 4, 4)
    .to(memory_format=torch.channels_last),
    "no dimensions": torch.tensor(3.5),
    "one element": torch.tensor([3.5]),
    "permuted": torch.arange(120.0).view(2, 3, 4, 5).permute(3, 0, 2, 1),
    "transposed": torch.arange(6.0).view(2, 3).t(),
    "eight dimensions": torch.arange(256.0).view(2, 2, 2, 2, 2, 2, 2, 2),
    "offset into a larger storage": torch.arange(30.0)[6:18].view(3, 4),
    "expanded where the size is 1": torch.arange(3.0).view(3, 1).as_strided((3, 1), (1, 999)),
    "empty": torch.empty(0),
    "empty rows": torch.empty(0, 5),
    "empty columns": torch.empty(5, 0),
    "empty inside": torch.empty(2, 0, 3),
    "empty channels last": torch.empty(0, 3, 4, 4).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_survives_the_journey(dtype: torch.dtype) -> None:
    """A tensor of each dtype arrives with the same bits, NaN and infinities included."""
    bits = torch.randint(256, (32 * 6,), dtype=torch.uint8, generator=torch.manual_seed(1))
    if dtype == torch.bool:
        bits = bits % 2
    tensor = bits.view(dtype)[:6].view(2, 3)
    arrived = travel(Message(Kind.BATCH, 1, (tensor,)))
    assert differences(tensor, arrived.tensors[0]) == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_dense_layouts_survive_the_journey(name: str) -> None:
    """A dense tensor arrives with the same shape, strides and elements."""
    tensor = LAYOUTS[name]
    arrived = travel(Message(Kind.SAMPLE, 7, (tensor,)))
    assert differences(tensor, arrived.tensors[0]) == []


@pytest.mark.parametrize("kind", Kind)
def test_kind_step_text_and_all_tensors_survive_the_journey(kind: Kind) -> None:
    """Kind, step, text, total and the order of four tensors arrive as they were sent."""
    tensors = (torch.ones(2), torch.zeros(3, dtype=torch.int64), torch.empty(0), torch.tensor(1))
    arrived = travel(Message(kind, 1 << 40, tensors, "split: Prüfung", 1 << 41))
    assert (arrived.kind, arrived.step, arrived.text) == (kind, 1 << 40, "split: Prüfung")
    assert arrived.total == 1 << 41
    assert differences(tensors, arrived.tensors) == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_dense_leaves_dense_tensors_alone(name: str) -> None:
    """dense() neither copies nor re-strides what is dense already."""
    tensor = LAYOUTS[name]
    result = dense(tensor)
    assert result.data_ptr() == tensor.data_ptr()
    assert result.stride() == tensor.stride()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).view(4, 6)[:, ::2],
        torch.arange(24.0).view(4, 6)[:, :3],
        torch.arange(3.0).expand(4, 3),
        torch.arange(10.0).unfold(0, 4, 2),
        torch.arange(48.0).view(2, 3, 4, 2).to(memory_format=torch.channels_last)[:, :2],
        torch.arange(10)[::3],
        torch.complex(torch.ones(3), torch.arange(3.0)).conj(),
        torch.complex(torch.ones(3), torch.arange(3.0)).conj().imag,
    ],
    ids=["step", "narrow", "expanded", "overlap", "channels", "labels", "conjugate", "negative"],
)
def test_dense_makes_other_tensors_travel(tensor: Tensor) -> None:
    """dense() gives what cannot travel as it is one piece of memory and the same elements."""
    fixed = dense(tensor)
    (arrived,) = travel(Message(Kind.BATCH, 1, (fixed,))).tensors
    assert torch.equal(arrived, tensor)
    assert arrived.stride() == fixed.stride()


def test_dense_detaches() -> None:
    """No graph hangs on what dense() returns."""
    weight = torch.ones(3, requires_grad=True)
    assert dense(weight * 2).grad_fn is None
    assert not dense(weight).requires_grad


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ((torch.ones(4, 6)[:, ::2],), r"strides \(6, 2\).*dense\(\)"),
        ((torch.ones(3).expand(4, 3),), "dense"),
        ((torch.ones((1,) * 9),), "9 dimensions.*at most 8"),
        ((torch.ones(2, dtype=torch.uint16),), "uint16 cannot travel"),
        ((torch.ones(1),) * 5, "5 tensors.*at most 4"),
    ],
)
def test_what_cannot_travel_is_refused_with_both_values(tensors: Any, text: str) -> None:
    """A header for tensors that no receiver could rebuild is a MessageError."""
    with pytest.raises(MessageError, match=text):
        Header.of(Message(Kind.BATCH, 1, tensors))


def test_long_text_is_cut() -> None:
    """Text arrives up to MAX_TEXT bytes, whole when it is exactly as long."""
    for length in (0, 1, MAX_TEXT, MAX_TEXT + 1, 10 * MAX_TEXT):
        text = "".join(chr(97 + index % 26) for index in range(length))
        assert travel(Message(Kind.ERROR, 1, (), text)).text == text[:MAX_TEXT]


@pytest.mark.parametrize("shift", range(4))
def test_text_is_cut_within_a_character(shift: int) -> None:
    """A cut through a character of several bytes costs that character and nothing else."""
    text = "x" * shift + "\N{SNOWMAN}" * MAX_TEXT
    arrived = travel(Message(Kind.ERROR, 1, (), text)).text
    whole = (MAX_TEXT - shift) // 3
    assert arrived[: shift + whole] == "x" * shift + "\N{SNOWMAN}" * whole
    assert len(arrived) - shift - whole <= 2


def test_text_that_is_not_unicode_travels() -> None:
    """An error that quotes a file name of undecodable bytes can still be reported."""
    name = b"runs/\xff".decode(errors="surrogateescape")
    assert travel(Message(Kind.ERROR, 1, (), f"cannot read {name}")).text.startswith("cannot read")


def test_a_full_message_fits_into_the_header() -> None:
    """The most tensors with the most dimensions and the longest text fit into HEADER_BYTES."""
    tensors = (torch.ones((2,) * 8),) * MAX_TENSORS
    assert len(Header.of(Message(Kind.BATCH, 1, tensors, "x" * MAX_TEXT)).encode()) == HEADER_BYTES
    arrived = travel(Message(Kind.BATCH, 1, tensors, "x" * MAX_TEXT))
    assert differences(tensors, arrived.tensors) == []


def test_the_drawing_of_the_header_is_true() -> None:
    """encode() writes the bytes that the drawing in message.py describes."""
    tensor = torch.ones(2, 3, dtype=torch.int64)
    header = Header.of(Message(Kind.EVALUATE, 9, (tensor,), "test", total=5))
    specs = [spec(4, [2, 3], [3, 1])]
    assert header.encode() == forge(kind=2, step=9, total=5, text=b"test", specs=specs)


HUGE = (1 << 63) - 1


@pytest.mark.parametrize(
    ("buffer", "text"),
    [
        (b"", "1024 bytes, not 0"),
        (forge()[:-1], "1024 bytes, not 1023"),
        (forge() + b"\0", "1024 bytes, not 1025"),
        (b"\0" * HEADER_BYTES, "not a message"),
        (forge(magic=b"HTTP"), "begins with b'HTTP' instead of b'BSTP'"),
        (forge(version=3), "format 3; this process speaks format 2"),
        (forge(total=-1), "a part of -1 examples"),
        (forge()[:-4] + b"\0\0\0\0", "checksum"),
        (forge(kind=12), "unknown kind 12"),
        (forge(kind=0xFFFF), "unknown kind 65535"),
        (forge(count=5), "5 tensors"),
        (forge(count=0xFFFF), "65535 tensors"),
        (forge(length=MAX_TEXT + 1), "401 bytes of text"),
        (forge(length=0xFFFF, count=4), "65535 bytes of text"),
        (forge(specs=[spec(12, [1], [1])]), "unknown dtype 12"),
        (forge(specs=[spec(255, [1], [1])]), "unknown dtype 255"),
        (forge(specs=[(0, 9, [1], [1])]), "9 dimensions"),
        (forge(specs=[(0, 255, [1], [1])]), "255 dimensions"),
        (forge(specs=[spec(0, [-1], [1])]), "negative"),
        (forge(specs=[spec(0, [-2, -2], [2, 1])]), "negative"),
        (forge(specs=[spec(0, [2], [-1])]), "negative"),
        (forge(specs=[spec(0, [1 << 39], [1])]), f"at most {MAX_TENSOR_BYTES}"),
        (forge(specs=[spec(0, [HUGE] * 8, [HUGE] * 8)]), f"at most {MAX_TENSOR_BYTES}"),
        (forge(specs=[spec(0, [0, HUGE, HUGE], [1, 1, 1])]), f"at most {MAX_TENSOR_BYTES}"),
        (forge(specs=[spec(0, [2, 3], [1, 1])]), "not dense"),
        (forge(specs=[spec(0, [2, 3], [4, 1])]), "not dense"),
        (forge(specs=[spec(0, [3], [0])]), "not dense"),
        (forge(specs=[spec(0, [1], [1]), spec(99, [1], [1])]), "unknown dtype 99"),
    ],
)
def test_impossible_headers_are_refused(buffer: bytes, text: str) -> None:
    """Bytes that are no header of this version are a MessageError that says why."""
    with pytest.raises(MessageError, match=text):
        Header.decode(buffer)


def test_decoding_allocates_nothing_of_what_is_announced() -> None:
    """A header that announces the largest tensors takes a few kilobytes to read."""
    large = spec(8, [MAX_TENSOR_BYTES], [1])
    buffer = forge(specs=[large] * MAX_TENSORS)
    tracemalloc.start()
    header = Header.decode(buffer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.nbytes == MAX_TENSORS * MAX_TENSOR_BYTES
    assert peak < 64 << 10


def check_decode(buffer: bytes) -> None:
    """Decode; what is accepted must be something that torch can rebuild."""
    try:
        header = Header.decode(buffer)
    except MessageError:
        return
    assert header.nbytes <= MAX_TENSORS * MAX_TENSOR_BYTES
    for each in header.specs:
        flat = torch.empty(each.nbytes, dtype=torch.uint8, device="meta")
        tensor = each.restore(flat)
        assert tuple(tensor.shape) == each.shape
        assert TensorSpec.of(tensor) == each


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_random_bytes_are_never_anything_but_a_message_error(buffer: bytes) -> None:
    """Random bytes raise MessageError and nothing else."""
    with pytest.raises(MessageError):
        Header.decode(buffer)


@given(st.binary(max_size=HEADER_BYTES - 8))
def test_random_bytes_behind_a_true_start_never_raise_anything_else(tail: bytes) -> None:
    """Random bytes with right magic, version and checksum decode or raise MessageError."""
    body = (struct.pack("<4sH", b"BSTP", 2) + tail).ljust(HEADER_BYTES - 4, b"\0")
    body = body[: HEADER_BYTES - 4]
    check_decode(body + struct.pack("<I", zlib.crc32(body)))


@given(
    kind=st.integers(0, 9),
    step=INT64,
    text=st.binary(max_size=40),
    specs=st.lists(
        st.tuples(
            st.integers(0, 13),
            st.integers(0, 9),
            st.lists(st.one_of(st.integers(-1, 4), INT64), max_size=8),
            st.lists(st.one_of(st.integers(-1, 16), INT64), max_size=8),
        ),
        max_size=3,
    ),
)
def test_random_fields_never_raise_anything_else(
    kind: int, step: int, text: bytes, specs: list[tuple[int, int, list[int], list[int]]]
) -> None:
    """Well-formed headers with absurd fields decode to tensors that exist, or are refused."""
    check_decode(forge(kind=kind, step=step, text=text, specs=specs))


@given(st.sets(st.integers(0, 8 * HEADER_BYTES - 1), min_size=1, max_size=3))
def test_flipped_bits_are_always_found(positions: set[int]) -> None:
    """Up to three flipped bits anywhere in a header raise MessageError."""
    message = Message(Kind.BATCH, 12, (torch.ones(4, 3), torch.ones(4, dtype=torch.int64)), "text")
    buffer = bytearray(Header.of(message).encode())
    for position in positions:
        buffer[position // 8] ^= 1 << position % 8
    with pytest.raises(MessageError):
        Header.decode(bytes(buffer))


@given(
    sizes=st.lists(st.integers(0, 4), max_size=5),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(DTYPES),
)
def test_any_permutation_survives_the_journey(
    sizes: list[int], seed: int, dtype: torch.dtype
) -> None:
    """A tensor whose dimensions were permuted at random is left alone by dense() and travels."""
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(seed)).tolist()
    tensor = torch.ones(sizes, dtype=dtype).permute(order)
    assert dense(tensor).stride() == tensor.stride()
    (arrived,) = travel(Message(Kind.BATCH, 1, (tensor,))).tensors
    assert differences(tensor, arrived) == []
