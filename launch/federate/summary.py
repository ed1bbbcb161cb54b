"""``summary.json`` of a federation: its figures, each measured or null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .job import FederateJob

__all__ = ["summarize"]


def summarize(
    job: FederateJob,
    ranks: Mapping[int, Mapping[str, Any]],
    results: Mapping[str, tuple[float | None, float]],
    upload: Mapping[str, Any],
    *,
    seconds: float,
) -> dict[str, Any]:
    """Work out the summary of a federation that came to its end.

    Args:
        job: The federation.
        ranks: What each rank told, at its start and at its end.
        results: Loss and accuracy after the last round by split.
        upload: What the network's uploads are; see :func:`upload_facts`.
        seconds: How long this part of the run took.

    Returns:
        The keys of ``summary.json``.
    """
    config, settings, lead = job.config, job.config.federate, ranks[0]
    return {
        "command": job.command,
        "method": settings.method,
        "network": job.network,
        "data": job.task.data,
        "skew": settings.skew,
        "alpha": settings.alpha if settings.skew != "none" else None,
        "clients": settings.clients,
        "per_round": settings.per_round or settings.clients,
        "chunks": settings.shares,
        "steps": lead["step"],
        "seed": config.seed,
        "device": config.device,
        "threads": config.train.threads,
        "seconds": seconds,
        "seconds_per_round": lead["seconds_per_round"],
        "test_accuracy": results["test"][1] if "test" in results else None,
        "test_loss": results["test"][0] if "test" in results else None,
        "validation_accuracy": results["validation"][1] if "validation" in results else None,
        "averaged_accuracy": lead["averaged_accuracy"],
        "averaged_evaluations": lead["averaged_evaluations"],
        "psi": lead["psi"],
        "clients_drawn": lead["clients_drawn"],
        "clients_lost": lead["clients_lost"],
        "bytes_up": lead["bytes_up"],
        "fedavg_bytes_up": _answered(lead) * upload["fedavg_client_bytes"],
        "bytes_down": lead["bytes_down"],
        **upload,
        "ranks": [
            {
                key: told[key]
                for key in ("rank", "pid", "host", "device", "threads", "peak_memory_bytes")
            }
            for _, told in sorted(ranks.items())
        ],
    }


def _answered(lead: Mapping[str, Any]) -> int:
    """Return how many updates arrived; in federated averaging each has all weights."""
    return lead["clients_drawn"] - lead["clients_lost"]
