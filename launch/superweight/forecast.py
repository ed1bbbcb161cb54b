"""``dry_run=true``: members, parameters, ranks and disk of a training that is not started."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..folder import existing_parent
from .announcement import accounts_line, listed
from .preparation import SuperWeightPreparation

__all__ = ["forecast"]


def forecast(preparation: SuperWeightPreparation) -> str:
    """Return what a training would use, per rank and on disk."""
    job = preparation.job
    total = sum(preparation.parameters.values())
    # A checkpoint holds weights and, of SGD, as much momentum; Adam remembers twice as much.
    factor = 2 if job.config.train.optimizer == "sgd" else 3
    disk = 4 * factor * total
    free = shutil.disk_usage(existing_parent(Path(job.config.runs))).free
    ranks = [f"  {job.label(rank)}: on {job.device(rank, rank)}" for rank in range(job.ranks)]
    kept = job.config.checkpoint.keep + bool(job.config.checkpoint.best)
    return "\n".join(
        [
            f"dry run of {job.folder.path}: nothing is started",
            f"  {listed(job.names)}",
            f"  {accounts_line(preparation.parameters)}",
            *ranks,
            f"  disk: {_mib(disk)} for a checkpoint, at most {kept + 1} of them: "
            f"{_mib((kept + 1) * disk)} of {_mib(free)} free",
            *(f"  {note}" for note in preparation.notes),
        ]
    )


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
