"""Who has which examples."""

from __future__ import annotations

import math

import pytest
import torch
from blockstep.launch.data.rotation import draw_angles
from blockstep.search.federated import angle_bins, deal, deal_alike

LABELS = torch.arange(10).repeat_interleave(torch.arange(50, 150, 10))


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_every_example_has_one_client(alpha: float) -> None:
    """Sizes differ by one at most, whatever the skew; nobody's examples depend on the run."""
    dealt = deal(LABELS, 7, alpha=alpha)
    assert sorted(torch.cat(dealt).tolist()) == list(range(len(LABELS)))
    assert {len(own) for own in dealt} <= {len(LABELS) // 7, len(LABELS) // 7 + 1}
    again = deal(LABELS, 7, alpha=alpha)
    assert all(map(torch.equal, dealt, again))


def purity(dealt: list[torch.Tensor]) -> float:
    """Return the mean share of the commonest class of a client."""
    shares = [LABELS[own].bincount().max().item() / len(own) for own in dealt]
    return sum(shares) / len(shares)


def test_alpha_decides_how_alike_clients_are() -> None:
    """A small one gives most clients one class, a large one what chance alone gives."""
    assert purity(deal(LABELS, 20, alpha=0.1)) > 0.7
    assert 0.25 < purity(deal(LABELS, 20, alpha=10.0)) < 0.6
    alike = purity(deal_alike(len(LABELS), 20))
    assert purity(deal(LABELS, 20, alpha=1e4)) == pytest.approx(alike, abs=0.05)


def test_the_first_client_draws_by_the_dirichlet_distribution() -> None:
    """The mean share of a class is its share of all; the variance is that of alpha * p."""
    labels = torch.tensor([0] * 3000 + [1] * 1000)
    shares = torch.tensor(
        [
            (labels[deal(labels, 40, alpha=2.0, seed=seed)[0]] == 0).double().mean().item()
            for seed in range(300)
        ]
    )
    assert shares.mean().item() == pytest.approx(0.75, abs=0.04)
    # Beta(1.5, 0.5) has the variance p (1 - p) / (alpha + 1); drawing 100 adds a little.
    assert shares.var().item() == pytest.approx(0.75 * 0.25 / 3, rel=0.25)


def test_impossible_numbers() -> None:
    """Named with both."""
    with pytest.raises(ValueError, match="11 clients for 10 examples"):
        deal(torch.zeros(10, dtype=torch.int64), 11, alpha=1.0)
    with pytest.raises(ValueError, match="0 clients for 10"):
        deal_alike(10, 0)
    with pytest.raises(ValueError, match="alpha=0"):
        deal(LABELS, 2, alpha=0)


def test_bins_are_equal_parts_of_the_circle() -> None:
    """Their edges too."""
    angles = torch.tensor([-math.pi, -0.01, 0.01, math.pi - 1e-4, math.pi])
    assert angle_bins(angles, 4).tolist() == [0, 1, 2, 3, 3]
    counts = angle_bins(draw_angles(20_000, "train"), 10).bincount()
    assert counts.min() > 1800
    assert len(counts) == 10
