"""What each layer and each head of a network costs, as measured on a device.

A block's step is predicted as the sum of what its parts take::

    block first..last       first    first + 1  ...   last       head
    forward and backward    entry      inner    ...   inner     seconds
    optimizer               update     update   ...   update    update

``entry`` is cheaper than ``inner``: the gradient of a block's input is needed by nobody.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..models import HeadSpec
from .decoupling import check_head
from .jsonfile import Format, shown

__all__ = ["Profile", "ProfileError"]


class ProfileError(ValueError):
    """A network that cannot be profiled, or a profile that cannot be read or asked."""


@dataclass(frozen=True)
class Profile:
    """What the parts of a network cost for one batch. All times are in seconds.

    A head is measured once for each shape of a layer's output that it gets.

    Attributes:
        network: Name of the network.
        layers: How many layers it has.
        batch_size: Examples in the batch.
        device: Name of the device.
        threads: Threads that torch used.
        heads: The heads that were measured.
        forward: Of each layer.
        inner: Forward and backward of each layer, with the gradient of its input.
        entry: Forward and backward of each layer, without the gradient of its input.
        update: Optimizer step of each layer; 0 where there is nothing to train.
        head_seconds: For each head and each layer but the last: forward, loss and backward with
            the gradient of the input; None where the head does not fit the layer's output.
        head_update: Optimizer steps likewise.
        classifier_seconds: Forward, loss and backward of the classifier.
        classifier_update: Its optimizer step.
        boundary_bytes: Size of each layer's output for the batch.
        parameters: Trainable parameters of each layer.
        classifier_parameters: Trainable parameters of the classifier.

    Raises:
        ProfileError: A value has the wrong type, or there are not as many as layers.
    """

    network: str
    layers: int
    batch_size: int
    device: str
    threads: int
    heads: tuple[HeadSpec, ...]
    forward: tuple[float, ...]
    inner: tuple[float, ...]
    entry: tuple[float, ...]
    update: tuple[float, ...]
    head_seconds: tuple[tuple[float | None, ...], ...]
    head_update: tuple[tuple[float | None, ...], ...]
    classifier_seconds: float
    classifier_update: float
    boundary_bytes: tuple[int, ...]
    parameters: tuple[int, ...]
    classifier_parameters: int

    def __post_init__(self) -> None:
        """Check every value, and bring it to the form that a reader of the file would get."""
        layers = FORMAT.integer("layers", self.layers, low=1)
        heads = FORMAT.sequence("heads", self.heads, partial(check_head, FORMAT))
        row = partial(_list, item=_seconds_or_none, length=layers - 1)
        rules: dict[str, Callable[[str, Any], Any]] = {
            "network": FORMAT.text,
            "batch_size": partial(FORMAT.integer, low=1),
            "device": FORMAT.text,
            "threads": partial(FORMAT.integer, low=1),
            "classifier_parameters": _count,
        }
        rules |= dict.fromkeys(("classifier_seconds", "classifier_update"), _seconds)
        for key in ("forward", "inner", "entry", "update"):
            rules[key] = partial(_list, item=_seconds, length=layers)
        for key in ("boundary_bytes", "parameters"):
            rules[key] = partial(_list, item=_count, length=layers)
        for key in ("head_seconds", "head_update"):
            rules[key] = partial(_list, item=row, length=len(heads))
        object.__setattr__(self, "heads", heads)
        for key, rule in rules.items():
            object.__setattr__(self, key, rule(key, getattr(self, key)))

    def head_index(self, spec: HeadSpec) -> int:
        """Return the place of a head in :attr:`heads`.

        Raises:
            ProfileError: It was not measured.
        """
        head = check_head(FORMAT, "head", spec)
        if head not in self.heads:
            raise ProfileError(
                f"the head {shown(head)} was not measured, only {shown(list(self.heads))}; "
                "profile the network with it"
            )
        return self.heads.index(head)

    def block_seconds(
        self,
        first: int,
        last: int,
        head: int | None = None,
        *,
        feedback: bool = False,
        replays: bool = False,
    ) -> float:
        """Predict the busy seconds per step of a block.

        The time of a head includes the gradient of its input, even in a block that has nothing
        else to train.

        Args:
            first: Its first layer, from 1.
            last: Its last layer.
            head: Which of :attr:`heads` it has; None for the classifier, which the block that
                ends with the last layer has, and no other.
            feedback: Whether errors come from the block after it, so that it needs no head, and
                go on to the block before it.
            replays: Whether a block without a head passes each batch a second time before it
                learns from it.

        Raises:
            ProfileError: There are no such layers, or the head does not fit there.
        """
        if not 1 <= first <= last <= self.layers:
            raise ProfileError(
                f"{self.network} has layers 1-{self.layers}; there is no block {first}-{last}"
            )
        headless = feedback and last < self.layers
        seconds = 0.0 if headless else self._head_seconds(last, head)
        # A gradient goes on towards the input only while a layer before has use for it.
        wanted = feedback and first > 1
        for layer in range(first - 1, last):
            seconds += self.inner[layer] if wanted else self.entry[layer]
            seconds += self.update[layer]
            wanted = wanted or self.parameters[layer] > 0
        return seconds + (sum(self.forward[first - 1 : last]) if headless and replays else 0.0)

    def fits(self, cut: int, head: int) -> bool:
        """Return whether one of :attr:`heads` fits the output of layer ``cut``."""
        return self.head_seconds[head][cut - 1] is not None

    def to_json(self) -> str:
        """Return the text of its file."""
        fields = dataclasses.fields(self)
        return FORMAT.dumps({field.name: getattr(self, field.name) for field in fields})

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """Read what :meth:`to_json` returned.

        Raises:
            ProfileError: It is not a profile; the message has the key and the value.
        """
        return cls(**FORMAT.parse(text))

    def save(self, path: Path | str) -> None:
        """Write the file atomically.

        Raises:
            OSError: It cannot be written; an older file stays as it was.
        """
        FORMAT.save(path, self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Profile:
        """Read a file. Nothing in it is executed, and at most 1 MiB of it is read.

        Raises:
            ProfileError: It is missing, too large, or not a profile; the file is named.
        """
        return FORMAT.load(path, cls.from_json)

    def _head_seconds(self, last: int, head: int | None) -> float:
        if (head is None) != (last == self.layers):
            wanted = "the classifier (None)" if last == self.layers else "one of the heads"
            raise ProfileError(
                f"head={head} for a block that ends with layer {last} of {self.layers}; "
                f"such a block has {wanted}"
            )
        if head is None:
            return self.classifier_seconds + self.classifier_update
        seconds, update = self.head_seconds[head][last - 1], self.head_update[head][last - 1]
        if seconds is None or update is None:
            raise ProfileError(
                f"the head {shown(self.heads[head])} does not fit the output of layer {last}; "
                "cut elsewhere or give another head"
            )
        return seconds + update


FORMAT = Format(
    what="profile",
    version=1,
    required=frozenset(field.name for field in dataclasses.fields(Profile)),
    optional=frozenset(),
    error=ProfileError,
)


def _seconds(key: str, value: Any) -> float:
    return FORMAT.number(key, value, low=0.0)


def _seconds_or_none(key: str, value: Any) -> float | None:
    return None if value is None else _seconds(key, value)


def _count(key: str, value: Any) -> int:
    return FORMAT.integer(key, value, low=0)


def _list(key: str, value: Any, *, item: Callable[[str, Any], Any], length: int) -> tuple[Any, ...]:
    return FORMAT.sequence(key, value, item, length=length)
