"""What is printed before a partitioned training starts, and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...models import NETWORKS
from ..folder import RunFolder
from ..tracking import offline_folder
from .board import psi_words
from .preparation import PartitionPreparation

__all__ = ["announcement", "closing_table"]

MOST_LINES = 8


def announcement(preparation: PartitionPreparation) -> str:
    """Return the lines that open a run."""
    job = preparation.job
    config, model = job.config, preparation.model
    sizes = ", ".join(f"{size} {split}" for split, size in job.task.sizes.items())
    staleness = config.partition.staleness
    how = "" if job.ranks == 1 else f", copies at most {staleness} steps old"
    learned = model.hyperparameters()
    count = sum(one.numel() for one in learned.values())
    lines = [
        f"run {job.folder.path}",
        f"  {job.network} ({sum(model.sizes) / 1e6:.2f} M parameters in {len(model)} partitions) "
        f"on {job.task.data} ({sizes})",
        f"  psi={config.psi.name}: {count} numbers, learned every {config.psi.every} step(s)",
        f"  {config.train.steps} steps of {config.train.batch_size} examples",
        *partition_lines(preparation),
        f"  {job.ranks} process(es), {config.train.threads} thread(s) each, on {config.device}"
        f"{how}",
        *(f"  {note}" for note in preparation.notes),
    ]
    return "\n".join(lines)


def partition_lines(preparation: PartitionPreparation) -> list[str]:
    """Return a line for each partition: its examples, its parameters, its rank."""
    job, model, chunks = preparation.job, preparation.model, preparation.chunks
    if job.partitions < len(chunks):
        return [
            f"  method={job.config.partition.method}: {model.sizes[0]:,} parameters learn from "
            f"{chunks.sizes[0]:,} examples; {chunks.sizes[1]:,} judge"
        ]
    lines = []
    for number, size in enumerate(chunks.sizes, start=1):
        rank = next(rank for rank in range(job.ranks) if number in job.owned(rank))
        on = f", rank {rank}" if job.ranks > 1 else ""
        sees = "its own chunk" if number == 1 else f"chunks 1-{number}"
        lines.append(
            f"  partition {number}: {model.sizes[number - 1]:,} parameters learn from {sees} "
            f"({sum(chunks.sizes[:number]):,} examples); chunk {number} has {size:,}{on}"
        )
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[:MOST_LINES], f"  ... and {len(lines) - MOST_LINES} more"]


def closing_table(summary: Mapping[str, Any], folder: RunFolder) -> str:
    """Return the lines that close a run."""

    def told(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    lines = [
        "",
        f"L_ML            {told(summary['objective'], '.2f')} nats (best "
        f"{told(summary['best_objective'], '.2f')} at step {told(summary['best_step'], 'd')})",
        f"test accuracy   {told(summary['test_accuracy'], '.2%')}",
        f"throughput      {told(summary['images_per_second'], '.1f')} img/s",
    ]
    if len(summary["stages"]) > 1:
        ages = summary["psi_age"]
        lines.append(
            f"age of psi      {told(ages['mean'], '.2f')} steps on average, at most "
            f"{told(ages['largest'], 'd')}"
        )
    if summary["found"]:
        lines.append(f"found           {psi_words(summary['found'])}")
    lines.append("")
    offline = offline_folder(folder.path)
    if offline is not None:
        lines.append(f"wandb: recorded offline; upload with: wandb sync {offline}")
    lines.append(f"report: {folder.report}")
    if folder.psi.exists():
        model = f"model={summary['network']} " if summary["network"] in NETWORKS else ""
        lines.append(
            f"retrain: blockstep train {model}data={summary['data']} method=backprop "
            f"psi={folder.psi}"
        )
    lines.append(f"run: {folder.path}")
    return "\n".join(lines)
