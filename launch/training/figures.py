"""A training's records in wandb."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..tracking import Figures, file_artifact

__all__ = ["TrainFigures"]


class TrainFigures(Figures):
    """The figures of each stage and each split, and the speed-up over backpropagation.

    Args:
        decoupling: The file of the decoupling, which becomes an artifact.
    """

    patterns = ("stage/*", "test/*", "validation/*", "speedup/*")

    def __init__(self, decoupling: Path) -> None:
        self._decoupling = decoupling
        self._measured: float | None = None

    def begin(self, wandb: Any, run: Any) -> None:
        """See :meth:`Figures.begin`."""
        if self._decoupling.exists():
            run.log_artifact(file_artifact(wandb, run, "decoupling", self._decoupling))

    def values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of a record, e.g. ``stage/2/loss``."""
        event = record["event"]
        if event == "train":
            values = _stage_values(record)
            if self._measured:
                values["speedup/vs_backprop"] = record["images_per_second"] / self._measured
            return values
        if event == "evaluation":
            return _evaluation_values(record)
        if event == "measured":
            self._measured = record["backprop_images_per_second"]
            return {"speedup/backprop_images_per_second": self._measured}
        return {}

    def end(self, wandb: Any, run: Any, summary: Mapping[str, Any]) -> None:
        """See :meth:`Figures.end`."""
        if summary.get("speedup_vs_backprop") is not None:
            run.summary["speedup/vs_backprop"] = summary["speedup_vs_backprop"]


def _stage_values(record: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"stage/{record['stage']}/"
    values = {
        prefix + key: value
        for key, value in record.items()
        if key not in ("event", "time", "step", "stage", "gpu") and value is not None
    }
    gpu = record.get("gpu") or {}
    return {**values, **{f"{prefix}gpu_{key}": value for key, value in gpu.items()}}


def _evaluation_values(record: Mapping[str, Any]) -> dict[str, Any]:
    split = record["split"]
    values = {f"{split}/loss": record["losses"][-1]}
    values[f"{split}/accuracy"] = record["accuracies"][-1]
    for stage, accuracy in enumerate(record["accuracies"], start=1):
        if accuracy is not None:
            values[f"{split}/stage_{stage}_accuracy"] = accuracy
    if record.get("ensemble_accuracy") is not None:
        values[f"{split}/ensemble_accuracy"] = record["ensemble_accuracy"]
    return values
