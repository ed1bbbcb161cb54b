"""The link between two processes, over real gloo connections.

The functions that begin with a rank run in the processes of the world; edges go up by one rank.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist
from blockstep.pipeline.channel import Receiver, Sender
from blockstep.pipeline.edge import Edge, connect
from blockstep.pipeline.message import HEADER_BYTES, Kind, Message
from blockstep.pipeline.seed import generator
from blockstep.pipeline.transfer import HostTransfer, make_transfer
from torch import Tensor

from tests.pipeline.channels import FIRST, MIB, PLENTY, SECOND, STOP, ends, failure, item
from tests.pipeline.parts import CPU, Blocked, differences, until
from tests.world import World


def assorted() -> list[Tensor]:
    """Make tensors of many dtypes and layouts, the same in every process."""
    draw = generator(1, "assorted")
    image = torch.randn(4, 3, 5, 7, generator=draw)
    return [
        image,
        image.to(memory_format=torch.channels_last),
        image.permute(3, 1, 0, 2),
        image[1:3],
        image.bfloat16(),
        image.half().to(memory_format=torch.channels_last),
        image > 0,
        torch.arange(11),
        torch.tensor(2.5),
        torch.empty(0),
        torch.empty(3, 0, 2),
        torch.complex(image, -image),
    ]


# --- what travels --------------------------------------------------------------------------------


def pass_assorted(rank: int) -> list[tuple[str, int, str, tuple[Tensor, ...]]]:
    """Send everything through both links; return what arrives."""
    inlet, outlet = ends(rank, FIRST, SECOND)
    arrived = []
    if inlet is None:
        assert outlet is not None
        tensors = assorted()
        outlet.put(Message(Kind.HELLO, 0))
        for step, tensor in enumerate(tensors):
            outlet.put(Message(Kind.BATCH, step, (tensor,), f"text {step}"))
        outlet.put(Message(Kind.SAMPLE, 7, tuple(tensors[:4]), "Prüfung"))
        outlet.put(STOP)
    else:
        while not arrived or arrived[-1][0] != "STOP":
            message = inlet.get()
            arrived.append((message.kind.name, message.step, message.text, message.tensors))
            if outlet is not None:
                outlet.put(message)
    if outlet is not None:
        outlet.close()
    return arrived


def test_tensors_arrive_as_they_were(world: World) -> None:
    """Over two links every dtype and layout arrives in order, with its bits and its strides."""
    _, near, far = world.run(pass_assorted)
    tensors = assorted()
    expected = [
        ("HELLO", 0, "", ()),
        *(("BATCH", step, f"text {step}", (each,)) for step, each in enumerate(tensors)),
        ("SAMPLE", 7, "Prüfung", tuple(tensors[:4])),
        ("STOP", 99, "", ()),
    ]
    assert differences(expected, near) == []
    assert differences(expected, far) == []


def pass_sizes(rank: int, sizes: list[int]) -> list[str]:
    """Send one tensor of each size in bytes; return the digests."""
    inlet, outlet = ends(rank, max_messages=1)
    if rank == 0:
        assert outlet is not None
        for step, size in enumerate(sizes):
            outlet.put(item(step, size))
        outlet.put(STOP)
        outlet.close()
    if rank != 1:
        return []
    assert inlet is not None
    return [hashlib.sha256(inlet.get().tensors[0].numpy().tobytes()).hexdigest() for _ in sizes]


def test_messages_of_one_byte_and_of_256_mib_arrive(world: World) -> None:
    """Tensors of 1 byte, of 256 MiB and of odd sizes between arrive whole, one behind the other."""
    sizes = [1, 256 * MIB, 1, 3, HEADER_BYTES, 4096, MIB + 1, 0, 1]
    digests = world.run(pass_sizes, sizes)[1]
    assert digests == [
        hashlib.sha256(item(step, size).tensors[0].numpy().tobytes()).hexdigest()
        for step, size in enumerate(sizes)
    ]


def pass_many(rank: int, depth: int, count: int) -> Any:
    """Send many messages; count this process's threads and files before and after."""
    inlet, outlet = ends(rank, max_messages=depth)
    resources, steps = [], []
    for step in range(count):
        if step in (20, count - 1):
            resources.append((threading.active_count(), len(os.listdir("/proc/self/fd"))))
        if rank == 0:
            assert outlet is not None
            outlet.put(item(step, step % 7))
        elif rank == 1:
            assert inlet is not None
            steps.append(inlet.get().step)
            assert inlet.depth()[0] <= depth
    if outlet is not None:
        outlet.put(STOP)
        outlet.close()
    return resources, steps


@pytest.mark.parametrize("depth", [1, 5])
def test_order_is_kept_and_nothing_grows(world: World, depth: int) -> None:
    """600 messages arrive in order, with depth 1 too, and leave no thread and no file."""
    values = world.run(pass_many, depth, 600)
    assert values[1][1] == list(range(600))
    for (early, late), _ in values[:2]:
        assert early == late


# --- back pressure -------------------------------------------------------------------------------


def run_ahead(
    rank: int, depth: int, max_bytes: int, sizes: list[int], ahead: int, waiting: int
) -> Any:
    """Rank 0 puts as much as it can while rank 1 takes nothing; then rank 1 takes all.

    Returns:
        Of rank 0 the puts that returned, of rank 1 the messages and bytes that waited; both after
        ``ahead`` and ``waiting`` were reached and a while had passed.
    """
    inlet, outlet = ends(rank, max_messages=depth, max_bytes=max_bytes)
    if outlet is not None:
        done = [0]

        def produce() -> None:
            for step, size in enumerate(sizes):
                outlet.put(item(step, size) if size else Message(Kind.CHECKPOINT, step))
                done[0] += 1

        producer = Blocked(produce)
        until(lambda: done[0] >= ahead)
        time.sleep(0.2)
        returned = done[0]
        dist.barrier()
        producer.result()
        outlet.put(STOP)
        outlet.close()
        return returned
    if inlet is None:
        return dist.barrier()
    until(lambda: inlet.depth()[0] >= waiting)
    time.sleep(0.2)
    waits = inlet.depth()
    dist.barrier()
    steps = []
    while (message := inlet.get()).kind != Kind.STOP:
        steps.append(message.step)
        assert inlet.depth()[0] <= depth
    assert steps == list(range(len(sizes)))
    return waits


@pytest.mark.parametrize("depth", [1, 3])
def test_a_producer_is_at_most_one_message_ahead_of_a_full_link(world: World, depth: int) -> None:
    """With tensors, max_messages + 1 puts return while nothing is taken.

    max_messages wait at the consumer. Of the next one the receiver has taken the header and
    waits for room, so its tensors are still with the producer and occupy the sender's slot. The
    put after that waits for the slot.
    """
    ahead, waiting, _ = world.run(run_ahead, depth, PLENTY, [1000] * (depth + 10), depth + 1, depth)
    assert ahead == depth + 1
    assert waiting == (depth, 1000 * depth)


@pytest.mark.parametrize("depth", [1, 3])
def test_markers_may_be_one_further_ahead(world: World, depth: int) -> None:
    """Without tensors, max_messages + 2 puts return while nothing is taken.

    A marker is all header: the one that waits for room is in the receiver's hands, and the
    sender's slot is free for one more, whose header nobody has asked for yet.
    """
    ahead, waiting, _ = world.run(run_ahead, depth, PLENTY, [0] * (depth + 10), depth + 2, depth)
    assert ahead == depth + 2
    assert waiting == (depth, 0)


def test_bytes_bound_what_waits(world: World) -> None:
    """With 2,500 bytes of room two messages of 1,000 bytes wait, and one is with the producer."""
    ahead, waiting, _ = world.run(run_ahead, 50, 2500, [1000] * 12, 3, 2)
    assert (ahead, waiting) == (3, (2, 2000))


def test_a_message_larger_than_the_link_waits_alone(world: World) -> None:
    """An oversized message waits at the consumer without company, and all that follow arrive."""
    ahead, waiting, _ = world.run(run_ahead, 50, 2500, [10_000, 10, 20_000, 1, 0, 30_000], 2, 1)
    assert (ahead, waiting) == (2, (1, 10_000))


def put_in_time(rank: int) -> Any:
    """Try to warn a consumer that takes nothing, then one that takes everything."""
    inlet, outlet = ends(rank, max_messages=1)
    if outlet is not None:
        for step in range(2):
            outlet.put(item(step))
        begin = time.perf_counter()
        late = outlet.put_within(Message(Kind.ERROR, 2, text="too late"), 0.3)
        seconds = time.perf_counter() - begin
        dist.barrier()
        good = outlet.put_within(Message(Kind.ERROR, 2, text="the cause"), 10.0)
        outlet.close()
        return late, 0.25 < seconds < 5.0, good
    dist.barrier()
    if inlet is None:
        return None
    messages = [inlet.get() for _ in range(3)]
    return [message.kind.name for message in messages], messages[2].text, failure(inlet.get)


def test_a_warning_does_not_wait_for_ever(world: World) -> None:
    """put_within gives up in time on a full link, and tells when its message has left."""
    producer, consumer, _ = world.run(put_in_time)
    assert producer == (False, True, True)
    assert consumer == (
        ["BATCH", "BATCH", "ERROR"],
        "the cause",
        ("LinkClosedError", "link 1->2: the stage before it stopped"),
    )


# --- the end -------------------------------------------------------------------------------------


def close_early(rank: int) -> Any:
    """Put and close at once; the other side takes later."""
    inlet, outlet = ends(rank, max_messages=1)
    if rank == 0:
        assert outlet is not None
        outlet.put(item(1))
        outlet.put(item(2))
        closing = Blocked(outlet.close)
        waits = closing.waits(0.2)
        dist.barrier()
        closing.result()
        return waits
    dist.barrier()
    if rank == 1:
        assert inlet is not None
        return [inlet.get().step for _ in range(2)]
    return None


def test_close_waits_until_everything_has_left(world: World) -> None:
    """close() returns once what was put is on its way: nothing is lost at the end of a run."""
    waits, steps, _ = world.run(close_early)
    assert waits
    assert steps == [1, 2]


def connect_twice(rank: int) -> list[tuple[str, int]]:
    """Make edges in both directions and past a neighbour; use all of them at once."""
    edges = [Edge(0, 1, "up"), Edge(1, 0, "down"), Edge(0, 2, "skip")]
    connections = connect(edges)
    assert [edge.label for edge in connections] == [
        edge.label for edge in edges if rank in (edge.source, edge.target)
    ]
    outlets, inlets = [], []
    for edge, connection in connections.items():
        assert connection.payloads is connection.headers
        transfer = make_transfer(connection, CPU)
        assert isinstance(transfer, HostTransfer)
        if edge.source == rank:
            outlets.append(Sender(connection, transfer))
        else:
            inlets.append(Receiver(connection, transfer, max_messages=1, max_bytes=PLENTY))
    for outlet in outlets:
        outlet.put(item(rank))
    arrived = [(inlet.name, inlet.get().step) for inlet in inlets]
    for outlet in outlets:
        outlet.close()
    return arrived


def test_every_edge_has_a_group_of_its_own(world: World) -> None:
    """Edges in opposite directions and across ranks do not wait for each other."""
    assert world.run(connect_twice) == [[("down", 1)], [("up", 0)], [("skip", 0)]]
