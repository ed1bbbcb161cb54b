"""Faults at a chosen stage and step: a network with a trap in one of its layers.

    blockstep train model._target_=trapped.Trapped model.fault=kill model.layer=2
                    model.step=25 model.flag=FILE

The layer counts the batches it learns from in a buffer, so checkpoints carry the count and the
trap goes off at the same batch in every runtime; it makes FILE and never goes off again, so a
resumed run has nothing to fear. A network whose trap never goes off computes the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FATAL", "HARMLESS", "LAYERS", "Fault", "write_trapped"]

LAYERS = 8
"""Of the network; uniform cuts make 2, 4 or 8 blocks of equal numbers of them."""

FATAL = ("raise", "exit", "kill", "stop", "term", "not_a_number", "damage")
"""Faults that end a run. ``damage`` needs ``pipeline.verify=true`` and a stage behind."""

HARMLESS = ("slow", "clock", "none")
"""Faults that a run does not mind."""

NETWORK = '''
import os
import signal
import time

import torch
from torch import nn


class Trapped(nn.Module):
    """Eight layers, one of them with a trap."""

    def __init__(self, classes, in_channels, fault="none", layer=1, step=0, flag=""):
        super().__init__()
        self.layers = [f"blocks.{number}" for number in range(8)]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Trap(fault, step, flag) if number + 1 == layer else Trap("none", 0, ""),
                nn.Conv2d(8 if number else in_channels, 8, 3, padding=1),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Dropout(0.1),
            )
            for number in range(8)
        )
        self.classifier = "out"
        self.out = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.out(x)


class Trap(nn.Module):
    """Goes off at its n-th batch, once."""

    def __init__(self, fault, step, flag):
        super().__init__()
        self.fault, self.step, self.flag = fault, step, flag
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        if fault == "start" and "RANK" in os.environ and self.first():
            os.kill(os.getpid(), signal.SIGKILL)

    def forward(self, x):
        if self.training:
            self.count += 1
            if self.step and int(self.count) == self.step and self.first():
                return self.act(x)
        return x

    def first(self):
        try:
            os.close(os.open(self.flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def act(self, x):
        signals = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}
        if self.fault in signals:
            os.kill(os.getpid(), signals[self.fault])
            time.sleep(0.5)  # a signal may take a moment
        if self.fault == "raise":
            raise ValueError("a trap went off")
        if self.fault == "exit":
            os._exit(7)
        if self.fault == "not_a_number":
            return x * float("nan")
        if self.fault == "slow":
            time.sleep(1.0)
        if self.fault == "clock":
            known = time.time
            time.time = lambda: known() - 1e6
        if self.fault == "damage":
            damage_next()
        return x


def damage_next():
    """Let the next tensor that this process sends arrive with one bit changed."""
    from blockstep.pipeline.transfer import HostTransfer

    whole = HostTransfer.send

    def send(self, tensor, spec, after):
        HostTransfer.send = whole
        sent = tensor.clone()
        spec.flat(sent)[0] ^= 64
        whole(self, sent, spec, after)

    HostTransfer.send = send
'''


@dataclass(frozen=True)
class Fault:
    """What goes wrong, where and when.

    Attributes:
        kind: One of ``FATAL`` or ``HARMLESS``, or ``start``: SIGKILL before the links are made.
        layer: The layer with the trap, from 1.
        step: The batch at which it goes off.
    """

    kind: str
    layer: int = 1
    step: int = 0

    def stage(self, blocks: int) -> int:
        """Return the stage that has the layer, where cuts are uniform."""
        return (self.layer - 1) // (LAYERS // blocks) + 1

    def words(self, flag: Path) -> list[str]:
        """Return the keys that set the trap.

        Args:
            flag: A file that does not exist yet.
        """
        return [
            "model._target_=trapped.Trapped",
            f"model.fault={self.kind}",
            f"model.layer={self.layer}",
            f"model.step={self.step}",
            f"model.flag={flag}",
        ]


def write_trapped(folder: Path) -> Path:
    """Write a project with the network; return its folder."""
    (folder / "trapped.py").write_text(NETWORK)
    return folder
