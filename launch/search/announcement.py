"""What is printed before a search starts, and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...models import NETWORKS, parameters
from ...search.decoupling import Decoupling, head_name
from ...search.frontfile import load_front
from ...search.pareto import explain
from ..folder import RunFolder
from ..tracking import offline_folder
from ..view import clock
from .preparation import SearchPreparation

__all__ = ["announcement", "closing_table"]


def announcement(preparation: SearchPreparation) -> str:
    """Return the lines that open a search."""
    job, network = preparation.job, preparation.network
    config, settings = job.config, job.config.search
    sizes = ", ".join(f"{size} {split}" for split, size in job.task.sizes.items())
    heads = ", ".join(map(head_name, settings.heads))
    lines = [
        f"run {job.folder.path}",
        f"  {network.name} ({parameters(network.module) / 1e6:.2f} M parameters, "
        f"{job.layers} layers) on {job.task.data} ({sizes})",
        f"  {job.layers - 1} places to cut, heads {heads} "
        f"({preparation.candidate_parameters / 1e6:.2f} M parameters in all candidates)",
        f"  {_pretraining(preparation)}",
        f"  search: {settings.steps} outer steps, each {settings.inner_steps} inner steps from "
        f"{settings.samples} snapshot(s) and {settings.validation_batch} validation examples",
        f"  {job.ranks} process(es), {config.train.threads} thread(s) each, on {config.device}",
        *(f"  {note}" for note in preparation.notes),
    ]
    return "\n".join(lines)


def _pretraining(preparation: SearchPreparation) -> str:
    config = preparation.job.config
    steps, every = config.train.steps, config.search.pretrain_every
    if not steps:
        return "no pretraining: the search begins from the initial weights"
    return (
        f"pretraining: {steps} steps of {config.train.batch_size} examples; the best "
        f"{config.search.memory} of {steps // every} validations are kept"
    )


def closing_table(summary: Mapping[str, Any], folder: RunFolder) -> str:
    """Return the lines that close a search."""
    lines = [""]
    if summary["cuts"] is None:
        lines += ["stopped before the first outer step: nothing is decided yet"]
    else:
        lines += _decisions(summary, Decoupling.load(folder.decoupling))
        if folder.pareto.exists():
            lines += ["", "what cuts cost, as timed here:"]
            lines += [f"  {line}" for line in explain(load_front(folder.pareto))]
    lines += ["", *_figures(summary)]
    offline = offline_folder(folder.path)
    if offline is not None:
        lines.append(f"wandb: recorded offline; upload with: wandb sync {offline}")
    lines.append(f"report: {folder.report}")
    if summary["cuts"] is not None:
        model = f"model={summary['network']} " if summary["network"] in NETWORKS else ""
        lines.append(
            f"deploy: blockstep train {model}decoupling={folder.decoupling} "
            f"blocks={summary['blocks']}"
        )
    lines.append(f"run: {folder.path}")
    return "\n".join(lines)


def _decisions(summary: Mapping[str, Any], decoupling: Decoupling) -> list[str]:
    """Return a row for 2, 4, 8, ... blocks and for the number that was asked for."""
    doubled = {2**power for power in range(1, 12)} & set(decoupling.by_blocks or ())
    counts = sorted({*doubled, summary["blocks"]})
    tied = {tie["blocks"]: tie["text"] for tie in summary["ties"]}
    lines = [f"{'blocks':>7}  cuts (head)"]
    for count in counts:
        found = decoupling.for_blocks(count)
        pairs = zip(found.cuts, found.heads, strict=True)
        cuts = ", ".join(f"{cut} ({head_name(head)})" for cut, head in pairs)
        mark = "*" if count == summary["blocks"] else " "
        lines.append(f"{mark}{count:>6}  {cuts}{'  - a tie' if count in tied else ''}")
    told = [text for count, text in tied.items() if count in counts]
    if told:
        lines += ["", "not decided by this search; another seed may cut elsewhere:"]
        lines += [f"  {text}" for text in told]
    return lines


def _figures(summary: Mapping[str, Any]) -> list[str]:
    pretraining, outer = summary["pretraining_seconds"], summary["outer_step_seconds"]
    memory = max(rank["peak_memory_bytes"] for rank in summary["ranks"])
    lines = [
        f"pretraining     {clock(pretraining)}",
        f"an outer step   {'-' if outer is None else f'{outer:.3g} s'}",
        f"peak memory     {memory / 2**20:.0f} MiB",
    ]
    if summary["skipped"]:
        lines.append(f"skipped         {summary['skipped']} gradients that were not finite")
    if summary["lost"]:
        lines.append(f"undone          {summary['lost']} steps to weights that were not finite")
    return lines
