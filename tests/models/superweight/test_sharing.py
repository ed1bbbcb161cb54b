"""Clusters of weights, and their start by depth."""

from __future__ import annotations

import pytest
from blockstep.models.superweight import Sharing, Use, by_layer, demands, depth_bins, minimum

from tests.models.superweight.parts import meta_uses, uses_with


def test_four_bins_of_the_multi_depth_ensemble() -> None:
    """Four clusters of 3x3 kernels and one of 1x1; what is left over goes to the first bins."""
    uses = meta_uses("wrn28-7", "wrn28-4", "wrn16-7", "wrn16-4")
    sharing = depth_bins(uses, 4)
    sharing.check(uses)
    family = {use.key: use.family for use in uses}
    kinds = [family[cluster[0][0]] for cluster in sharing.clusters]
    assert sorted(kinds) == ["1x1", "3x3", "3x3", "3x3", "3x3"]
    deep = [
        [sum(key[0] == member for group in cluster for key in group) for member in (0, 2)]
        for cluster, kind in zip(sharing.clusters, kinds, strict=True)
        if kind == "3x3"
    ]
    assert deep == [[7, 4], [6, 3], [6, 3], [6, 3]]


@pytest.mark.parametrize(
    ("bins", "clusters"), [(1, 2), (2, 3), (3, 4), (4, 5), (8, 8), (14, 14), (28, 28)]
)
def test_the_number_of_clusters(bins: int, clusters: int) -> None:
    """Every kernel size gets its share of the bins, rounded, and at least one."""
    assert len(depth_bins(meta_uses("wrn28-10"), bins).clusters) == clusters


def test_coefficients_at_the_start() -> None:
    """One set for each weight, or one for each cluster."""
    uses = meta_uses("wrn16-4", "wrn16-4")
    own = depth_bins(uses, 2)
    assert all(len(group) == 1 for cluster in own.clusters for group in cluster)
    shared = depth_bins(uses, 2, own_coefficients=False)
    assert all(len(cluster) == 1 for cluster in shared.clusters)
    assert own.with_shared_coefficients() == shared
    assert shared.with_own_coefficients() == own
    assert shared.cluster_of() == own.cluster_of()


def test_hard_sharing() -> None:
    """By layer, members of one kind have the same weights, and the budget is one member's."""
    uses = meta_uses("wrn16-4", "wrn16-4")
    sharing = by_layer(uses)
    sharing.check(uses)
    assert all(len(cluster) == 1 and len(cluster[0]) == 2 for cluster in sharing.clusters)
    assert minimum(demands(sharing, uses)) == sum(use.numel for use in uses) // 2
    assert by_layer(uses, own_coefficients=True) == sharing.with_own_coefficients()


def test_more_bins_than_weights() -> None:
    """Every weight of a member is then alone; no bin is empty."""
    uses = meta_uses("wrn16-4", "wrn16-4")
    sharing = depth_bins(uses, 10**9)
    assert len(sharing.clusters) == len(uses) // 2


def test_one_way_to_say_a_sharing() -> None:
    """Whatever the order of clusters, groups and uses, ordered() is the same."""
    uses = uses_with([(1, 1), (2, 2), (3, 3), (4, 4)])
    a, b, c, d = (use.key for use in uses)
    one = Sharing((((c, a), (d,)), ((b,),)))
    other = Sharing((((b,),), ((d,), (a, c))))
    assert one.ordered(uses) == other.ordered(uses) == Sharing((((a, c), (d,)), ((b,),)))


def test_a_sharing_that_does_not_fit() -> None:
    """Missing, unknown and repeated weights, mixed kernels and empty clusters are refused."""
    uses = [*uses_with([(2, 2), (3, 3)]), Use(2, "weight", (2, 2, 1, 1), "1x1")]
    a, b, c = (use.key for use in uses)
    for clusters, message in (
        ((((a,), (b,)),), "lacks weights of the members: weight of member 2"),
        ((((a,), (b,)), ((c,),), (((3, "w"),),)), "do not have: w of member 3"),
        ((((a,), (b,)), ((c,), (a,))), "more than once: weight of member 0"),
        ((((a,), (b, c)),), "cluster 0 mixes 1x1 .*with 3x3"),
        ((((a,), (b,)), ((c,),), ()), "cluster 2 has no uses"),
    ):
        with pytest.raises(ValueError, match=message):
            Sharing(clusters).check(uses)
    with pytest.raises(ValueError, match="0 weights cannot be clustered"):
        depth_bins([], 4)
    with pytest.raises(ValueError, match="in 0 bins"):
        depth_bins(uses, 0)
