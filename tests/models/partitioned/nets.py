"""Small networks that the tests of partitioning share."""

from __future__ import annotations

import torch
from blockstep.models.fixup import fixup_resnet
from torch import Tensor, nn

THIRDS = [0.5, 0.3, 0.2]


class Norms(nn.Module):
    """Convolutions, group norm, layer norm, FixUp scalars and a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.GroupNorm(2, 6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding="valid", groups=2, bias=False),
            nn.GELU(),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(32, 12)
        self.norm = nn.LayerNorm(12)
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 6, 6) to (B, 3)."""
        return self.fc(self.norm(self.hidden(self.body(x))).tanh())


def jitter(module: nn.Module, size: float = 0.3) -> None:
    """Move every parameter, so that nothing is zero, one, or as it began."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * size)


def norms() -> nn.Module:
    """Make the same network every time."""
    torch.manual_seed(0)
    return Norms()


def fixup() -> nn.Module:
    """Make a small FixUp ResNet-8 whose last layers are not zero."""
    torch.manual_seed(0)
    network = fixup_resnet(8, classes=3, in_channels=2, width=0.25).module
    jitter(network, 0.1)
    return network


def images(count: int = 4) -> Tensor:
    """Make a batch for either."""
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(1))
