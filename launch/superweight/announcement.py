"""What is printed before an ensemble is trained, and when it has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..folder import RunFolder
from ..tracking import offline_folder
from ..view import clock
from .job import SuperWeightJob
from .method import METHODS
from .preparation import SuperWeightPreparation

__all__ = ["announcement", "closing_table"]


def announcement(preparation: SuperWeightPreparation) -> str:
    """Return the lines that open a training."""
    job = preparation.job
    config = job.config
    sizes = ", ".join(f"{size} {split}" for split, size in job.task.sizes.items())
    lines = [
        f"run {job.folder.path}",
        f"  {listed(job.names)} on {job.task.data} ({sizes})",
        f"  method {config.method}: {METHODS[config.method].text}",
        f"  {accounts_line(preparation.parameters)}",
        *_budget(preparation),
        f"  {_stages(job)}",
        f"  {job.ranks} process(es), {config.train.threads} thread(s) each, on {config.device}"
        f"{_division(job)}",
        *(f"  {note}" for note in preparation.notes),
    ]
    return "\n".join(lines)


def listed(names: Sequence[str]) -> str:
    """Return members in words: 2 x wrn28-2, wrn16-4."""
    counts = Counter(names)
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items())


def accounts_line(parameters: Mapping[str, int]) -> str:
    """Return where the parameters are."""
    parts = ", ".join(f"{name} {count:,}" for name, count in parameters.items())
    return f"parameters: {parts}; together {sum(parameters.values()):,}"


def _budget(preparation: SuperWeightPreparation) -> list[str]:
    job, own = preparation.job, preparation.own
    if not job.budget:
        return []
    share = job.budget / own
    return [f"  budget {job.budget:,}: {share:.0%} of the {own:,} weights that templates replace"]


def _stages(job: SuperWeightJob) -> str:
    plan, batch = job.plan, job.config.train.batch_size
    main = f"{plan.steps} steps of {batch} examples"
    if not plan.search_steps:
        return main
    unshare = (
        f"coefficients are separated after {plan.unshare_step}"
        if plan.unshare_step
        else "coefficients stay shared"
    )
    return f"{plan.search_steps} steps to learn the clusters, then {main}; {unshare}"


def _division(job: SuperWeightJob) -> str:
    if job.ranks == 1:
        return ""
    return ": " + "; ".join(job.label(rank) for rank in range(job.ranks))


def closing_table(summary: Mapping[str, Any], folder: RunFolder) -> str:
    """Return the lines that close a training."""
    lines = [""]
    for name, accuracy in zip(summary["members"], summary["member_accuracy"], strict=False):
        lines.append(f"{name:<24} {accuracy:.2%}")
    if summary["ensemble_accuracy"] is not None:
        lines += [
            f"{'ensemble':<24} {summary['ensemble_accuracy']:.2%}   NLL "
            f"{summary['test_nll']:.4f}   ECE {summary['test_ece']:.2%}"
            f"{_diversity(summary['diversity'])}",
        ]
    lines += ["", accounts_line(summary["parameters"])]
    if summary["clusters"] is not None:
        lines.append(
            f"sharing: {summary['clusters']} clusters, {summary['coefficient_groups']} sets of "
            f"coefficients ({folder.path / 'sharing.json'})"
        )
    speed = summary["images_per_second"]
    if speed is not None:
        lines.append(f"speed: {speed:.1f} images/s through all members")
    lines.append(f"time: {clock(summary['seconds'])}")
    offline = offline_folder(folder.path)
    if offline is not None:
        lines.append(f"wandb: recorded offline; upload with: wandb sync {offline}")
    lines += [f"report: {folder.report}", f"run: {folder.path}"]
    return "\n".join(lines)


def _diversity(found: Mapping[str, float | None] | None) -> str:
    value = (found or {}).get("by_member")
    return "" if value is None else f"   diversity {value:.2f}"
