"""The run in wandb: one run for all ranks, offline by default, the same id over a resume."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from .config import WandbConfig
from .folder import RunFolder
from .job import Job

__all__ = [
    "Figures",
    "NoTracker",
    "Tracker",
    "file_artifact",
    "make_tracker",
    "offline_folder",
    "open_run",
]


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


class Figures:
    """How the records of a command become figures in wandb.

    Attributes:
        patterns: The figures that are drawn over ``step``.
    """

    patterns: Sequence[str] = ()

    def begin(self, wandb: Any, run: Any) -> None:
        """Add what is known at the start of a run."""

    def values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of a record under their names; none of what is not shown."""
        return {}

    def end(self, wandb: Any, run: Any, summary: Mapping[str, Any]) -> None:
        """Add what is known at the end of a run that did not fail."""


def file_artifact(wandb: Any, run: Any, kind: str, path: Path) -> Any:
    """Return an artifact of one file, such as the decoupling of a run."""
    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    artifact.add_file(str(path))
    return artifact


def open_run(wandb: Any, keys: WandbConfig, folder: RunFolder, **options: Any) -> Any:
    """Begin a run in wandb, or continue one.

    Args:
        wandb: The module.
        keys: Those of ``wandb.*``.
        folder: Gives the run its name, and holds its files.
        options: Further arguments of ``wandb.init``.
    """
    return wandb.init(
        mode=keys.mode,
        project=keys.project,
        entity=keys.entity,
        tags=list(keys.tags) or None,
        name=folder.name,
        dir=str(folder.path),
        settings=wandb.Settings(silent=True, console="off"),
        **options,
    )


class WandbTracker:
    """Records into one wandb run.

    Args:
        wandb: The module.
        job: The run.
        figures: How its records are shown.
    """

    def __init__(self, wandb: Any, job: Job, figures: Figures) -> None:
        config = job.config
        self._wandb = wandb
        self._figures = figures
        identity = job.folder.path / "wandb" / "id"
        identity.parent.mkdir(exist_ok=True)
        known = identity.read_text().strip() if identity.exists() else None
        self._run = open_run(
            wandb, config.wandb, job.folder, id=known, resume="allow", config=asdict(config)
        )
        if known is None:
            identity.write_text(self._run.id)
        self._run.define_metric("step")
        for pattern in figures.patterns:
            self._run.define_metric(pattern, step_metric="step")
        figures.begin(wandb, self._run)

    def record(self, record: Mapping[str, Any]) -> None:
        """See :meth:`Tracker.record`."""
        values = self._figures.values(record)
        if values:
            self._run.log({"step": record.get("step", 0), **values})

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """See :meth:`Tracker.finish`."""
        if summary is not None:
            for key, value in summary.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._run.summary[key] = value
            self._figures.end(self._wandb, self._run, summary)
        self._run.finish(exit_code=0 if summary is not None else 1)


class _Guarded:
    """A tracker whose failures never stop a run: the first is told, then it is silent."""

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


def make_tracker(job: Job, figures: Figures, warn: Any) -> Tracker:
    """Return the tracker that ``wandb.mode`` asks for.

    Args:
        job: The run.
        figures: How its records are shown.
        warn: Called with a sentence if wandb cannot be used; the run goes on without it.
    """
    if job.config.wandb.mode == "disabled":
        return NoTracker()
    # wandb prefers its environment variables; here a key of the run beats them.
    os.environ["WANDB_MODE"] = job.config.wandb.mode
    try:
        import wandb

        return _Guarded(WandbTracker(wandb, job, figures), warn)
    except Exception as error:
        warn(f"wandb is not recording: {error}; the run goes on without it")
        return NoTracker()


def offline_folder(path: Path) -> Path | None:
    """Return the newest offline folder of a run, for ``wandb sync``."""
    folders = sorted((path / "wandb").glob("offline-run-*"))
    return folders[-1] if folders else None
