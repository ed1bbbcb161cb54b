"""A partitioned training's records in wandb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..folder import RunFolder
from ..tracking import Figures, file_artifact
from .course import flat_course
from .pictures import PICTURES

__all__ = ["PartitionFigures"]


class PartitionFigures(Figures):
    """Losses of each rank, L_ML, the accuracy, every number of psi; psi.json at the end.

    Args:
        folder: The run's folder.
    """

    patterns = ("partition/*", "objective/*", "psi/*", "test/*", "validation/*")

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of a record, e.g. ``psi/rotation``, ``partition/0/loss``."""
        if record["event"] == "partition":
            prefix = f"partition/{record['rank']}/"
            return {
                prefix + key: value
                for key, value in record.items()
                if key not in ("event", "time", "step", "rank") and value is not None
            }
        if record["event"] != "objective":
            return {}
        objective = record["objective"]
        values = {} if objective is None else {"objective/L_ML": objective}
        for chunk, term in enumerate(record["terms"], start=2):
            values[f"objective/chunk_{chunk}"] = term
        for split, found in record["splits"].items():
            values[f"{split}/accuracy"] = found["accuracy"]
            values[f"{split}/loss"] = found["loss"]
        psi = flat_course(record["psi"])
        return {**values, **{f"psi/{name}": value for name, value in psi.items()}}

    def end(self, wandb: Any, run: Any, summary: Mapping[str, Any]) -> None:
        """See :meth:`Figures.end`."""
        if self._folder.psi.exists():
            run.log_artifact(file_artifact(wandb, run, "psi", self._folder.psi))
        shown = [name for name in PICTURES if self._folder.picture(name).exists()]
        if shown:
            folder = self._folder
            run.log({f"psi_{one}": wandb.Html(folder.picture(one).read_text()) for one in shown})
