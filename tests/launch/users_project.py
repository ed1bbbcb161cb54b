"""Files of a user's project, written by tests: a network, heads that fail, a data set."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_project"]

NETWORK = '''
from torch import nn


class Small(nn.Module):
    """Five layers with dropout, batch norm and convolutions."""

    def __init__(self, classes, in_channels, channels=8):
        super().__init__()
        self.layers = ["stem", "blocks.0", "blocks.1", "blocks.2"]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Dropout(0.1),
            )
            for _ in range(3)
        )
        self.classifier = "out"
        self.out = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.out(x)
'''

HEADS = '''
import os
import time

from torch import nn


class Failing(nn.Module):
    """A linear head that does something at its n-th training step, in one rank or in all."""

    def __init__(self, shape, classes, step, kind, rank=None):
        super().__init__()
        self.linear = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], classes)
        )
        self.step, self.kind, self.done = step, kind, 0
        self.here = rank is None or os.environ.get("RANK") == str(rank)

    def forward(self, h):
        if self.training:
            self.done += 1
            if self.done == self.step and self.here:
                self.act()
        return self.linear(h)

    def act(self):
        if self.kind == "raise":
            raise ValueError("the head is broken")
        if self.kind == "hang":
            time.sleep(1000)
        if self.kind == "exit":
            os._exit(7)
'''


def write_project(folder: Path) -> Path:
    """Write a project that has its own ``models/`` and ``search/``; return its folder."""
    for name, text in {"models/net.py": NETWORK, "search/heads.py": HEADS}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").write_text("")
        path.write_text(text)
    return folder
