"""``dry_run=true``: the clients, tensors, ranks and disk of a federation that is not started."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..folder import existing_parent
from .board import mebibytes
from .preparation import FederatePreparation
from .upload import tensor_rows, upload_facts, upload_words

__all__ = ["forecast"]


def forecast(preparation: FederatePreparation) -> str:
    """Return what a federation would send, by chunk and by tensor, and where it would run."""
    job, traffic = preparation.job, preparation.traffic
    config = job.config
    facts = upload_facts(traffic, preparation.population, config.federate.shares)
    lines = [f"dry run of {job.folder.path}: nothing is started"]
    lines += [f"  rank {rank}: on {job.device(rank, rank)}" for rank in range(job.ranks)]
    for chunk, clients in enumerate(facts["chunk_clients"], start=1):
        lines.append(
            f"  chunk {chunk}: {clients} clients, each sends {mebibytes(traffic.up(chunk))} and is "
            f"sent {mebibytes(traffic.down)}"
        )
    lines.append(f"  upload: {upload_words(facts)}")
    lines += ["  entries of each partition, and by the shares:", *_tensors(preparation)]
    state = 3 * traffic.down  # weights and Adam's two moments
    free = shutil.disk_usage(existing_parent(Path(config.runs))).free
    lines.append(
        f"  disk: {mebibytes(state)} for a checkpoint, {config.checkpoint.keep} are kept; "
        f"{mebibytes(free)} free"
    )
    return "\n".join(lines)


def _tensors(preparation: FederatePreparation) -> list[str]:
    lines = []
    for name, entries, exact in tensor_rows(preparation.federated.model):
        counts = " + ".join(map(str, entries))
        by_shares = " + ".join(f"{share:g}" for share in exact)
        told = f"({by_shares})" if exact else "(once per partition)"
        lines.append(f"    {name}: {counts} {told}")
    return lines
