"""Which weights share templates, and which of them share coefficients too."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .layout import Layout
from .use import Key, Use, by_key

__all__ = ["Cluster", "Sharing", "by_layer", "depth_bins"]

Cluster = tuple[tuple[Key, ...], ...]
"""Groups of uses: a cluster shares templates, each of its groups also shares coefficients."""


@dataclass(frozen=True)
class Sharing:
    """Clusters of uses, and in each the groups that have the same coefficients.

    Two uses of one group and one shape have the same weight.

    Attributes:
        clusters: Every use is in exactly one group of one cluster.
        nesting: How the shapes of a cluster are put together, ``chain`` or ``union``.
    """

    clusters: tuple[Cluster, ...]
    nesting: str = "chain"

    def check(self, uses: Sequence[Use]) -> None:
        """Compare with the members that are to share.

        Raises:
            ValueError: A use is missing, unknown, or there twice; a cluster mixes families or is
                empty.
        """
        known = by_key(uses)
        counts = Counter(self.keys())
        for problem, keys in (
            ("names weights that the members do not have", counts.keys() - known.keys()),
            ("lacks weights of the members", known.keys() - counts.keys()),
            ("names weights more than once", {key for key, n in counts.items() if n > 1}),
        ):
            if keys:
                member, name = min(keys)
                raise ValueError(
                    f"the sharing {problem}: {name} of member {member} ({len(keys)} in all); it is "
                    "for other members, so learn or make it again"
                )
        for number, cluster in enumerate(self.clusters):
            if not cluster or not all(cluster):
                raise ValueError(f"cluster {number} has no uses or an empty group; leave it out")
            families = {known[key].family: key for group in cluster for key in group}
            if len(families) > 1:
                (one, first), (other, second), *_ = sorted(families.items())
                raise ValueError(
                    f"cluster {number} mixes {one} ({first[1]} of member {first[0]}) with {other} "
                    f"({second[1]} of member {second[0]}); weights share with their like only"
                )

    def keys(self) -> Iterable[Key]:
        """Return all uses, cluster by cluster."""
        return (key for cluster in self.clusters for group in cluster for key in group)

    def layouts(self, uses: Sequence[Use]) -> tuple[Layout, ...]:
        """Return the slots of each cluster."""
        known = by_key(uses)
        return tuple(
            Layout.of((known[key].shape for group in cluster for key in group), self.nesting)
            for cluster in self.clusters
        )

    def cluster_of(self) -> Mapping[Key, int]:
        """Return the number of each use's cluster."""
        return {
            key: number
            for number, cluster in enumerate(self.clusters)
            for group in cluster
            for key in group
        }

    def with_own_coefficients(self) -> Sharing:
        """Return the same clusters where every use has coefficients of its own."""
        return replace(
            self,
            clusters=tuple(
                tuple((key,) for group in cluster for key in group) for cluster in self.clusters
            ),
        )

    def with_shared_coefficients(self) -> Sharing:
        """Return the same clusters where all uses of a cluster share their coefficients."""
        return replace(
            self,
            clusters=tuple(
                (tuple(key for group in cluster for key in group),) for cluster in self.clusters
            ),
        )

    def ordered(self, uses: Sequence[Use]) -> Sharing:
        """Return it with uses, groups and clusters in the order of ``uses``: one way to say it."""
        place = {use.key: number for number, use in enumerate(uses)}
        clusters = [
            sorted(
                (tuple(sorted(group, key=place.__getitem__)) for group in cluster),
                key=lambda group: place[group[0]],
            )
            for cluster in self.clusters
        ]
        clusters.sort(key=lambda cluster: place[cluster[0][0]])
        return replace(self, clusters=tuple(map(tuple, clusters)))


def depth_bins(
    uses: Sequence[Use],
    bins: int = 4,
    *,
    own_coefficients: bool = True,
    nesting: str = "chain",
) -> Sharing:
    """Cluster weights by their depth: where a search starts, and what homogeneous ensembles keep.

    The weights of each family of a member, in order, are divided into equal bins; of what is left
    over, the first bins get one more each. A family gets ``bins`` times its share of a member's
    weights, rounded, but at least one; of several members, the largest number.

    Args:
        uses: Of all members.
        bins: How many, over all families; rounding may change their number.
        own_coefficients: Whether every use has coefficients of its own, or each cluster one set.
        nesting: How the shapes of a cluster are put together, ``chain`` or ``union``.

    Raises:
        ValueError: There is no use, or no bin.
    """
    if not uses or bins < 1:
        raise ValueError(
            f"{len(uses)} weights cannot be clustered in {bins} bins; members need convolutions "
            "(or linear=True and linear layers), and there must be at least one bin"
        )
    lines: dict[str, dict[int, list[Key]]] = defaultdict(lambda: defaultdict(list))
    totals = Counter(use.member for use in uses)
    for use in uses:
        lines[use.family][use.member].append(use.key)
    clusters: list[list[Key]] = []
    for members in lines.values():
        shares = [bins * len(keys) / totals[member] for member, keys in members.items()]
        # More bins than a member has weights would stay empty.
        count = max(1, min(max(map(round, shares)), max(map(len, members.values()))))
        found: list[list[Key]] = [[] for _ in range(count)]
        for keys in members.values():
            for number, part in enumerate(_divided(keys, count)):
                found[number] += part
        clusters += [cluster for cluster in found if cluster]
    sharing = Sharing(tuple((tuple(cluster),) for cluster in clusters), nesting).ordered(uses)
    return sharing.with_own_coefficients() if own_coefficients else sharing


def by_layer(
    uses: Sequence[Use], *, own_coefficients: bool = False, nesting: str = "chain"
) -> Sharing:
    """Cluster the weights that have one name in several members.

    With shared coefficients and members of one kind this is hard sharing: they differ in norms and
    heads only, and the smallest possible budget has all there is.

    Args:
        uses: Of all members.
        own_coefficients: Whether every weight has coefficients of its own, or each cluster one set.
        nesting: How the shapes of a cluster are put together, ``chain`` or ``union``.
    """
    layers: dict[tuple[str, str], list[Key]] = defaultdict(list)
    for use in uses:
        layers[use.name, use.family].append(use.key)
    sharing = Sharing(tuple((tuple(keys),) for keys in layers.values()), nesting).ordered(uses)
    return sharing.with_own_coefficients() if own_coefficients else sharing


def _divided(keys: Sequence[Key], bins: int) -> list[Sequence[Key]]:
    size, more = divmod(len(keys), bins)
    bounds = [number * size + min(number, more) for number in range(bins + 1)]
    return [keys[start:end] for start, end in pairwise(bounds)]
