"""A small checkpoint, for the tests of reading and of writing."""

from __future__ import annotations

from typing import Any

import torch
from blockstep.pipeline.checkpoint import (
    Checkpoint,
    Checkpoints,
)

__all__ = ["FACTS", "STATE", "commit", "files"]

FACTS = {"network": "resnet50", "cuts": [3, 7], "accuracy": None}
STATE: dict[str, Any] = {
    "weights": {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, 4, 3, 3)},
    "images": torch.ones(2, 4, 3, 3).to(memory_format=torch.channels_last),
    "half": torch.tensor(1.5, dtype=torch.bfloat16),
    "numbers": [1, 2.5, None, True, "text"],
}


def commit(checkpoints: Checkpoints, step: int, *, stages: int = 2) -> Checkpoint:
    """Write and commit a checkpoint of a few shards."""
    shards = [
        checkpoints.write(step, f"stage-{stage}.pt", {**STATE, "stage": stage, "step": step})
        for stage in range(1, stages + 1)
    ]
    return checkpoints.commit(step, FACTS, shards)


def files(checkpoints: Checkpoints) -> list[str]:
    """Return every file and folder below, by relative path."""
    found = (str(path.relative_to(checkpoints.folder)) for path in checkpoints.folder.rglob("*"))
    return sorted(found)
