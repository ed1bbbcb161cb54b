"""``summary.json``: the figures of a run, each measured or null."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .findings import Findings
from .job import TrainJob

__all__ = ["summarize", "trace_events"]


def summarize(job: TrainJob, findings: Findings, *, seconds: float) -> dict[str, Any]:
    """Work out the summary of a run that came to its end.

    Args:
        job: The run.
        findings: What its ranks told.
        seconds: From the first rank's readiness to the end, of this part of the run.

    Returns:
        The keys of ``summary.json``. The figures of a stage are those of its first replica; those
        of all are in its ``replicas``. ``efficiency`` is the throughput against the batch divided
        by the median busy time of the slowest stage in this run (of the slowest rank, where each
        has several); ``slowest_alone`` is the time of
        the same stage per step with all others idle. ``bytes_per_step``: tensors that ranks send
        each other per training step, all together.
    """
    config = job.config
    stages = [_stage(findings, stage) for stage in range(1, job.decoupling.blocks + 1)]
    test = findings.evaluations.get("test", {})
    speed = findings.finished[job.decoupling.blocks]["summary"]["images_per_second"]
    backprop = findings.measured.get("backprop_seconds")
    batch = config.train.batch_size
    slowest = _slowest_rank(stages)
    return {
        "command": job.command,
        "method": config.method,
        "runtime": config.runtime,
        "network": job.decoupling.network,
        "data": job.task.data,
        "blocks": job.decoupling.blocks,
        "cuts": list(job.decoupling.cuts),
        "heads": list(job.heads),
        "steps": findings.finished[1]["step"],
        "batch_size": batch,
        "seed": config.seed,
        "device": config.device,
        "threads": config.train.threads,
        "test_accuracy": test["accuracies"][-1] if test else None,
        "ensemble_accuracy": test.get("ensemble_accuracy"),
        "block_accuracy": test.get("accuracies", []),
        "seconds": seconds,
        "images_per_second": speed,
        "backprop_images_per_second": batch / backprop if backprop else None,
        "speedup_vs_backprop": speed * backprop / batch if speed and backprop else None,
        "efficiency": speed * slowest / batch if speed and slowest else None,
        "slowest_alone": findings.alone,
        "slowest_stage": findings.alone_stage,
        "bytes_per_step": _bytes_per_step(stages),
        "stages": stages,
    }


def trace_events(job: TrainJob, findings: Findings) -> dict[str, Any]:
    """Return the run's spans in the Chrome trace format: stages are processes, replicas threads."""
    events: list[dict[str, Any]] = []
    for stage, replicas in sorted(findings.replicas.items()):
        ranks = ", ".join(str(replicas[number]["rank"]) for number in sorted(replicas))
        name = f"stage {stage} ({'rank' if len(replicas) == 1 else 'ranks'} {ranks})"
        events.append({"name": "process_name", "ph": "M", "pid": stage, "args": {"name": name}})
        for number in sorted(replicas):
            events.extend(replicas[number]["spans"])
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _stage(findings: Findings, stage: int) -> dict[str, Any]:
    report = findings.finished[stage]
    ready = findings.ready[report["rank"]]
    place = ready["stages"].index(stage)
    replicas = findings.replicas[stage]
    return {
        "stage": stage,
        "rank": report["rank"],
        "pid": ready["pid"],
        "host": ready["host"],
        "device": ready["device"],
        "params": ready["parameters"][place],
        "head_params": ready["head_parameters"][place],
        **report["summary"],
        "replicas": [_replica(findings, replicas[number]) for number in sorted(replicas)],
    }


def _slowest_rank(stages: Sequence[dict[str, Any]]) -> float | None:
    """Return the busy time per step of the rank that works longest.

    A rank has one stage, unless several are interleaved. Where a process has all of them in turns,
    that is still the slowest stage: what a rank each would need.
    """
    if not all(stage["busy"] for stage in stages):
        return None
    ranks = [stage["rank"] for stage in stages]
    if len(set(ranks)) == 1:
        return max(stage["busy"] for stage in stages)
    return max(
        sum(stage["busy"] for stage in stages if stage["rank"] == rank) for rank in set(ranks)
    )


def _bytes_per_step(stages: Sequence[dict[str, Any]]) -> float | None:
    """Return what all ranks send each other per training step."""
    ranks = [replica["bytes_per_step"] for stage in stages for replica in stage["replicas"]]
    return None if None in ranks else sum(ranks)


def _replica(findings: Findings, report: dict[str, Any]) -> dict[str, Any]:
    ready, summary = findings.ready[report["rank"]], report["summary"]
    return {
        "rank": report["rank"],
        **{key: ready[key] for key in ("pid", "host", "device")},
        **{key: summary[key] for key in ("peak_memory_bytes", "busy", "bytes_per_step")},
    }
