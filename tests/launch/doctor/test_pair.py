"""What is measured of a pair, over links inside this process."""

from __future__ import annotations

import pytest
import torch
from blockstep.launch.doctor import pair
from blockstep.launch.doctor.pair import DamagedError, Sizes, Speed, follow, lead
from blockstep.pipeline.link import LocalLink
from blockstep.pipeline.message import Kind, Message

from tests.pipeline.parts import CPU, Blocked

SIZES = Sizes(rounds=6, pieces=4, piece_bytes=1 << 20)
DELAY = 0.5


class Clock:
    """A time that only passes on slow links, so that figures are exact."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """Return the seconds so far."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of both sides."""
    clock = Clock()
    monkeypatch.setattr(pair, "time", clock)
    return clock


class SlowLink(LocalLink):
    """A link on which each message takes a while."""

    clock: Clock

    def put(self, message: Message) -> None:
        """Let the time pass before the message is put."""
        self.clock.now += DELAY
        super().put(message)


class DamagingLink(LocalLink):
    """A link that changes one byte of a large message."""

    def put(self, message: Message) -> None:
        """Put what is almost the message."""
        (tensor,) = message.tensors
        if len(tensor) > 100:
            tensor = tensor.clone()
            tensor[len(tensor) // 2] += 1
        super().put(Message(message.kind, message.step, (tensor,)))


def link(kind: type[LocalLink] = LocalLink) -> LocalLink:
    """A link with room for all."""
    return kind("link", max_messages=100, max_bytes=1 << 30)


def slow(clock: Clock) -> LocalLink:
    """A slow link."""
    made = SlowLink("slow", max_messages=100, max_bytes=1 << 30)
    made.clock = clock
    return made


def measure(there: LocalLink, back: LocalLink) -> Speed:
    """Let both sides of a pair work."""
    other = Blocked(lambda: follow(there, back, sizes=SIZES))
    speed = lead(there, back, device=CPU, sizes=SIZES)
    other.result()
    return speed


def test_a_slow_link_has_its_delay(clock: Clock):
    """The latency is half of a round; the seconds of the pieces include those of the answer."""
    speed = measure(slow(clock), slow(clock))
    assert speed.latency == DELAY
    seconds = (SIZES.pieces + 1) * DELAY
    assert speed.bandwidth == SIZES.pieces * SIZES.piece_bytes / seconds


def test_one_slow_direction_counts_half(clock: Clock):
    """Out slow, back fast."""
    speed = measure(slow(clock), link())
    assert speed.latency == DELAY / 2
    assert speed.bandwidth == SIZES.piece_bytes / DELAY


def test_damaged_bytes_are_found():
    """One wrong byte in a large message, by the side that takes it."""
    there, back = link(DamagingLink), link()
    other = Blocked(lambda: follow(there, back, sizes=SIZES))
    lead(there, back, device=CPU, sizes=SIZES)
    with pytest.raises(DamagedError, match="message 0 arrived with other bytes"):
        other.result()


def test_a_lost_message_is_found():
    """The answer to another message is none."""
    back = link()
    back.put(Message(Kind.BATCH, 7, (torch.zeros(64, dtype=torch.uint8),)))
    with pytest.raises(DamagedError, match="message 0 was sent, and 7 arrived"):
        lead(link(), back, device=CPU, sizes=SIZES)
