"""The link between two processes, over real gloo connections.

The functions that begin with a rank run in the processes of the world; edges go up by one rank.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from blockstep.pipeline.channel import Receiver, Sender
from blockstep.pipeline.edge import Edge, connect
from blockstep.pipeline.link import LinkClosedError
from blockstep.pipeline.message import HEADER_BYTES, Header, Kind, Message, MessageError
from blockstep.pipeline.seed import generator
from blockstep.pipeline.transfer import HostTransfer, make_transfer
from torch import Tensor

from tests.pipeline.parts import CPU, Blocked, differences, until
from tests.world import World

STOP = Message(Kind.STOP, 99)
PLENTY = 1 << 30
MIB = 1 << 20
FIRST, SECOND = Edge(0, 1, "link 1->2"), Edge(1, 2, "link 2->3")


def ends(
    rank: int, *edges: Edge, max_messages: int = 2, max_bytes: int = PLENTY
) -> tuple[Receiver | None, Sender | None]:
    """Connect the edges, by default rank 0 to rank 1; return this rank's inlet and outlet."""
    inlet: Receiver | None = None
    outlet: Sender | None = None
    for edge, connection in connect(edges or [FIRST]).items():
        transfer = make_transfer(connection, CPU)
        if edge.source == rank:
            outlet = Sender(connection, transfer)
        else:
            inlet = Receiver(connection, transfer, max_messages=max_messages, max_bytes=max_bytes)
    return inlet, outlet


def item(step: int, nbytes: int = 1000) -> Message:
    """Make a message of ``nbytes`` random bytes."""
    data = torch.randint(256, (nbytes,), dtype=torch.uint8, generator=generator(1, "channel", step))
    return Message(Kind.BATCH, step, (data,))


def failure(call: Any, *args: Any) -> tuple[str, str]:
    """Return the type and text of the error that a call raises within a few seconds."""
    try:
        Blocked(call, *args).result()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


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


def test_messages_of_one_byte_and_of_64_mib_arrive(world: World) -> None:
    """Tensors of 1 byte, of 64 MiB and of odd sizes between arrive whole, one behind the other."""
    sizes = [1, 64 * MIB, 1, 3, HEADER_BYTES, 4096, MIB + 1, 0, 1]
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


# --- what goes wrong -----------------------------------------------------------------------------


def put_what_cannot_travel(rank: int) -> Any:
    """Put messages that no header can describe, then a good one."""
    inlet, outlet = ends(rank)
    if rank == 0:
        assert outlet is not None
        bad = [
            Message(Kind.BATCH, 1, (torch.ones(4, 6)[:, ::2],)),
            Message(Kind.BATCH, 2, (torch.ones(2, dtype=torch.uint16),)),
            Message(Kind.BATCH, 3, (torch.ones(1),) * 5),
        ]
        told = [failure(outlet.put, message) for message in bad]
        outlet.put(item(4))
        outlet.close()
        return told
    if rank == 1:
        assert inlet is not None
        return inlet.get().step
    return None


def test_what_cannot_travel_is_refused_where_it_is_put(world: World) -> None:
    """The put of an impossible message raises MessageError at once, and the link lives on."""
    told, step, _ = world.run(put_what_cannot_travel)
    assert [kind for kind, _ in told] == [MessageError.__name__] * 3
    assert "dense()" in told[0][1]
    assert "uint16" in told[1][1]
    assert "5 tensors" in told[2][1]
    assert step == 4


def send_damaged(rank: int, damage: str) -> Any:
    """Send one good message and one whose header is not what it should be."""
    if rank == 0:
        connection = connect([FIRST])[FIRST]
        good = Message(Kind.CHECKPOINT, 1)
        headers = [Header.of(good).encode(), Header.of(item(2)).encode()]
        if damage == "bit":
            headers[1] = headers[1][:20] + bytes([headers[1][20] ^ 1]) + headers[1][21:]
        elif damage == "foreign":
            headers[1] = b"GET / HTTP/1.1\r\n".ljust(HEADER_BYTES, b"\0")
        elif damage == "version":
            headers[1] = headers[1][:4] + b"\x09\x00" + headers[1][6:]
        for header in headers:
            buffer = torch.frombuffer(bytearray(header), dtype=torch.uint8)
            dist.send(buffer, 1, group=connection.headers)
        dist.barrier()
        return None
    inlet, _ = ends(rank)
    told = None
    if rank == 1:
        assert inlet is not None
        assert inlet.get().step == 1
        told = failure(inlet.get)
    dist.barrier()
    return told


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("bit", "damaged on its way"),
        ("foreign", "not a message: it begins with b'GET '"),
        ("version", "format 9; this process speaks format 1"),
    ],
)
def test_a_damaged_header_is_an_error_that_names_the_link(
    world: World, damage: str, text: str
) -> None:
    """A header that is not one ends the link with its name and the reason, in its turn."""
    kind, told = world.run(send_damaged, damage)[1]
    assert kind == LinkClosedError.__name__
    assert told.startswith("link 1->2: ")
    assert text in told


def lose_rank_1(rank: int) -> Any:
    """Kill the middle rank; see how its neighbours learn of it."""
    inlet, outlet = ends(rank, FIRST, SECOND)
    if rank == 1:
        assert inlet is not None
        assert outlet is not None
        outlet.put(inlet.get())
        outlet.put(item(2, 10 * MIB))
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    if outlet is not None:
        outlet.put(item(1))

        def produce() -> None:
            while True:
                outlet.put(item(5, 5000))
                time.sleep(0.01)

        kind, text = failure(produce)
        return time.time(), kind, text, outlet.put_within(STOP, 0.1), failure(outlet.put, STOP)
    assert inlet is not None
    steps = [inlet.get().step, inlet.get().step]
    return time.time(), *failure(inlet.get), steps, failure(inlet.get)


def test_a_killed_process_is_noticed_on_both_sides(tmp_path: Path) -> None:
    """After SIGKILL the producer before and the consumer behind get LinkClosedError at once."""
    world = World(3, tmp_path)
    begin = time.time()
    before, _, behind = world.run(lose_rank_1, dying=[1])
    assert behind[1] == before[1] == LinkClosedError.__name__
    assert before[2].startswith("link 1->2: the receiving side is gone")
    assert behind[2].startswith("link 2->3: the sending side is gone")
    assert before[3] is False
    assert before[4] == before[1:3]
    assert behind[3] == [1, 2], "what had arrived can still be taken"
    assert behind[4] == behind[1:3]
    assert max(before[0], behind[0]) - begin < 40.0


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
