"""How fast a pair of ranks is: the links of a training in both directions, used by turns.

    lead     --- 64 bytes --->  <--- 64 bytes ---      latency: half of the median round
    lead     --- 8 MiB ---> x 8     <--- 64 bytes ---  bandwidth: bytes over the seconds until
    follow                                             the answer that all have arrived

What arrives is compared with what was sent: a link that damages its bytes is found here.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ...pipeline.link import Inlet, Outlet
from ...pipeline.message import Kind, Message

__all__ = ["DamagedError", "Sizes", "Speed", "follow", "lead"]


class DamagedError(RuntimeError):
    """What arrived is not what was sent."""


@dataclass(frozen=True)
class Sizes:
    """How much is sent. Both sides of a pair have the same.

    Attributes:
        rounds: Round trips of a small message, after a few that do not count.
        pieces: Large messages, after one that does not count.
        piece_bytes: Of each of them.
    """

    rounds: int = 50
    pieces: int = 8
    piece_bytes: int = 8 << 20


WARM_UP_ROUNDS = 5
SMALL_BYTES = 64
DEFAULT = Sizes()


@dataclass(frozen=True)
class Speed:
    """What a pair reached.

    Attributes:
        latency: Seconds that a small message takes.
        bandwidth: Bytes per second of large messages.
    """

    latency: float
    bandwidth: float


def lead(outlet: Outlet, inlet: Inlet, *, device: torch.device, sizes: Sizes = DEFAULT) -> Speed:
    """Measure; the other side calls :func:`follow` meanwhile.

    Args:
        outlet: The link to the other side.
        inlet: The link back.
        device: Where the tensors are.
        sizes: How much is sent.

    Raises:
        DamagedError: Something else came back.
    """
    rounds = []
    for step in range(sizes.rounds + WARM_UP_ROUNDS):
        begin = time.perf_counter()
        outlet.put(_message(step, SMALL_BYTES, device))
        _check(inlet.get(), step)
        rounds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    for step in range(sizes.pieces + 1):
        if step == 1:
            _check(inlet.get(), 0)
            begin = time.perf_counter()
        outlet.put(_message(step, sizes.piece_bytes, device))
    _check(inlet.get(), sizes.pieces)
    seconds = time.perf_counter() - begin
    latency = statistics.median(rounds[WARM_UP_ROUNDS:]) / 2
    return Speed(latency, sizes.pieces * sizes.piece_bytes / seconds)


def follow(inlet: Inlet, outlet: Outlet, *, sizes: Sizes = DEFAULT) -> None:
    """Answer :func:`lead`.

    Args:
        inlet: The link from the other side.
        outlet: The link back.
        sizes: How much is sent.

    Raises:
        DamagedError: Something else arrived than was sent.
    """
    for step in range(sizes.rounds + WARM_UP_ROUNDS):
        message = inlet.get()
        _check(message, step)
        outlet.put(message)
    pieces = [inlet.get()]
    outlet.put(_message(0, SMALL_BYTES, pieces[0].tensors[0].device))
    for _ in range(sizes.pieces):
        pieces.append(inlet.get())
    outlet.put(_message(sizes.pieces, SMALL_BYTES, pieces[0].tensors[0].device))
    # Compared now: the time that this takes is not the link's.
    for step, piece in enumerate(pieces):
        _check(piece, step)


def _message(step: int, nbytes: int, device: torch.device) -> Message:
    return Message(Kind.BATCH, step, (_content(step, nbytes, device),))


def _content(step: int, nbytes: int, device: torch.device) -> Tensor:
    return torch.full((nbytes,), step % 251, dtype=torch.uint8, device=device)


def _check(message: Message, step: int) -> None:
    if message.step != step or len(message.tensors) != 1:
        raise DamagedError(f"message {step} was sent, and {message.step} arrived")
    if not bool((message.tensors[0] == step % 251).all()):
        raise DamagedError(f"message {step} arrived with other bytes than were sent")
