"""The mean answer over changed copies."""

from __future__ import annotations

import pytest
import torch
from blockstep.models.hyperparameters import AffineRanges, Augerino, Averaged, Hyperparameter
from blockstep.models.partitioned import partition
from torch import Tensor, nn

NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


class Steps(nn.Module):
    """Adds 0, 1, 2 .. to the rows of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same shape."""
        return x + torch.arange(len(x)).view(-1, *[1] * (x.dim() - 1))


def test_logits_are_averaged_over_the_copies_of_each_example() -> None:
    """Example b of B has the copies b, b + B, ..; an even number of samples or one."""
    x = torch.randn(2, 1, 4, 4)
    model = Averaged(Steps(), NETWORK, samples=3)
    expected = torch.stack(
        [(NETWORK(x + torch.tensor([s, s + 1]).view(2, 1, 1, 1))) for s in (0, 2, 4)]
    )
    torch.testing.assert_close(model(x), expected.mean(0))
    torch.testing.assert_close(Averaged(Steps(), NETWORK, samples=1)(x), expected[0])


def test_training_may_have_fewer_samples() -> None:
    """As Augerino has."""
    model = Averaged(Augerino(), NETWORK, samples=4, training_samples=1)
    rows: list[int] = []
    NETWORK.register_forward_pre_hook(lambda _, x: rows.append(len(x[0])))
    x = torch.randn(3, 1, 4, 4)
    model(x)
    model.eval()(x)
    assert rows == [3, 12]


def test_ranges_are_hyperparameters_of_the_partitioned_network() -> None:
    """Partitioning leaves them whole; the loss gives them a gradient."""
    model = Averaged(AffineRanges(), NETWORK, samples=2)
    made = partition(model, [0.5, 0.5], seed=0)
    assert list(made.hyperparameters()) == ["change.sizes"]
    made(torch.randn(3, 1, 4, 4), subnetwork=1, learning=()).sum().backward()
    assert made.hyperparameters()["change.sizes"].grad is not None
    assert isinstance(made.network.get_submodule("change"), Hyperparameter)


def test_no_samples_are_refused() -> None:
    """Both numbers are named."""
    with pytest.raises(ValueError, match=r"samples=2, training_samples=0: .* at least 1"):
        Averaged(AffineRanges(), NETWORK, samples=2, training_samples=0)
