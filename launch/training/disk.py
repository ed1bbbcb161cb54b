"""The disk that a training needs, told before it starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

from ..config import TrainConfig
from ..folder import existing_parent

__all__ = ["OPTIMIZER_COPIES", "disk_line", "state_bytes"]

OPTIMIZER_COPIES = {"sgd": 1, "adam": 2, "adamw": 2}
"""Tensors of a parameter's size that the optimizer keeps."""

RECORD_BYTES = 400
"""Of a line of metrics.jsonl, about."""


def state_bytes(config: TrainConfig, *modules: nn.Module) -> int:
    """Return the bytes of a checkpoint of modules: float32 weights and what the optimizer keeps."""
    count = sum(p.numel() for module in modules for p in module.parameters())
    optimizer = config.train.optimizer
    return count * 4 * (1 + (OPTIMIZER_COPIES[optimizer] if optimizer else 0))


def disk_line(config: TrainConfig, checkpoint: int, *, least: bool = False) -> str:
    """Say how much disk a run takes at most, and how much there is.

    Args:
        config: Of the run.
        checkpoint: Bytes of one.
        least: Whether a checkpoint also has what nobody can know yet.
    """
    # While one is written, the oldest is still there.
    kept = config.checkpoint.keep + int(config.checkpoint.best) + 1
    if not config.checkpoint.every:
        kept = 1 + int(config.checkpoint.best)
    records = config.train.steps // config.log.every * config.blocks * RECORD_BYTES
    need = checkpoint * kept + records
    free = shutil.disk_usage(existing_parent(Path(config.runs))).free
    more = "at least " if least else ""
    line = (
        f"  disk: {more}{_mib(checkpoint)} per checkpoint, at most {kept} at a time, and about "
        f"{_mib(records)} of records: {_mib(need)} of {_mib(free)} free"
    )
    if need > free:
        line += "; THAT IS TOO LITTLE: lower checkpoint.keep, or give another runs=FOLDER"
    return line


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
