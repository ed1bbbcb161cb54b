"""Where links divide and meet: between stages that differ in their number of replicas.

    stage 1, 2 replicas          stage 2, 3 replicas          8 examples
      replica 1   0-3   ==== 0-2 ====>   replica 1   0-2
                        ==== 3   ====>   replica 2   3-5
      replica 2   4-7   ==== 4-5 ====>
                        ==== 6-7 ====>   replica 3   6-7

Every replica before a boundary is linked with every one behind it, and sends each the examples
that it takes, if there are any, and every marker. Each then takes one message of every link, in
the order of the links. No wait can go round in a circle: all ranks put and take the messages in
the same order, so whoever is behind the others finds room and is sent what it waits for.
Stages with equally many replicas are linked one to one, without any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from .link import Inlet, Outlet
from .message import Kind, Message, dense
from .shares import bounds, overlap

__all__ = ["Gather", "Scatter"]


class NamedInlet(Inlet, Protocol):
    """The end of a link that messages about it can name."""

    name: str


class Scatter:
    """The outlet of a replica whose examples go to several.

    Args:
        outlets: Of the links to each replica of the next stage, in their order.
        replica: Which replica of its own stage this is, from 1.
        replicas: How many its own stage has.
    """

    def __init__(self, outlets: Sequence[Outlet], *, replica: int, replicas: int) -> None:
        self._outlets = outlets
        self._replica = replica
        self._replicas = replicas

    def put(self, message: Message) -> None:
        """See :meth:`~blockstep.pipeline.link.Outlet.put`; markers go to all."""
        if not message.tensors:
            for outlet in self._outlets:
                outlet.put(message)
            return
        total = message.total or len(message.tensors[0])
        own = bounds(total, self._replicas)[self._replica - 1]
        if own[1] - own[0] != len(message.tensors[0]):
            raise RuntimeError(
                f"replica {self._replica} of {self._replicas} has {len(message.tensors[0])} "
                f"examples of {total}, its share is {own[1] - own[0]}"
            )
        parts = overlap(own, bounds(total, len(self._outlets)))
        for outlet, (begin, end) in zip(self._outlets, parts, strict=True):
            tensors = tuple(dense(tensor[begin:end]) for tensor in message.tensors)
            outlet.put(replace(message, tensors=tensors, total=total))

    def close(self) -> None:
        """See :meth:`~blockstep.pipeline.link.Outlet.close`."""
        for outlet in self._outlets:
            outlet.close()


class Gather:
    """The inlet of a replica whose examples come from several.

    Args:
        inlets: Of the links from each replica of the stage before, in their order.
    """

    def __init__(self, inlets: Sequence[NamedInlet]) -> None:
        self._inlets = inlets

    def get(self) -> Message:
        """See :meth:`~blockstep.pipeline.link.Inlet.get`; an error that one reports wins.

        Raises:
            RuntimeError: The links do not agree on what comes next.
        """
        messages: list[Message] = []
        for inlet in self._inlets:
            message = inlet.get()
            if message.kind == Kind.ERROR:
                return message
            messages.append(message)
        first = messages[0]
        if any(_meaning(message) != _meaning(first) for message in messages):
            told = (
                f"{inlet.name} has {message.kind.name} {message.text} of step {message.step}"
                for inlet, message in zip(self._inlets, messages, strict=True)
            )
            raise RuntimeError(f"replicas do not agree: {'; '.join(told)}")
        filled = [message.tensors for message in messages if _rows(message)]
        if not filled:
            return first
        return replace(first, tensors=tuple(_joined(parts) for parts in zip(*filled, strict=True)))

    def waits(self) -> bool:
        """See :meth:`~blockstep.pipeline.link.Inlet.waits`: a message needs all of its parts."""
        return any(inlet.waits() for inlet in self._inlets)

    def depth(self) -> tuple[int, int]:
        """See :meth:`~blockstep.pipeline.link.Inlet.depth`: whole messages, and all bytes."""
        depths = [inlet.depth() for inlet in self._inlets]
        return min(messages for messages, _ in depths), sum(nbytes for _, nbytes in depths)

    def close(self) -> None:
        """See :meth:`~blockstep.pipeline.link.Inlet.close`."""
        for inlet in self._inlets:
            inlet.close()


def _meaning(message: Message) -> tuple[Kind, int, str, int]:
    return message.kind, message.step, message.text, message.total


def _rows(message: Message) -> int:
    return len(message.tensors[0]) if message.tensors else 0


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors along their first dimension; the layout of the others stays.

    ``torch.cat`` alone guesses the layout, and guesses wrong where sizes of 1 make it ambiguous.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    inner = sorted(range(1, first.dim()), key=lambda dim: first.stride(dim), reverse=True)
    order = (0, *inner)
    sizes = (sum(len(part) for part in parts), *(first.shape[dim] for dim in inner))
    joined = first.new_empty(sizes)
    torch.cat([part.permute(order) for part in parts], out=joined)
    return joined.permute([order.index(dim) for dim in range(first.dim())])
