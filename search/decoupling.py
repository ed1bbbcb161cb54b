"""A decoupling: where a network is cut, and the head that gives each block its loss.

    layers   1  2  3 | 4  5  6  7 | 8  9 10          cuts = (3, 7)
             block 1 |  block 2   | block 3
             heads[0]   heads[1]    the classifier

It is what a search finds and what a training begins with, as a small JSON file::

    {"format": 1, "network": "resnet50", "layers": 16, "cuts": [10], "heads": ["aux4"]}
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..models import HeadSpec
from .jsonfile import Format, shown

__all__ = [
    "FORMAT",
    "NO_HEAD",
    "Decoupling",
    "DecouplingError",
    "HeadSpec",
    "check_head",
    "head_name",
]

NO_HEAD = "none"
"""The head of a block that has no loss of its own: its errors come from the block after it."""


class DecouplingError(ValueError):
    """A decoupling that is impossible, cannot be read, or is for another network."""


FORMAT = Format(
    what="decoupling",
    version=1,
    required=frozenset({"network", "layers", "cuts", "heads"}),
    optional=frozenset({"alpha", "beta", "pool", "ranking", "margins", "by_blocks"}),
    error=DecouplingError,
)


@dataclass(frozen=True)
class Decoupling:
    """Where a network is cut, and with which heads.

    The attributes from ``alpha`` on are what a search learned besides; None without a search.

    Attributes:
        network: Name of the network.
        layers: How many layers the network has.
        cuts: The layers after which it is cut, counted from 1.
        heads: One for each cut; the head of the last block is the classifier.
        alpha: Learned weights of the choice to cut after each layer; SEDONA, section 3.1.
        beta: Learned weights of the choice of each layer's head; SEDONA, section 3.1.
        pool: The heads that were chosen from, one for each column of ``beta``.
        ranking: Layers, the best one to cut after first.
        margins: How much each layer of the ranking is ahead of the next in softmaxed alpha_1;
            one less than ``ranking`` has.
        by_blocks: Number of blocks to ``{"cuts": ..., "heads": ...}``: what the search found for
            other numbers of blocks.

    Raises:
        DecouplingError: A value has the wrong type, the cuts do not fit the layers, the heads do
            not fit the cuts, or ``pool`` does not fit ``beta``.
    """

    network: str
    layers: int
    cuts: tuple[int, ...]
    heads: tuple[HeadSpec, ...]
    alpha: tuple[tuple[float, ...], ...] | None = None
    beta: tuple[tuple[float, ...], ...] | None = None
    pool: tuple[HeadSpec, ...] | None = None
    ranking: tuple[int, ...] | None = None
    margins: tuple[float, ...] | None = None
    by_blocks: Mapping[int, Mapping[str, Sequence[Any]]] | None = None

    def __post_init__(self) -> None:
        """Check every value, and bring it to the form that a reader of the file would get."""
        FORMAT.text("network", self.network)
        FORMAT.integer("layers", self.layers, low=1)
        self._set("cuts", FORMAT.sequence("cuts", self.cuts, _layer))
        self._set("heads", FORMAT.sequence("heads", self.heads, partial(check_head, FORMAT)))
        self._check_cuts()
        self._check_heads()
        for name, item in _EXTRAS.items():
            value = getattr(self, name)
            if value is not None:
                self._set(name, FORMAT.sequence(name, value, item))
        self._check_pool()
        if self.by_blocks is not None:
            self._set("by_blocks", self._checked_choices(self.by_blocks))

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return len(self.cuts) + 1

    def bounds(self) -> list[tuple[int, int]]:
        """Return the first and the last layer of each block."""
        starts = (0, *self.cuts)
        return [(start + 1, end) for start, end in zip(starts, self._ends(), strict=True)]

    def for_blocks(self, blocks: int) -> Decoupling:
        """Return the decoupling into ``blocks`` blocks, with everything else as it is.

        Raises:
            DecouplingError: It was not searched for that number; the known numbers are listed.
        """
        if blocks == self.blocks:
            return self
        choices = self.by_blocks or {}
        if blocks not in choices:
            known = sorted({self.blocks, *choices})
            raise DecouplingError(
                f"blocks={shown(blocks)}, but this decoupling of {shown(self.network)} knows "
                f"blocks={', '.join(map(str, known))}; give one of these, or search again"
            )
        choice = choices[blocks]
        return dataclasses.replace(self, cuts=tuple(choice["cuts"]), heads=tuple(choice["heads"]))

    def with_heads(self, spec: HeadSpec | Sequence[HeadSpec]) -> Decoupling:
        """Return the same cuts with other heads.

        Args:
            spec: One head for all cuts, or a sequence with one for each cut.

        Raises:
            DecouplingError: The number of heads is not the number of cuts.
        """
        heads = (spec,) * len(self.cuts) if isinstance(spec, str | Mapping) else tuple(spec)
        return dataclasses.replace(self, heads=heads)

    def check(self, network: str, layers: int) -> None:
        """Compare with the network that is to be cut.

        Args:
            network: Its name.
            layers: Its number of layers.

        Raises:
            DecouplingError: The decoupling is for another one.
        """
        if network != self.network:
            raise DecouplingError(
                f"the decoupling is for {shown(self.network)}, the network is {shown(network)}; "
                "take the network that it is for, or a decoupling of this one"
            )
        if layers != self.layers:
            raise DecouplingError(
                f"the decoupling is for {shown(network)} with {shown(self.layers)} layers, the "
                f"network has {layers}; it was changed since, so cut or search it again"
            )

    def to_json(self) -> str:
        """Return the text of its file."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return FORMAT.dumps({name: value for name, value in fields.items() if value is not None})

    @classmethod
    def from_json(cls, text: str) -> Decoupling:
        """Read what :meth:`to_json` returned, or what somebody else wrote.

        Raises:
            DecouplingError: It is not a decoupling; the message has the key and the value.
        """
        values = FORMAT.parse(text)
        if isinstance(values.get("by_blocks"), dict):
            choices = values["by_blocks"].items()
            values["by_blocks"] = {_number_of(name): choice for name, choice in choices}
        return cls(**values)

    def save(self, path: Path | str) -> None:
        """Write the file atomically.

        Raises:
            OSError: It cannot be written; an older file stays as it was.
        """
        FORMAT.save(path, self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Decoupling:
        """Read a file. Nothing in it is executed, and at most 1 MiB of it is read.

        Raises:
            DecouplingError: It is missing, too large, or not a decoupling; the file is named.
        """
        return FORMAT.load(path, cls.from_json)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _ends(self) -> tuple[int, ...]:
        return (*self.cuts, self.layers)

    def _check_cuts(self) -> None:
        if any(before >= after for before, after in itertools.pairwise(self.cuts)):
            raise FORMAT.refusal("cuts", list(self.cuts), "strictly increasing, each layer once")
        if self.cuts and self.cuts[-1] >= self.layers:
            raise DecouplingError(
                f"a cut after layer {shown(self.cuts[-1])}, but {shown(self.network)} has "
                f"{shown(self.layers)} layers, and the last block needs one; cut earlier"
            )

    def _check_heads(self) -> None:
        if len(self.heads) != len(self.cuts):
            raise DecouplingError(
                f"{len(self.heads)} heads for {len(self.cuts)} cuts; give one for each cut, in "
                "order (the head of the last block is the classifier)"
            )

    def _check_pool(self) -> None:
        if self.pool is None or self.beta is None:
            return
        for place, row in enumerate(self.beta):
            if len(row) != len(self.pool):
                raise DecouplingError(
                    f"beta[{place}] has {len(row)} values, but the pool has {len(self.pool)} "
                    "heads; each row of beta needs one value for each head of the pool"
                )

    def _checked_choices(self, choices: Any) -> dict[int, dict[str, tuple[Any, ...]]]:
        if not isinstance(choices, Mapping):
            raise FORMAT.refusal(
                "by_blocks", choices, "an object of number of blocks to cuts and heads"
            )
        checked = {}
        for blocks, choice in choices.items():
            key = f"by_blocks[{shown(blocks)}]"
            if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < 1:
                raise FORMAT.refusal("by_blocks", blocks, "keyed by numbers of blocks, from 1")
            if not isinstance(choice, Mapping) or choice.keys() != {"cuts", "heads"}:
                raise FORMAT.refusal(key, choice, "an object with the keys cuts and heads")
            try:
                found = Decoupling(self.network, self.layers, choice["cuts"], choice["heads"])
            except DecouplingError as error:
                raise DecouplingError(f"{key}: {error}") from error
            if found.blocks != blocks:
                raise DecouplingError(
                    f"{key} has {len(found.cuts)} cuts, which make {found.blocks} blocks; "
                    f"{blocks} blocks need {blocks - 1} cuts"
                )
            checked[blocks] = {"cuts": found.cuts, "heads": found.heads}
        return checked


def check_head(format: Format, key: str, value: Any) -> HeadSpec:
    """Return a head's name or specification as a reader of the file would get it.

    Args:
        format: Of the file that the head is written to.
        key: Where it stands there.
        value: The head.

    Raises:
        ValueError: The error of ``format``: it is neither a name nor an object with a ``_target_``.
    """
    if isinstance(value, Mapping) and isinstance(value.get("_target_"), str):
        return format.plain(key, dict(value))
    if isinstance(value, str) and value:
        return value
    raise format.refusal(key, value, "the name of a head, or an object with the class as _target_")


def head_name(spec: HeadSpec) -> str:
    """Return a head in words: its name, or its class with the arguments."""
    if isinstance(spec, str):
        return spec
    arguments = ", ".join(f"{name}={value}" for name, value in spec.items() if name != "_target_")
    return str(spec["_target_"]).rpartition(".")[2] + (f"({arguments})" if arguments else "")


def _number_of(name: str) -> int | str:
    """Return the number of blocks that a key of ``by_blocks`` writes; JSON has only text keys."""
    plain = name.isascii() and name.isdecimal() and len(name) < 10 and name == str(int(name))
    return int(name) if plain else name


def _layer(key: str, value: Any) -> int:
    return FORMAT.integer(key, value, low=1)


def _row(key: str, value: Any) -> tuple[float, ...]:
    return FORMAT.sequence(key, value, FORMAT.number)


_EXTRAS: dict[str, Callable[[str, Any], Any]] = {
    "alpha": _row,
    "beta": _row,
    "pool": partial(check_head, FORMAT),
    "ranking": _layer,
    "margins": FORMAT.number,
}
