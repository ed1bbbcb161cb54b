"""A sharing as a small JSON file: what a search finds and what a training begins with::

    {"format": 1, "members": [{"network": "wrn28-7", "weights": {"conv1.weight": ["3x3", 16, 3, 3,
     3], ...}}, ...], "nesting": "chain", "clusters": [[["0/conv1.weight", "1/conv1.weight"]], ...]}

Each cluster is a list of groups with equal coefficients, each group a list of MEMBER/WEIGHT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...models.superweight import NESTINGS, Key, Sharing, Use
from ..jsonfile import Format, shown

__all__ = ["FORMAT", "SharingError", "SharingFile"]


class SharingError(ValueError):
    """A sharing that is impossible, cannot be read, or is for other members."""


FORMAT = Format(
    what="sharing",
    version=1,
    required=frozenset({"members", "nesting", "clusters"}),
    optional=frozenset({"tau", "beta"}),
    error=SharingError,
)

MAX_DIMENSION = 1 << 20
"""The largest number of channels, or size of a kernel, that a file may have."""


@dataclass(frozen=True)
class SharingFile:
    """A sharing together with the members it is for.

    Attributes:
        networks: The name of each member's network.
        uses: The weights of all members, member by member.
        sharing: What they share.
        tau: The threshold of cluster similarity that made it; None without a search.
        beta: The threshold of coefficient similarity that made it, likewise.

    Raises:
        SharingError: The sharing is not one of these weights.
    """

    networks: tuple[str, ...]
    uses: tuple[Use, ...]
    sharing: Sharing
    tau: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        try:
            self.sharing.check(self.uses)
            self.sharing.layouts(self.uses)
        except ValueError as error:
            raise SharingError(str(error)) from error
        if any(not 0 <= use.member < len(self.networks) for use in self.uses):
            raise SharingError(f"there are weights of more than {len(self.networks)} members")

    def check(self, networks: Sequence[str], uses: Sequence[Use]) -> None:
        """Compare with the members that are to share.

        Raises:
            SharingError: It is for others; the first difference is named.
        """
        if tuple(networks) != self.networks:
            raise SharingError(
                f"the sharing is for members {list(self.networks)}, not {list(networks)}; give "
                "these members in this order, or learn a sharing for yours"
            )
        ours, theirs = {use.key: use for use in self.uses}, {use.key: use for use in uses}
        for key in (*theirs, *ours):
            one, other = ours.get(key), theirs.get(key)
            if one != other:
                had = "no such weight" if one is None else f"{one.family} {one.shape}"
                has = "none" if other is None else f"{other.family} {other.shape}"
                raise SharingError(
                    f"for {key[1]} of member {key[0]} the sharing has {had}, the network has {has};"
                    " take the same width, images and options as when it was learned"
                )

    def to_json(self) -> str:
        """Return the text of its file."""
        members: list[dict[str, Any]] = [
            {"network": network, "weights": {}} for network in self.networks
        ]
        for use in self.uses:
            members[use.member]["weights"][use.name] = [use.family, *use.shape]
        clusters = [
            [[f"{member}/{name}" for member, name in group] for group in cluster]
            for cluster in self.sharing.clusters
        ]
        values = {"members": members, "nesting": self.sharing.nesting, "clusters": clusters}
        extra = {"tau": self.tau, "beta": self.beta}
        return FORMAT.dumps(values | {key: v for key, v in extra.items() if v is not None})

    @classmethod
    def from_json(cls, text: str) -> SharingFile:
        """Read the text of a file.

        Raises:
            SharingError: It is not a sharing; the message has the key and the value.
        """
        values = FORMAT.parse(text)
        members = FORMAT.sequence("members", values["members"], _member)
        uses = [
            Use(number, name, shape, family)
            for number, (_, weights) in enumerate(members)
            for name, family, shape in weights
        ]
        if values["nesting"] not in NESTINGS:
            raise FORMAT.refusal("nesting", values["nesting"], f"one of {', '.join(NESTINGS)}")
        clusters = FORMAT.sequence("clusters", values["clusters"], _cluster)
        thresholds = {
            key: FORMAT.number(key, values[key]) for key in ("tau", "beta") if key in values
        }
        return cls(
            tuple(network for network, _ in members),
            tuple(uses),
            Sharing(clusters, values["nesting"]),
            **thresholds,
        )

    def save(self, path: Path | str) -> None:
        """Write the file atomically.

        Raises:
            OSError: It cannot be written; an older file stays as it was.
        """
        FORMAT.save(path, self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> SharingFile:
        """Read a file. Nothing in it is executed, and at most 1 MiB of it is read.

        Raises:
            SharingError: It is missing, too large, or not a sharing; the file is named.
        """
        return FORMAT.load(path, cls.from_json)


def _member(key: str, value: Any) -> tuple[str, list[tuple[str, str, tuple[int, ...]]]]:
    if not isinstance(value, Mapping) or value.keys() != {"network", "weights"}:
        raise FORMAT.refusal(key, value, "an object with the keys network and weights")
    network = FORMAT.text(f"{key}.network", value["network"])
    weights = value["weights"]
    if not isinstance(weights, Mapping):
        raise FORMAT.refusal(f"{key}.weights", weights, "an object of names to shapes")
    return network, [(name, *_shape(f"{key}.weights.{name}", one)) for name, one in weights.items()]


def _shape(key: str, value: Any) -> tuple[str, tuple[int, ...]]:
    if not isinstance(value, list) or not 3 <= len(value) <= 6:
        raise FORMAT.refusal(key, value, "a list of the family, out, in and the kernel's sizes")
    shape = tuple(FORMAT.integer(key, one, low=1) for one in value[1:])
    if max(shape) > MAX_DIMENSION:
        raise FORMAT.refusal(key, value, f"of sizes up to {MAX_DIMENSION}")
    return FORMAT.text(key, value[0]), shape


def _cluster(key: str, value: Any) -> tuple[tuple[Key, ...], ...]:
    return FORMAT.sequence(key, value, _group)


def _group(key: str, value: Any) -> tuple[Key, ...]:
    return FORMAT.sequence(key, value, _key)


def _key(key: str, value: Any) -> Key:
    member, slash, name = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not (slash and name and member.isascii() and member.isdecimal() and len(member) < 6):
        raise FORMAT.refusal(key, value, f"MEMBER/WEIGHT, such as {shown('0/conv1.weight')}")
    return int(member), name
