"""The run in wandb: one run for all stages, offline by default, the same id over a resume."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from .job import Job

__all__ = ["NoTracker", "Tracker", "make_tracker", "wandb_values"]


class Tracker(Protocol):
    """Where records go besides ``metrics.jsonl``."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Take one record of the run."""
        ...

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """End the run with its summary, or without one if it failed."""
        ...


class NoTracker:
    """The tracker of ``wandb.mode=disabled``."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Drop it."""

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Do nothing."""


def wandb_values(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record under their names in wandb, e.g. ``stage/2/loss``."""
    event = record["event"]
    if event == "train":
        prefix = f"stage/{record['stage']}/"
        values = {
            prefix + key: value
            for key, value in record.items()
            if key not in ("event", "time", "step", "stage", "gpu") and value is not None
        }
        gpu = record.get("gpu") or {}
        return {**values, **{f"{prefix}gpu_{key}": value for key, value in gpu.items()}}
    if event == "evaluation":
        split = record["split"]
        values = {f"{split}/loss": record["losses"][-1]}
        values[f"{split}/accuracy"] = record["accuracies"][-1]
        for stage, accuracy in enumerate(record["accuracies"], start=1):
            values[f"{split}/stage_{stage}_accuracy"] = accuracy
        if record.get("ensemble_accuracy") is not None:
            values[f"{split}/ensemble_accuracy"] = record["ensemble_accuracy"]
        return values
    if event == "measured":
        return {"speedup/backprop_images_per_second": record["backprop_images_per_second"]}
    return {}


class WandbTracker:
    """Records into one wandb run.

    Args:
        wandb: The module.
        job: The run.
    """

    def __init__(self, wandb: Any, job: Job) -> None:
        config = job.config
        self._wandb = wandb
        self._measured: float | None = None
        identity = job.folder.path / "wandb" / "id"
        identity.parent.mkdir(exist_ok=True)
        known = identity.read_text().strip() if identity.exists() else None
        self._run = wandb.init(
            mode=config.wandb.mode,
            project=config.wandb.project,
            entity=config.wandb.entity,
            tags=list(config.wandb.tags) or None,
            name=job.folder.name,
            id=known,
            resume="allow",
            dir=str(job.folder.path),
            config=asdict(config),
            settings=wandb.Settings(silent=True, console="off"),
        )
        if known is None:
            identity.write_text(self._run.id)
        self._run.define_metric("step")
        for pattern in ("stage/*", "test/*", "validation/*", "speedup/*"):
            self._run.define_metric(pattern, step_metric="step")
        if job.folder.decoupling.exists():
            artifact = wandb.Artifact(f"decoupling-{self._run.id}", type="decoupling")
            artifact.add_file(str(job.folder.decoupling))
            self._run.log_artifact(artifact)

    def record(self, record: Mapping[str, Any]) -> None:
        """See :meth:`Tracker.record`."""
        values = wandb_values(record)
        if record["event"] == "measured":
            self._measured = record["backprop_images_per_second"]
        if record["event"] == "train" and self._measured:
            values["speedup/vs_backprop"] = record["images_per_second"] / self._measured
        if values:
            self._run.log({"step": record.get("step", 0), **values})

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """See :meth:`Tracker.finish`."""
        if summary is not None:
            for key, value in summary.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._run.summary[key] = value
            if summary.get("speedup_vs_backprop") is not None:
                self._run.summary["speedup/vs_backprop"] = summary["speedup_vs_backprop"]
        self._run.finish(exit_code=0 if summary is not None else 1)


class _Guarded:
    """A tracker whose failures never stop a training: the first is told, then it is silent."""

    def __init__(self, tracker: Tracker, warn: Any) -> None:
        self._tracker: Tracker = tracker
        self._warn = warn

    def record(self, record: Mapping[str, Any]) -> None:
        self._try(lambda: self._tracker.record(record))

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        self._try(lambda: self._tracker.finish(summary))

    def _try(self, action: Any) -> None:
        try:
            action()
        except Exception as error:
            self._warn(f"wandb stopped recording: {error}; the run goes on without it")
            self._tracker = NoTracker()


def make_tracker(job: Job, warn: Any) -> Tracker:
    """Return the tracker that ``wandb.mode`` asks for.

    Args:
        job: The run.
        warn: Called with a sentence if wandb cannot be used; the run goes on without it.
    """
    if job.config.wandb.mode == "disabled":
        return NoTracker()
    # wandb prefers its environment variables; here a key of the run beats them.
    os.environ["WANDB_MODE"] = job.config.wandb.mode
    try:
        import wandb

        return _Guarded(WandbTracker(wandb, job), warn)
    except Exception as error:
        warn(f"wandb is not recording: {error}; the run goes on without it")
        return NoTracker()


def offline_folder(path: Path) -> Path | None:
    """Return the newest offline folder of a run, for ``wandb sync``."""
    folders = sorted((path / "wandb").glob("offline-run-*"))
    return folders[-1] if folders else None
