"""Members and weights that tests of SuperWeights share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from blockstep.models import Network, make_network
from blockstep.models.superweight import Sharing, Use, uses_of
from blockstep.models.superweight.layout import Shape
from torch import Tensor, nn


def network(name: str, *, width: float = 0.125, seed: int = 0) -> Network:
    """Make a small member for 3-channel images and five classes."""
    torch.manual_seed(seed)
    return make_network(name, classes=5, width=width)


def members(*names: str) -> list[Network]:
    """Make small members, each with other weights."""
    return [network(name, seed=seed) for seed, name in enumerate(names)]


@cache
def meta_uses(*names: str) -> Sequence[Use]:
    """Return the uses of full networks for CIFAR-100, or of ImageNet's, without memory."""
    with torch.device("meta"):
        return tuple(uses_of([make_network(name, classes=100).module for name in names]))


def uses_with(shapes: Sequence[Shape]) -> list[Use]:
    """Return uses of 3x3 kernels of these shapes, one member each."""
    return [Use(member, "weight", (*shape, 3, 3), "3x3") for member, shape in enumerate(shapes)]


def each_its_own(uses: Sequence[Use]) -> Sharing:
    """Return the sharing where nothing is shared."""
    return Sharing(tuple(((use.key,),) for use in uses))


def batch(
    count: int = 4, size: int = 8, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Make images and labels."""
    torch.manual_seed(9)
    return torch.randn(count, 3, size, size, dtype=dtype), torch.randint(0, 5, (count,))


class Small(nn.Module):
    """A user's module with a tied convolution, a frozen one, a bias and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.tied = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.tied.weight = self.again.weight
        self.frozen = nn.Conv2d(4, 4, 1)
        self.frozen.requires_grad_(False)
        self.hidden = nn.Linear(4, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 5)."""
        x = self.again(self.first(x).relu()).relu()
        x = self.frozen(self.tied(x).relu()).mean((2, 3))
        return self.head(self.hidden(x).relu())
