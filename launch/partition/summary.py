"""``summary.json`` of a partitioned training: its figures, each measured or null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .job import PartitionJob

__all__ = ["summarize"]

Evaluation = Mapping[str, Any]


def summarize(
    job: PartitionJob,
    ranks: Mapping[int, Mapping[str, Any]],
    *,
    newest: Evaluation | None,
    best: Evaluation | None,
    seconds: float,
) -> dict[str, Any]:
    """Work out the summary of a partitioned training that came to its end.

    Args:
        job: The run.
        ranks: What each rank told, at its start and at its end.
        newest: The last evaluation; None if there was none in this part of the run.
        best: The one with the highest L_ML.
        seconds: How long this part of the run took.

    Returns:
        The keys of ``summary.json``. ``objective`` is L_ML in nats, a sum over the examples of
        chunks 2..C. The ages are in steps, of what several ranks used of each other.
    """
    config = job.config
    splits = {} if newest is None else newest["splits"]
    return {
        "command": job.command,
        "method": config.partition.method,
        "network": job.network,
        "data": job.task.data,
        "chunks": list(config.partition.chunks),
        "parameters": list(config.partition.parameters or config.partition.chunks),
        "psi": config.psi.name,
        "found": None if newest is None else newest["psi"],
        "steps": max(told["step"] for told in ranks.values()),
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "device": config.device,
        "threads": config.train.threads,
        "test_accuracy": splits.get("test", {}).get("accuracy"),
        "validation_accuracy": splits.get("validation", {}).get("accuracy"),
        "objective": None if newest is None else newest["objective"],
        "best_objective": None if best is None else best["objective"],
        "best_step": None if best is None else best["step"],
        "seconds": seconds,
        "images_per_second": ranks[len(ranks) - 1]["images_per_second"],
        "staleness": config.partition.staleness,
        "weights_age": _ages(ranks, "weights_age"),
        "psi_age": _ages(ranks, "psi_age"),
        "bytes_per_step": _sum([told["bytes_per_step"] for told in ranks.values()]),
        "stages": [_stage(told) for _, told in sorted(ranks.items())],
    }


def _stage(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one rank did; its number is that of its first partition."""
    known = (
        "rank", "pid", "host", "device", "threads", "partitions", "learned", "judged", "busy",
        "cpu", "wait_in", "weights_age", "psi_age", "bytes_per_step", "peak_memory_bytes",
    )  # fmt: skip
    return {
        "stage": told["partitions"][0],
        "params": sum(told["parameters"]),
        **{key: told[key] for key in known},
    }


def _ages(ranks: Mapping[int, Mapping[str, Any]], kind: str) -> dict[str, float | None]:
    """Return the mean over the ranks that used something, and the largest age of all."""
    told = [rank[kind] for rank in ranks.values() if rank[kind]["mean"] is not None]
    if not told or len(ranks) == 1:
        return {"mean": None, "largest": None}
    return {
        "mean": sum(one["mean"] for one in told) / len(told),
        "largest": max(one["largest"] for one in told),
    }


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
