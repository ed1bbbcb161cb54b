"""What the ends of a link between processes learn when something goes wrong.

The functions that begin with a rank run in the processes of the world.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from blockstep.pipeline.edge import connect
from blockstep.pipeline.link import LinkClosedError
from blockstep.pipeline.message import HEADER_BYTES, Header, Kind, Message, MessageError

from tests.pipeline.channels import FIRST, MIB, SECOND, STOP, ends, failure, item
from tests.pipeline.parts import Blocked
from tests.world import World


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
        ("version", "format 9; this process speaks format 2"),
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
    assert "gone" not in told, "the other side is well; what it sent is not"


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


def abandon_both_ends(rank: int) -> Any:
    """Let a thread wait at each end, tell it that another failed, and send the error after all."""
    inlet, outlet = ends(rank, max_messages=1)
    if outlet is not None:
        outlet.put(item(1, MIB))
        outlet.put(item(2, MIB))
        waiting = Blocked(outlet.put, item(3))
        waited = waiting.waits(0.2)
        outlet.abandon("a stage failed")
        told = failure(waiting.result)
        dist.barrier()
        return waited, told, outlet.put_within(Message(Kind.ERROR, 3, text="why"), 5.0)
    dist.barrier()
    if inlet is None:
        return None
    got = [inlet.get().kind for _ in range(3)]
    waiting = Blocked(inlet.get)
    inlet.abandon("a stage failed")
    return got, failure(waiting.result)


def test_an_abandoned_connection_lets_nobody_wait(world: World) -> None:
    """Both ends say so; the sender can still tell the other side that its stage failed."""
    sender, receiver, _ = world.run(abandon_both_ends)
    assert sender == (True, ("LinkClosedError", "link 1->2: a stage failed"), True)
    kinds, (kind, _) = receiver
    assert kinds == [Kind.BATCH, Kind.BATCH, Kind.ERROR]
    assert kind == "LinkClosedError"
