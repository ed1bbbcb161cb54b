"""What is printed before a federation starts, and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...models import parameters
from ..folder import RunFolder
from ..tracking import offline_folder
from ..view import clock
from .board import mebibytes, psi_lines
from .preparation import FederatePreparation
from .upload import upload_facts, upload_words

__all__ = ["announcement", "closing_table"]

METHODS = {
    "partitioned": "partitioned networks",
    "fedavg": "federated averaging",
    "augerino": "federated averaging with Augerino",
}
SKEWS = {
    "labels": "that differ in their labels",
    "rotation": "that differ in the angles of their images",
    "none": "that are alike",
}


def announcement(preparation: FederatePreparation) -> str:
    """Return the lines that open a federation."""
    job, population = preparation.job, preparation.population
    config, settings = job.config, job.config.federate
    sizes = ", ".join(f"{size} {split}" for split, size in job.task.sizes.items())
    held = sorted({len(client.indices) for client in population.clients})
    each = f"{held[0]}-{held[-1]}" if len(held) > 1 else f"{held[0]}"
    alpha = f" (alpha {settings.alpha:g})" if settings.skew != "none" else ""
    facts = upload_facts(preparation.traffic, population, settings.shares)
    counts = ", ".join(map(str, facts["chunk_clients"]))
    lines = [
        f"run {job.folder.path}",
        f"  {METHODS[settings.method]}: {job.network} "
        f"({parameters(preparation.network.module) / 1e6:.2f} M parameters) on {job.task.data} "
        f"({sizes})",
        f"  {len(population)} clients of {each} examples {SKEWS[settings.skew]}{alpha}",
        f"  {len(settings.shares)} chunk(s) with {counts} clients",
        f"  {config.train.steps} rounds of {population.per_round} clients; they upload "
        f"{upload_words(facts)}",
        f"  learned: {_learned(preparation)}",
        f"  {job.ranks} process(es), {config.train.threads} thread(s) each, on {config.device}",
        *(f"  {note}" for note in preparation.notes),
    ]
    return "\n".join(lines)


def _learned(preparation: FederatePreparation) -> str:
    hyper = preparation.federated.model.hyperparameters()
    if not hyper:
        return "weights alone"
    named = ", ".join(f"{name} ({value.numel()})" for name, value in hyper.items())
    return f"weights, and {named}"


def closing_table(summary: Mapping[str, Any], folder: RunFolder) -> str:
    """Return the lines that close a federation."""
    sent = summary["bytes_up"] + summary["bytes_down"]
    lines = [
        "",
        f"test accuracy   {_percent(summary['test_accuracy'])}",
        f"averaged        {_percent(summary['averaged_accuracy'])} over the last "
        f"{summary['averaged_evaluations']} evaluations",
        f"rounds          {summary['steps']}, {summary['clients_lost']} of "
        f"{summary['clients_drawn']} clients did not answer",
        f"bytes           {mebibytes(summary['bytes_up'])} up (federated averaging: "
        f"{mebibytes(summary['fedavg_bytes_up'])}), {mebibytes(summary['bytes_down'])} down, "
        f"{mebibytes(sent)} in all",
        f"upload          {upload_words(dict(summary))}",
    ]
    psi = {f"{module}/{name}": values for module, parts in summary["psi"].items()
           for name, values in parts.items()}  # fmt: skip
    lines += psi_lines(psi)
    lines.append(f"took            {clock(summary['seconds'])}")
    offline = offline_folder(folder.path)
    if offline is not None:
        lines.append(f"wandb: recorded offline; upload with: wandb sync {offline}")
    lines += [f"report: {folder.report}", f"model: {folder.model}", f"run: {folder.path}"]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
