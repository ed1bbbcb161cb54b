"""Tests of `blockstep.pipeline.verification`: what arrives is what was sent.

The functions that begin with a rank run in the processes of the world.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from blockstep.pipeline.channel import Receiver, Sender
from blockstep.pipeline.edge import connect
from blockstep.pipeline.link import LinkClosedError
from blockstep.pipeline.message import Kind, Message, TensorSpec
from blockstep.pipeline.transfer import HostTransfer
from blockstep.pipeline.verification import ROW, WORD, VerifiedTransfer, checksum, sums
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.pipeline.channels import FIRST, PLENTY, failure, item
from tests.pipeline.parts import CPU
from tests.world import World

CHANNELS_LAST = torch.channels_last


def bytes_of(values: list[int]) -> Tensor:
    """Return a vector of bytes."""
    return torch.tensor(values, dtype=torch.uint8)


CONTENT = st.lists(st.integers(0, 255), min_size=1, max_size=3 * WORD * ROW)


def test_the_checksum_on_a_cpu_is_crc_32():
    """The one that every other program computes, of nothing too."""
    assert checksum(bytes_of([1, 2, 3])) == zlib.crc32(bytes([1, 2, 3]))
    assert checksum(bytes_of([])) == 0


@pytest.mark.parametrize("function", [checksum, sums])
@given(content=CONTENT, data=st.data())
def test_any_damaged_byte_changes_it(
    function: Callable[[Tensor], int], content: list[int], data: st.DataObject
):
    """Whatever stood there, and whatever stands there now."""
    place = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != content[place]))
    damaged = [*content]
    damaged[place] = other
    assert function(bytes_of(content)) != function(bytes_of(damaged))


@given(rows=st.lists(st.integers(0, 255), min_size=2, max_size=8, unique=True), data=st.data())
def test_rows_in_another_order_change_the_sums(rows: list[int], data: st.DataObject):
    """Exchanged pieces of memory are noticed."""
    order = data.draw(st.permutations(range(len(rows))).filter(lambda o: o != sorted(o)))

    def filled(values: list[int]) -> Tensor:
        return bytes_of(values).repeat_interleave(WORD * ROW)

    assert sums(filled(rows)) != sums(filled([rows[place] for place in order]))


def test_missing_bytes_change_the_sums():
    """Zeros at the end count, though they add nothing."""
    assert sums(bytes_of([5, 0, 0])) != sums(bytes_of([5, 0]))
    assert sums(bytes_of([])) != sums(bytes_of([0]))


def test_sums_do_not_depend_on_where_bytes_begin():
    """A piece of a larger tensor need not begin at a whole word."""
    content = torch.arange(100, dtype=torch.uint8)
    assert sums(content[3:]) == sums(content[3:].clone())


class Damaging(HostTransfer):
    """Changes one byte of each tensor of so many bytes that it sends."""

    NBYTES = 777

    def send(self, tensor: Tensor, spec: TensorSpec, after: torch.cuda.Event | None) -> None:
        """Send all but that byte as it is."""
        sent = tensor.clone()
        if spec.nbytes == self.NBYTES:
            spec.flat(sent)[-1] ^= 4
        super().send(sent, spec, after)


def pass_on(rank: int, nbytes: int) -> Any:
    """Send several layouts, then a message of ``nbytes``, over a link that damages some."""
    for edge, connection in connect([FIRST]).items():
        whole = VerifiedTransfer(Damaging(connection), connection, CPU)
        if edge.target == rank:
            inlet = Receiver(connection, whole, max_messages=2, max_bytes=PLENTY)
            first, second = inlet.get(), inlet.get()
            return (*first.tensors, *second.tensors), failure(inlet.get)
        outlet = Sender(connection, whole)
        image = torch.arange(48.0).reshape(2, 2, 3, 4).contiguous(memory_format=CHANNELS_LAST)
        outlet.put(Message(Kind.BATCH, 1, (image, torch.arange(5))))
        outlet.put(Message(Kind.SAMPLE, 1, (torch.empty(0, 3), torch.ones(1)[0])))
        outlet.put(item(2, nbytes))
        outlet.close()
    return None


def test_what_is_whole_arrives(world: World):
    """With its values and its layout, empty tensors and single numbers too."""
    _, (tensors, last), _ = world.run(pass_on, 776)
    image, labels, empty, number = tensors
    assert torch.equal(image, torch.arange(48.0).reshape(2, 2, 3, 4))
    assert image.is_contiguous(memory_format=CHANNELS_LAST)
    assert torch.equal(labels, torch.arange(5))
    assert (empty.shape, number.shape) == ((0, 3), ())
    assert last == ("", "")


def test_what_is_damaged_ends_the_link(world: World):
    """In its turn, with the link's name and both checksums; what came before is used."""
    _, (tensors, (kind, told)), _ = world.run(pass_on, Damaging.NBYTES)
    assert len(tensors) == 4
    assert kind == LinkClosedError.__name__
    assert "a tensor of shape (777,) was damaged on its way over link 1->2" in told
    sent = checksum(item(2, Damaging.NBYTES).tensors[0])
    assert f"sent was {sent:016x}" in told
