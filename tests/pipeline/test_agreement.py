"""Replicas of the first stage end at one step, whenever each is asked and looks."""

from __future__ import annotations

import torch.distributed as dist
from blockstep.pipeline.agreement import AgreedStop
from blockstep.pipeline.feed import Agenda, Feed, StopRequest
from blockstep.pipeline.message import Kind
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.parts import Images

STEPS = 12


def test_the_first_replica_tells_and_the_others_look() -> None:
    """The end is two steps after the request reaches the first; only its request counts."""
    store, request = dist.HashStore(), StopRequest()
    first = AgreedStop(store, request, first=True)
    asked = StopRequest()
    asked.set()
    other = AgreedStop(store, asked, first=False)
    assert not other.due(3)
    assert not first.due(3)
    request.set()
    assert [first.due(4), first.due(5), first.due(6)] == [False, False, True]
    assert [other.due(4), other.due(5), other.due(6)] == [False, False, True]


def test_nothing_is_told_without_a_request() -> None:
    """Without a request nobody ends early."""
    store = dist.HashStore()
    stops = [AgreedStop(store, StopRequest(), first=first) for first in (True, False)]
    assert not any(stop.due(step) for step in range(20) for stop in stops)


@given(st.data(), st.integers(2, 4), st.integers(0, STEPS), st.integers(1, 2))
def test_all_end_at_one_step_in_any_order(
    data: st.DataObject, replicas: int, asked_at: int, slack: int
) -> None:
    """In any order that averaging gradients allows, all replicas take the same messages.

    A replica takes step s when every other has begun step s - slack: 1 on a CPU; 2 where the host
    runs ahead of the device by one step.
    """
    store, requests = dist.HashStore(), [StopRequest() for _ in range(replicas)]
    agenda = Agenda(start=0, steps=STEPS, batch_size=8, checkpoint_every=3)
    feeds = [
        Feed(
            Images(),
            agenda,
            stop=AgreedStop(store, request, first=not number),
            replica=number + 1,
            replicas=replicas,
        )
        for number, request in enumerate(requests)
    ]
    taken: list[list[tuple[Kind, int]]] = [[] for _ in feeds]
    begun = [0] * replicas
    going = set(range(replicas))
    while going:
        able = [number for number in sorted(going) if begun[number] - slack < min(begun)]
        number = data.draw(st.sampled_from(able))
        message = feeds[number].get()
        taken[number].append((message.kind, message.step))
        if message.kind == Kind.BATCH:
            begun[number] = message.step
            if message.step >= asked_at:
                requests[number].set()
        if message.kind == Kind.STOP:
            going.discard(number)
            begun[number] = STEPS + 9
    assert all(messages == taken[0] for messages in taken)
    assert taken[0][-1][1] == min(STEPS, max(asked_at, 1) + 2)
