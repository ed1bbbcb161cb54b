"""Clusters divided by gradients, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from blockstep.models.superweight import BudgetError, Key, Use, demands, depth_bins, minimum
from blockstep.search.sharing.division import (
    divide_clusters,
    divide_coefficients,
    divide_within,
    representatives,
)
from blockstep.search.sharing.similarity import (
    cluster_similarities,
    coefficient_similarities,
    cosine,
)
from torch import Tensor


def uses_of(*members: tuple[str, int]) -> list[Use]:
    """Return square 1x1 weights: for each member the names of its layers and its width."""
    return [
        Use(number, name, (width, width, 1, 1), "1x1")
        for number, (names, width) in enumerate(members)
        for name in names
    ]


def pointing(degrees: float, width: int, rest: float = 0.0) -> Tensor:
    """Return a gradient whose first two entries point somewhere; beyond 2 x 2 is the rest."""
    gradient = torch.full((width, width, 1, 1), rest)
    gradient[:2, :2] = 0
    angle = math.radians(degrees)
    gradient[0, 0], gradient[0, 1] = math.cos(angle), math.sin(angle)
    return gradient


def directions(uses: list[Use], degrees: dict[Key, float]) -> dict[Key, Tensor]:
    """Return gradients that point where they should."""
    width = {use.key: use.shape[0] for use in uses}
    return {key: pointing(angle, width[key]) for key, angle in degrees.items()}


def test_cosines() -> None:
    """Of what both have: the top left; zero gradients are like nothing."""
    small, large = pointing(0, 2), pointing(60, 5, 7.0)
    ((pair, psi),) = cluster_similarities(
        {(0, "a"): small, (1, "b"): large}, [(0, "a"), (1, "b")]
    ).items()
    assert pair == ((0, "a"), (1, "b"))
    assert psi == pytest.approx(0.5)
    assert cosine(torch.zeros(3), torch.ones(3)) == 0.0
    assert cosine(torch.ones(3), -torch.ones(3)) == pytest.approx(-1.0)
    assert cosine(torch.full((7,), 0.1), torch.full((7,), 0.1)) <= 1.0


def test_cosines_of_coefficients() -> None:
    """Over the slots that both use."""
    one = {"0_0": torch.tensor([1.0, 0.0]), "0_1": torch.tensor([5.0])}
    other = {"0_0": torch.tensor([1.0, 1.0])}
    keys = [(0, "a"), (0, "b")]
    (psi,) = coefficient_similarities({keys[0]: one, keys[1]: other}, keys).values()
    assert psi == pytest.approx(math.sqrt(0.5))
    (psi,) = coefficient_similarities({keys[0]: one, keys[1]: {"0_2": one["0_1"]}}, keys).values()
    assert psi == 0.0


def test_representatives() -> None:
    """Members with the same layers, wider or not, are represented by the first."""
    assert representatives(uses_of(("ab", 3), ("abc", 3), ("ab", 5), ("abc", 2))) == {
        0: 0, 1: 1, 2: 0, 3: 1,
    }  # fmt: skip


def test_clusters_are_divided_and_copied() -> None:
    """Conflicting layers part; a member of the same depth follows its representative."""
    uses = uses_of(("abc", 4), ("abc", 2))
    start = depth_bins(uses, 1, own_coefficients=False)
    gradients = directions(uses, {(0, "a"): 0, (0, "b"): 120, (0, "c"): 30})
    found = divide_clusters(start, uses, gradients, tau=0.1)
    assert found.clusters == (
        (((0, "a"), (0, "c"), (1, "a"), (1, "c")),),
        (((0, "b"), (1, "b")),),
    )
    found.check(uses)
    assert divide_clusters(start, uses, gradients, tau=-0.6) == start
    apart = divide_clusters(start, uses, gradients, tau=None, groups=3)
    assert len(apart.clusters) == 3
    with pytest.raises(ValueError, match="a of member 0 has no gradient"):
        divide_clusters(start, uses, {})
    with pytest.raises(ValueError, match="join='any': valid are all, first"):
        divide_clusters(start, uses, gradients, join="any")


def test_a_member_of_another_depth() -> None:
    """Algorithm 1 lets it connect layers; by ``first`` it only joins the nearest of the largest."""
    uses = uses_of(("ab", 4), ("c", 2))
    start = depth_bins(uses, 1, own_coefficients=False)
    gradients = directions(uses, {(0, "a"): 0, (0, "b"): 100, (1, "c"): 45})
    together = divide_clusters(start, uses, gradients, tau=0.1)
    assert together.clusters == ((((0, "a"), (0, "b"), (1, "c")),),)
    joined = divide_clusters(start, uses, gradients, tau=0.1, join="first")
    assert joined.clusters == ((((0, "a"), (1, "c")),), (((0, "b"),),))
    apart = divide_clusters(start, uses, gradients, tau=0.9, join="first")
    assert apart.clusters == joined.clusters  # c joins although nothing is that similar


def test_tau_is_lowered_until_the_clusters_fit() -> None:
    """In steps of 0.05; a budget that not even one cluster fits is refused."""
    uses = uses_of(("abc", 4))
    start = depth_bins(uses, 1, own_coefficients=False)
    gradients = directions(uses, {(0, "a"): 0, (0, "b"): 70, (0, "c"): 160})
    plenty = divide_within(start, uses, gradients, 48, tau=0.4)
    assert (len(plenty.sharing.clusters), plenty.tau) == (3, 0.4)
    # cos 70 = 0.342 and cos 90 = 0
    pair = divide_within(start, uses, gradients, 47, tau=0.4)
    assert (len(pair.sharing.clusters), pair.tau) == (2, 0.3)
    whole = divide_within(start, uses, gradients, 16, tau=0.4)
    assert (len(whole.sharing.clusters), whole.tau) == (1, -0.05)
    for found, budget in ((plenty, 48), (pair, 47), (whole, 16)):
        assert minimum(demands(found.sharing, uses)) <= budget
    with pytest.raises(BudgetError, match=r"budget of 15 .* at least 16"):
        divide_within(start, uses, gradients, 15, tau=0.4)


def test_coefficients_are_divided_within_their_groups() -> None:
    """Each use for itself: also two layers of one member part."""
    uses = uses_of(("ab", 4), ("ab", 4))
    start = depth_bins(uses, 1, own_coefficients=False)
    angles = {(0, "a"): 0, (0, "b"): 90, (1, "a"): 10, (1, "b"): 180}
    contributions = {key: {"0_0": pointing(angle, 2).flatten()} for key, angle in angles.items()}
    found = divide_coefficients(start, uses, contributions, beta=0.9)
    assert found.clusters == ((((0, "a"), (1, "a")), ((0, "b"),), ((1, "b"),)),)
    assert divide_coefficients(start, uses, contributions, beta=None, groups=1) == start
    again = divide_coefficients(found, uses, contributions, beta=-2.0)
    assert again == found  # what has been separated stays apart
