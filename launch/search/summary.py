"""``summary.json`` of a search: its figures, each measured or null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...search.decoupling import Decoupling
from ...search.discretization import ties
from .job import SearchJob
from .result import Result

__all__ = ["summarize"]


def summarize(
    job: SearchJob, result: Result | None, ranks: Mapping[int, Mapping[str, Any]], *, seconds: float
) -> dict[str, Any]:
    """Work out the summary of a search that came to its end.

    Args:
        job: The search.
        result: What it found; None if it was stopped before the first outer step.
        ranks: What each rank told, at its start and at its end.
        seconds: How long this part of the run took.

    Returns:
        The keys of ``summary.json``. The seconds of the pretraining and of an outer step are
        those of this part of the run; null if it had none.
    """
    config, lead = job.config, ranks[0]
    pretraining, outer = lead["pace"].get("pretrain"), lead["pace"].get("search")
    decoupling = result.decoupling if result is not None else None
    return {
        "command": job.command,
        "network": job.network,
        "layers": job.layers,
        "data": job.task.data,
        "blocks": config.blocks,
        "cuts": list(decoupling.cuts) if decoupling else None,
        "heads": list(decoupling.heads) if decoupling else None,
        "prefer": config.search.prefer,
        "ties": _ties(decoupling) if decoupling else None,
        "steps": lead["step"],
        "pretraining_steps": min(lead["step"], config.train.steps),
        "outer_steps": max(0, lead["step"] - config.train.steps),
        "samples": config.search.samples,
        "skipped": lead["skipped"],
        "lost": lead["lost"],
        "seed": config.seed,
        "device": config.device,
        "threads": config.train.threads,
        "seconds": seconds,
        "pretraining_seconds": pretraining["seconds"] if pretraining else None,
        "outer_step_seconds": outer["seconds"] / outer["steps"] if outer else None,
        "ranks": [
            {
                key: told[key]
                for key in ("rank", "pid", "host", "device", "threads", "peak_memory_bytes")
            }
            for _, told in sorted(ranks.items())
        ],
    }


def _ties(decoupling: Decoupling) -> list[dict[str, Any]]:
    """Return the numbers of blocks whose cuts were not decided, with the reason in words.

    Cuts that were chosen for their speed are no tie, whatever the ranking says.
    """
    order = decoupling.ranking or ()
    # A file of a very deep network may lack the largest numbers of blocks.
    chosen = {
        blocks: set(choice["cuts"]) for blocks, choice in (decoupling.by_blocks or {}).items()
    }
    return [
        {
            "blocks": tie.blocks,
            "cuts": list(tie.cuts),
            "rivals": list(tie.rivals),
            "margin": tie.margin,
            "text": str(tie),
        }
        for tie in ties(decoupling.alpha or ()).values()
        if chosen.get(tie.blocks) == set(order[: tie.blocks - 1])
    ]
