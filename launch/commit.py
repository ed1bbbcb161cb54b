"""Turning shards into checkpoints: the manifest is written when every shard is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..pipeline.checkpoint import CheckpointError, Shard
from .job import Job

__all__ = ["Committer"]


class Committer:
    """Commits checkpoints, keeps the newest and the best, removes the others.

    Args:
        job: The run.
        best: Step and rating of the best checkpoint so far.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._checkpoints = job.folder.checkpoints
        self._shards: dict[int, dict[int, Sequence[Shard]]] = {}
        self._accuracies: dict[int, float] = {}
        self._best = self._find_best()
        self.newest = job.start
        self.failed: dict[int, str] = {}

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and rating of the best checkpoint so far."""
        return self._best

    def evaluated(self, step: int, accuracy: float) -> None:
        """Note the rating after ``step``, its validation accuracy; before the last shard."""
        self._accuracies[step] = accuracy

    def add(self, step: int, part: int, shards: Sequence[Shard]) -> dict[str, Any] | None:
        """Note the shards of one part of the run.

        Args:
            step: The step they were written after.
            part: Who wrote them, e.g. the number of a stage.
            shards: The files.

        Returns:
            The record of the checkpoint if this part completed it.
        """
        parts = self._shards.setdefault(step, {})
        parts[part] = shards
        if len(parts) < self._job.parts:
            return None
        del self._shards[step]
        accuracy = self._accuracies.get(step)
        facts = {**self._job.facts, self._job.rating: accuracy}
        try:
            checkpoint = self._checkpoints.commit(
                step, facts, [shard for part in sorted(parts) for shard in parts[part]]
            )
        except CheckpointError as error:
            self.fail(step, str(error))
            return None
        self.newest = step
        is_best = self._is_best(step, accuracy)
        self._prune()
        return {
            "event": "checkpoint",
            "step": step,
            "path": f"checkpoints/{checkpoint.folder.name}",
            "bytes": checkpoint.bytes,
            "best": is_best,
        }

    def fail(self, step: int, text: str) -> None:
        """Note that the checkpoint after ``step`` could not be written."""
        self.failed[step] = text
        self._shards.pop(step, None)

    def _is_best(self, step: int, accuracy: float | None) -> bool:
        if accuracy is None or (self._best is not None and accuracy <= self._best[1]):
            return False
        self._best = (step, accuracy)
        return True

    def _prune(self) -> None:
        protect = [self._best[0]] if self._best and self._job.config.checkpoint.best else []
        self._checkpoints.prune(keep=self._job.config.checkpoint.keep, protect=protect)
        for steps in (self._accuracies, self.failed):
            for step in [step for step in steps if step < self.newest]:
                if len(steps) > 100:
                    del steps[step]

    def _find_best(self) -> tuple[int, float] | None:
        """Find the best among the checkpoints of an earlier part of this run."""
        best = None
        for step in self._checkpoints.steps():
            try:
                facts = self._checkpoints.read(self._checkpoints.path(step)).facts
            except CheckpointError:
                continue
            accuracy = facts.get(self._job.rating)
            if accuracy is not None and (best is None or accuracy > best[1]):
                best = (step, accuracy)
        return best
