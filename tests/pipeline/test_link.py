"""The bounded queue within a process."""

from __future__ import annotations

import threading

import pytest
import torch
from blockstep.pipeline.link import LinkClosedError, LocalLink, Sink
from blockstep.pipeline.message import Kind, Message

from tests.pipeline.parts import Blocked


def link(max_messages: int = 2, max_bytes: int = 1 << 20) -> LocalLink:
    """Make the link of these tests."""
    return LocalLink("link 1->2", max_messages=max_messages, max_bytes=max_bytes)


def item(step: int, nbytes: int = 0) -> Message:
    """Make a message with ``nbytes`` bytes of tensors."""
    return Message(Kind.BATCH, step, (torch.zeros(nbytes, dtype=torch.uint8),))


def test_messages_leave_in_the_order_in_which_they_came() -> None:
    """A link is first in, first out, with a producer and a consumer at full speed."""
    queue = link(max_messages=3)
    producer = Blocked(lambda: [queue.put(item(step)) for step in range(500)])
    assert [queue.get().step for _ in range(500)] == list(range(500))
    producer.result()
    assert queue.depth() == (0, 0)


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_a_link_holds_no_more_than_its_messages(depth: int) -> None:
    """The put after max_messages waits until one message was taken."""
    queue = link(max_messages=depth)
    for step in range(depth):
        queue.put(item(step))
    late = Blocked(queue.put, item(depth))
    assert late.waits()
    assert queue.depth() == (depth, 0)
    assert queue.get().step == 0
    late.result()
    assert queue.depth() == (depth, 0)


def test_a_link_holds_no_more_than_its_bytes() -> None:
    """A put that would exceed max_bytes waits until there is room for it."""
    queue = link(max_messages=10, max_bytes=100)
    queue.put(item(1, 60))
    queue.put(item(2, 40))
    late = Blocked(queue.put, item(3, 41))
    assert late.waits()
    assert queue.depth() == (2, 100)
    queue.get()
    late.result()
    assert queue.depth() == (2, 81)


def test_room_for_a_part_of_a_message_is_no_room() -> None:
    """A put waits on while the bytes that were freed are not enough."""
    queue = link(max_messages=10, max_bytes=100)
    for step in (1, 2):
        queue.put(item(step, 50))
    late = Blocked(queue.put, item(3, 60))
    queue.get()
    assert late.waits()
    queue.get()
    late.result()


def test_a_message_larger_than_the_link_travels_alone() -> None:
    """An oversized message waits until the link is empty, passes, and lets nobody beside it."""
    queue = link(max_messages=10, max_bytes=100)
    queue.put(item(1, 10))
    large = Blocked(queue.put, item(2, 1000))
    assert large.waits()
    queue.get()
    large.result()
    assert queue.depth() == (1, 1000)
    late = Blocked(queue.put, item(3, 1))
    assert late.waits()
    assert queue.get().step == 2
    late.result()


def test_markers_count_as_messages_but_not_as_bytes() -> None:
    """A marker passes a link whose bytes are used up, and not one whose messages are."""
    queue = link(max_messages=2, max_bytes=10)
    queue.put(item(1, 10))
    queue.put(Message(Kind.CHECKPOINT, 1))
    late = Blocked(queue.put, Message(Kind.STOP, 1))
    assert late.waits()
    queue.get()
    late.result()


def test_get_waits_for_a_message() -> None:
    """A get on an empty link returns the message that is put next."""
    queue = link()
    taken = Blocked(queue.get)
    assert taken.waits()
    queue.put(item(5))
    assert taken.result().step == 5


def test_reserve_waits_for_room_and_takes_none() -> None:
    """reserve() blocks like a put but leaves the link as it is."""
    queue = link(max_messages=1)
    queue.reserve(1 << 30)
    queue.put(item(1))
    waiting = Blocked(queue.reserve, 1)
    assert waiting.waits()
    queue.get()
    waiting.result()
    assert queue.depth() == (0, 0)


def test_close_releases_a_producer_that_waits() -> None:
    """A consumer that closes ends the producer's wait with an error that names the link."""
    queue = link(max_messages=1)
    queue.put(item(1))
    putting, reserving = Blocked(queue.put, item(2)), Blocked(queue.reserve, 1)
    assert putting.waits()
    queue.close()
    for call in (putting, reserving):
        with pytest.raises(LinkClosedError, match=r"^link 1->2: the stage behind it"):
            call.result()
    with pytest.raises(LinkClosedError, match="link 1->2"):
        queue.put(item(3))


def test_close_drops_what_waits() -> None:
    """A closed link holds no tensors any more."""
    queue = link()
    queue.put(item(1, 50))
    queue.close()
    assert queue.depth() == (0, 0)


def test_a_consumer_that_closed_its_link_gets_nothing_more() -> None:
    """A get on a closed link raises instead of waiting for ever."""
    queue = link()
    waiting = Blocked(queue.get)
    assert waiting.waits()
    queue.close()
    with pytest.raises(LinkClosedError, match="link 1->2"):
        waiting.result()


def test_after_the_end_the_rest_can_be_taken() -> None:
    """end() keeps what was put; then every get raises with the reason and the link's name."""
    queue = link()
    queue.put(item(1))
    queue.put(item(2))
    queue.end("the stage before it stopped")
    assert [queue.get().step, queue.get().step] == [1, 2]
    for _ in range(2):
        with pytest.raises(LinkClosedError, match=r"^link 1->2: the stage before it stopped$"):
            queue.get()


def test_the_first_reason_of_an_end_is_kept() -> None:
    """A second end() does not hide why the first came."""
    queue = link()
    queue.end("the cause")
    queue.end("an echo")
    with pytest.raises(LinkClosedError, match="the cause"):
        queue.get()


def test_end_releases_a_consumer_that_waits() -> None:
    """A consumer of an empty link learns of the end at once."""
    queue = link()
    waiting = Blocked(queue.get)
    assert waiting.waits()
    queue.end("nothing follows")
    with pytest.raises(LinkClosedError, match="nothing follows"):
        waiting.result()


@pytest.mark.parametrize(("messages", "size"), [(0, 1), (-1, 1), (1, 0)])
def test_a_link_for_nothing_is_refused(messages: int, size: int) -> None:
    """A link without room for a message or a byte is refused by name, with both values."""
    with pytest.raises(ValueError, match=f"link 1->2.*{messages} messages and {size} bytes"):
        link(messages, size)


def test_an_abandoned_link_releases_both_sides() -> None:
    """Who waits to put and who waits to get do so no more, and what waited is gone."""
    full, empty = link(1), link(1)
    full.put(item(1))
    calls = [Blocked(full.put, item(2)), Blocked(empty.get)]
    assert all(call.waits() for call in calls)
    for one in (full, empty):
        one.abandon("a stage failed")
    for call in calls:
        with pytest.raises(LinkClosedError):
            call.result()
    assert full.depth() == (0, 0)


def test_one_message_releases_one_of_many_waiting_puts() -> None:
    """However many producers wait, the bound holds after every get."""
    queue = link(max_messages=2)
    puts = [Blocked(queue.put, item(step)) for step in range(12)]
    taken = []
    while len(taken) < 12:
        assert queue.depth()[0] <= 2
        taken.append(queue.get().step)
    assert sorted(taken) == list(range(12))
    for put in puts:
        put.result()


def test_a_sink_takes_everything() -> None:
    """Behind the last stage a put returns at once, from any thread."""
    sink = Sink()
    threads = [threading.Thread(target=sink.put, args=(item(1, 10),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    sink.close()
    assert not any(thread.is_alive() for thread in threads)
