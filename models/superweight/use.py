"""Uses of generated weights: the layers of the members whose weights templates replace."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

__all__ = ["Key", "Place", "Use", "by_key", "places_of", "uses_of"]

Key = tuple[int, str]
"""A member, from 0, and the name of a weight in it."""


@dataclass(frozen=True)
class Use:
    """A weight of a member that SuperWeights generate.

    Attributes:
        member: Which one, from 0.
        name: Of the weight, in the member's ``state_dict``.
        shape: (out, in, *kernel); ``in`` counts the channels of one group.
        family: What may share: the kernel's size, with depthwise and grouped kernels and linear
            layers apart.
    """

    member: int
    name: str
    shape: tuple[int, ...]
    family: str

    @property
    def key(self) -> Key:
        """Member and name."""
        return self.member, self.name

    @property
    def numel(self) -> int:
        """The number of weights."""
        return math.prod(self.shape)

    @property
    def fan_in(self) -> int:
        """Inputs of one output."""
        return math.prod(self.shape[1:])

    def __str__(self) -> str:
        return f"{self.name} of member {self.member}"


@dataclass(frozen=True)
class Place:
    """A module whose ``weight`` is generated; a weight tied among modules has several places.

    Attributes:
        use: What is generated.
        modules: Where it goes.
    """

    use: Use
    modules: tuple[nn.Module, ...]


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def places_of(member: int, module: nn.Module, *, linear: bool = False) -> list[Place]:
    """Return the weights of a member that SuperWeights can generate, in the member's order.

    These are the weights of all convolutions that learn; with ``linear``, also those of linear
    layers, but for the last one, which is the member's head.

    Args:
        member: Its number, from 0.
        module: The whole member.
        linear: Whether linear layers take part.
    """
    head = None
    if linear:
        head = next((m for m in reversed([*module.modules()]) if isinstance(m, nn.Linear)), None)
    found: dict[int, tuple[str, list[nn.Module]]] = {}
    for name, part in module.named_modules():
        if not isinstance(part, (*_CONVOLUTIONS, nn.Linear) if linear else _CONVOLUTIONS):
            continue
        weight = part._parameters.get("weight")
        if part is not head and weight is not None and weight.requires_grad:
            found.setdefault(id(weight), (f"{name}.weight" if name else "weight", []))[1].append(
                part
            )
    return [
        Place(Use(member, name, tuple(parts[0].weight.shape), _family(parts[0])), tuple(parts))  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        for name, parts in found.values()
    ]


def uses_of(modules: Sequence[nn.Module], *, linear: bool = False) -> list[Use]:
    """Return the uses of all members, member by member, each in its own order."""
    return [
        place.use
        for number, module in enumerate(modules)
        for place in places_of(number, module, linear=linear)
    ]


def by_key(uses: Sequence[Use]) -> Mapping[Key, Use]:
    """Return the uses by member and name."""
    return {use.key: use for use in uses}


def _family(part: nn.Module) -> str:
    if isinstance(part, nn.Linear):
        return "linear"
    assert isinstance(part, _CONVOLUTIONS)
    return "".join(_words(part))


def _words(part: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Iterator[str]:
    yield "x".join(map(str, part.kernel_size))
    if part.groups > 1:
        yield " depthwise" if part.groups == part.in_channels else " grouped"
