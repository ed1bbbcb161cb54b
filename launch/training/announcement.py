"""What is printed before a run starts: what will run where, and why."""

from __future__ import annotations

from typing import Any

from ...models import parameters
from ...pipeline.shares import bounds
from ..assembly import build_heads
from ..config import TrainConfig
from ..tracking import offline_folder
from .delay import delay_of
from .disk import disk_line, state_bytes
from .method import METHODS
from .preparation import TrainPreparation
from .runtime import runtime_of

__all__ = ["announcement", "closing_table"]


def announcement(preparation: TrainPreparation) -> str:
    """Return the lines that open a run."""
    job, network = preparation.job, preparation.network
    config = job.config
    placement = job.placement
    epochs = config.train.steps * config.train.batch_size / job.task.sizes["train"]
    sizes = ", ".join(f"{size} {split}" for split, size in job.task.sizes.items())
    lines = [
        f"run {job.folder.path}",
        f"  {network.name} ({parameters(network.module) / 1e6:.2f} M parameters, "
        f"{len(network.layers)} layers) on {job.task.data} ({sizes})",
        f"  method={config.method} runtime={config.runtime}: {placement.ranks} process(es), "
        f"{config.train.threads} thread(s) each; {placement.reason}",
        f"  {config.train.steps} steps of {config.train.batch_size} examples "
        f"({epochs:.1f} epochs), link bound {config.pipeline.queue_messages} messages, "
        f"{config.pipeline.queue_bytes / 2**20:.0f} MiB",
        *stage_lines(preparation),
        *([] if config.psi is None else [f"  psi: as found in {config.psi}, fixed"]),
        *_replay_lines(config),
        _disk_line(preparation),
        *(f"  {note}" for note in preparation.notes),
    ]
    return "\n".join(lines)


def stage_lines(preparation: TrainPreparation) -> list[str]:
    """Return a line per stage: its layers, head, parameters, predicted time and replicas."""
    job, network = preparation.job, preparation.network
    feedback = METHODS[job.config.method].feedback
    schedule = runtime_of(job.config).schedule
    lines = []
    for stage, (first, last) in enumerate(job.decoupling.bounds(), start=1):
        count = parameters(network.body(first, last)) / 1e6
        seconds = preparation.block_seconds
        time = f", measured {seconds[stage - 1] * 1e3:.1f} ms per step" if seconds else ""
        delay = job.decoupling.blocks - stage
        learns = f"head {job.heads[stage - 1]}" if delay else "head classifier"
        if feedback and delay:
            learns = f"errors {delay} step{'s' * (delay > 1)} old"
        elif schedule and delay:
            learns = "errors of the same step"
        lines.append(
            f"  stage {stage}: layers {first}-{last}, {learns}, {count:.2f} M parameters{time}"
            f"{_shares(preparation, stage)}{_rank(preparation, stage)}"
            f"{_delay(job.config, stage)}"
        )
    return lines


def _disk_line(preparation: TrainPreparation) -> str:
    """Say what checkpoints and records take; methods that keep a history take more."""
    job, network = preparation.job, preparation.network
    heads = build_heads(network, job.decoupling, job.task, job.config.seed)
    size = state_bytes(job.config, network.module, *heads)
    return disk_line(job.config, size, least=bool(METHODS[job.config.method].keeps))


def _delay(config: TrainConfig, stage: int) -> str:
    """Say by how much the steps of a stage are made longer, if they are."""
    seconds = delay_of(config.pipeline, stage)
    return f", each step {seconds * 1e3:g} ms longer (pipeline.delay)" if seconds else ""


def _replay_lines(config: TrainConfig) -> list[str]:
    """Say what replay does to the results, if there is any."""
    replay = config.replay
    if not replay.batches:
        return []
    stages = "stage 2 learns" if config.blocks == 2 else f"stages 2-{config.blocks} learn"
    limit = "" if replay.reuse is None else f", from each at most {replay.reuse} times"
    return [
        f"  replay: while the link into it is empty, {stages} again from the newest "
        f"{replay.batches} batches{limit}",
        "    results depend on timing: another run of the same words ends at other weights, and a "
        "resumed one begins with empty rings",
    ]


def _rank(preparation: TrainPreparation, stage: int) -> str:
    """Name the rank of a stage where it has others too, and is a process of several."""
    placement = preparation.job.placement
    return f", rank {placement.rank_of(stage)}" if placement.chunks > 1 else ""


def _shares(preparation: TrainPreparation, stage: int) -> str:
    """Name the replicas of a stage and their shares of a batch, where there are several."""
    job = preparation.job
    ranks = job.placement.ranks_of(stage)
    if len(ranks) == 1:
        return ""
    counts = [end - begin for begin, end in bounds(job.config.train.batch_size, len(ranks))]
    examples = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} or {counts[-1]}"
    return (
        f", {len(ranks)} replicas (ranks {ranks[0]}-{ranks[-1]}) with {examples} examples of each"
        " batch"
    )


def closing_table(summary: dict[str, Any], folder: Any) -> str:
    """Return the lines that close a run."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.2%}"

    def number(value: float | None, unit: str) -> str:
        return "-" if value is None else f"{value:.4g}{unit}"

    lines = ["", f"{'block':>8} {'layers':>8} {'test accuracy':>14} {'busy/step':>10}"]
    bounds = zip([0, *summary["cuts"]], [*summary["cuts"], None], strict=True)
    for stage, (first, last) in zip(summary["stages"], bounds, strict=True):
        index = stage["stage"] - 1
        accuracies = summary["block_accuracy"]
        accuracy = accuracies[index] if index < len(accuracies) else None
        layers = f"{first + 1}-{last or ''}"
        busy = number(stage["busy"] and stage["busy"] * 1e3, " ms")
        lines.append(f"{stage['stage']:>8} {layers:>8} {percent(accuracy):>14} {busy:>10}")
    lines += [
        "",
        f"test accuracy                  {percent(summary['test_accuracy'])}",
        f"ensemble of the last two heads {percent(summary['ensemble_accuracy'])}",
        f"throughput                     {number(summary['images_per_second'], ' img/s')}",
        f"speed-up over backpropagation  {number(summary['speedup_vs_backprop'], 'x')}",
        f"efficiency                     {percent(summary['efficiency'])}",
        *(_replayed(stage) for stage in summary["stages"] if stage.get("replayed")),
        "",
    ]
    offline = offline_folder(folder.path)
    if offline is not None:
        lines.append(f"wandb: recorded offline; upload with: wandb sync {offline}")
    lines.append(f"report: {folder.report}")
    lines.append(f"run: {folder.path}")
    return "\n".join(lines)


def _replayed(stage: dict[str, Any]) -> str:
    """Return how much a stage learned again."""
    return (
        f"stage {stage['stage']} learned again        {stage['replayed']:>6} batches, on average "
        f"{stage['replay_staleness']:.3g} steps old"
    )
