"""One training of a comparison: started as a process of its own, and what came out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..folder import RunFolder
from ..report.groups import interpolate

__all__ = ["Trial", "TrialError", "read_trial", "run_trial"]

LAST_LINES = 12


class TrialError(RuntimeError):
    """A training of a comparison failed; the text has its last lines."""


@dataclass(frozen=True)
class Trial:
    """A finished training.

    Attributes:
        method: The words that it was asked for with.
        folder: Its folder.
        summary: Its ``summary.json``.
        split: What was evaluated on the way.
        errors: Step and error on that split, between 0 and 1, of every evaluation.
    """

    method: str
    folder: Path
    summary: Mapping[str, Any]
    split: str
    errors: tuple[tuple[int, float], ...]

    @property
    def images_per_second(self) -> float:
        """Its throughput."""
        return float(self.summary["images_per_second"])

    def error_after(self, steps: float) -> float | None:
        """Return the error after so many steps, between evaluations interpolated.

        Returns:
            None before the first evaluation; after the last, that of the last.
        """
        if not self.errors or steps < self.errors[0][0]:
            return None
        points = [(float(step), error) for step, error in self.errors]
        return interpolate(points, min(steps, points[-1][0]))


def run_trial(
    method: str, words: Sequence[str], folder: RunFolder, *, loop: bool, seed: int
) -> Trial:
    """Train in processes of their own and read the results.

    Args:
        method: What to call it.
        words: Its keys.
        folder: Where it goes; its name and place are added to the words.
        loop: Whether the plain loop trains.
        seed: The run's seed.

    Raises:
        TrialError: It failed.
    """
    place = [f"runs={folder.path.parent}", f"name={folder.name}", f"seed={seed}"]
    # The comparison is one run in wandb, not one per training.
    place += ["log.view=none", "wandb.mode=disabled"]
    start = ["-m", "blockstep.launch.bench.loop"] if loop else ["-m", "blockstep", "train"]
    done = subprocess.run(
        [sys.executable, *start, *words, *place],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-LAST_LINES:])
        raise TrialError(f"{method} (seed {seed}) failed with code {done.returncode}:\n{tail}")
    return read_trial(method, folder)


def read_trial(method: str, folder: RunFolder) -> Trial:
    """Read a finished training.

    Raises:
        TrialError: It has no throughput: it was too short.
    """
    summary = folder.read_json(folder.summary)
    if not summary.get("images_per_second"):
        raise TrialError(
            f"{method}: {folder.path} was too short to measure images per second (the steps "
            "after the start and after each evaluation do not count); give more train.steps, "
            "or evaluate less often"
        )
    records = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    evaluations = [record for record in records if record["event"] == "evaluation"]
    splits = [record["split"] for record in evaluations]
    # After the last step the test split follows the validation split, if there is one.
    split = max(("test", "validation"), key=splits.count)
    errors = {
        record["step"]: 1.0 - record["accuracies"][-1]
        for record in evaluations
        if record["split"] == split
    }
    return Trial(method, folder.path, summary, split, tuple(sorted(errors.items())))
