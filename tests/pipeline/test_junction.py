"""Links that divide and meet: every replica gets its rows, every marker, and every error."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from blockstep.pipeline.junction import Gather, Scatter
from blockstep.pipeline.link import LinkClosedError, LocalLink
from blockstep.pipeline.message import Kind, Message
from blockstep.pipeline.shares import bounds
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

PLENTY = 1 << 30


def grid(sources: int, targets: int, *, depth: int = 8) -> list[list[LocalLink]]:
    """Make the links from every source to every target."""
    return [
        [
            LocalLink(f"link {i}>{j}", max_messages=depth, max_bytes=PLENTY)
            for j in range(1, targets + 1)
        ]
        for i in range(1, sources + 1)
    ]


def ends(links: Sequence[Sequence[LocalLink]]) -> tuple[list[Scatter], list[Gather]]:
    """Return the outlet of each source and the inlet of each target."""
    count = len(links)
    outlets = [Scatter(row, replica=i, replicas=count) for i, row in enumerate(links, start=1)]
    return outlets, [Gather(column) for column in zip(*links, strict=True)]


def shares(tensors: Sequence[Tensor], replicas: int) -> list[tuple[Tensor, ...]]:
    """Cut the tensors of a batch into the shares of each replica."""
    rows = bounds(len(tensors[0]), replicas)
    return [tuple(tensor[begin:end] for tensor in tensors) for begin, end in rows]


@given(
    st.integers(1, 20), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.sampled_from([2, 3])
)
def test_every_replica_gets_its_share(
    total: int, before: int, after: int, last: bool, count: int
) -> None:
    """From any number of replicas to any other, rows and layout are those of the whole batch."""
    x = torch.arange(total * 6 * 4).float().reshape(total, 6, 2, 2)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    whole = (x, torch.arange(total), torch.rand(total, 5))[:count]
    outlets, inlets = ends(grid(before, after))
    for outlet, part in zip(outlets, shares(whole, before), strict=True):
        outlet.put(Message(Kind.SAMPLE, 7, part, total=0 if before == 1 else total))
    for inlet, expected in zip(inlets, shares(whole, after), strict=True):
        message = inlet.get()
        assert (message.kind, message.step, message.total) == (Kind.SAMPLE, 7, total)
        if len(expected[0]):
            assert len(message.tensors) == count
        for found, wanted in zip(message.tensors, expected, strict=True):
            assert torch.equal(found, wanted)
            assert found.stride() == wanted.stride() or len(wanted) < 2


@pytest.mark.parametrize("shape", [(8, 6, 1, 1), (8, 1, 3, 3), (8, 6, 4, 4), (8, 5), (8, 3, 7)])
@pytest.mark.parametrize("last", [False, True])
def test_the_layout_is_kept_where_sizes_of_1_hide_it(shape: tuple[int, ...], last: bool) -> None:
    """Joined tensors have the strides of a tensor that was never cut."""
    if last and len(shape) != 4:
        pytest.skip("channels-last is of images")
    x = torch.randn(shape)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    outlets, (inlet,) = ends(grid(3, 1))
    for outlet, (part,) in zip(outlets, shares([x], 3), strict=True):
        outlet.put(Message(Kind.BATCH, 1, (part,), total=8))
    (found,) = inlet.get().tensors
    assert torch.equal(found, x)
    assert found.stride() == x.stride()


def test_markers_reach_every_replica_once() -> None:
    """A marker of all replicas before is one marker for each replica behind."""
    links = grid(2, 3)
    outlets, inlets = ends(links)
    for marker in (Message(Kind.EVALUATE, 4, text="test"), Message(Kind.STOP, 4)):
        for outlet in outlets:
            outlet.put(marker)
        assert [inlet.get() for inlet in inlets] == [marker] * 3
    assert all(link.depth() == (0, 0) for row in links for link in row)


@pytest.mark.parametrize("source", [0, 1])
def test_an_error_wins(source: int) -> None:
    """Whichever replica reports an error, what the others say does not matter."""
    links = grid(2, 1)
    _, (inlet,) = ends(links)
    error = Message(Kind.ERROR, 3, text="replica exploded")
    for row in links:
        row[0].put(error if row is links[source] else Message(Kind.STOP, 9))
    assert inlet.get() == error


@pytest.mark.parametrize(
    "other",
    [
        Message(Kind.STOP, 5),
        Message(Kind.CHECKPOINT, 4),
        Message(Kind.EVALUATE, 5, text="test"),
    ],
)
def test_replicas_that_do_not_agree_are_named(other: Message) -> None:
    """Other kinds, steps or splits are an error that names the links and what they have."""
    links = grid(2, 1)
    _, (inlet,) = ends(links)
    links[0][0].put(Message(Kind.CHECKPOINT, 5))
    links[1][0].put(other)
    with pytest.raises(RuntimeError, match=r"link 1>1 has CHECKPOINT .*step 5; link 2>1 has"):
        inlet.get()


def test_rows_that_are_not_the_share_are_refused() -> None:
    """A stage that loses examples is named before its neighbours learn from something else."""
    outlets, _ = ends(grid(2, 3))
    with pytest.raises(RuntimeError, match="replica 2 of 2 has 5 examples of 8, its share is 4"):
        outlets[1].put(Message(Kind.BATCH, 1, (torch.zeros(5, 2),), total=8))


def test_depth_counts_whole_messages_and_all_bytes() -> None:
    """A message is there when every part is; bytes are those of all links."""
    links = grid(2, 1)
    outlets, (inlet,) = ends(links)
    part = Message(Kind.BATCH, 1, (torch.zeros(4, 2),), total=8)
    outlets[0].put(part)
    outlets[0].put(part)
    assert inlet.depth() == (0, 64)
    outlets[1].put(part)
    assert inlet.depth() == (1, 96)


def test_a_link_that_is_gone_is_named() -> None:
    """What one link raises is raised; closing closes all."""
    links = grid(2, 1)
    _, (inlet,) = ends(links)
    links[0][0].put(Message(Kind.STOP, 1))
    links[1][0].end("the sending side is gone")
    with pytest.raises(LinkClosedError, match="link 2>1: the sending side is gone"):
        inlet.get()
    inlet.close()
    for row in links:
        with pytest.raises(LinkClosedError):
            row[0].put(Message(Kind.STOP, 1))
