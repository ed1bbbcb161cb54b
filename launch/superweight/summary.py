"""``summary.json`` of an ensemble: its figures, each measured or null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...search.sharing.file import SharingFile
from .job import SuperWeightJob

__all__ = ["summarize"]


def summarize(
    job: SuperWeightJob,
    ranks: Mapping[int, Mapping[str, Any]],
    evaluations: Mapping[str, Mapping[str, Any]],
    *,
    seconds: float,
) -> dict[str, Any]:
    """Work out the summary of a training that came to its end.

    Args:
        job: The training.
        ranks: What each rank told, at its start and at its end.
        evaluations: Of each split after the last step, if that was reached.
        seconds: How long this part of the run took.

    Returns:
        The keys of ``summary.json``. ``test_accuracy`` is the ensemble's. ``efficiency``: the
        throughput against that of the slowest rank if it never waited.
    """
    config, lead = job.config, ranks[0]
    test = evaluations.get("test", {})
    sharing = SharingFile.from_json(lead["sharing"]) if lead["sharing"] else None
    slowest = max((told["busy"] or 0.0 for told in ranks.values()), default=0.0)
    speed = lead["images_per_second"]
    groups = [len(cluster) for cluster in sharing.sharing.clusters] if sharing else None
    return {
        "command": job.command,
        "method": config.method,
        "runtime": "ensemble" if job.ranks > 1 else "sequential",
        "network": " + ".join(job.networks),
        "members": job.names,
        "data": job.task.data,
        "budget": job.budget or None,
        "parameters": lead["parameters"],
        "clusters": len(groups) if groups else None,
        "coefficient_groups": sum(groups) if groups else None,
        "tau": sharing.tau if sharing else None,
        "beta": sharing.beta if sharing else None,
        "learned": job.learned,
        "phase": lead["phase"],
        "steps": lead["step"],
        "search_steps": min(lead["step"], job.plan.search_steps),
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "device": config.device,
        "threads": config.train.threads,
        "test_accuracy": test.get("ensemble_accuracy"),
        "ensemble_accuracy": test.get("ensemble_accuracy"),
        "member_accuracy": test.get("accuracies", []),
        "test_nll": test.get("nll"),
        "test_ece": test.get("ece"),
        "diversity": test.get("diversity"),
        "seconds": seconds,
        "images_per_second": speed,
        "speedup_vs_backprop": None,
        "efficiency": speed * slowest / config.train.batch_size if speed and slowest else None,
        "slowest_alone": None,
        "stages": [_stage(told) for _, told in sorted(ranks.items())],
    }


def _stage(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a rank."""
    names = (
        "rank", "pid", "host", "device", "threads", "members", "busy", "wait_in",
        "peak_memory_bytes",
    )  # fmt: skip
    return {name: told[name] for name in names} | {"wait_out": None}
